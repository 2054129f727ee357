"The type check of `make lint`: it fails on a planted error, in the places that it promises and in no other."

import shutil
import subprocess
import sys
from real import ROOT

TOOL = ROOT / "tools" / "typecheck.py"
WRONG = 'number: int = "a text"\n'
CONFIG = "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass {name}:\n    size: int = {value}\n"


def checked(tmp_path, **files):
    "What the tool says of a library with one right module and these."
    library = tmp_path / "vidprism"
    shutil.copy(ROOT / "pyrightconfig.json", tmp_path)
    for name, text in {"errors.py": "number: int = 1\n", **files}.items():
        path = library / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return subprocess.run([sys.executable, str(TOOL), str(tmp_path)], capture_output=True, text=True)


PLANTED = {
    "errors.py": WRONG,
    "files.py": WRONG,
    "data/clips.py": WRONG,
    "data/deep/own.py": "def f(x: int | None):\n    return x + 1\n",
    "heads/own.py": CONFIG.format(name="Weights", value="None"),
    "training/own.py": CONFIG.format(name="Recipe", value="'a'"),
    "experiments/own.py": CONFIG.format(name="BuildConfig", value="None"),
    "model.py": CONFIG.format(name="ModelConfig", value="None"),
    "data/broken.py": "def f(:\n",
}


def test_planted(tmp_path):
    "Wrong types in modules that are checked whole, and in configs, are found by name and line."
    done = checked(tmp_path, **PLANTED)
    assert done.returncode == 1, done.stdout + done.stderr
    found = [line.split(":")[0] for line in done.stdout.splitlines()]
    assert sorted(set(found[:-1])) == sorted(f"vidprism/{name}" for name in PLANTED)


def test_right(tmp_path):
    "Right modules pass; elsewhere, what is outside the configs does not count."
    beside = CONFIG.format(name="OwnConfig", value="1") + WRONG
    files = {"heads/own.py": beside, "model.py": WRONG, "cli.py": CONFIG.format(name="Screen", value="None")}
    done = checked(tmp_path, **files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout


def test_no_library(tmp_path):
    "A folder without modules is no success."
    shutil.copy(ROOT / "pyrightconfig.json", tmp_path)
    done = subprocess.run([sys.executable, str(TOOL), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 1
