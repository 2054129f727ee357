"The documentation site: complete, without broken links, and readable from a folder without a network."

import importlib.util
import json
import os
import pytest
import re
import shutil
import subprocess
import sys
import vidprism
from html.parser import HTMLParser
from pathlib import Path
from real import ROOT
from urllib.parse import unquote, urlsplit

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not importlib.util.find_spec("myst_nb"), reason="made by `make docs`, whose tools are not here"),
]
SHOWN = ("index", "handbook", "guides/01_explore_clip", "heads/rgsta", "api/explain", "command")
BUILD = [sys.executable, str(ROOT / "tools" / "docs.py"), "--folder"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    "The site, built here or before, in VIDPRISM_DOCS; a warning, such as a missing reference, fails the build."
    if "VIDPRISM_DOCS" in os.environ:
        return Path(os.environ["VIDPRISM_DOCS"]) / "html"
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run([*BUILD, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


class Links(HTMLParser):
    "Addresses and anchors of a page."

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.anchors.add(value)


def test_every_notebook_and_name_has_a_page(site):
    "Notebooks but README's; public names with their signature, first line and source."
    notebooks = {p.relative_to(ROOT / "nbs").with_suffix(".html") for p in (ROOT / "nbs").rglob("[!.]*.ipynb")}
    assert len(notebooks) > 80
    assert not [p for p in notebooks if p.name != "index.html" and not (site / p).is_file()]
    for name in vidprism.__all__:
        text = (site / "api" / f"{name}.html").read_text(encoding="utf-8")
        assert f'id="vidprism.{name}"' in text, name
        if callable(getattr(vidprism, name)):
            assert "viewcode-link" in text, name
    rgsta = (site / "api" / "RgSTA.html").read_text(encoding="utf-8")
    first = re.sub(r"[`*]", "", vidprism.RgSTA.__doc__.strip().splitlines()[0])
    assert first in re.sub(r"<[^>]+>", "", rgsta)


def test_every_link_leads_somewhere(site):
    "Each relative address is a file of the site, and each anchor is on its page."
    pages = {path: Links(path) for path in site.rglob("*.html") if "_static" not in path.parts}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            anchor = unquote(parts.fragment)
            known = pages.get(Path(to))
            if not to.exists() or (anchor and known and anchor not in known.anchors):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert len(pages) > 200 and not broken, broken[:20]


def test_pictures_have_a_text_alternative(site):
    "Each figure, saved or interactive; a thumbnail beside its name may have an empty one."
    bare = []
    for path in (site / "guides").rglob("*.html"):
        for picture in re.findall(r"<img[^>]*>", path.read_text(encoding="utf-8")):
            needed = r'alt="[^"]' if "_images/" in picture else 'alt="'
            if not re.search(needed, picture):
                bare.append(f"{path.name}: {picture[:80]}")
    assert not bare, bare[:5]
    assert 'role="figure" aria-label="' in (site / "guides" / "01_explore_clip.html").read_text(encoding="utf-8")


def test_each_saved_figure_is_interactive(site):
    "A page draws as many figures as its notebook keeps data for, and loads the program that draws them."
    drawn = 0
    for path in sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts):
        page = (site / path.relative_to(ROOT / "nbs")).with_suffix(".html")
        outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", [])]
        kept = sum("application/vnd.plotly.v1+json" in o.get("data", {}) for o in outputs)
        if not page.exists() or path.stem == "index":
            continue
        text = page.read_text(encoding="utf-8")
        assert text.count('role="figure"') == kept, path.name
        assert kept == 0 or "_static/plotly.min.js" in text, path.name
        drawn += kept
    assert drawn > 100


def test_a_broken_reference_is_an_error(site, tmp_path):
    "A link to a notebook that does not exist stops the build, by name."
    copy = shutil.copytree(site.parent, tmp_path / "docs")
    page = copy / "source" / "changelog.md"
    page.write_text(page.read_text() + "\n[gone](guides/99_gone.ipynb)\n")
    done = subprocess.run([*BUILD, str(copy), "--as-is"], capture_output=True, text=True)
    assert done.returncode != 0 and "99_gone" in done.stderr


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 420])
def test_pages_from_a_folder(site, chromium, theme, width):
    "No request leaves the folder, no page is wider than the window, and interactive figures are drawn."
    page = chromium.new_page(viewport=dict(width=width, height=900), color_scheme=theme)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    page.on("request", lambda request: request.url.startswith("http") and wrong.append(request.url))
    for name in SHOWN:
        page.goto((site / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("document.documentElement.dataset.theme") == theme
    page.goto((site / "guides" / "01_explore_clip.html").as_uri())
    page.wait_for_selector(".js-plotly-plot .main-svg")
    page.close()
    assert not wrong, wrong


@pytest.mark.parametrize("word, found", [("lineage", "heads/rgsta.html"), ("frame_scores", "api/frame_scores.html")])
def test_search_from_a_folder(site, chromium, word, found):
    "The search finds a word of a notebook and a public name."
    page = chromium.new_page()
    page.goto(f"{(site / 'search.html').as_uri()}?q={word}")
    page.wait_for_selector(f"ul.search a[href*='{found}']")
    page.close()
