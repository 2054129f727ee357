"""The inspector's notebook in a real JupyterLab, in a headless browser: each setting changes what stands on the page.

Pictures are kept in tests/artefacts."""

import json
import nbformat
import os
import pytest
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from chromium import ARGS
from contextlib import contextmanager
from pathlib import Path

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = Path(__file__).parent.parent
ARTEFACTS = ROOT / "tests" / "artefacts"
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": dict(fetchNews="false", checkForUpdates=False, doNotDisturbMode=True)
}


def free_port():
    "A port of this machine that nobody listens on."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def lab_environment(state):
    "The environment of a JupyterLab that keeps its settings and its state in a folder; the settings are written."
    for name, value in SETTINGS.items():
        place = state / "settings" / f"{name}.jupyterlab-settings"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(value))
    return os.environ | dict(
        JUPYTERLAB_SETTINGS_DIR=str(state / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(state / "workspaces"),
        JUPYTER_RUNTIME_DIR=str(state / "run"),
        JUPYTER_CONFIG_DIR=str(state / "config"),
        IPYTHONDIR=str(state / "ipython"),
        HF_HUB_OFFLINE="1",
        PLOTLY_RENDERER="plotly_mimetype",
    )


def answers(address):
    "Whether a server answers, be it with an error page."
    try:
        urllib.request.urlopen(address, timeout=2).close()
    except urllib.error.HTTPError as page:
        page.close()
    except OSError:
        return False
    return True


def wait_for_server(server, address, log):
    "Return when a server answers, within two minutes."
    end = time.monotonic() + 120
    while not answers(address):
        assert server.poll() is None, f"The server stopped: {log.read_text()[-2000:]}"
        assert time.monotonic() < end, f"The server does not answer: {log.read_text()[-2000:]}"
        time.sleep(0.25)


@contextmanager
def serving(command, folder, state, address):
    "A server that runs in a folder and keeps its settings in another, until the end of the block."
    log = folder / "server.txt"
    with open(log, "wb") as file:
        server = subprocess.Popen(command, env=lab_environment(state), stdout=file, stderr=file, cwd=folder)
    try:
        wait_for_server(server, address, log)
        yield
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextmanager
def jupyterlab(folder):
    "JupyterLab on a folder, its settings and state in there, too; yields its address."
    port, token = free_port(), secrets.token_hex(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={folder}",
        "--ip=127.0.0.1",
        "--LabApp.expose_app_in_browser=True",
        "--allow-root",
    ]
    address = f"http://127.0.0.1:{port}"
    with serving(command, folder, folder / "state", f"{address}/api?token={token}"):
        yield f"{address}/lab/tree/{{}}?token={token}"


# How often each code cell of the notebook in front ran.
COUNTS = """() => {
  const cells = [...jupyterapp.shell.currentWidget.content.model.cells];
  return cells.filter(c => c.type == 'code').map(c => c.executionCount);
}"""
# The errors among its outputs.
ERRORS = """() => {
  const cells = [...jupyterapp.shell.currentWidget.content.model.cells].filter(c => c.type == 'code');
  const outputs = cells.flatMap(c => [...Array(c.outputs.length).keys()].map(i => c.outputs.get(i).toJSON()));
  return outputs.filter(o => o.output_type == 'error').map(o => o.ename + ': ' + o.evalue);
}"""
IDLE = "()=>window.jupyterapp&&jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status=='idle'"


def run_notebook(page, address, name, upto=None):
    """Open a notebook and run its cells.

    A first idle is too early for JupyterLab, so it waits, and looks whether the cells ran."""
    page.goto(address.format(name), timeout=180_000)
    page.wait_for_function(IDLE, timeout=180_000)
    for _ in range(3):
        page.wait_for_timeout(1500)
        page.evaluate("()=>jupyterapp.commands.execute('notebook:run-all-cells')")
        try:
            page.wait_for_function(f"()=>({COUNTS})().every(c=>c>0)||({ERRORS})().length", timeout=240_000)
            break
        except playwright.TimeoutError:
            continue
    page.wait_for_function(IDLE, timeout=180_000)
    assert page.evaluate(ERRORS) == [] and all(page.evaluate(COUNTS))


def write_notebook(folder, name, cells):
    "A notebook of code cells that has not run."
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    book.metadata.kernelspec = dict(name="python3", display_name="Python 3", language="python")
    nbformat.write(book, folder / name)


@contextmanager
def notebook_page(browser, folder, cells, timeout=90_000):
    """A notebook of these cells in a JupyterLab, run, in a window of a laptop's size.

    The page keeps what it asked for (`asked`), errors of scripts (`wrong`) and of the console (`said`)."""
    write_notebook(folder, "cells.ipynb", cells)
    with jupyterlab(folder) as address:
        page = browser.new_page(viewport=dict(width=1366, height=900))
        page.set_default_timeout(timeout)
        page.asked, page.wrong, page.said, page.folder = [], [], [], folder
        page.on("request", lambda r: page.asked.append(r.url))
        page.on("pageerror", lambda e: page.wrong.append(e.stack or str(e)))
        page.on("console", lambda m: page.said.append(m.text) if m.type == "error" else None)
        run_notebook(page, address, "cells.ipynb")
        page.evaluate("()=>jupyterapp.commands.execute('application:toggle-left-area')")
        yield page
        page.close()


# Data and layout of a figure as plotly drew them.
FIGURE = """g => {
  const trace = d => ({
    name: d.name,
    type: d.type,
    x: d.x && [...d.x],
    y: d.y && [...d.y],
    z: d.z && [...d.z].map(r => [...r]),
    customdata: d.customdata,
  });
  const layout = {
    shapes: (g.layout.shapes || []).map(s => s.name),
    notes: (g.layout.annotations || []).map(a => [a.text, a.bgcolor || '']),
    ticks: g.layout.yaxis.ticktext,
    words: (g.layout.meta || {}).words,
  };
  return {data: g._fullData.map(trace), layout};
}"""


class Inspector:
    "What a person does with the inspector, and what stands there then."

    def __init__(self, page):
        self.page = page
        self.box = page.locator(".vidprism-inspector").first
        self.view = self.box.locator(".prism")

    def serial(self):
        return int(self.view.get_attribute("data-serial") or 0)

    def after(self, act, beyond=None):
        "Do something, and wait until its panels are on the screen."
        old = self.serial()
        act()
        self.page.wait_for_function(
            "([el,old])=>+el.dataset.serial>old", arg=[self.view.element_handle(), old], timeout=60_000
        )
        self.page.wait_for_timeout(400)  # let what follows it arrive, too

    def figure(self, panel, number=0):
        "Data and layout as plotly drew them."
        return self.view.locator(f"[data-panel={panel}] .plot").nth(number).evaluate(FIGURE)

    def choose(self, label, value):
        menu = self.box.locator(f".widget-dropdown:has(label:text-is('{label}')) select")
        self.after(lambda: menu.select_option(value))

    def chosen(self, label):
        "The text of what a menu has chosen."
        menu = self.box.locator(f".widget-dropdown:has(label:text-is('{label}')) select")
        return menu.evaluate("el=>el.selectedOptions[0]?.textContent")

    def at(self, slider):
        "Where a slider stands."
        handle = self.box.locator(f".widget-slider:has(label:text-is('{slider}')) .noUi-handle")
        return int(float(handle.get_attribute("aria-valuenow")))

    def press(self, slider, key):
        "Press a key on the handle of a slider."
        handle = self.box.locator(f".widget-slider:has(label:text-is('{slider}')) .noUi-handle")
        self.after(lambda: handle.press(key))

    def as_trained(self):
        self.after(self.box.get_by_role("button", name="as trained").click)

    def note(self, panel):
        return self.view.locator(f"[data-panel={panel}] .note").text_content()

    def tab(self, name):
        self.after(lambda: self.box.get_by_role("button", name=name, exact=True).click())

    def status(self):
        return self.box.locator(".vidprism-status").all_text_contents()

    def shot(self, name):
        "A picture of the whole inspector; the window grows for it, since JupyterLab scrolls inside."
        size = self.page.viewport_size
        self.page.set_viewport_size(dict(width=size["width"], height=int(self.box.bounding_box()["height"]) + 220))
        self.box.evaluate("el=>el.scrollIntoView({block:'center'})")
        self.page.wait_for_timeout(300)
        ARTEFACTS.mkdir(exist_ok=True)
        (ARTEFACTS / ".gitignore").write_text("*\n")
        self.box.screenshot(path=ARTEFACTS / f"{name}.png")
        self.page.set_viewport_size(size)
        self.page.wait_for_timeout(300)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium_path):
    "The inspector's notebook, run, in a browser of a laptop's size."
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "nbs" / "guides" / "02_inspect_clip.ipynb", folder)
    with jupyterlab(folder) as address, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium_path, args=ARGS)
        page = browser.new_page(viewport=dict(width=1366, height=900))
        page.set_default_timeout(90_000)
        page.asked = []
        page.wrong = []
        page.on("request", lambda r: page.asked.append(r.url))
        page.on("pageerror", lambda e: page.wrong.append(e.stack or str(e)))
        run_notebook(page, address, "02_inspect_clip.ipynb")
        page.evaluate("()=>jupyterapp.commands.execute('application:toggle-left-area')")
        page.locator(".vidprism-inspector").first.scroll_into_view_if_needed()
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
        page.wait_for_timeout(1000)
        yield page
        browser.close()


