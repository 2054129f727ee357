"""The data set's inspector in a real JupyterLab: a selection in one picture is the selection in all, with its values.

The page it saves is opened without a kernel. Pictures are kept in tests/artefacts."""

import av
import json
import numpy as np
import pytest
import re
from plotly.colors import sample_colorscale, unlabel_rgb
from test_controls import contrasts, in_theme
from test_inspector import ARTEFACTS, notebook_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
COUNT = 54  # clips of the world, three a class
CELLS = [
    """from vidprism import ClipList, DatasetInspector, sample_model
inspector = DatasetInspector(
    sample_model(), ClipList.from_any("clips"), beside={"mean": sample_model("mean")}, cache="cache", wait=False
)""",
    "inspector",
    "len(inspector.table)",
]


def write_video(path, frames):
    "Frames [T,H,W,3] as a film without loss."
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb", rate=16, options=dict(qp="0"))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "rgb24"
        for frame in frames.numpy():
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "World clips in folders of their classes, and a file that is no video."
    from vidprism.data.synthetic import MOTIONS, world_clips

    place = tmp_path_factory.mktemp("set")
    clips = world_clips(COUNT, split="test")
    for i, (frames, label) in enumerate(zip(clips[0], clips[1].tolist())):
        write_video(place / "clips" / MOTIONS[label].replace(" ", "_") / f"{i:03d}.mp4", frames)
    (place / "clips" / "still" / "broken<img src=x onerror=alert(1)>.mp4").write_text("no video")
    return place


@pytest.fixture(scope="module")
def known(folder):
    "The kit's own table of the same clips."
    from vidprism import ClipList, sample_model
    from vidprism.interpret.clip_tables import clip_table

    clips = ClipList.from_any(folder / "clips")
    return clip_table(sample_model(), clips, folder / "own_cache", progress=False)


@pytest.fixture(scope="module")
def lab(folder, chromium):
    "A notebook with the inspector, run, in a browser of a laptop's size."
    with notebook_page(chromium, folder, CELLS) as page:
        page.wait_for_selector(".prism-set[data-serial] tbody tr[data-row]", timeout=120_000)
        page.wait_for_timeout(1000)
        yield page


class SetView:
    "What a person does with the set, and what stands there then."

    def __init__(self, page):
        self.page = page
        self.box = page.locator(".prism-set").first

    def serial(self):
        return int(self.box.get_attribute("data-serial") or 0)

    def after(self, act):
        "Do something, and wait until all pictures show it."
        old = self.serial()
        act()
        self.page.wait_for_function(
            "([el,old])=>+el.dataset.serial>old", arg=[self.box.element_handle(), old], timeout=60_000
        )
        self.page.wait_for_timeout(300)

    def press(self, name):
        self.after(self.box.get_by_role("button", name=name, exact=True).click)

    def pick(self, name, value):
        menu = self.box.locator(f"label:has-text('{name}') select").first
        self.after(lambda: menu.select_option(label=value))

    def none(self):
        "Nothing selected."
        if "none selected" not in self.counts():
            self.press("select none")

    def rows(self):
        "Numbers of the rows in the grid, from above."
        return [int(r) for r in self.box.locator("tbody tr[data-row]").evaluate_all("els=>els.map(e=>e.dataset.row)")]

    def chosen(self):
        "Rows that the grid marks as selected."
        return self.box.locator("tbody tr.chosen").evaluate_all("els=>els.map(e=>+e.dataset.row)")

    def info(self):
        return self.box.locator(".dt-info").text_content()

    def counts(self):
        return self.box.locator(".counts").text_content()

    def on_map(self):
        "Points that the map shows as selected; None: all alike."
        found = self.box.locator(".map .plot").evaluate("g=>g.data[0].selectedpoints")
        return None if found is None else list(found)

    def cells(self, row):
        "Texts of a row by column."
        return self.box.locator(f"tbody tr[data-row='{row}'] td").all_text_contents()

    def titles(self):
        heads = self.box.locator(".dt-scroll-head th")
        return [text for text in heads.evaluate_all("els=>els.map(e=>e.innerText.trim())")]

    def column(self, title):
        "Texts of a column in the grid, from above."
        at = self.titles().index(title)
        return self.box.locator("tbody tr[data-row]").evaluate_all(f"els=>els.map(e=>e.cells[{at}].innerText)")

    def sort(self, title, direction):
        "Press the head of a column until it is sorted so; how it was sorted before does not matter."
        head = self.box.locator(".dt-scroll-head th", has_text=re.compile(rf"^\s*{re.escape(title)}\s*$")).first
        for _ in range(3):
            if head.get_attribute("aria-sort") == direction:
                return
            head.click()
            self.page.wait_for_timeout(500)
        assert head.get_attribute("aria-sort") == direction

    def query(self, text):
        self.box.locator(".query input").fill(text)
        self.after(lambda: self.box.locator(".query input").press("Enter"))


