"What is left of the inspector without Python: a saved notebook, and the page that nbconvert makes of it."

import json
import nbformat
import os
import pytest
import subprocess
import sys
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from test_inspector import CLIP, jupyterlab, words

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.long  # servers and kernels are processes of their own
WIDGETS = "application/vnd.jupyter.widget-state+json"
CELLS = [
    f"""from vidprism.data.clips import sample_clips
from vidprism.model import sample_model
from vidprism.viz.inspector import ClipInspector

clip = next(p for p in sample_clips() if p.name == "{CLIP}")
inspector = ClipInspector(sample_model(), [clip])""",
    "inspector",
    "inspector.on[0].value = False",
    "inspector.order.value = 'reversed'",
]


@pytest.fixture(scope="module")
def saved():
    "A notebook that changes the inspector after it was shown, run and saved with its widgets."
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    nb.metadata.kernelspec = dict(name="python3", display_name="Python 3", language="python")
    NotebookClient(nb, timeout=300).execute()
    return nb


@pytest.fixture(scope="module")
def answers():
    "The kit's own answers, before and after the change, in words."
    from vidprism.data.clips import sample_clips
    from vidprism.model import sample_model
    from vidprism.viz.session import Session

    session = Session(sample_model(), sample_clips())
    session.open(next(p for p in session.clips if p.name == CLIP))
    before = session.read(session.settings)
    after = session.change(off=(0,), order="reversed")
    return [words(before.answer, "before"), words(after.answer, "after")]


def test_the_state_is_in_the_notebook(saved, answers):
    "Panels, figures and controls stand in the saved state as they were last."
    states = [model["state"] for model in saved.metadata.widgets[WIDGETS]["state"].values()]
    (view,) = (state for state in states if "panel_answer" in state)
    figure = json.loads(view["panel_answer"]["figures"][0])
    assert figure["layout"]["meta"]["words"] == answers
    assert "without rate 2" in view["panel_answer"]["note"]
    (off,) = (state for state in states if state.get("description", "").startswith("rate 2"))
    assert off["value"] is False
    assert len(json.dumps(saved)) < 3.5e6  # of which plotly.js, packed, is 2 MB


def opened(browser, html):
    "A page without any network."
    page = browser.new_context(offline=True, viewport=dict(width=1366, height=900)).new_page()
    page.goto(html.as_uri(), wait_until="commit")
    page.wait_for_selector(".vidprism-inspector, [class*=-still]", state="attached", timeout=60_000)
    return page


@pytest.mark.parametrize("widgets", [True, False], ids=["with its widgets", "without"])
def test_html_shows_the_last_state_offline(saved, answers, chromium, tmp_path, widgets):
    "nbconvert's page, without network and kernel: the answer after the change, bars, pictures of the frames."
    nb = nbformat.from_dict(json.loads(json.dumps(saved)))
    if not widgets:
        del nb.metadata["widgets"]
    text, _ = HTMLExporter().from_notebook_node(nb)
    html = tmp_path / "saved.html"
    html.write_text(text, encoding="utf-8")
    page = opened(chromium, html)
    still = page.locator("[class*=-still]")
    assert still.count() == 1 and still.is_visible()
    seen = still.inner_text()
    assert all(answer in seen for answer in answers)
    assert "Changed: without rate 2" in seen and CLIP in seen
    assert still.locator("img").count() >= 32
    assert still.locator("img").evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 0)")
    page.close()


def test_the_still_is_not_shown_beside_its_widget(chromium, saved, tmp_path):
    "Where the widget is drawn in the same document, the still is hidden."
    text, _ = HTMLExporter().from_notebook_node(saved)
    html = tmp_path / "saved.html"
    html.write_text(text, encoding="utf-8")
    page = opened(chromium, html)
    still = page.locator("[class*=-still]")
    name = still.get_attribute("class").removesuffix("-still")
    page.evaluate("name => document.body.append(Object.assign(document.createElement('div'), {className: name}))", name)
    assert not still.is_visible()
    page.close()


def test_a_saved_notebook_in_jupyterlab_that_was_not_run(saved, answers, chromium, tmp_path):
    "The last state stands in the output, before anything runs: answers, bars, pictures of the frames."
    nbformat.write(saved, tmp_path / "saved.ipynb")
    with jupyterlab(tmp_path) as address:
        page = chromium.new_context(viewport=dict(width=1366, height=900)).new_page()
        page.goto(address.format("saved.ipynb"), timeout=180_000)
        still = page.locator("[class*=-still]")
        still.wait_for(timeout=120_000)
        seen = still.inner_text()
        assert all(answer in seen for answer in answers)
        assert "Changed: without rate 2" in page.locator(".jp-OutputArea").all_inner_texts()[-1] + seen
        pictures = still.locator("img")
        assert pictures.count() >= 32
        assert pictures.evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 0)")
        page.close()


COLAB = """
import sys, types
from vidprism.data.clips import sample_clips
from vidprism.model import sample_model

asked = []
output = types.ModuleType("google.colab.output")
output.enable_custom_widget_manager = lambda: asked.append(1)
output._widgets = types.SimpleNamespace(_installed_url=None)
for name in ("google", "google.colab"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["google.colab.output"] = output
from vidprism.viz.inspector import ClipInspector

ClipInspector(sample_model(), sample_clips()[:1])
print(len(asked))
"""


def test_colab_is_asked_for_custom_widgets():
    "Colab draws widgets of third parties after one call, which is made when an inspector is made."
    env = dict(os.environ, HF_HUB_OFFLINE="1")
    done = subprocess.run([sys.executable, "-c", COLAB], capture_output=True, text=True, env=env)
    assert done.stdout.strip() == "1", done.stderr