CLIP = "12_orbit_clockwise.mp4"  # what each test starts with


@pytest.fixture(autouse=True)
def known_state(request):
    "Each test starts from the same clip, the first tab and a laptop's window: their order does not matter."
    if "lab" not in request.fixturenames:
        return
    page = request.getfixturevalue("lab")
    page.set_viewport_size(dict(width=1366, height=900))
    i = Inspector(page)
    if i.chosen("clip") != CLIP:
        i.choose("clip", CLIP)
    tabs = i.box.locator(".widget-toggle-buttons button")
    if i.box.locator(".widget-toggle-buttons button.mod-active").text_content() != tabs.first.text_content():
        i.tab(tabs.first.text_content())


@pytest.fixture
def expected():
    "The kit's own numbers, without widgets, for the same clip."
    from vidprism.data.clips import sample_clips
    from vidprism.model import sample_model
    from vidprism.viz.session import Session

    session = Session(sample_model(), sample_clips())
    session.open(next(p for p in session.clips if p.name == CLIP))
    return session


def words(answer, name=None):
    "The five best labels in words: a sentence each, or one sentence with a name."
    if name is None:
        return [f"{l}: {p:.1%}." for l, p in answer[:5]]
    return f"{name}: " + ", ".join(f"{l} {p:.1%}" for l, p in answer[:5]) + "."


