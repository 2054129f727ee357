"""Build the documentation site: python tools/docs.py [--folder _docs]

Every notebook with its saved pictures and interactive figures, a page for each public name, the command's help, and the
front page's gallery. The site needs no network: `_docs/html/index.html` opens from a folder.
A warning of Sphinx, such as a broken link or a missing reference, is an error.
"""

import argparse
import base64
import json
import nbformat
import os
import re
import shutil
import subprocess
import sys
from html import escape
from importlib import import_module
from pathlib import Path
from plotly.io import to_html
from plotly.offline import get_plotlyjs
from pprint import pformat
from prose import PAGES
from slim import FIGURE, described, figures_of
from sphinx.cmd.build import build_main
from textwrap import indent
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
NBS = ROOT / "nbs"
DIRECTIVE = re.compile(r"^#\| (?:default_exp|export|exports|hide|echo|eval).*\n?", re.M)  # of nbdev
PAGES_OF_THEIR_OWN = ("index", "handbook")  # beside the library


class Shown(NamedTuple):
    "A picture of the front page: which output of which notebook, and what it shows."

    notebook: str
    figure: int  # of the pictures of that notebook
    title: str
    text: str


GALLERY = (
    Shown(
        "guides/01_explore_clip", 0, "Kept and merged frames", "One band a rate; lines go from merged to kept frames."
    ),
    Shown("guides/07_localise", 0, "When it happens", "Scores of classes over a video with four actions."),
    Shown("guides/topics/experts_saliency", 0, "Where each expert looks", "Saliency of each expert on one scale."),
    Shown("guides/topics/gates", 0, "Gates between rates", "Which pairs of rates exchange messages, for each clip."),
    Shown("guides/06_data_set", 0, "A whole data set", "A map of clips; wrong answers in orange."),
    Shown("guides/05_compare_heads", 0, "All heads, one protocol", "Accuracy by the time scale of the motion."),
)


class Section(NamedTuple):
    "Some notebooks under one heading."

    name: str  # of the page
    title: str
    text: str
    folder: str


SECTIONS = (
    Section("course", "Course", "Eight guides, from one clip to your own data.", "guides"),
    Section("topics", "Topics", "One question each, with the number that chance gives.", "guides/topics"),
    Section("papers", "Papers", "The papers' tables and claims, run again.", "papers"),
)
FOLDERS = {
    "data": "From a file to frames, from a list to batches",
    "encoders": "Frames in, features out",
    "heads": "The papers, an equation at a time",
    "training": "The loop; from a list to a saved model",
    "evaluation": "Metrics, benchmarks, protocols, cost",
    "interpret": "Why this answer: arrays",
    "viz": "Figures, pages and the inspectors",
    "experiments": "The studies behind the tables",
}


def notebooks(folder: str = "") -> list:
    "Names of a folder's notebooks, such as `heads/rgsta`, in reading order."
    names = [p.relative_to(NBS).with_suffix("").as_posix() for p in (NBS / folder).glob("*.ipynb")]
    order = [line for line in (NBS / "order.txt").read_text().splitlines() if line and not line.startswith("#")]
    place = {name: n for n, name in enumerate(order)}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))


def every_notebook() -> list:
    "Names of all notebooks of the site."
    folders = ["", *FOLDERS, *(section.folder for section in SECTIONS)]
    return [name for folder in folders for name in notebooks(folder) if name != "index"]


def linked(text: str, here: str, known: set, public: set) -> str:
    "Markdown whose notebooks and public names in backquotes are links."
    up = "../" * here.count("/")

    def link(found):
        name = found[1]
        if name in known and name != here:
            return f"[`{name}`]({up}{name}.ipynb)"
        if name in public:
            return f"{{py:obj}}`{name} <vidprism.{name}>`"
        return found[0]

    parts = re.split(r"(```.*?```|\[[^\]]*\]\([^)]*\))", text, flags=re.S)
    return "".join(part if n % 2 else re.sub(r"(?<!`)`([\w/.]+)`(?!`)", link, part) for n, part in enumerate(parts))


def interactive(output, alternative: str) -> None:
    "Replace a figure's data by a page's element that draws it."
    figure = output.get("data", {}).get(FIGURE)
    if figure:
        html = to_html(json.loads(json.dumps(figure)), include_plotlyjs=False, full_html=False)
        output["data"] = {"text/html": f'<div role="figure" aria-label="{escape(alternative)}">{html}</div>'}


def with_results(output) -> None:
    "Links of a table to the results behind it lead to the site's copy of them."
    texts = output.get("data", {})
    for kind in ("text/markdown", "text/html"):
        if kind in texts:
            texts[kind] = texts[kind].replace("../../benchmarks/", "../_static/benchmarks/")


