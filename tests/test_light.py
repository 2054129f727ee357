"What is imported and what it costs: the heads and the help load no decoder, no drawing and no model zoo."

import os
import pytest
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
HEAVY = {"av", "decord", "PIL", "plotly", "ipywidgets", "open_clip", "timm"}


def run_python(*argv):
    "Run a fresh Python that sees this checkout; return its standard output."
    done = subprocess.run([sys.executable, *argv], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded(code):
    "The top-level modules that a fresh Python holds after some code."
    return set(run_python("-c", f"{code}\nimport sys\nprint('LOADED', *sys.modules)").split("LOADED")[-1].split())


def processor_seconds(*argv):
    "The user and system time of a fresh Python."
    before = os.times()
    run_python(*argv)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


@pytest.mark.parametrize("module", ["vidprism", "vidprism.heads.rgsta", "vidprism.cli"])
def test_import_loads_nothing_heavy(module):
    "An import loads no decoder, no drawing, no Jupyter and no model zoo."
    assert not loaded(f"import {module}") & HEAVY


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["train"]], ids=" ".join)
def test_help_loads_nothing_heavy(argv):
    "The help and a wrong line need no PyTorch either."
    assert not loaded(f"from vidprism.cli import main\nmain({argv})") & {*HEAVY, "torch", "numpy"}


MISSPELT = ["predict", "show", "localise README.md", "inspect", "cost"]


@pytest.mark.parametrize("line", [*(f"{word} --model my_modle" for word in MISSPELT), "eval my_modle"])
def test_a_misspelt_model_is_refused_without_pytorch(line):
    "One sentence, with exit code 2."
    code = "import contextlib, sys\nfrom vidprism.cli import main\nwith contextlib.redirect_stderr(sys.stdout):\n"
    code += f"    print('code', main({line.split()}), 'torch' in sys.modules)"
    said = run_python("-c", code).splitlines()
    assert said == ["vidprism: No model folder was found at my_modle.", "code 2 False"]


LIBRARIES = "import typer, rich.console, rich.panel, rich.table"  # what prints the help


def test_help_is_quick():
    "`vidprism --help` takes less than three times the processor time of its libraries' import, the best of six each."
    pairs = [(processor_seconds("-m", "vidprism", "--help"), processor_seconds("-c", LIBRARIES)) for _ in range(6)]
    shown, imported = map(min, zip(*pairs))
    assert shown < 3 * imported


COLLECTIONS = """
import gc, vidprism
gc.collect()
before = gc.get_stats()[2]["collections"]
vidprism.create_head
print("enabled", gc.isenabled())
gc.disable()
vidprism.read_clip
print("enabled", gc.isenabled(), "full", gc.get_stats()[2]["collections"] - before)
"""


def test_imports_collect_no_garbage():
    "No full collection while a public name is imported; the collector is on, or off, as it was before."
    assert run_python("-c", COLLECTIONS).split() == ["enabled", "True", "enabled", "False", "full", "0"]


@pytest.mark.parametrize(
    ("words", "same"), [("['--help']", True), ("None", False)], ids=["called", "a process of its own"]
)
def test_the_command_collects_less(words, same):
    "Only the command itself, which owns its process, changes the collector's threshold."
    code = "import gc, sys\nsys.argv = ['vidprism', '--help']\nbefore = gc.get_threshold()\n"
    code += f"from vidprism.cli import main\nmain({words})\nprint('same', gc.get_threshold() == before)"
    assert run_python("-c", code).split()[-1] == str(same)