def test_nothing_from_a_network(lab):
    assert [u for u in lab.asked if not u.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))] == []
    assert lab.wrong == []


def test_another_clip(lab, expected):
    i = Inspector(lab)
    i.choose("clip", "13_orbit_anticlockwise.mp4")
    i.choose("clip", CLIP)
    reading = expected.read(expected.settings)
    answer = i.figure("answer")
    assert answer["layout"]["words"] == words(reading.answer)
    assert answer["data"][0]["x"] == pytest.approx([p for _, p in reading.answer[:5]], abs=1e-4)
    shares = dict(zip((16, 8, 4, 2), i.figure("readout")["data"][0]["x"]))
    expected_shares = dict(zip(reading.rates, reading.shares.tolist()))
    assert shares == pytest.approx(expected_shares, abs=1e-4)
    i.shot("another_clip")


# Where frame 9 of the strip stands on the screen, brought to the middle of the window.
FRAME_9 = """gd => {
  const d = gd._fullData[0], l = gd._fullLayout;
  gd.scrollIntoView({block: 'center'});
  const c = gd.getBoundingClientRect();
  const x = l.xaxis._offset + l.xaxis.l2p(d.x[9]), y = l.yaxis._offset + l.yaxis.l2p(d.y[9]);
  return [c.left + x, c.top + y];
}"""


def test_frame_slider(lab):
    i = Inspector(lab)
    if i.at("frame"):
        i.press("frame", "Home")
    for _ in range(3):
        i.press("frame", "ArrowRight")
    marked = [text for text, back in i.figure("frames")["layout"]["notes"] if back]
    assert len(marked) == 1 and marked[0].startswith("<b>3</b>")
    point = i.view.locator("[data-panel=frames] .plot").evaluate(FRAME_9)
    lab.mouse.move(*point)
    i.after(lambda: lab.mouse.click(*point))  # a click in the strip marks a frame, too
    assert [text for text, back in i.figure("frames")["layout"]["notes"] if back][0].startswith("<b>9</b>")
    labels = i.view.locator("[data-panel=frames] .textpoint text").all_text_contents()
    assert [t.split()[0] for t in labels] == [str(k) for k in range(32)]  # no label is lost on the way
    i.shot("frame_slider")


