"""The lowest versions that settings.ini allows.

`python tools/bounds.py` prints them as pip's constraints, with what Colab runs a notebook by (tools/colab.txt);
`python tools/bounds.py check` fails where another version is installed."""

import re
import sys
from configparser import ConfigParser
from importlib import metadata
from pathlib import Path

SETTINGS = Path(__file__).parent.parent / "settings.ini"
COLAB = Path(__file__).parent / "colab.txt"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BOUND = re.compile(r"(?:>=|==)([0-9][0-9A-Za-z.]*)")


TOOLS = ("dev_requirements", "docs_requirements")  # of development, whose newest versions are used


def requirements(settings: Path = SETTINGS) -> list[str]:
    "What the kit and its extras ask for; the development tools are not of them."
    parser = ConfigParser(delimiters=["="])
    parser.read(settings, encoding="utf-8")
    section = parser["DEFAULT"]
    extras = [key for key in section if key.endswith("_requirements") and key not in TOOLS]
    return [entry for key in ("requirements", *extras) for entry in section[key].split()]


def lower_bound(entry: str) -> tuple[str, str]:
    "Name and lowest version of a requirement."
    needed, _, _ = entry.partition(";")
    bound = BOUND.search(needed)
    if bound is None:
        sys.exit(f"{entry} in settings.ini has no lower bound: write one, such as >=1.0.")
    return NAME.match(needed).group(), bound.group(1)


def lower_bounds(settings: Path = SETTINGS) -> dict[str, str]:
    "Name -> lowest version. A package that several entries name has the highest of their bounds."
    found: dict[str, str] = {}
    for name, version in map(lower_bound, requirements(settings)):
        if name not in found or release(found[name]) < release(version):
            found[name] = version
    return found


def release(version: str) -> tuple[int, ...]:
    "A version's numbers, to compare; zeros at the end say nothing."
    numbers = [int(part) for part in re.findall(r"\d+", version)]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def colab_versions(path: Path = COLAB) -> dict[str, str]:
    "Name -> version of what Colab runs notebooks by."
    return dict(line.split("==") for line in path.read_text(encoding="utf-8").split() if "==" in line)


def differences(wanted: dict[str, str]) -> list[str]:
    "What is installed in another version than wanted, a sentence each. What is not installed does not differ."
    found = []
    for name, version in wanted.items():
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        if release(installed.partition("+")[0]) != release(version):
            found.append(f"{name} is {installed} here, and the lowest version is {version}.")
    return found


def main():
    "Print the constraints, or check what is installed."
    wanted = lower_bounds() | colab_versions()
    if sys.argv[1:] == ["check"]:
        sys.exit("\n".join(differences(wanted)) or 0)
    print("\n".join(f"{name}=={version}" for name, version in wanted.items()))


if __name__ == "__main__":
    main()