@pytest.fixture
def view(lab):
    "The set with nothing selected."
    lab.set_viewport_size(dict(width=1366, height=900))
    found = SetView(lab)
    found.box.locator("input[type=search]").fill("")
    for button in found.box.locator("button[data-expert][aria-pressed=false]").all():
        found.after(button.click)
    found.none()
    return found


def test_counts_and_first_row(view, known):
    "The head says how many clips are right; a row shows what the table says; a broken file is a row with its reason."
    frame = known.table
    right = 100 * frame["right"].dropna().mean()
    assert view.counts().startswith(f"{COUNT + 1} clips · {right:.1f} % right · 1 without an answer")
    first = view.rows()[0]
    cells = dict(zip(view.titles(), view.cells(first)))
    assert cells["label"] == frame["label"][first] and cells["answer"] == (frame["answer"][first] or "")
    broken = frame.index[frame["error"].notna()].item()
    view.box.locator("input[type=search]").fill("broken")
    view.page.wait_for_timeout(600)
    assert view.rows() == [broken]
    assert "is text, not a video." in dict(zip(view.titles(), view.cells(broken)))["error"]
    assert view.page.locator("tbody td img[src=x]").count() == 0


def test_sorting(view, known):
    "A click on a column's head sorts by its values."
    view.sort("probability", "ascending")
    order = known.table["probability"].sort_values(kind="stable").dropna()
    shown = [row for row in view.rows() if row in order.index]
    assert known.table["probability"][shown].is_monotonic_increasing
    view.sort("probability", "descending")
    assert known.table["probability"][view.rows()[0]] == order.iloc[-1]


def test_query_selects_everywhere(view, known):
    "A query is the same selection in grid, map, head and code; a wrong one is said, and changes nothing."
    view.query("probability < 0.9")
    rows = known.query("probability < 0.9").table.index.tolist()
    assert 0 < len(rows) < COUNT
    assert view.on_map() == rows and sorted(view.rows()) == rows[: len(view.rows())]
    assert f"{len(rows)} rows" in view.info() and f"{len(rows)} selected" in view.counts()
    view.query("__import__('os')")
    assert "A query" in view.box.locator(".status").text_content()
    assert view.on_map() == rows
    view.press("undo")
    assert view.on_map() is None and f"{COUNT + 1} rows" in view.info()


def test_brush_on_the_map(view, known):
    "What a lasso catches on the map is what the grid shows."
    from vidprism.interpret.clip_maps import clip_map

    points = clip_map(known).points
    x = points[:, 0]
    plot = view.box.locator(".map .plot")
    plot.scroll_into_view_if_needed()
    spans = plot.evaluate("g=>[g._fullLayout.xaxis.range, g._fullLayout.yaxis.range, g._fullLayout._size]")
    (x0, x1), (y0, y1), size = spans
    middle = np.nanmedian(x)
    wanted = np.flatnonzero(x < middle).tolist()
    edge = size["l"] + (middle - x0) / (x1 - x0) * size["w"]
    place = plot.bounding_box()
    corners = [(2, 2), (edge, 2), (edge, size["h"] - 2), (2, size["h"] - 2), (2, 4)]
    mouse = view.page.mouse

    def lasso():
        mouse.move(place["x"] + size["l"] + corners[0][0], place["y"] + size["t"] + corners[0][1])
        mouse.down()
        for cx, cy in corners[1:]:
            mouse.move(place["x"] + (cx if cx == edge else size["l"] + cx), place["y"] + size["t"] + cy, steps=6)
        mouse.up()

    view.after(lasso)
    found = view.on_map()
    assert f"{len(found)} selected" in view.counts()
    assert len(set(found) ^ set(wanted)) <= 1 and len(found) > 10  # a point on the line may fall to either side
    assert f"{len(found)} rows" in view.info()


