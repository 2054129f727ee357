"""README.md is nbs/index.ipynb as markdown, outputs included.

`--write` makes it and its picture; without, it says whether it is current."""

import nbformat
import re
import sys
from addresses import badges, settings
from nbconvert import MarkdownExporter
from pathlib import Path
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).parent.parent


def make(git_url: str = None) -> str:
    """The README's text; without an address, with that of settings.ini.

    Cells with `#| hide` are left out; those with `#| echo: false` show only what they gave."""
    nb = nbformat.read(ROOT / "nbs" / "index.ipynb", 4)
    nb.cells = [c for c in nb.cells if not c.source.startswith("#| hide")]
    for c in nb.cells:
        if c.cell_type == "code" and c.source.startswith("#| echo: false"):
            c.source = ""
    nb.metadata["language_info"] = dict(name="python")
    kinds = ["text/markdown", "text/plain"]
    exporter = MarkdownExporter(config=Config(NbConvertBase=dict(display_data_priority=kinds)))
    text, _ = exporter.from_notebook_node(nb)
    text = re.sub(r"```python\n\s*```\n", "", text).replace("](prism.png)", "](nbs/prism.png)")
    told = settings()
    text = text.replace("<!-- badges -->", badges(git_url or told["git_url"], told["branch"]))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def draw():
    "The picture of a prism, from a run of the shipped model on the shipped clip that `vidprism show` takes."
    from vidprism.cli import default_clip
    from vidprism.interpret.explanation import explain
    from vidprism.model import sample_model
    from vidprism.viz.panels import make_panels

    panels = make_panels(explain(sample_model(), default_clip()))
    figure = next(figure for heading, _, figure in panels if heading == "Kept and merged")
    path = ROOT / "nbs" / "prism.png"
    figure.write_image(path, scale=1.5)
    Image.open(path).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    path, text = ROOT / "README.md", make()
    if "--write" in sys.argv:
        path.write_text(text)
        draw()
    elif path.read_text() != text:
        sys.exit("README.md is not nbs/index.ipynb: run `make readme`")
