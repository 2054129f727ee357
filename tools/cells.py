"""Run the tests of a notebook against the exported module, in a plain process.

    python tools/cells.py heads/rgsta

The notebook defines what it exports and tests it in the next cell. Here the definitions come from `vidprism/`: each
cell that exports is left out, and the tests run among the module's own names, as they do in the notebook. Mutation
testing needs that: it changes the module, not the notebook.
"""

import importlib
import json
import os
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXPORTED = re.compile(r"^#\|\s*exports?i?\b", re.M)
FLAGS = re.compile(r"^#\|\s*(slow|cuda|net|hide_run)\b|^#\|\s*eval:\s*false", re.M)
MAGIC = re.compile(r"^\s*[%!].*$", re.M)


def test_cells(name: str) -> list:
    "Code of a notebook's cells that export nothing and need no flag."
    cells = json.loads((ROOT / "nbs" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [MAGIC.sub("pass", text) for text in texts if not EXPORTED.search(text) and not FLAGS.search(text)]


def run(name: str, texts: list, order=None) -> dict:
    "Run cells (all, or those of the numbers in `order`) in the module's namespace; number of each -> CPU seconds."
    space = vars(importlib.import_module(f"vidprism.{name.replace('/', '.')}"))
    space["__name__"] = "__main__"
    seconds = {}
    for number in range(len(texts)) if order is None else order:
        start = time.process_time()
        exec(compile(texts[number], f"{name}[{number}]", "exec"), space)
        seconds[number] = time.process_time() - start
    return seconds


def settle(name: str):
    "The environment and the folder that a notebook's tests run in."
    os.environ.setdefault("VIDPRISM_QUICK", "1")
    os.environ.setdefault("PLOTLY_RENDERER", "json")
    os.chdir((ROOT / "nbs" / name).parent)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    settle(sys.argv[1])
    run(sys.argv[1], test_cells(sys.argv[1]))
