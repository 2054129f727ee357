"The page in a real browser: it draws, asks the network for nothing, and links its pictures. Skips where no browser is."

import numpy as np
import pytest
import torch
from pathlib import Path
from types import SimpleNamespace
from vidprism.interpret.explanation import Explanation
from vidprism.viz import charts, html, maps, panels, strips, style

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
RATES = (2, 4, 8, 16)
ARTEFACTS = Path(__file__).parent / "artefacts"


def a_merge(frames, rate):
    "Windows of `rate`, the second frame kept, the rest equal."
    rows = torch.zeros(-(-frames // rate), frames)
    for n, row in enumerate(rows):
        row[n * rate : (n + 1) * rate] = 0.5 / (rate - 1)
        row[n * rate + 1] = 1
    return SimpleNamespace(lineage=rows, kept=torch.arange(len(rows)) * rate + 1)


PICTURE_FRAMES = torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
LOOKS = torch.rand(4, 32, 14, 14, generator=torch.Generator().manual_seed(2))
PICTURES = style.pictures(torch.arange(32)[:, None, None, None].mul(4).expand(32, 64, 64, 3).to(torch.uint8))


def sections(frames=32):
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (frames, 128, 128, 3), dtype=np.uint8))
    times = torch.arange(frames) / 12.5
    importance = torch.rand(4, frames, generator=torch.Generator().manual_seed(0))
    attention = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)).softmax(-1)
    gates = torch.full((4, 4), 0.7).fill_diagonal_(0)
    gates[0, 1] = gates[1, 0] = 0.3
    strip = strips.strip_figure(pictures, times, importance.sum(0))
    answer = charts.answer_figure([("</script><b>odd</b>", 0.9), ("other", 0.1)])
    streams = strips.merge_figure(pictures, times, [a_merge(frames, r) for r in RATES], RATES)
    shares = charts.shares_figure([0.25] * 4, RATES)
    experts = [maps.gates_figure(gates, gates >= 0.6, RATES, 0.6), shares]
    each_frame = charts.importance_figure(importance.sum(0), times, importance, RATES)
    return [
        ("Frames", "The strip.", strip),
        ("Answer", "The answer.", answer),
        ("Streams", "Kept and merged.", streams),
        ("Experts", "Gates and shares.", experts),
        ("Importance", "Each frame.", each_frame),
        ("Attention", "One expert.", maps.attention_figure(attention, 4)),
        ("Curves", "Training.", charts.curve_figure({"loss": [3.0, 2.0, 1.0]})),
        ("Looks", "Saliency.", maps.saliency_figure(PICTURES, LOOKS, RATES, times, slider=True)),
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return html.write_page(tmp_path_factory.mktemp("page") / "prism.html", "A page", sections())


def opened(browser, path, **options):
    "A page that has drawn everything, what it asked for, and what went wrong."
    page = browser.new_page(**options)
    page.set_default_timeout(120_000)
    asked, wrong = [], []

    def on_console(message):
        if message.type == "error":
            wrong.append(message.text)

    page.on("request", lambda r: asked.append(r.url))
    page.on("pageerror", lambda e: wrong.append(str(e)))
    page.on("console", on_console)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=120_000)
    return page, asked, wrong


# Where point n of the trace `name` of plot k stands on the screen, brought to the middle of the window.
POINT = """([k, name, n]) => {
  const gd = document.querySelectorAll('.plot')[k], d = gd._fullData.find(d => d.name == name), l = gd._fullLayout;
  const x = l.xaxis._offset + l.xaxis.l2p(d.x[n]), y = l.yaxis._offset + l.yaxis.l2p(d.y[n]);
  window.scrollBy(0, gd.getBoundingClientRect().top + y - innerHeight / 2);
  const b = gd.getBoundingClientRect();
  return [b.left + x, b.top + y];
}"""


def point(page, plot, trace, number):
    "Where a point of a figure stands on the screen; it is brought into view."
    page.locator(".plot").nth(plot).scroll_into_view_if_needed()
    return page.evaluate(POINT, [plot, trace, number])


# The shapes of plot k that plotly drew: [element, name].
SHAPES = """const shapes = k => {
    const gd = document.querySelectorAll('.plot')[k];
    const drawn = [...gd.querySelectorAll('.shapelayer path[data-index]')];
    return drawn.map(p => [p, gd.layout.shapes[+p.dataset.index].name]);
  };"""
# Numbers of the strip's frames with a thick edge.
LIT = f"""() => {{
  {SHAPES}
  const thick = shapes(0).filter(([p, name]) => getComputedStyle(p).strokeWidth == '4px');
  return thick.map(([p, name]) => +name.split(' ')[1]).sort((a, b) => a - b);
}}"""
# Names of the merges' lines that are not faint.
STRONG = f"""() => {{
  {SHAPES}
  const seen = shapes(2).filter(([p, name]) => +getComputedStyle(p).opacity > .2);
  return seen.map(([p, name]) => name).filter(name => name.startsWith('line'));
}}"""
# Opacities of the merges' windows.
WINDOWS = f"""() => {{
  {SHAPES}
  return shapes(2).filter(([p, name]) => name.startsWith('window')).map(([p, name]) => getComputedStyle(p).opacity);
}}"""