def test_cells_of_the_heat_maps(view, known):
    "A click on a confusion, or on a class's usage, selects its clips."
    from vidprism.interpret.clip_tables import confusions

    counts = confusions(known)
    wrong = [(i, j) for i, j in zip(*np.nonzero(counts.to_numpy())) if i != j]
    i, j = wrong[0] if wrong else (3, 3)
    click = """([title,i,j]) => {
      const figure = [...document.querySelectorAll('.heat')].find(f => f.innerText.startsWith(title));
      const gd = figure.querySelector('.plot');
      gd.emit('plotly_click', {points: [{pointNumber: [i, j]}]});
    }"""
    view.after(lambda: view.page.evaluate(click, ["Confusions", int(i), int(j)]))
    frame = known.table
    pair = (frame["label"] == counts.index[i]) & (frame["answer"] == counts.columns[j])
    assert view.on_map() == frame.index[pair.fillna(False)].tolist()
    view.after(lambda: view.page.evaluate(click, ["Usage by class: right", 5, 0]))
    right = (frame["label"] == counts.index[5]) & frame["right"]
    assert view.on_map() == frame.index[right.fillna(False)].tolist()
    shown = view.box.locator(".heat").first.locator(".plot").evaluate("g=>g.data[0].z.map(r=>[...r])")
    from vidprism.interpret.clip_tables import usage_by_class

    means = usage_by_class(known).to_numpy()[:, ::-1]
    assert np.allclose(np.array(shown, float), means, atol=1e-4, equal_nan=True)


def test_an_expert_off_and_undone(view, known):
    "Switched off for all clips: the clips that change, with their new answers; undo brings all back."
    from vidprism.interpret.clip_tables import changes_without_expert

    before = view.titles()
    rates = list(known.source.model.head.expert_names)
    button = view.box.locator("button[data-expert]").first  # the slowest
    view.after(button.click)
    changed = changes_without_expert(known, rates.index(max(rates)))
    assert button.get_attribute("aria-pressed") == "false"
    assert view.on_map() == sorted(changed.index)
    assert view.rows() == changed.index.tolist()[: len(view.rows())]
    assert view.column("then") == changed["new_answer"].tolist()[: len(view.rows())]
    assert f"{len(changed)} answers change" in view.counts()
    view.press("undo")
    assert view.on_map() is None and view.titles() == before
    assert button.get_attribute("aria-pressed") == "true"


def test_questions(view, known):
    "One click each; the grid is sorted by how much a clip shows it."
    from vidprism.interpret import clip_tables as t

    for name, wanted in (
        ("wrong and sure", t.confident_errors(known)),
        ("unlike their class", t.unusual_usage(known)),
        ("changed by reversing", t.changes_when_reversed(known)),
        ("changed by shuffling", t.changes_when_shuffled(known, 0)),
    ):
        view.press(name)
        rows = view.rows()
        assert rows == wanted.index.tolist()[: len(rows)], name
        assert f"{len(wanted)} selected" in view.counts() or not len(wanted)
    view.press("other answer of mean")
    assert "other answers" in view.counts()


def test_rows_by_keyboard(view, known):
    "Arrows move, the space bar selects, Enter opens the clip below; its answer is that of the table."
    rows = view.rows()
    view.box.locator("tbody tr[data-row]").first.focus()
    keyboard = view.page.keyboard
    view.after(lambda: keyboard.press(" "))
    for _ in range(20):  # beyond the rows that the grid has made
        keyboard.press("ArrowDown")
        view.page.wait_for_timeout(60)
    focused = view.page.evaluate("()=>+document.activeElement.dataset.row")
    assert focused not in rows[:10]
    for _ in range(19):
        keyboard.press("ArrowUp")
        view.page.wait_for_timeout(60)
    view.after(lambda: keyboard.press(" "))
    assert view.on_map() == sorted(rows[:2]) and sorted(view.chosen()) == sorted(rows[:2])
    assert f"{COUNT + 1} rows" in view.info()  # a selection in the grid does not hide the others
    view.after(lambda: keyboard.press("Enter"))
    clip = view.page.locator(".vidprism-inspector").first
    clip.wait_for()
    name = known.source.features.paths[rows[1]].name
    menu = clip.locator(".widget-dropdown:has(label:text-is('clip')) select")
    assert menu.evaluate("el=>el.selectedOptions[0].textContent") == name
    clip.locator(".prism[data-serial]").wait_for()
    words = clip.locator("[data-panel=answer]").text_content()
    assert known.table["answer"][rows[1]] in words


