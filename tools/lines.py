"""How densely the library is written.

    python tools/lines.py             # each module, the densest last, and the whole
    python tools/lines.py MODULE      # each function of one module, such as `heads/rgsta`

Density is the number of syntax nodes of a function's tree over its number of lines. A module's density, and the
library's, is the median over functions.
"""

import ast
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

LIBRARY = Path(__file__).parent.parent / "vidprism"
MOST_COLUMNS = 120
MOST_NODES = 11
MOST_LINES = 25


class Function(NamedTuple):
    "One function of the library."

    module: str
    name: str
    lines: int  # as written, the docstring included
    code_lines: int  # without the docstring
    nodes: int  # of the syntax tree

    @property
    def density(self) -> float:
        return self.nodes / self.lines


def docstring_lines(node) -> int:
    "Lines of a function's docstring."
    if ast.get_docstring(node) is None:
        return 0
    text = node.body[0]
    return text.end_lineno - text.lineno + 1


def functions_in(source: str, module: str = "") -> list:
    "Every function of a module's text, methods and inner functions too."
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            nodes = sum(1 for _ in ast.walk(node))
            found.append(Function(module, node.name, lines, lines - docstring_lines(node), nodes))
    return found


def functions_of(path: Path) -> list:
    "Every function of a module's file."
    return functions_in(path.read_text(), path.relative_to(LIBRARY).with_suffix("").as_posix())


def modules() -> list:
    "Paths of the exported modules."
    return sorted(p for p in LIBRARY.rglob("*.py") if p.name != "_modidx.py")


def long_lines(path: Path) -> list:
    "Numbers of the lines that are too long, but for the list of exported names."
    lines = path.read_text().splitlines()
    return [i for i, line in enumerate(lines, 1) if len(line) > MOST_COLUMNS]


def density(functions) -> float:
    "Median of nodes a line."
    return statistics.median(f.density for f in functions) if functions else 0.0


def show_modules():
    "Print a line for each module, and one for the library."
    table = {path: functions_of(path) for path in modules()}
    print(f"{'nodes/line':>10} {'> 120':>6} {'> 25 lines':>10}  module")
    for path, functions in sorted(table.items(), key=lambda row: density(row[1])):
        long = sum(f.code_lines > MOST_LINES for f in functions)
        name = path.relative_to(LIBRARY).with_suffix("").as_posix()
        print(f"{density(functions):10.1f} {len(long_lines(path)):6} {long:10}  {name}")
    everything = [f for functions in table.values() for f in functions]
    print(f"{density(everything):10.1f}  the library, {len(everything)} functions")


def show_functions(module: str):
    "Print a line for each function of a module, and its long lines."
    path = LIBRARY / f"{module}.py"
    print(f"{'nodes/line':>10} {'lines':>6}  function")
    for f in sorted(functions_of(path), key=lambda f: f.density):
        print(f"{f.density:10.1f} {f.code_lines:6}  {f.name}")
    print("lines over 120 columns:", long_lines(path) or "none")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        show_functions(sys.argv[1])
    else:
        show_modules()
