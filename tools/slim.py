"""Make the notebooks' outputs light and readable without sight.

At most 256 colours a picture, rare ones kept; no widget state, no progress bars; a text alternative for each.
A figure's data, from which a browser draws it, stays beside its picture. The largest go where they are too much.
"""

import io
import json
import nbformat
import re
import sys
import tempfile
from base64 import b64decode, b64encode
from pathlib import Path
from PIL import Image

FIGURE = "application/vnd.plotly.v1+json"
MOST_DATA = 400_000  # characters of the data of a notebook's figures
LOGS = re.compile(r"choreographer|kaleido|video_reader\.cc")
TRACEBACK = re.compile(r"\s|$|Traceback\b|The above exception |During handling |[\w.]*Error\b")
PICTURES = {"image/png", "image/jpeg", "image/svg+xml"}


def slim(png: str) -> str:
    "A base64 PNG with a palette, if that is smaller."
    image = Image.open(io.BytesIO(b64decode(png))).convert("RGB")
    image = image.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    small = b64encode(out.getvalue()).decode()
    return small if len(small) < len(png) else png


def nameless(text: str) -> str:
    "Names of temporary folders, which differ each time, left out."
    return re.sub(re.escape(tempfile.gettempdir()) + r"/\w+", "...", text)


def described(text: str) -> str:
    "The text alternative of a figure: the last paragraph above it that is prose, without its marks."
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text)]
    prose = [part for part in paragraphs if part and not part.startswith(("|", "$$", "```"))]
    plain = re.sub(r"[`*_$>#|\\]|\[|\]\([^)]*\)|\{py:obj\}", "", prose[-1] if prose else "")
    return " ".join(plain.split())


def give_alternatives(cell, above: str):
    "Give each picture of a cell its text alternative, where IPython and nbconvert keep it."
    pictures = [(out, kind) for out in cell.get("outputs", []) for kind in PICTURES.intersection(out.get("data", {}))]
    for number, (output, kind) in enumerate(pictures, 1):
        which = f" (picture {number} of {len(pictures)})" if len(pictures) > 1 else ""
        output.metadata[kind] = {"alt": described(above) + which}


def passing(output) -> bool:
    """Whether an output is of no use later.

    Such are a progress bar, whose widget is gone once the notebook is closed, and log lines of the programs that draw
    pictures and of decord, which notes each file that it cannot open."""
    bar = set(output.get("data", {})) == {"application/vnd.jupyter.widget-view+json", "text/plain"}
    lines = output.get("text", "").splitlines() if output.get("name") == "stderr" else []
    first, rest = lines[:1], lines[1:]
    log = any(map(LOGS.search, first)) and all(LOGS.search(line) or TRACEBACK.match(line) for line in rest)
    return bar or log


def lighten(output):
    "Slim an output's picture, and leave names of temporary folders out of its text."
    data = output.get("data", {})
    if "text" in output:
        output.text = nameless(output.text)
    if "text/plain" in data:
        data["text/plain"] = nameless(data["text/plain"])
    if "image/png" in data:
        data["image/png"] = slim(data["image/png"].replace("\n", "")) + "\n"


def figures_of(nb) -> list:
    "The outputs of a notebook that keep a figure's data."
    return [o for cell in nb.cells for o in cell.get("outputs", []) if FIGURE in o.get("data", {})]


def data_size(output) -> int:
    "Characters of a figure's data."
    return len(json.dumps(output.data[FIGURE]))


def limit_data(nb):
    "Drop the data of the largest figures until a notebook has at most `MOST_DATA`."
    outputs = sorted(figures_of(nb), key=data_size)
    while sum(map(data_size, outputs)) > MOST_DATA:
        del outputs.pop().data[FIGURE]


def lighten_notebook(path):
    "Make a notebook's outputs light, in its file."
    nb = nbformat.read(path, 4)
    nb.metadata.pop("widgets", None)
    above = path.stem
    for cell in nb.cells:
        above = cell.source if cell.cell_type == "markdown" else above
        if "outputs" in cell:
            cell.outputs = [o for o in cell.outputs if not passing(o)]
        for output in cell.get("outputs", []):
            lighten(output)
        give_alternatives(cell, above)
    limit_data(nb)
    nbformat.write(nb, path)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        lighten_notebook(Path(name))
