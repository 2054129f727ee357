"The training panel in a real JupyterLab: it draws while `fit` runs, walks over epochs, and opens one in the inspector."

import json
import pytest
from test_controls import contrasts, in_theme
from test_inspector import ARTEFACTS, notebook_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.long

CELLS = (
    """import tempfile, torch
from vidprism.data.clips import sample_clips
from vidprism.encoders.factory import create_encoder
from vidprism.heads.base import create_head
from vidprism.model import VideoModel
from vidprism.training.trainer import TensorClips, TrainConfig, fit, seeded
from vidprism.viz.training_panel import TrainingPanel
encoder = create_encoder("mini")
with seeded(0):
    head = create_head("vidprism", encoder.dim, 2, 16, rates=(2, 4))
place = tempfile.mkdtemp()
panel = TrainingPanel(place, sample_clips()[:1], VideoModel(encoder, head, ["left", "<b>right</b>"]))
panel""",
    """y = torch.arange(24) % 2
x = torch.randn(24, 16, encoder.dim, generator=torch.Generator().manual_seed(0)) + y[:, None, None]
history = fit(head, TensorClips(x, y), (x, y), TrainConfig(epochs=3, batch=8), place, watch=panel, keep="all")
open("record.json", "w").write(__import__("json").dumps(history.watched))""",
)
DRAWN = """g => ({
  lines: g._fullData.map(d => [d.name, [...d.x], [...d.y]]),
  marks: g.layout.shapes.map(s => s.x0),
  wide: g.clientWidth,
})"""


def test_a_person_follows_a_training(chromium, tmp_path):
    with notebook_page(chromium, tmp_path, CELLS) as page:
        record = json.loads((tmp_path / "record.json").read_text())
        box = page.locator(".vidprism-training").first
        plot = box.locator("[data-panel=training] .plot")
        page.wait_for_selector(".vidprism-training [data-panel=training] .plot .scatterlayer")
        page.wait_for_timeout(1500)
        drawn = plot.evaluate(DRAWN)
        lines = {name: values for name, _, values in drawn["lines"]}
        assert lines["all together"] == pytest.approx([entry["top1"] for entry in record])
        assert set(drawn["marks"]) == {3}
        box.locator(".noUi-handle").first.press("ArrowLeft")
        page.wait_for_function("g => g.layout.shapes[0].x0 == 2", arg=plot.element_handle())
        assert "Epochs that can be opened: 1, 2, 3." in box.inner_text()
        assert "CKA" in box.locator("[data-panel=training] .words").text_content()
        box.get_by_role("button", name="Open this epoch").click()
        page.wait_for_selector(".vidprism-training .vidprism-inspector [data-panel=answer] .plot")
        page.wait_for_timeout(1500)
        box.locator("[data-panel=training] summary").click()
        ARTEFACTS.mkdir(exist_ok=True)
        (ARTEFACTS / ".gitignore").write_text("*\n")
        for width in (1366, 700):
            page.set_viewport_size(dict(width=width, height=1500))
            page.wait_for_timeout(800)
            box.evaluate("el => el.scrollIntoView({block: 'start'})")
            page.wait_for_timeout(400)
            page.screenshot(path=ARTEFACTS / f"training_panel_{width}.png")
        for theme in ("Light", "Dark"):
            with in_theme(page, f"JupyterLab {theme}"):
                texts, pale = contrasts(box)
                page.screenshot(path=ARTEFACTS / f"training_panel_{theme.lower()}.png")
            assert {"epoch", "Read again", "Training", "In words", "SELECT"} <= set(texts)
            assert any("mean CKA" in text for text in texts) and any("can be opened" in text for text in texts)
            assert pale == [], theme
        assert page.wrong == []
