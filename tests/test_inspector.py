"The inspector's notebook in a real JupyterLab, in a headless browser: each handle changes what stands on the page. Pictures are kept in tests/artefacts."
from contextlib import contextmanager
from pathlib import Path
import json, os, secrets, shutil, socket, subprocess, sys, time, urllib.request
import pytest
from chromium import ARGS

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = Path(__file__).parent.parent
ARTEFACTS = ROOT / "tests" / "artefacts"
SETTINGS = {"@jupyterlab/apputils-extension/notification": dict(fetchNews="false", checkForUpdates=False, doNotDisturbMode=True)}


@contextmanager
def jupyterlab(folder):
    "JupyterLab on a folder, its settings and state in there, too; yields its address."
    with socket.socket() as s: s.bind(("127.0.0.1", 0)); port = s.getsockname()[1]
    token, state = secrets.token_hex(16), folder / "state"
    for name, value in SETTINGS.items():
        place = state / "settings" / f"{name}.jupyterlab-settings"; place.parent.mkdir(parents=True); place.write_text(json.dumps(value))
    env = os.environ | dict(JUPYTERLAB_SETTINGS_DIR=str(state / "settings"), JUPYTERLAB_WORKSPACES_DIR=str(state / "workspaces"), JUPYTER_RUNTIME_DIR=str(state / "run"),
                            JUPYTER_CONFIG_DIR=str(state / "config"), IPYTHONDIR=str(state / "ipython"), HF_HUB_OFFLINE="1", PLOTLY_RENDERER="plotly_mimetype")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
               "--ip=127.0.0.1", "--LabApp.expose_app_in_browser=True", "--allow-root"]
    with open(folder / "lab.txt", "wb") as log: server = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=folder)
    try:
        for _ in range(240):
            if server.poll() is not None: raise RuntimeError(f"JupyterLab stopped: {(folder / 'lab.txt').read_text()[-2000:]}")
            try: urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={token}", timeout=2).close(); break
            except OSError: time.sleep(.25)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}"
    finally:
        server.terminate()
        try: server.wait(20)
        except subprocess.TimeoutExpired: server.kill()


COUNTS = """()=>{const nb=jupyterapp.shell.currentWidget.content; return [...nb.model.cells].filter(c=>c.type=='code').map(c=>c.executionCount)}"""
ERRORS = """()=>[...jupyterapp.shell.currentWidget.content.model.cells].filter(c=>c.type=='code').flatMap(c=>[...Array(c.outputs.length).keys()].map(i=>c.outputs.get(i).toJSON()))
  .filter(o=>o.output_type=='error').map(o=>o.ename+': '+o.evalue)"""
IDLE = "()=>window.jupyterapp&&jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status=='idle'"


def run_notebook(page, address, name, upto=None):
    "Open a notebook and run its cells; a first idle is too early for JupyterLab, so it waits, and looks whether the cells ran."
    page.goto(address.format(name))
    page.wait_for_function(IDLE, timeout=90_000)
    for _ in range(3):
        page.wait_for_timeout(1500)
        page.evaluate("()=>jupyterapp.commands.execute('notebook:run-all-cells')")
        try: page.wait_for_function(f"()=>({COUNTS})().every(c=>c>0)||({ERRORS})().length", timeout=150_000); break
        except playwright.TimeoutError: continue
    page.wait_for_function(IDLE, timeout=60_000)
    assert page.evaluate(ERRORS) == [] and all(page.evaluate(COUNTS))