def test_page_draws_without_a_network(chromium, path):
    page, asked, wrong = opened(chromium, path, viewport=dict(width=1280, height=900))
    page.wait_for_timeout(300)
    elsewhere = [u for u in asked if not u.startswith(("data:", "blob:")) and u != path.as_uri()]
    assert elsewhere == [] and wrong == []
    assert page.locator(".plot .main-svg").count() >= 8
    assert page.locator("nav a").count() == 8
    assert page.locator("b", has_text="odd").count() == 0  # a class name is text, not html
    page.close()


def test_page_weighs_little(path):
    assert path.stat().st_size - len(html.get_plotlyjs().encode()) < 1_000_000


def test_token_lights_its_frames(chromium, path):
    page, _, _ = opened(chromium, path, viewport=dict(width=1280, height=900))
    before = page.evaluate(WINDOWS)
    assert page.evaluate(LIT) == [] and len(page.evaluate(STRONG)) == 4 * 32
    page.mouse.move(*point(page, 2, "tokens of rate 8", 2))
    page.wait_for_selector(".hoverlayer .hovertext")
    assert "token 2, rate 8" in page.locator(".hoverlayer .hovertext").text_content()
    assert page.evaluate(LIT) == list(range(16, 24))  # the strip at the top shows the window
    assert sorted(page.evaluate(STRONG)) == sorted(f"line 8/2/{f}" for f in range(16, 24))  # only its own lines stay
    assert page.evaluate(WINDOWS) == before and set(before) == {"0.13"}
    page.mouse.move(*point(page, 0, "frames", 5))  # a frame of the strip: what became of it at every rate
    page.wait_for_function(f"({LIT})().join()=='5'")
    assert sorted(page.evaluate(STRONG)) == ["line 16/0/5", "line 2/2/5", "line 4/1/5", "line 8/0/5"]
    page.mouse.move(5, 5)
    page.wait_for_function(f"({LIT})().length==0")
    page.mouse.click(*point(page, 2, "tokens of rate 8", 3))  # a click marks them, and they stay
    page.mouse.move(5, 5)
    page.wait_for_function(f"({LIT})().join()=='24,25,26,27,28,29,30,31'")
    page.mouse.click(*point(page, 2, "tokens of rate 8", 3))
    page.mouse.move(5, 5)
    page.wait_for_function(f"({LIT})().length==0")
    page.close()


def test_saliency_slider_needs_no_kernel(chromium, path):
    page, asked, wrong = opened(chromium, path, viewport=dict(width=1280, height=900))
    shown = """() => {
  const gd = document.querySelectorAll('.plot')[8];
  return [gd.data.slice(1).map(d => d.z), gd.layout.images.map(i => i.source)];
}"""
    before = page.evaluate(shown)
    page.locator(".plot").nth(8).scroll_into_view_if_needed()
    rail = page.locator(".plot").nth(8).locator(".slider-rail-touch-rect").bounding_box()
    page.mouse.click(rail["x"] + rail["width"] * 10 / 31, rail["y"] + rail["height"] / 2)
    page.wait_for_function("()=>document.querySelectorAll('.plot')[8].layout.sliders[0].active==10")
    page.wait_for_timeout(300)
    after = page.evaluate(shown)
    cells = maps.saliency_cells(LOOKS)[[3, 2, 1, 0]]
    assert before == [cells[:, 0].tolist(), [PICTURES.uris[0]] * 5]
    assert after == [cells[:, 10].tolist(), [PICTURES.uris[10]] * 5]
    page.close()


@pytest.fixture(scope="module")
def all_panels(tmp_path_factory):
    "A page with the heading of every panel that there is."
    clip = SimpleNamespace(frames=PICTURE_FRAMES, times=torch.arange(4.0), indices=None, path="clip.mp4")
    screen = panels.Screen(Explanation(clip, [("a", 1.0)], torch.zeros(1)))
    headings = [panel(screen)[0] for panel in panels.PANELS.values()]
    assert len(headings) == 9
    path = tmp_path_factory.mktemp("page") / "all.html"
    return html.write_page(path, "A page", [(heading, "A note.", "<p>A panel.</p>") for heading in headings])


@pytest.mark.parametrize("width", [1100, 1200, 1366])
def test_link_bar_is_one_line(chromium, all_panels, width):
    "Nine links stand side by side in one line, and none is cut."
    page, _, wrong = opened(chromium, all_panels, viewport=dict(width=width, height=900))
    bar = page.locator("nav").bounding_box()
    links = [link.bounding_box() for link in page.locator("nav a").all()]
    assert len(links) == 9 and wrong == []
    assert len({link["y"] for link in links}) == 1
    assert max(link["x"] + link["width"] for link in links) <= bar["x"] + bar["width"] - 16
    assert page.evaluate("(nav => nav.scrollWidth <= nav.clientWidth)(document.querySelector('nav'))")
    ARTEFACTS.mkdir(exist_ok=True)
    (ARTEFACTS / ".gitignore").write_text("*\n")
    page.screenshot(path=ARTEFACTS / f"link_bar_{width}.png")
    page.close()


def test_small_screen_does_not_spill(chromium, path):
    page, _, wrong = opened(chromium, path, viewport=dict(width=390, height=800))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390 and wrong == []
    page.close()
