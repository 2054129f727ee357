"""Resolve the kit's requirements for other machines, without installing: python tools/resolve.py [--only TEXT]

pip's own resolver chooses the versions from the wheels of each platform and Python. pip evaluates environment markers
for the Python that runs it, not for the platform that is asked for; so pip runs here in a process in which the markers'
environment (`packaging.markers.default_environment`) is that of the target. Everything else is pip as it is.

Exit code: 0 everything resolves; 1 something does not; 2 the package index cannot be reached."""

import argparse
import hashlib
import json
import re
import runpy
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".venv" / "resolved.json"  # results of the last days; not in git
DAYS = 3
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SHOWN = ("torch", "av", "decord", "numpy")


class Target(NamedTuple):
    "A kind of machine: its name, pip's platform tags, and what its markers say."

    name: str
    tags: tuple
    os_name: str
    sys_platform: str
    platform_machine: str
    platform_system: str


def manylinux(machine: str) -> tuple:
    "The tags of Linux with glibc 2.28 or later, newest first."
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1)]
    return (*tags, f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"linux_{machine}")


TARGETS = (
    Target("macOS 14 arm64", ("macosx_14_0_arm64",), "posix", "darwin", "arm64", "Darwin"),
    Target("Linux aarch64", manylinux("aarch64"), "posix", "linux", "aarch64", "Linux"),
    Target("Windows amd64", ("win_amd64",), "nt", "win32", "AMD64", "Windows"),
    Target("Linux x86_64", manylinux("x86_64"), "posix", "linux", "x86_64", "Linux"),
)


class Found(NamedTuple):
    "What pip chose, {name: version}; or why it could not, and whether that was the network."

    versions: dict
    why: str = ""
    network: bool = False


def requirements(settings: Path) -> list:
    "What the kit declares without its extras."
    parser = ConfigParser(delimiters=["="])
    parser.read(settings, encoding="utf-8")
    return parser["DEFAULT"]["requirements"].split()


def environment(target: Target, python: str) -> dict:
    "What markers say on a target."
    return dict(
        os_name=target.os_name,
        sys_platform=target.sys_platform,
        platform_machine=target.platform_machine,
        platform_system=target.platform_system,
        platform_release="",
        platform_version="",
        python_version=python,
        python_full_version=f"{python}.0",
        implementation_name="cpython",
        implementation_version=f"{python}.0",
        platform_python_implementation="CPython",
    )


def run_pip(values: dict, arguments: list) -> None:
    "Be pip, with markers that are evaluated for another machine."
    from pip._vendor.packaging import markers

    def of_the_target():
        return dict(values)

    markers.default_environment = of_the_target
    sys.argv = ["pip", *arguments]
    runpy.run_module("pip", run_name="__main__", alter_sys=True)


# What pip says when it gets no answer from an index.
UNREACHABLE = re.compile(
    r"Retrying \(|ConnectionError|NewConnectionError|timed out|Temporary failure|Name or service not known|"
    r"Could not fetch URL|SSLError|ProxyError|Max retries|[45]\d\d (Client|Server) Error|No route to host|"
    r"Network is unreachable|Connection refused"
)