def test_expert_off_and_on(lab, expected):
    i = Inspector(lab)
    i.after(i.box.get_by_role("button", name="rate 2 (fastest)").click)
    before, after = expected.read(expected.settings), expected.change(off=(0,))
    shown = i.figure("answer")
    assert shown["layout"]["words"] == [words(before.answer, "before"), words(after.answer, "after")]
    rows = [t.removeprefix("<b>").removesuffix("</b>") for t in shown["layout"]["ticks"]]
    for trace, reading in zip(shown["data"], (before, after)):
        assert trace["x"] == pytest.approx([dict(reading.answer)[r] for r in rows], abs=1e-4)
    assert i.figure("readout")["data"][0]["x"][3] == 0
    assert "without rate 2" in i.note("answer")
    i.shot("expert_off")
    i.as_trained()
    assert i.figure("answer")["layout"]["words"] == words(before.answer)
    expected.change(off=())


def test_gate_threshold(lab, expected):
    i = Inspector(lab)
    i.tab("Gates")
    i.press("threshold", "End")
    gates = expected.change(threshold=1.0).gates.flip(0, 1)
    figure = i.figure("gates")
    shut = [s for s in figure["layout"]["shapes"] if s.startswith("shut ")]
    assert len(shut) == 12
    assert figure["data"][0]["z"] == [pytest.approx(row, abs=1e-4) for row in gates.tolist()]
    # the colour bar stays with every gate shut, and the threshold is drawn in it
    bar = i.view.locator("[data-panel=gates] .colorbar")
    assert bar.count() == 1 and "opens" in bar.text_content() and "at 1" in bar.text_content()
    i.shot("gate_threshold")
    i.as_trained()
    expected.change(threshold=None)


SETTINGS_CHANGED = [
    ("alpha", "End", dict(alpha=1.0)),
    ("tau", "End", dict(tau=1.0)),
    ("delta", "Home", dict(delta=0.0)),
    ("interaction", "none", dict(interaction="none")),
    ("combination", "avg", dict(combination="avg")),
    ("preset", "released (untrained)", dict(preset="released")),
    ("order", "reversed", dict(order="reversed")),
    ("order", "shuffled", dict(order="shuffled")),
    ("order", "frozen", dict(order="frozen", frozen=9)),
    ("drop frames", "3, 5-7", dict(dropped=(3, 5, 6, 7))),
]


@pytest.mark.parametrize("name,value,change", SETTINGS_CHANGED, ids=[f"{n}_{v}" for n, v, _ in SETTINGS_CHANGED])
def test_every_setting(lab, expected, name, value, change):
    "Before and after stand side by side, with the kit's own numbers; and all goes back."
    i, before = Inspector(lab), expected.read(expected.settings)
    if value == "frozen":
        change = dict(change, frozen=i.at("frame"))  # the frame that is marked
    if value in ("Home", "End"):
        i.press(name, value)
    elif name == "drop frames":
        field = i.box.get_by_placeholder("3, 5-7")

        def type_in():
            field.fill(value)
            field.press("Enter")

        i.after(type_in)
    else:
        i.choose(name, value)
    after, note = expected.change(**change), i.note("answer")
    assert i.figure("answer")["layout"]["words"] == [words(before.answer, "before"), words(after.answer, "after")]
    assert f"Right: {expected.differs()[0]}." in note and ("never trained" in note) == ("untrained" in value)
    assert len(i.figure("frames")["data"][0]["x"]) == len(after.clip.frames)
    i.as_trained()
    assert i.figure("answer")["layout"]["words"] == words(before.answer)
    defaults = dict.fromkeys(("alpha", "tau", "delta", "interaction", "combination", "preset"))
    expected.change(**defaults, order="as filmed", frozen=0, dropped=())


def test_sampling_and_frames(lab, expected):
    i, clip = Inspector(lab), expected.clip.path
    i.choose("frames", "16")
    i.choose("sampling", "dense")
    expected.open(clip, sampling="dense", num_frames=16)
    reading = expected.read(expected.settings)
    assert i.figure("answer")["layout"]["words"] == words(reading.answer)
    strip = i.figure("frames")
    assert [t[0] for t in strip["data"][0]["customdata"]] == [f"frame {k}" for k in range(16)]
    assert (
        strip["layout"]["words"][0]
        == f"16 frames, from {reading.clip.times[0]:.2f} s to {reading.clip.times[-1]:.2f} s."
    )
    i.choose("sampling", "sparse")
    i.choose("frames", "32")
    expected.open(clip, sampling="sparse", num_frames=32)