def test_colour_and_second_map(view, known):
    "The map takes another projection and another colour."
    from vidprism.interpret.clip_maps import clip_map

    menus = view.box.locator(".map select")
    menus.nth(0).select_option(label="expert usage")
    menus.nth(1).select_option(label="probability")
    view.page.wait_for_timeout(800)
    data = view.box.locator(".map .plot").evaluate("g=>({x:[...g.data[0].x],c:[...g.data[0].marker.color]})")
    usage = clip_map(known, "usage").points[:, 0]
    assert np.allclose(np.array(data["x"], float), usage, rtol=1e-4, atol=1e-6, equal_nan=True)
    values = known.table["probability"]
    places = ((values - values.min()) / (values.max() - values.min())).fillna(0)
    wanted = [unlabel_rgb(shade) for shade in sample_colorscale("Viridis", places)]
    there = values.notna()
    channels = np.array(data["c"])
    assert np.allclose(255 * channels[there, :3], np.array(wanted)[there], atol=3)
    assert not there.all() and np.allclose(channels[~there], [0.6, 0.6, 0.6, 1])  # no answer: grey
    menus.nth(0).select_option(label="video vectors")
    menus.nth(1).select_option(label="label")


def test_pictures_come_with_the_rows(view):
    "Rows in sight get the frame that counted most."
    view.page.wait_for_function(
        "()=>document.querySelectorAll('.prism-set tbody img[src^=blob]').length>=5", timeout=60_000
    )
    sizes = view.box.locator("tbody img[src^=blob]").evaluate_all("els=>els.map(e=>e.naturalHeight)")
    assert max(sizes) == 90


def test_nothing_left_the_machine(view):
    "No request but to this machine, and no error in the page."
    away = [u for u in view.page.asked if not u.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))]
    assert away == []
    assert [e for e in view.page.wrong + view.page.said if "favicon" not in e] == []


def test_saved_page(lab, folder, known, tmp_path):
    "The page sorts, searches, selects and answers its questions without a kernel, and runs nobody's scripts."
    from vidprism import ClipList, DatasetInspector, sample_model
    from vidprism.interpret.clip_tables import changes_without_expert

    own = DatasetInspector(sample_model(), ClipList.from_any(folder / "clips"), cache=folder / "own_cache")
    path = own.save(tmp_path / "page.html")
    assert path.stat().st_size < 8e6
    page = lab.context.browser.new_page(viewport=dict(width=1366, height=900))
    page.asked, page.wrong = [], []
    page.on("request", lambda r: page.asked.append(r.url))
    page.on("pageerror", lambda e: page.wrong.append(str(e)))
    page.on("dialog", lambda d: page.wrong.append("a script of a stranger ran"))
    page.on("console", lambda m: page.wrong.append(m.text) if m.type == "error" else None)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    view = SetView(page)
    rates = list(known.source.model.head.expert_names)
    view.after(view.box.locator(f"button[data-view=without_{rates.index(max(rates))}]").click)
    changed = changes_without_expert(known, rates.index(max(rates)))
    assert view.on_map() == sorted(changed.index) and view.rows() == changed.index.tolist()[: len(view.rows())]
    view.press("undo")
    assert view.on_map() is None
    view.pick("class", "sway")
    sway = known.table.index[known.table["label"] == "sway"].tolist()
    assert view.on_map() == sway and sorted(view.rows()) == sway
    page.wait_for_function("()=>document.querySelectorAll('.prism-set tbody img[src^=blob]').length==3")
    assert [u for u in page.asked if not u.startswith(("file:", "data:", "blob:"))] == [] and page.wrong == []
    ARTEFACTS.mkdir(exist_ok=True)
    (ARTEFACTS / ".gitignore").write_text("*\n")
    page.screenshot(path=ARTEFACTS / "dataset_page.png", full_page=True)
    page.close()
    again = json.loads(path.read_text().split('id="stored">')[1].split("</script>")[0])
    assert len(again["pictures"]) == COUNT + 1


def test_text_is_read_in_both_themes(view):
    "All text of grid, head and legend stands out from what is behind it, rows that are selected too."
    view.query("index < 3")
    for name in ("JupyterLab Dark", "JupyterLab Light"):
        with in_theme(view.page, name):
            assert contrasts(view.box, 61)[1] == [], name