def is_unreachable() -> bool:
    "Whether pip gets no answer for a package that every index has; pip says so only to those who ask for details."
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--no-input"]
        command += ["--target", folder, "-vv", "packaging"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return done.returncode != 0 and bool(UNREACHABLE.search(done.stdout + done.stderr))


def explain(said: str) -> tuple:
    "(one line that says why pip failed, was it the network); no address of an index stands in it."
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    nothing_found = "from versions: none" in said or not errors
    if (nothing_found and is_unreachable()) or (errors and UNREACHABLE.search(errors[0])):
        return "the package index cannot be reached", True
    wanted = [line.strip() for line in said.splitlines() if " depends on " in line]
    line = re.sub(r"\(from versions: .*?\)", "", errors[0] if errors else "pip ended without an error")
    line = " / ".join([line, *wanted[:3]])
    return re.sub(r"\b(https?|file|git\+\w+)://\S+", "(address)", line), False


def resolve(target: Target, python: str, needed: list) -> Found:
    "What pip chooses of the wheels of a target."
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        platforms = [text for tag in target.tags for text in ("--platform", tag)]
        arguments = ["install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--no-input"]
        arguments += ["--target", str(Path(folder) / "nothing")]  # pip before 23.1 wants it, and writes nothing there
        arguments += ["--disable-pip-version-check", "--quiet", "--report", str(report), *platforms]
        arguments += ["--python-version", python, "--implementation", "cp", *needed]
        order = json.dumps([environment(target, python), arguments])
        command = [sys.executable, __file__, "--as-pip"]
        done = subprocess.run(command, input=order, capture_output=True, text=True, cwd=folder)
        if done.returncode or not report.is_file():
            why, network = explain(done.stderr + done.stdout)
            return Found({}, why, network)
        chosen = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = [(one["metadata"]["name"].lower(), one["metadata"]["version"]) for one in chosen]
    return Found(dict(sorted(names)))


def line_of(target: Target, python: str, found: Found) -> str:
    "A row of the table."
    head = f"| {target.name:14} | {python:6} |"
    if found.why:
        return f"{head} {found.why} |"
    cells = [f"{found.versions.get(name, 'none'):9}" for name in SHOWN]
    return f"{head} {' | '.join(cells)} | {len(found.versions)} packages |"


def kept_results(needed: list) -> dict:
    "What was resolved of the same requirements in the last days: {target and Python: versions}."
    try:
        kept = json.loads(KEPT.read_text(encoding="utf-8"))
        fresh = time.time() - kept["when"] < DAYS * 86400
        return kept["found"] if fresh and kept["of"] == mark(needed) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def mark(needed: list) -> str:
    "A hash of requirements and of this file."
    return hashlib.sha256("\n".join([*needed, Path(__file__).read_text(encoding="utf-8")]).encode()).hexdigest()


def keep(needed: list, found: dict) -> None:
    "Keep what was resolved."
    if KEPT.parent.is_dir():
        text = json.dumps(dict(when=time.time(), of=mark(needed), found=found))
        KEPT.write_text(text, encoding="utf-8")


def parse(words=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows that hold this text, such as 'macOS 14 arm64 3.11'")
    parser.add_argument("--jobs", type=int, default=2, help="resolvers that run at a time")
    parser.add_argument("--anew", action="store_true", help=f"do not use results of the last {DAYS} days")
    parser.add_argument("--settings", type=Path, default=ROOT / "settings.ini", help="where the requirements stand")
    return parser.parse_args(words)


def main(words=None) -> int:
    "Print the table."
    args = parse(words)
    needed = requirements(args.settings)
    rows = [(target, python) for target in TARGETS for python in PYTHONS]
    rows = [row for row in rows if args.only in f"{row[0].name} {row[1]}"]
    kept = {} if args.anew else kept_results(needed)

    def find(row) -> Found:
        target, python = row
        versions = kept.get(f"{target.name} {python}")
        return Found(versions) if versions else resolve(target, python, needed)

    print(f"| {'machine':14} | Python | {' | '.join(f'{name:9}' for name in SHOWN)} | all |", flush=True)
    print("|---" * (len(SHOWN) + 3) + "|", flush=True)
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        results = []
        for row, found in zip(rows, pool.map(find, rows)):
            results.append(found)
            print(line_of(*row, found), flush=True)
    names = [f"{target.name} {python}" for target, python in rows]
    keep(needed, kept | {name: found.versions for name, found in zip(names, results) if found.versions})
    if any(found.why and not found.network for found in results):
        return 1
    return 2 if any(found.network for found in results) else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--as-pip"]:
        run_pip(*json.load(sys.stdin))
    sys.exit(main())