# Where token 1 of rate 8 stands on the screen, brought to the middle of the window.
TOKEN_1 = """gd => {
  gd.scrollIntoView({block: 'center'});
  const d = gd._fullData.find(d => d.name == 'tokens of rate 8'), l = gd._fullLayout, b = gd.getBoundingClientRect();
  const x = l.xaxis._offset + l.xaxis.l2p(d.x[1]), y = l.yaxis._offset + l.yaxis.l2p(d.y[1]);
  return [b.left + x, b.top + y];
}"""


def test_a_token_marks_its_frames(lab, expected):
    "Hover says the lineage's numbers, a click keeps the source frames marked, here and in the strip."
    i = Inspector(lab)
    i.tab("Kept and merged")
    merge = expected.read(expected.settings).merges[2]  # rate 8

    def point():
        return i.view.locator("[data-panel=merged] .plot").evaluate(TOKEN_1)

    lab.mouse.move(*point())
    lab.wait_for_selector("[data-panel=merged] .hoverlayer .hovertext")
    said = i.view.locator("[data-panel=merged] .hoverlayer .hovertext").text_content()
    weights = {t: float(merge.lineage[1, t]) for t in merge.lineage[1].nonzero().flatten().tolist()}
    assert "token 1, rate 8" in said
    assert all(f"{t}: {w:.3f}" in said for t, w in weights.items() if t != int(merge.kept[1]))
    lab.mouse.click(*point())
    lab.mouse.move(5, 5)
    lab.wait_for_timeout(300)
    lit = "gd=>[...gd.querySelectorAll('.shapelayer path.lit')].map(p=>gd.layout.shapes[+p.dataset.index].name).sort()"
    for panel in ("merged", "frames"):
        assert i.view.locator(f"[data-panel={panel}] .plot").evaluate(lit) == sorted(f"frame {t}" for t in weights)
    i.shot("token_clicked")
    lab.mouse.click(*point())
    lab.mouse.move(5, 5)
    lab.wait_for_timeout(300)
    assert i.view.locator("[data-panel=frames] .plot").evaluate(lit) == []


def test_where_each_looks(lab, expected):
    "The maps of the frame marked, slowest first, on one scale; the frame slider moves them."
    from vidprism.viz.maps import saliency_cells

    i = Inspector(lab)
    i.tab("Saliency maps")
    cells = saliency_cells(expected.saliency(expected.settings))

    def shown():
        return [d["z"] for d in i.figure("looks")["data"] if d["z"]]

    def alike(map_shown, map_expected):
        "Whether no cell of two maps differs by more than 1."
        rows = zip(map_shown, map_expected)
        return all(abs(a - b) <= 1 for row, other in rows for a, b in zip(row, other))

    def near(frame):
        "Whether the maps shown are those of a frame."
        return all(alike(z, cells[k, frame].tolist()) for k, z in zip((3, 2, 1, 0), shown()))

    i.press("frame", "Home" if i.at("frame") else "End")
    frame = i.at("frame")
    key, step = ("ArrowRight", 1) if frame == 0 else ("ArrowLeft", -1)
    assert near(frame) and not near(15)
    for _ in range(2):
        i.press("frame", key)
    frame += 2 * step
    assert near(frame) and i.figure("looks")["layout"]["words"][0].startswith(f"Frame {frame} at")


def test_two_models(lab, expected):
    "Another model's answer and curve, on the same frames."
    from vidprism.model import sample_model

    i = Inspector(lab)
    i.tab("Two models")
    mote = sample_model("mote")
    said = i.figure("beside")["layout"]["words"]
    label, probability = mote.predict(expected.clip)[0]
    assert said[1].startswith(f"MoTE: {label} {probability:.1%}")
    curves = i.figure("beside", 2)["data"]
    assert [d["name"] for d in curves] == ["VidPrism", "MoTE"]
    assert curves[0]["y"] == pytest.approx(expected.read(expected.settings).readout_weight.tolist(), abs=1e-4)
    assert "MoTE has no merges, no gates: these panels are missing" in i.note("beside")


