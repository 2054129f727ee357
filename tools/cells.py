"""Run the tests of a notebook against the exported module, in a plain process.

    python tools/cells.py heads/rgsta

The notebook defines what it exports and tests it in the next cell. Here the definitions come from `vidprism/`: each
cell that exports is left out, and its names, private ones too, are taken from the module. Mutation testing needs that:
it changes the module, not the notebook.
"""

import importlib
import json
import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXPORTED = re.compile(r"^#\|\s*exports?\b", re.M)
FLAGS = re.compile(r"^#\|\s*(slow|cuda|net|hide_run)\b|^#\|\s*eval:\s*false", re.M)


def test_cells(name: str) -> list:
    "Code of a notebook's cells that export nothing and need no flag."
    cells = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [text for text in texts if not EXPORTED.search(text) and not FLAGS.search(text)]


def run(name: str):
    "Run the cells in one namespace, as the notebook does, with the module's names in it."
    module = importlib.import_module(f"vidprism.{name.replace('/', '.')}")
    space = {**vars(module), "__name__": "__main__"}
    for number, text in enumerate(test_cells(name)):
        plain = re.sub(r"^\s*[%!].*$", "pass", text, flags=re.M)
        exec(compile(plain, f"{name}[{number}]", "exec"), space)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("VIDPRISM_QUICK", "1")
    os.environ.setdefault("PLOTLY_RENDERER", "json")
    os.chdir(ROOT / "nbs" / Path(sys.argv[1]).parent)
    run(sys.argv[1])