class Inspector:
    "What a person does with the inspector, and what stands there then."
    def __init__(self, page): self.page = page; self.box = page.locator(".vidprism-inspector").first; self.view = self.box.locator(".prism")
    def serial(self): return int(self.view.get_attribute("data-serial") or 0)
    def after(self, act, beyond=None):
        "Do something, and wait until its panels are on the screen."
        old = self.serial(); act()
        self.page.wait_for_function("([el,old])=>+el.dataset.serial>old", arg=[self.view.element_handle(), old], timeout=30_000)
        self.page.wait_for_timeout(400)                                  # let what follows it arrive, too
    def figure(self, panel, number=0):
        "Data and layout as plotly drew them."
        gd = self.view.locator(f"[data-panel={panel}] .plot").nth(number)
        return gd.evaluate("g=>({data:g._fullData.map(d=>({name:d.name,type:d.type,x:d.x&&[...d.x],y:d.y&&[...d.y],z:d.z&&[...d.z].map(r=>[...r]),customdata:d.customdata})), layout:{shapes:(g.layout.shapes||[]).map(s=>s.name), notes:(g.layout.annotations||[]).map(a=>[a.text,a.bgcolor||'']), ticks:g.layout.yaxis.ticktext, words:(g.layout.meta||{}).words}})")
    def choose(self, label, value): self.after(lambda: self.box.locator(f".widget-dropdown:has(label:text-is('{label}')) select").select_option(value))
    def tab(self, name): self.after(lambda: self.box.get_by_role("button", name=name, exact=True).click())
    def status(self): return self.box.locator(".vidprism-status").all_text_contents()
    def shot(self, name):
        "A picture of the whole inspector; the window grows for it, since JupyterLab scrolls inside."
        size = self.page.viewport_size
        self.page.set_viewport_size(dict(width=size["width"], height=int(self.box.bounding_box()["height"]) + 220))
        self.box.evaluate("el=>el.scrollIntoView({block:'center'})"); self.page.wait_for_timeout(300)
        ARTEFACTS.mkdir(exist_ok=True); (ARTEFACTS / ".gitignore").write_text("*\n")
        self.box.screenshot(path=ARTEFACTS / f"{name}.png")
        self.page.set_viewport_size(size); self.page.wait_for_timeout(300)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium_path):
    "The inspector's notebook, run, in a browser of a laptop's size."
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(ROOT / "nbs" / "31_inspect_clip.ipynb", folder)
    with jupyterlab(folder) as address, playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium_path, args=ARGS)
        page = browser.new_page(viewport=dict(width=1366, height=900))
        page.asked, page.wrong = [], []
        page.on("request", lambda r: page.asked.append(r.url)); page.on("pageerror", lambda e: page.wrong.append(str(e)))
        run_notebook(page, address, "31_inspect_clip.ipynb")
        page.evaluate("()=>jupyterapp.commands.execute('application:toggle-left-area')")
        page.locator(".vidprism-inspector").first.scroll_into_view_if_needed()
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
        page.wait_for_timeout(1000)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def expected():
    "The kit's own numbers, without widgets."
    from vidprism.clips import sample_clips
    from vidprism.handles import Session
    from vidprism.model import sample_model
    s = Session(sample_model(), sample_clips())
    return s


def words(answer, name=None): return [f"{l}: {p:.1%}." for l, p in answer[:5]] if name is None else f"{name}: " + ", ".join(f"{l} {p:.1%}" for l, p in answer[:5]) + "."


def test_nothing_from_a_network(lab):
    assert [u for u in lab.asked if not u.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))] == [] and lab.wrong == []


def test_another_clip(lab, expected):
    i = Inspector(lab)
    i.choose("clip", "12_orbit_clockwise.mp4")
    expected.open(next(p for p in expected.clips if p.name == "12_orbit_clockwise.mp4"))
    reading = expected.read(expected.settings)
    answer = i.figure("answer")
    assert answer["layout"]["words"] == words(reading.answer) and answer["data"][0]["x"] == pytest.approx([p for _, p in reading.answer[:5]], abs=1e-4)
    shares = dict(zip((16, 8, 4, 2), i.figure("heard")["data"][0]["x"]))
    assert shares == pytest.approx(dict(zip(reading.rates, reading.shares.tolist())), abs=1e-4)
    i.shot("another_clip")


def test_frame_slider(lab):
    i = Inspector(lab)
    handle = i.box.locator(".widget-slider:has(label:text-is('frame')) .noUi-handle")
    for k in range(3): i.after(lambda: handle.press("ArrowRight"))
    marked = [text for text, back in i.figure("frames")["layout"]["notes"] if back]
    assert len(marked) == 1 and marked[0].startswith("<b>3</b>")
    point = i.view.locator("[data-panel=frames] .plot").evaluate("""gd=>{const d=gd._fullData[0], l=gd._fullLayout, b=gd.getBoundingClientRect(); gd.scrollIntoView({block:'center'}); const c=gd.getBoundingClientRect();
      return [c.left+l.xaxis._offset+l.xaxis.l2p(d.x[9]), c.top+l.yaxis._offset+l.yaxis.l2p(d.y[9])]}""")
    lab.mouse.move(*point); i.after(lambda: lab.mouse.click(*point))                # a click in the strip marks a frame, too
    assert [text for text, back in i.figure("frames")["layout"]["notes"] if back][0].startswith("<b>9</b>")
    assert [t.split()[0] for t in i.view.locator("[data-panel=frames] .textpoint text").all_text_contents()] == [str(k) for k in range(32)]   # no label is lost on the way
    i.shot("frame_slider")