DROP = """el => {
  const d = new DataTransfer();
  d.items.add(new File(['only words'], 'notes.txt'));
  el.dispatchEvent(new DragEvent('drop', {dataTransfer: d, bubbles: true, cancelable: true}));
}"""


def test_a_file_dropped_on_the_panels(lab):
    i = Inspector(lab)
    i.view.evaluate(DROP)
    said = i.box.locator(".vidprism-status").filter(has_text="notes.txt")  # another test's words may stand there yet
    said.wait_for(timeout=20_000)
    assert said.text_content().startswith("notes.txt was not opened: notes.txt is text, not a video.")
    i.as_trained()
    assert i.status() == []


def test_saved_page_needs_no_kernel(chromium_path, expected, tmp_path, lab):
    "`save` writes one file; its slider shows another frame's maps, with no kernel and no network."
    from vidprism.model import sample_model
    from vidprism.viz.inspector import ClipInspector

    own = ClipInspector(sample_model(), expected.clips[12:13])
    own.on[0].value = False
    path, browser = own.save(tmp_path / "page.html"), lab.context.browser
    page = browser.new_page(viewport=dict(width=1366, height=900))
    asked = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    assert [u for u in asked if not u.startswith(("data:", "blob:", "file:"))] == []
    assert "Changed: without rate 2." in page.locator(".intro").text_content()
    looks = page.locator(".plot:has(.slider-rail-touch-rect)")
    looks.scroll_into_view_if_needed()
    shown, rail = "gd=>gd.data.slice(1).map(d=>d.z)", looks.locator(".slider-rail-touch-rect").bounding_box()
    first = looks.evaluate(shown)
    page.mouse.click(rail["x"] + rail["width"] * 20 / 31, rail["y"] + rail["height"] / 2)
    page.wait_for_function(
        "()=>[...document.querySelectorAll('.plot')].some(g=>(g.layout.sliders||[{}])[0].active==20)"
    )
    page.wait_for_timeout(300)
    assert looks.evaluate(shown) == looks.evaluate("gd=>gd.layout.sliders[0].steps[20].args[0].z") != first
    page.screenshot(path=ARTEFACTS / "saved_page.png", full_page=True)
    page.close()


def test_broken_upload(lab, tmp_path):
    i = Inspector(lab)
    before = i.figure("answer")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video at all")
    with lab.expect_file_chooser() as chooser:
        i.box.locator(".widget-upload").click()
    chooser.value.set_files(broken)
    i.box.locator(".vidprism-status").wait_for(timeout=20_000)
    said = i.status()
    assert len(said) == 1
    assert said[0].startswith("broken.mp4 was not opened")
    assert said[0].endswith("Still showing 12_orbit_clockwise.mp4.")
    assert i.figure("answer") == before
    i.shot("broken_upload")


def test_good_upload(lab, expected, tmp_path):
    i, own = Inspector(lab), tmp_path / "my own.mp4"
    shutil.copy(expected.clips[14], own)
    with lab.expect_file_chooser() as chooser:
        i.box.locator(".widget-upload").click()
    i.after(lambda: chooser.value.set_files(own))
    expected.open(expected.clips[14])
    assert i.status() == []
    assert i.figure("answer")["layout"]["words"] == words(expected.read(expected.settings).answer)


# Whether no panel reaches beyond the inspector's right edge.
FITS = """el => {
  const edge = x => x.getBoundingClientRect().right;
  return [...el.querySelectorAll('.prism,.prism section,.prism .figure')].every(x => edge(x) <= edge(el) + 1);
}"""


@pytest.mark.parametrize("width", [1366, 700])
def test_every_tab_fits(lab, width):
    "Every tab, at a laptop's size and on a narrow window: nothing spills, nothing goes wrong."
    i = Inspector(lab)
    lab.set_viewport_size(dict(width=width, height=900))
    lab.wait_for_timeout(800)
    for name in i.box.locator(".widget-toggle-buttons button").all_text_contents():
        if i.box.locator(".widget-toggle-buttons button.mod-active").text_content() != name:
            i.tab(name)
        assert i.box.evaluate(FITS), name
        i.shot(f"tab_{name.replace(' ', '_').lower()}_{width}")
    assert lab.wrong == []
