"Lines that a person can follow: density and length of the library, ruff's rules over everything."

import pytest
import subprocess
import sys
from real import ROOT

sys.path.insert(0, str(ROOT / "tools"))
from lines import MOST_NODES, density, functions_in, functions_of, long_lines, modules


def test_density():
    "At most eleven syntax nodes a line, median over the library's functions."
    functions = [f for path in modules() for f in functions_of(path)]
    assert len(functions) > 500
    assert density(functions) <= MOST_NODES


@pytest.mark.parametrize("path", modules(), ids=lambda p: p.relative_to(ROOT / "vidprism").as_posix())
def test_length(path):
    "No line of a module is over 120 columns, but for nbdev's own list of exported names."
    lines = path.read_text().splitlines()
    written = [i for i in long_lines(path) if not lines[i - 1].lstrip().startswith(("__all__", "'"))]
    assert not written


def test_density_by_hand():
    "Counted by hand: FunctionDef, arguments, arg, Return, Name, Load are six nodes on three lines."
    (f,) = functions_in('def f(a):\n    return a\n'.replace(":\n", ":\n    \n"))
    assert (f.name, f.lines, f.nodes, f.density) == ("f", 3, 6, 2.0)


@pytest.mark.parametrize("command", (["check"], ["format", "--check"]), ids=["check", "format"])
def test_ruff(command):
    "`make lint`: notebooks, tests, benchmarks and tools follow ruff.toml."
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