def show_code(cell, above: str) -> None:
    "A code cell as the site shows it: imports folded, figures with a text alternative."
    cell.metadata["tags"] = tags_of(cell.source)
    cell.source = DIRECTIVE.sub("", cell.source)
    alternative = described(above)
    cell.metadata["mystnb"] = {"image": {"alt": alternative}}
    for output in cell.outputs:
        interactive(output, alternative)
        with_results(output)


def only_imports(source: str) -> bool:
    "Whether a cell only imports."
    lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#")]
    return bool(lines) and all(line.startswith(("import ", "from ")) for line in lines)


def tags_of(source: str) -> list:
    "How MyST-NB shows a cell: `#| hide` and `#| echo: false` are nbdev's."
    if source.startswith("#| hide"):
        return ["remove-cell"]
    if source.startswith("#| echo: false"):
        return ["remove-input"]
    return ["hide-input"] if only_imports(source) else []


def prepared(name: str, known: set, public: set):
    "A notebook as the site shows it: no export directives, linked names, interactive figures."
    notebook = nbformat.read(NBS / f"{name}.ipynb", 4)
    drawn, above = bool(figures_of(notebook)), name
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            above = cell.source
            cell.source = linked(cell.source, name, known, public)
        else:
            show_code(cell, above)
    notebook.cells = [cell for cell in notebook.cells if cell.source.strip() or cell.get("outputs")]
    if drawn:
        up = "../" * name.count("/")
        notebook.cells[0].source += f'\n\n<script src="{up}_static/plotly.min.js"></script>'
    return notebook


def write_notebooks(folder: Path, public: set) -> None:
    "Copy every notebook."
    known = set(every_notebook())
    for name in known:
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(prepared(name, known, public), path)
    (folder / "_static" / "plotly.min.js").write_text(get_plotlyjs())


def tree(names) -> str:
    "A list of pages that are below this one."
    return "\n".join(["```{toctree}", ":maxdepth: 1", "", *names, "```", ""])


def write_sections(folder: Path) -> None:
    "The pages that lead to the notebooks."
    for section in SECTIONS:
        pages = tree(notebooks(section.folder))
        (folder / f"{section.name}.md").write_text(f"# {section.title}\n\n{section.text}\n\n{pages}")
    parts = [f"## `{name}/`\n\n{text}.\n\n{tree(notebooks(name))}" for name, text in FOLDERS.items()]
    top = tree([name for name in notebooks() if name not in PAGES_OF_THEIR_OWN])
    text = "The notebooks that define and test the library. Each one exports the module of its name."
    (folder / "library.md").write_text("\n".join([f"# Library\n\n{text}\n\n## Top level\n\n{top}", *parts]))


def write_api(folder: Path) -> set:
    "A page for each public name, and one for what else each module exports."
    import vidprism

    (folder / "api" / "modules").mkdir(parents=True)
    lists = []
    for module, names in vidprism._WHERE.items():
        for name in names.split():
            write_name(folder / "api" / f"{name}.rst", name, getattr(vidprism, name))
        lists.append(f"## `{module}`\n\n{tree(sorted(names.split()))}")
    modules = [write_module(folder / "api" / "modules", name, set(vidprism.__all__)) for name in exporting()]
    lists.append(f"## What else the modules export\n\n{tree([f'modules/{name}' for name in modules])}")
    text = "Each name below is imported from `vidprism`. Its page has the signature, the docstring and the source."
    (folder / "api" / "index.md").write_text("\n".join([f"# API\n\n{text}\n", *lists]))
    return set(vidprism.__all__)


def exporting() -> list:
    "Notebooks that export a module."
    return [name for folder in ("", *FOLDERS) for name in notebooks(folder) if name not in PAGES_OF_THEIR_OWN]


def write_module(folder: Path, name: str, public: set) -> str:
    "The page of a module's names that `vidprism` itself does not have; returns its name."
    module = f"vidprism.{name.replace('/', '.')}"
    names = [n for n in import_module(module).__all__ if n in public]
    lines = [f".. automodule:: {module}", "   :members:"]
    if names:
        lines.append(f"   :exclude-members: {', '.join(names)}")
    also = ", ".join(f":py:obj:`vidprism.{n}`" for n in names)
    text = f"Described elsewhere: {also}.\n\n" if also else ""
    page = name.replace("/", ".")
    (folder / f"{page}.rst").write_text("\n".join([module, "=" * len(module), "", text, *lines, ""]))
    return page


def write_name(path: Path, name: str, value) -> None:
    "The page of one public name."
    head = f"{name}\n{'=' * len(name)}\n\n"
    if isinstance(value, type):
        kind = "autoexception" if issubclass(value, Exception) else "autoclass"
        path.write_text(f"{head}.. {kind}:: vidprism.{name}\n   :members:\n")
    elif callable(value):
        path.write_text(f"{head}.. autofunction:: vidprism.{name}\n")
    else:
        text = indent(pformat(value, width=100), "      ")
        path.write_text(f"{head}.. py:data:: vidprism.{name}\n\n   .. code-block:: python\n\n{text}\n")


