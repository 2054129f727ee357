"""README.md is nbs/index.ipynb as markdown, outputs included: python tools/readme.py [--write]

Without `--write`, the exit code says whether it is current."""

import nbformat
import re
import sys
from addresses import badges, settings
from nbconvert import MarkdownExporter
from pathlib import Path
from traitlets.config import Config

ROOT = Path(__file__).parent.parent


def make(git_url: str = None, name: str = "index") -> str:
    """A notebook at the top as markdown: the README's; without an address, with that of settings.ini.

    Cells with `#| hide` are left out; those with `#| echo: false` show only what they gave."""
    nb = nbformat.read(ROOT / "nbs" / f"{name}.ipynb", 4)
    nb.cells = [c for c in nb.cells if not c.source.startswith("#| hide")]
    for c in nb.cells:
        if c.cell_type == "code" and c.source.startswith("#| echo: false"):
            c.source = ""
    nb.metadata["language_info"] = dict(name="python")
    kinds = ["text/markdown", "text/plain"]
    exporter = MarkdownExporter(config=Config(NbConvertBase=dict(display_data_priority=kinds)))
    text, _ = exporter.from_notebook_node(nb)
    text = re.sub(r"```python\n\s*```\n", "", text).replace("](inspector.gif)", "](nbs/inspector.gif)")
    told = settings()
    text = text.replace("<!-- badges -->", badges(git_url or told["git_url"], told["branch"]))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


if __name__ == "__main__":
    path, text = ROOT / "README.md", make()
    if "--write" in sys.argv:
        path.write_text(text)
    elif path.read_text() != text:
        sys.exit("README.md is not nbs/index.ipynb: run `make readme`")
