"README.md is nbs/index.ipynb as markdown, outputs included. `--write` makes it; without, it says whether it is current."
from pathlib import Path
import re, sys
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).parent.parent


def make() -> str:
    "The README's text. Code cells that start with `#| echo: false` show only what they gave."
    import nbformat
    nb = nbformat.read(ROOT / "nbs" / "index.ipynb", 4)
    nb.cells = [c for c in nb.cells if not c.source.startswith("#| hide")]
    for c in nb.cells:
        if c.cell_type == "code" and "#| echo: false" in c.source: c.metadata["echo"] = False; c.source = ""
    text, _ = MarkdownExporter(config=Config(NbConvertBase=dict(display_data_priority=["text/markdown", "text/plain"]))).from_notebook_node(nb)
    text = re.sub(r"```python\n\s*```\n", "", text)
    text = re.sub(r"^    ?<IPython.core.display.Markdown object>\n", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    path, text = ROOT / "README.md", make()
    if "--write" in sys.argv: path.write_text(text)
    elif path.read_text() != text: sys.exit("README.md is not nbs/index.ipynb: run `make readme`")