def test_expert_off_and_on(lab, expected):
    i, button = Inspector(lab), lab.locator(".vidprism-inspector").first.get_by_role("button", name="rate 2 (fastest)")
    i.after(button.click)
    before, after = expected.read(expected.settings), expected.turn(off=(0,))
    shown = i.figure("answer")
    assert shown["layout"]["words"] == [words(before.answer, "before"), words(after.answer, "after")]
    rows = [t.removeprefix("<b>").removesuffix("</b>") for t in shown["layout"]["ticks"]]
    for trace, reading in zip(shown["data"], (before, after)): assert trace["x"] == pytest.approx([dict(reading.answer)[r] for r in rows], abs=1e-4)
    assert i.figure("heard")["data"][0]["x"][3] == 0 and "without rate 2" in i.view.locator("[data-panel=answer] .note").text_content()
    i.shot("expert_off")
    i.after(i.box.get_by_role("button", name="as trained").click)
    assert i.figure("answer")["layout"]["words"] == words(before.answer)
    expected.turn(off=())


def test_gate_threshold(lab, expected):
    i = Inspector(lab)
    i.tab("Gates")
    i.after(lambda: i.box.locator(".widget-slider:has(label:text-is('threshold')) .noUi-handle").press("End"))
    gates = expected.turn(threshold=1.).gates.flip(0, 1)
    figure = i.figure("gates")
    shut = [s for s in figure["layout"]["shapes"] if s.startswith("shut ")]
    assert len(shut) == 12 and figure["data"][0]["z"] == [pytest.approx(row, abs=1e-4) for row in gates.tolist()]
    bar = i.view.locator("[data-panel=gates] .colorbar")                             # the colour bar stays with every gate shut, and the threshold is drawn in it
    assert bar.count() == 1 and "opens" in bar.text_content() and "at 1" in bar.text_content()
    i.shot("gate_threshold")
    i.after(i.box.get_by_role("button", name="as trained").click)
    expected.turn(threshold=None)


def test_broken_upload(lab, tmp_path):
    i = Inspector(lab)
    before = i.figure("answer")
    broken = tmp_path / "broken.mp4"; broken.write_bytes(b"not a video at all")
    with lab.expect_file_chooser() as chooser: i.box.locator(".widget-upload").click()
    chooser.value.set_files(broken)
    i.box.locator(".vidprism-status").wait_for(timeout=20_000)
    said = i.status()
    assert len(said) == 1 and said[0].startswith("broken.mp4 was not opened") and said[0].endswith("Still showing 12_orbit_clockwise.mp4.")
    assert i.figure("answer") == before
    i.shot("broken_upload")


def test_good_upload(lab, expected, tmp_path):
    i, own = Inspector(lab), tmp_path / "my own.mp4"
    shutil.copy(expected.clips[14], own)
    with lab.expect_file_chooser() as chooser: i.box.locator(".widget-upload").click()
    i.after(lambda: chooser.value.set_files(own))
    expected.open(expected.clips[14])
    assert i.status() == [] and i.figure("answer")["layout"]["words"] == words(expected.read(expected.settings).answer)


@pytest.mark.parametrize("width", [1366, 700])
def test_every_tab_fits(lab, width):
    "Every tab, at a laptop's size and on a narrow window: nothing spills, nothing goes wrong."
    i = Inspector(lab)
    lab.set_viewport_size(dict(width=width, height=900)); lab.wait_for_timeout(800)
    for name in i.box.locator(".widget-toggle-buttons button").all_text_contents():
        if lab.locator(".vidprism-inspector").first.locator(".widget-toggle-buttons button.mod-active").text_content() != name: i.tab(name)
        assert i.box.evaluate("el=>[...el.querySelectorAll('.prism,.prism section,.prism .figure')].every(x=>x.getBoundingClientRect().right<=el.getBoundingClientRect().right+1)"), name
        i.shot(f"tab_{name.replace(' ', '_').lower()}_{width}")
    assert lab.wrong == []
