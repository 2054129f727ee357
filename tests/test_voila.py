"""The same notebooks under Voila: the inspectors are there, and answer a person, without a line of code in sight."""

import pytest
import sys
from contextlib import contextmanager
from test_dataset_inspector import SetView
from test_inspector import Inspector, free_port, serving, write_notebook

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("voila", reason="voila is not installed")
pytestmark = pytest.mark.long
ONE = [
    "from vidprism import ClipInspector, sample_model\nfrom vidprism.data.clips import sample_clips",
    "ClipInspector(sample_model(), sample_clips())",
]
SET = [
    "from vidprism import DatasetInspector, sample_model\nfrom vidprism.data.clips import sample_clips",
    "inspector = DatasetInspector(sample_model(), sample_clips(), cache='cache')\ninspector",
]


@contextmanager
def voila(folder, name):
    "A notebook under Voila; yields its address."
    port = free_port()
    command = [sys.executable, "-m", "voila", name, "--no-browser", f"--port={port}", "--Voila.ip=127.0.0.1"]
    address = f"http://127.0.0.1:{port}/"
    with serving(command, folder, folder, f"{address}static/"):  # the notebook itself would be run
        yield address


@contextmanager
def page_of(browser, folder, cells):
    "A page with the notebook's outputs, and the errors of its scripts."
    write_notebook(folder, "cells.ipynb", cells)
    with voila(folder, "cells.ipynb") as address:
        page = browser.new_page(viewport=dict(width=1366, height=900))
        page.set_default_timeout(180_000)
        page.wrong = []
        page.on("pageerror", lambda e: page.wrong.append(str(e)))
        page.goto(address, timeout=180_000)
        yield page
        page.close()


def test_one_clip(tmp_path, chromium):
    "The clip's panels are drawn; another clip has another answer; no code is shown."
    with page_of(chromium, tmp_path, ONE) as page:
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]")
        page.wait_for_timeout(1000)
        clip = Inspector(page)
        names = clip.box.locator(".widget-dropdown:has(label:text-is('clip')) option").all_text_contents()
        first = clip.figure("answer")["layout"]["words"]
        clip.choose("clip", names[3])
        assert clip.chosen("clip") == names[3] and clip.figure("answer")["layout"]["words"] != first
        assert page.get_by_text("import ClipInspector").count() == 0 and page.wrong == []


def test_a_set_of_clips(tmp_path, chromium):
    "The grid holds the clips; a query selects in grid and map."
    with page_of(chromium, tmp_path, SET) as page:
        page.wait_for_selector(".prism-set[data-serial] tbody tr[data-row]")
        page.wait_for_timeout(1000)
        view = SetView(page)
        assert view.counts().startswith("18 clips")
        view.query("answer == 'grow'")
        assert len(view.on_map()) > 0 and view.rows() == view.on_map() and page.wrong == []
