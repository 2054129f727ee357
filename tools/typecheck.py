"""Check the types of `errors`, `files`, all of `data/` and every config dataclass of the library.

    python tools/typecheck.py           # what basedpyright finds there; exits with 1 if it finds something
    python tools/typecheck.py FOLDER    # the same for another checkout

The rules are in `pyrightconfig.json`, each with the reason for it. No network is needed: basedpyright's package brings
its own Node.js.
"""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
WHOLE = ("errors.py", "files.py", "data")  # every line of these modules and folders counts
CONFIG_FOLDERS = ("heads", "training", "encoders", "evaluation")  # in these, every dataclass counts


class Finding(NamedTuple):
    "One sentence of the type checker."

    path: Path  # below the library
    line: int  # from 1
    rule: str
    message: str

    def __str__(self):
        return f"vidprism/{self.path.as_posix()}:{self.line}: {self.message} ({self.rule})"


def all_findings(root: Path) -> list:
    "Every error and warning in the library of a checkout."
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--project", str(root / "pyrightconfig.json")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except json.JSONDecodeError:
        raise SystemExit(f"basedpyright gave no report:\n{done.stdout}{done.stderr}") from None
    if not report["summary"]["filesAnalyzed"]:
        raise SystemExit(f"basedpyright found no module in {root / 'vidprism'}.")
    return [_finding(entry, root) for entry in report["generalDiagnostics"]]


def _finding(entry: dict, root: Path) -> Finding:
    "A finding from one entry of the report."
    path = Path(entry["file"]).resolve().relative_to((root / "vidprism").resolve())
    message = " ".join(entry["message"].split())
    return Finding(path, entry["range"]["start"]["line"] + 1, entry.get("rule", "syntax"), message)


def config_lines(source: str, every_dataclass: bool) -> set:
    "Lines of the config dataclasses of a module's text: all its dataclasses, or those named `...Config`."
    lines = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef):
            continue
        decorators = [ast.unparse(decorator) for decorator in node.decorator_list]
        is_dataclass = any(text.split("(")[0].endswith("dataclass") for text in decorators)
        if is_dataclass and (every_dataclass or node.name.endswith("Config")):
            lines.update(range(node.lineno, node.end_lineno + 1))
    return lines


def counts(finding: Finding, root: Path) -> bool:
    "Whether a finding stands in a module that is checked whole, or in a config."
    first = finding.path.parts[0]
    if first in WHOLE:
        return True
    source = (root / "vidprism" / finding.path).read_text(encoding="utf-8")
    return finding.line in config_lines(source, first in CONFIG_FOLDERS)


def check(root: Path) -> list:
    "The findings that count."
    root = Path(root).absolute()
    return [finding for finding in all_findings(root) if counts(finding, root)]


if __name__ == "__main__":
    found = check(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    for finding in found:
        print(finding)
    print(f"{len(found)} findings in errors, files, data/ and the configs.")
    sys.exit(1 if found else 0)
