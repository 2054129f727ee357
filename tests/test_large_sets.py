"""The data set's inspector in a real JupyterLab on 540 clips of the world and on the 650 clips of JHMDB.

One walk through the set: sort, query, brush, an expert switched off and undone, a clip opened and played, another class
explained. After each step the values are those of the kit's own table."""

import numpy as np
import pytest
from real import shared
from test_dataset_inspector import SetView, write_video
from test_inspector import Inspector, notebook_page

pytestmark = pytest.mark.long
CELLS = [
    """from vidprism import ClipList, DatasetInspector, VideoModel
inspector = DatasetInspector(VideoModel.from_pretrained("model"), ClipList.from_any({!r}), cache="cache", wait=False)
inspector""",
    "len(inspector.table)",
]
LASSO = """([gd, edge]) => {
  const {xaxis, yaxis} = gd._fullLayout;
  const rows = [...gd.data[0].x.keys()].filter(i => gd.data[0].x[i] !== null && gd.data[0].x[i] < edge);
  gd.emit('plotly_selected', {points: rows.map(pointIndex => ({pointIndex}))});
}"""


def write_world(folder):
    "540 clips of the world in folders of their classes."
    from vidprism.data.synthetic import MOTIONS, world_clips

    frames, labels, *_ = world_clips(540, split="test")
    for i, (clip, label) in enumerate(zip(frames, labels.tolist())):
        write_video(folder / MOTIONS[label].replace(" ", "_") / f"{i:03d}.mp4", clip)


def world_model(folder):
    "Clips of the world, and the shipped model."
    from vidprism import sample_model

    write_world(folder / "clips")
    sample_model().save_pretrained(folder / "model")
    return folder / "clips"


def jhmdb_model(folder):
    "JHMDB where it lies, and a model of the mini CLIP's features, trained for some epochs."
    from vidprism import Recipe, TrainConfig, train_clips

    clips = shared("jhmdb21")
    recipe = Recipe(encoder="mini", head="vidprism", num_frames=16, training=TrainConfig(epochs=3))
    train_clips(clips, recipe, cache=folder / "cache").save(folder / "model")
    return clips


def check_sorting(view, frame):
    "The least probable answer comes first, then the most probable one."
    view.sort("probability", "ascending")
    ordered = frame["probability"].dropna().sort_values()
    first = [row for row in view.rows() if row in ordered.index][:5]
    assert np.allclose(frame["probability"][first], ordered.iloc[:5])
    view.sort("probability", "descending")
    assert np.allclose(frame["probability"][view.rows()[:5]], ordered.iloc[::-1][:5])


def check_query(view, known):
    "A query selects the same rows in grid and map."
    limit = round(float(known.table["probability"].median()), 4)
    view.query(f"probability < {limit} and not right")
    rows = known.query(f"probability < {limit} and not right").table.index.tolist()
    assert view.on_map() == rows and len(rows) > 0
    assert f"{len(rows)} rows" in view.info() and f"{len(rows)} selected" in view.counts()
    view.none()


def check_brush(view, known):
    "The left half of the map is selected."
    from vidprism.interpret.clip_maps import clip_map

    x = clip_map(known).points[:, 0]
    middle = float(np.nanmedian(x))
    plot = view.box.locator(".map .plot").element_handle()
    view.after(lambda: view.page.evaluate(LASSO, [plot, middle]))
    assert len(set(view.on_map()) ^ set(np.flatnonzero(x < middle).tolist())) <= 1  # rounded coordinates
    view.none()


def check_expert(view, known):
    "The slowest expert off: the answers that change; undo brings them back."
    from vidprism.interpret.clip_tables import changes_without_expert

    rates = list(known.source.model.head.expert_names)
    view.after(view.box.locator("button[data-expert]").first.click)
    changed = changes_without_expert(known, rates.index(max(rates)))
    assert (view.on_map() or []) == sorted(changed.index)
    assert view.column("then") == changed["new_answer"].tolist()[: len(view.rows())] or not len(changed)
    assert f"{len(changed)} answers change" in view.counts()
    view.press("undo")
    assert view.on_map() is None


def check_clip(view, known):
    "A click opens a clip; it plays to another frame; another class is explained, and its parts are other ones."
    frame, page = known.table, view.page
    view.sort("probability", "descending")
    row = view.rows()[0]
    view.after(view.box.locator(f"tbody tr[data-row='{row}'] td").nth(1).click)
    clip = Inspector(page)
    clip.box.locator(".prism[data-serial]").wait_for()
    page.wait_for_timeout(1500)
    assert clip.chosen("clip") == known.source.features.paths[row].name
    assert frame["answer"][row] in clip.view.locator("[data-panel=answer]").text_content()
    player = clip.box.locator(".vidprism-player")
    player.locator("video:visible, img:visible").first.wait_for()
    before = int(player.get_attribute("data-place"))
    player.get_by_role("button", name="play").first.click()
    page.wait_for_function("([el, old]) => +el.dataset.place > old", arg=[player.element_handle(), before])
    words = clip.figure("counted", 1)["data"][0]["y"]
    other = next(name for name in known.classes if name != frame["answer"][row])
    clip.choose("explain", other)
    assert clip.figure("counted", 1)["data"][0]["y"] != words


@pytest.mark.parametrize("make", [world_model, jhmdb_model])
def test_a_walk_through_a_large_set(make, tmp_path, chromium):
    "All clips are loaded; each step shows the values of the table; no script fails."
    from vidprism import ClipList, VideoModel
    from vidprism.interpret.clip_tables import clip_table

    place = make(tmp_path)
    clips = ClipList.from_any(place)
    known = clip_table(VideoModel.from_pretrained(tmp_path / "model"), clips, tmp_path / "cache", progress=False)
    cells = [CELLS[0].format(str(place)), CELLS[1]]
    with notebook_page(chromium, tmp_path, cells, 240_000) as page:
        page.wait_for_selector(".prism-set[data-serial] tbody tr[data-row]", timeout=240_000)
        page.wait_for_timeout(1000)
        page.wrong.clear()
        page.said.clear()  # what JupyterLab itself says while it starts
        view = SetView(page)
        right = 100 * known.table["right"].dropna().mean()
        assert view.counts().startswith(f"{len(clips)} clips · {right:.1f} % right")
        check_sorting(view, known.table)
        check_query(view, known)
        check_brush(view, known)
        check_expert(view, known)
        check_clip(view, known)
        assert page.wrong == [] and page.said == []
