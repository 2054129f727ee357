"""The player and the question under it, in a real JupyterLab and in the app: each value is checked after each step.

The clips are made here: every frame of one colour, brighter than the last, so that a picture tells its frame."""

import av
import json
import numpy as np
import pytest
import shutil
from fractions import Fraction
from real import ROOT
from test_app import App, address_of, running, watched
from test_inspector import ARTEFACTS, Inspector, notebook_page
from vidprism.data.clips import read_clip

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
UNEVEN = [0, 40, 80, 600, 640, 700, 1500, 1540, 1580, 2400]  # milliseconds
FRAMES = 48
CODE = """
from pathlib import Path
from vidprism.model import sample_model
from vidprism.viz.inspector import ClipInspector
model = sample_model()
inspector = ClipInspector(model, "clips")
inspector
"""


def levels(count):
    "The brightness of each frame."
    return [30 + round(190 * k / max(count - 1, 1)) for k in range(count)]


def write_clip(path, codec, stamps, container=None):
    "A clip of plain frames, shown at these milliseconds."
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        stream.bit_rate = 800_000
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for level, stamp in zip(levels(len(stamps)), stamps):
            frame = av.VideoFrame.from_ndarray(np.full((120, 160, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def even(count):
    "Milliseconds of a clip of 25 frames a second."
    return [40 * k for k in range(count)]


def write_clips(folder):
    "One clip of each kind."
    folder.mkdir()
    write_clip(folder / "a_vp8.webm", "libvpx", even(FRAMES))
    write_clip(folder / "b_vp9.webm", "libvpx-vp9", UNEVEN)
    write_clip(folder / "c_mpeg4.mp4", "mpeg4", even(FRAMES))
    write_clip(folder / "d_one.webm", "libvpx", [0])
    write_clip(folder / "e_deleted.webm", "libvpx", even(FRAMES))
    write_clip(folder / "f_long.avi", "mpeg4", even(400))
    huge = write_clip(folder / "g_huge.webm", "libvpx", even(FRAMES))
    with open(huge, "ab") as file:
        file.truncate(70 << 20)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    "Two inspectors in one notebook, in a browser of a laptop's size."
    folder = tmp_path_factory.mktemp("player")
    write_clips(folder / "clips")
    second = "other = ClipInspector(model, Path('clips/b_vp9.webm'))\nother"
    with notebook_page(chromium, folder, (CODE, second), 60_000) as page:
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
        page.wait_for_timeout(1500)
        page.wrong.clear()
        page.said.clear()  # what JupyterLab itself says while it starts
        yield page


LEVEL = """el => {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 8;
  const drawing = canvas.getContext('2d');
  drawing.drawImage(el, 0, 0, 8, 8);
  const bytes = drawing.getImageData(2, 2, 4, 4).data;
  return bytes.filter((_, k) => k % 4 == 0).reduce((a, b) => a + b) / 16;
}"""
LINE = "el=>+el.getAttribute('x1')"


class Player:
    "What a person does with a player, and what stands there then."

    def __init__(self, page, number=0, kind=Inspector):
        self.page = page
        self.inspector = kind(page)
        self.inspector.box = page.locator(".vidprism-inspector").nth(number)
        self.inspector.view = self.inspector.box.locator(".prism")
        self.root = self.inspector.box.locator(".vidprism-player")
        self.bar = self.root.get_by_role("slider")

    def wait_for_mode(self, mode, name):
        "Wait until a clip is shown as a video or as pictures."
        self.page.wait_for_function(
            "([el, mode, name])=>el.dataset.mode==mode && el.getAttribute('aria-label').endsWith(name)",
            arg=[self.root.element_handle(), mode, name],
            timeout=30_000,
        )
        self.settle()

    def clip(self, name, mode):
        "Choose a clip, if another is open."
        if self.inspector.chosen("clip") != name:
            self.inspector.choose("clip", name)
        self.wait_for_mode(mode, name)

    @property
    def place(self):
        return int(self.root.get_attribute("data-place"))

    def settle(self):
        "Wait until what is shown is what was asked for."
        self.page.wait_for_function(
            "el=>{const v=el.querySelector('video'); return v.hidden || (!v.seeking && v.readyState >= 2)}",
            arg=self.root.element_handle(),
        )
        self.page.wait_for_timeout(250)

    def press(self, *keys):
        for key in keys:
            self.bar.press(key)
        self.settle()

    def wait_for_picture(self, frame):
        "Wait until the picture of a frame is shown."
        img = self.root.locator("img")
        for _ in range(150):
            if img.get_attribute("data-frame") == str(frame):
                return
            self.page.wait_for_timeout(200)
        raise AssertionError([self.place, img.get_attribute("data-frame"), self.root.text_content()])

    def level(self):
        "The brightness of what is shown."
        shown = self.root.locator("video:visible, img:visible").first
        return shown.evaluate(LEVEL)

    def value(self):
        return float(self.bar.get_attribute("aria-valuenow"))

    def wait_for_mark(self, frame):
        "Wait until the inspector's frame slider stands at a frame."
        for _ in range(80):
            if self.inspector.at("frame") == frame:
                return
            self.page.wait_for_timeout(100)
        assert self.inspector.at("frame") == frame

    def click_at(self, part):
        "Click the bar at a part of its width."
        self.bar.scroll_into_view_if_needed()
        box = self.bar.bounding_box()
        self.page.mouse.click(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        self.settle()


def nearest_sampled(path, place, total_times):
    "The frame of the model that is nearest to a frame of the file."
    times = read_clip(path).times.numpy()
    return int(np.abs(times - total_times[place]).argmin())


def shows(player, place, count=FRAMES, about=3.0):
    "The frame, its time and its picture are those of one place."
    want = levels(count)[place]
    assert player.place == place
    assert player.level() == pytest.approx(want, abs=about)


def test_a_webm_plays_as_a_video(lab):
    p = Player(lab)
    p.clip("a_vp8.webm", "video")
    assert p.root.locator("video").evaluate("v=>v.src.startsWith('blob:')")
    p.press("Home")
    shows(p, 0)
    for place in (1, 2, 3):
        p.press("ArrowRight")
        shows(p, place)
        assert p.value() == pytest.approx(0.04 * place, abs=1e-3)
        assert p.bar.get_attribute("aria-valuetext") == f"frame {place} of 0 to 47, {0.04 * place:.2f} s"
    p.press("ArrowLeft")
    shows(p, 2)
    p.press("End")
    shows(p, 47)
    p.press("ArrowRight")
    shows(p, 47)
    p.press("PageDown")
    shows(p, 37)
    p.press("Home", "ArrowLeft")
    shows(p, 0)


def test_play_pause_and_speed(lab):
    p = Player(lab)
    p.clip("a_vp8.webm", "video")
    p.press("Home")
    p.root.get_by_label("speed").select_option("0.25")
    p.bar.press(" ")
    assert p.root.get_by_role("button", name="pause").is_visible()
    lab.wait_for_function("el=>+el.dataset.place >= 4", arg=p.root.element_handle())
    assert p.root.locator("video").evaluate("v=>[v.paused, v.playbackRate]") == [False, 0.25]
    p.bar.press(" ")
    p.settle()
    assert p.root.locator("video").evaluate("v=>v.paused") and 4 <= p.place < 47
    stood = p.place
    lab.wait_for_timeout(500)
    shows(p, stood, about=6)
    p.root.get_by_label("speed").select_option("1")
    p.root.get_by_role("button", name="play").click()
    lab.wait_for_function("el=>el.dataset.place == 47", arg=p.root.element_handle())
    p.root.get_by_role("button", name="play").wait_for()
    p.wait_for_mark(31)


def test_marks_go_both_ways(lab):
    "A click on the bar marks the nearest frame of the model; the frame slider moves the player; nothing swings back."
    p = Player(lab)
    p.clip("a_vp8.webm", "video")
    path, times = lab.folder / "clips" / "a_vp8.webm", [0.04 * k for k in range(FRAMES)]
    for part in (0.31, 0.74, 0.5):
        p.click_at(part)
        place = int(part * 1.92 / 0.04 + 1e-6)
        shows(p, place)
        p.wait_for_mark(nearest_sampled(path, place, times))
        lab.wait_for_timeout(1200)
        shows(p, place)
    sampled = read_clip(path).indices.tolist()
    at = p.inspector.at("frame")
    serial = p.inspector.serial()
    for k in (1, 2, 3):
        p.inspector.press("frame", "ArrowRight")
        p.settle()
        shows(p, sampled[at + k])
    lab.wait_for_timeout(1500)
    shows(p, sampled[at + 3])
    assert p.inspector.at("frame") == at + 3 and p.inspector.serial() <= serial + 3
    line, bar = p.root.locator(".mark").evaluate(LINE), p.bar.locator("svg").evaluate("s=>+s.getAttribute('width')")
    assert line / bar == pytest.approx(times[sampled[at + 3]] / 1.92, abs=0.01)


def test_a_drag_ends_where_the_hand_is(lab):
    p = Player(lab)
    p.clip("a_vp8.webm", "video")
    p.bar.scroll_into_view_if_needed()
    box = p.bar.bounding_box()
    y = box["y"] + box["height"] / 2
    lab.mouse.move(box["x"] + 5, y)
    lab.mouse.down()
    for step in range(1, 31):
        lab.mouse.move(box["x"] + box["width"] * step / 40, y)
    lab.mouse.up()
    p.settle()
    shows(p, 36)
    path, times = lab.folder / "clips" / "a_vp8.webm", [0.04 * k for k in range(FRAMES)]
    p.wait_for_mark(nearest_sampled(path, 36, times))
    lab.wait_for_timeout(1500)
    shows(p, 36)


def test_tracks_are_the_experts(lab):
    "A track an expert in its colour, as high as its importance; a tick at each frame that it kept."
    from vidprism.model import sample_model
    from vidprism.viz.session import Session
    from vidprism.viz.style import rate_color

    p = Player(lab)
    p.clip("a_vp8.webm", "video")
    session = Session(sample_model(), [lab.folder / "clips" / "a_vp8.webm"])
    session.open(session.clips[0])
    e = session.read(session.settings)
    tracks = p.root.locator(".track")
    assert tracks.count() == 4
    largest = float(e.parts.max())
    for n, i in enumerate((3, 2, 1, 0)):
        heights = tracks.nth(n).locator(".part").evaluate_all("all=>all.map(r=>+r.getAttribute('height'))")
        assert heights == pytest.approx([22 * float(v) / largest for v in e.parts[i]], abs=0.05)
        assert tracks.nth(n).locator(".part").first.get_attribute("fill") == rate_color(e.rates[i])
        assert tracks.nth(n).locator(".kept").count() == len(set(e.merges[i].kept.tolist()))
        assert p.root.locator(".names span").nth(n).text_content().split(" (")[0] == f"rate {e.rates[i]}"


def test_what_the_browser_refuses_is_shown_as_pictures(lab):
    p = Player(lab)
    p.clip("c_mpeg4.mp4", "pictures")
    assert p.root.locator("video").is_hidden()
    p.press("Home")
    for place in range(1, 20):
        p.press("ArrowRight")
        p.wait_for_picture(place)
        shows(p, place)
        assert p.value() == pytest.approx(0.04 * place, abs=1e-3)
    p.press("End")
    p.wait_for_picture(47)
    shows(p, 47)
    p.press("Home")
    p.bar.press(" ")
    lab.wait_for_function("el=>+el.dataset.place==47", arg=p.root.element_handle())
    p.root.get_by_role("button", name="play").wait_for()
    p.wait_for_mark(31)


def test_frames_have_their_true_times(lab):
    "A clip whose frames do not come evenly, in the second inspector of the page; the first stays as it is."
    first = Player(lab)
    first.clip("a_vp8.webm", "video")
    first.press("Home", "ArrowRight")
    p = Player(lab, 1)
    p.wait_for_mode("video", "b_vp9.webm")
    p.press("Home")
    for place, stamp in enumerate(UNEVEN):
        shows(p, place, len(UNEVEN))
        assert p.value() == pytest.approx(stamp / 1000, abs=2e-3)
        p.press("ArrowRight")
    shows(first, 1)


def test_odd_files(lab):
    "One frame; too large to send; long; deleted after it was opened."
    p = Player(lab)
    p.clip("d_one.webm", "video")
    p.press("End", "ArrowRight", "ArrowLeft", "Home")
    assert (p.place, p.value()) == (0, 0)
    p.bar.press(" ")
    lab.wait_for_timeout(600)
    assert p.place == 0

    p.clip("g_huge.webm", "pictures")
    assert "70 MiB; at most 64 MiB are sent" in p.root.locator(".said").text_content()
    p.press("Home", "ArrowRight")
    p.wait_for_picture(1)
    shows(p, 1)

    p.clip("f_long.avi", "pictures")
    assert "of 400 frames are shown" in p.root.locator(".said").text_content()
    p.press("End")
    p.wait_for_picture(399)
    shows(p, 399, 400)

    path = lab.folder / "clips" / "e_deleted.webm"
    sampled = read_clip(path).indices.tolist()
    p.clip("e_deleted.webm", "video")
    path.unlink()
    p.press("Home", "ArrowRight")
    shows(p, 1)  # the browser has it
    copy = lab.folder / "gone.webm"
    shutil.copy(lab.folder / "clips" / "a_vp8.webm", copy)
    kernel = "jupyterapp.shell.currentWidget.sessionContext.session.kernel"
    run = f"()=>{kernel}.requestExecute({{code: CODE}}).done.then(()=>1)"
    code = "from vidprism.data.clips import read_clip\n"
    code += "held = read_clip('gone.webm')\nPath('gone.webm').unlink()\nother.session.open(held)\nother._refresh()"
    lab.evaluate(run.replace("CODE", json.dumps(code)))
    q = Player(lab, 1)
    q.wait_for_mode("pictures", "gone.webm")
    assert "the model's frames" in q.root.locator(".said").text_content()
    q.press("Home", "ArrowRight")
    assert q.place == sampled[1]
    shows(q, sampled[1])
    lab.evaluate(run.replace("CODE", json.dumps("other._open(other.session.clips[0])")))  # as other tests know it
    q.wait_for_mode("video", "b_vp9.webm")


def test_why_this_and_not_that(lab):
    "The chosen classes, their numbers in words, and the maps by another method."
    from vidprism.interpret.faithfulness import measured_faithfulness
    from vidprism.model import sample_model
    from vidprism.viz.session import Session

    p = Player(lab)
    p.clip("a_vp8.webm", "video")
    i, model = p.inspector, sample_model()
    session = Session(model, [lab.folder / "clips" / "a_vp8.webm"])
    session.open(session.clips[0])
    before = i.figure("answer")
    assert "the fall of the answer's logit" in i.note("counted")
    i.choose("explain", model.labels[3])
    e = session.change(target=3)
    assert f"The logit of “{model.labels[3]}” is {e.logit:.2f}:" in i.note("counted")
    assert i.figure("counted", 2)["data"][0]["y"] == pytest.approx(session.drops(e).tolist(), abs=1e-3)
    i.choose("minus", model.labels[7])
    e = session.change(against=7)
    assert f"“{model.labels[3]}” minus that of “{model.labels[7]}” is {e.logit:.2f}:" in i.note("counted")
    drawn = np.array([trace["y"] for trace in i.figure("counted", 1)["data"]])
    assert drawn[::-1] == pytest.approx(e.logit_parts.numpy(), abs=1e-3)
    assert drawn.sum() + e.bias == pytest.approx(e.logit, abs=1e-3)
    assert i.figure("answer") == before  # a question changes no answer
    i.choose("minus", model.labels[3])
    assert "choose two classes" in i.status()[0] and i.chosen("minus").split() == model.labels[7].split()
    i.tab("Saliency maps")
    measured = measured_faithfulness(model)
    for name in ("layer_gradient", "gradcam"):
        row = measured[name]
        text = f"{name} (deletion {row.deletion:.2f}, insertion {row.insertion:.2f})"
        if i.chosen("saliency") != text:
            i.choose("saliency", text)
        assert f"Method: {name}. On {row.clips} unseen clips" in i.note("looks")
    i.as_trained()
    assert [i.chosen(menu).split() for menu in ("explain", "minus")] == [["the", "answer"], ["no", "class"]]
    i.tab("Importance")


FITS = """el => {
  const edge = x => x.getBoundingClientRect().right;
  const inside = '.vidprism-player, .vidprism-player *:not(svg *)';
  return [...el.querySelectorAll(inside)].every(x => edge(x) <= edge(el) + 1);
}"""


@pytest.mark.parametrize("theme", ["Light", "Dark"])
@pytest.mark.parametrize("width", [1366, 700])
def test_it_fits(lab, width, theme):
    p = Player(lab)
    lab.evaluate(f"()=>jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {theme}'}})")
    lab.set_viewport_size(dict(width=width, height=900))
    lab.wait_for_timeout(1500)
    for name, mode in (("a_vp8.webm", "video"), ("c_mpeg4.mp4", "pictures")):
        p.clip(name, mode)
        p.press("Home", "PageUp", "PageUp")
        assert p.inspector.box.evaluate(FITS)
        p.inspector.shot(f"player_{mode}_{width}_{theme.lower()}")
    lab.set_viewport_size(dict(width=1366, height=900))
    lab.evaluate("()=>jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Light'})")
    assert ARTEFACTS.exists()


def test_nothing_wrong_and_nothing_from_a_network(lab):
    assert [u for u in lab.asked if not u.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))] == []
    assert lab.wrong == [] and lab.said == []


def test_in_a_page_of_its_own(chromium, tmp_path):
    "`vidprism inspect`: a video, pictures, and marks both ways, under the page's policy."
    clips = write_clips(tmp_path / "clips")
    with running(ROOT, tmp_path, "inspect", clips, "--no-browser") as process:
        page = watched(chromium)
        page.goto(address_of(process), timeout=60_000)
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
        p = Player(page, kind=App)
        p.wait_for_mode("video", "a_vp8.webm")
        p.press("Home", "ArrowRight", "ArrowRight")
        shows(p, 2)
        slider = p.inspector.box.get_by_label("frame", exact=True)
        p.click_at(0.5)
        shows(p, 24)
        page.wait_for_timeout(1500)
        assert int(slider.input_value()) == nearest_sampled(clips / "a_vp8.webm", 24, [0.04 * k for k in range(FRAMES)])
        p.inspector.slide("frame", 5)
        p.settle()
        shows(p, read_clip(clips / "a_vp8.webm").indices.tolist()[5])
        p.inspector.choose("clip", "c_mpeg4.mp4")
        p.wait_for_mode("pictures", "c_mpeg4.mp4")
        p.press("Home", "ArrowRight")
        shows(p, 1)
        assert page.wrong == []