def write_command(folder: Path) -> None:
    "The help of each word of the command."
    words = ["", *re.findall(r"^│ ([a-z-]+) ", help_of(), flags=re.M)]
    parts = [f"## `vidprism {word}`\n\n```text\n{help_of(word)}\n```\n" for word in words if not word.startswith("-")]
    (folder / "command.md").write_text("# Command line\n\n" + "\n".join(parts))


def help_of(word: str = "") -> str:
    "The help of a word, 100 columns wide and without colour."
    env = dict(os.environ, COLUMNS="100", TERM="dumb", NO_COLOR="1", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-m", "vidprism", *word.split(), "--help"], capture_output=True, text=True, env=env, check=True
    )
    return done.stdout.strip()


def pictures(name: str) -> list:
    "The saved pictures of a notebook, as bytes."
    cells = nbformat.read(NBS / f"{name}.ipynb", 4).cells
    found = [o.data for c in cells for o in c.get("outputs", []) if "data" in o and "image/png" in o.data]
    return [base64.b64decode(data["image/png"]) for data in found]


def write_front(folder: Path) -> None:
    "The front page, from README's first words and the gallery."
    cards = []
    for n, shown in enumerate(GALLERY):
        (folder / "_static" / f"gallery_{n}.png").write_bytes(pictures(shown.notebook)[shown.figure])
        cards.append(card(f"_static/gallery_{n}.png", shown))
    shutil.copy(NBS / "inspector.gif", folder / "_static")
    text = (ROOT / "docs" / "index.md").read_text()
    grid = "::::{grid} 1 2 3 3\n:gutter: 3\n\n" + "\n".join(cards) + "\n::::\n"
    (folder / "index.md").write_text(text.replace("<!-- gallery -->", grid))


def card(image: str, shown: Shown) -> str:
    "A card of the gallery."
    lines = [f":::{{grid-item-card}} {shown.title}", f":img-top: {image}", f":img-alt: {shown.title}. {shown.text}"]
    return "\n".join([*lines, f":link: {shown.notebook}", ":link-type: doc", "", shown.text, ":::"])


def write_markdown_pages(folder: Path) -> None:
    "The pages that lie beside README."
    for file in PAGES:
        text = (ROOT / file).read_text()
        for other in PAGES:
            text = text.replace(f"]({other})", f"]({other.lower()})")
        (folder / file.lower()).write_text(text)


def write_live(folder: Path) -> None:
    "The interactive page of a shipped clip."
    from vidprism.cli import default_clip
    from vidprism.interpret.explanation import explain
    from vidprism.model import sample_model
    from vidprism.viz.html import prism_page

    (folder / "_static" / "live").mkdir()
    prism_page(explain(sample_model(), default_clip()), folder / "_static" / "live" / "prism.html")


def write_source(folder: Path) -> None:
    "All pages, as Sphinx reads them."
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    shutil.copytree(ROOT / "benchmarks" / "tables", folder / "_static" / "benchmarks" / "tables")
    public = write_api(folder)
    write_notebooks(folder, public)
    write_sections(folder)
    write_command(folder)
    write_markdown_pages(folder)
    write_live(folder)
    write_front(folder)


def build(folder: Path) -> int:
    "Build the site from its pages; 0 if there is no warning."
    strict = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(folder / "cache")]
    return build_main([*strict, str(folder / "source"), str(folder / "html")])


def mend_source_links(html: Path) -> None:
    """Correct the links from source pages back to the description of each name.

    Sphinx uses one prefix for all names of a module, but some are described as `vidprism.NAME` and the others as
    `vidprism.MODULE.NAME`.
    """
    anchors = {}
    for path in (html / "_modules").rglob("*.html"):
        module = path.relative_to(html / "_modules").with_suffix("").as_posix().replace("/", ".")

        def corrected(found, path=path, module=module):
            page, name = (path.parent / found[1]).resolve(), found[2]
            if page not in anchors:
                anchors[page] = set(re.findall(r'id="([^"]+)"', page.read_text(encoding="utf-8")))
            plain = name.removeprefix(f"{module}.").removeprefix("vidprism.")
            known = [f"{prefix}.{plain}" for prefix in ("vidprism", module) if f"{prefix}.{plain}" in anchors[page]]
            return f'href="{found[1]}#{known[0] if known else name}"'

        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r'href="([^"#]*api/[^"#]+)#([^"]+)"', corrected, text), encoding="utf-8")


def main() -> int:
    "Write the pages and build the site."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "_docs")
    parser.add_argument("--as-is", action="store_true", help="build the pages that are in the folder already")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    if not args.as_is:
        shutil.rmtree(args.folder / "html", ignore_errors=True)
        write_source(args.folder / "source")
    code = build(args.folder)
    mend_source_links(args.folder / "html")
    print("The site has errors." if code else args.folder / "html" / "index.html")
    return code


if __name__ == "__main__":
    sys.exit(main())
