"""Payloads as names of clips, classes, experts, models and settings, and in error messages: none runs, each is text.

In the pages that the kit writes, and in the live widget of a real JupyterLab, in a headless Chromium."""

import json
import pytest
import shutil
import torch
from pathlib import Path
from plotly.offline import get_plotlyjs
from test_inspector import Inspector, jupyterlab, run_notebook
from vidprism.data.clips import Clip, sample_clips
from vidprism.interpret.explanation import Explanation
from vidprism.model import VideoModel, sample_model
from vidprism.viz.charts import curve_figure
from vidprism.viz.html import prism_page, write_page
from vidprism.viz.inspector import ClipInspector
from vidprism.viz.panels import Screen

pytestmark = pytest.mark.long

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

# Each sets the global __pwned, opens a dialog, or asks a server if it runs; the last ones are read by plotly, or are
# characters that a page, a script or a file cannot hold.
PAYLOADS = {
    "image": '<img src=x onerror="window.__pwned=1">',
    "script": "<script>window.__pwned=1</script>",
    "end of script": "</script><script>window.__pwned=1;alert(1)</script>",
    "end of title": "</title></style></textarea><svg onload=window.__pwned=1>",
    "attribute": '"><svg onload=window.__pwned=1>',
    "single quote": "'><img src=x onerror=window.__pwned=1>",
    "unquoted": " onmouseover=window.__pwned=1 autofocus onfocus=alert(1) ",
    "javascript": "javascript:window.__pwned=1",
    "link": '<a href="javascript:window.__pwned=1">click</a>',
    "frame": '<iframe srcdoc="<script>parent.__pwned=1</script>"></iframe>',
    "far image": '<img src="http://pwned.invalid/x.png"><image href="http://pwned.invalid/y.png">',
    "far style": '<span style="background:url(http://pwned.invalid/z.png)">x</span><style>@import "//pwned.invalid"',
    "template": "${window.__pwned=1}{{window.__pwned=1}}{title}",
    "entities": "&#x3c;img src=x onerror=window.__pwned=1&#x3e; &lt;b&gt;&quot;q&quot;&amp;amp;",
    "comment": "<!--<script>",
    "markdown": "[x](javascript:window.__pwned=1) ![x](http://pwned.invalid/m.png)",
    "line end": "\u2028window.__pwned=1//\u2029",
    "of plotly": "%{x} %{customdata[0]} %{meta.words} <extra></extra><b>bold</b><br>next",
    "tex": "$\\unicode{x3c}$ $x^2$",
    "surrogate": "caf\udce9 \ud83d<b>",
}
every_payload = pytest.mark.parametrize("payload", PAYLOADS.values(), ids=list(PAYLOADS))
# Five at a time: a page takes seconds. A comment that is never closed is the last of its five.
GROUPS = [list(PAYLOADS.values())[k : k + 5] for k in range(0, len(PAYLOADS), 5)]
every_group = pytest.mark.parametrize("payloads", GROUPS, ids=["to_svg", "to_link", "to_comment", "to_surrogate"])

# What a name must never become: an element that runs or loads something, or a handler.
FOREIGN = """root => {
  const running = 'iframe,object,embed,meta[http-equiv=refresh],a[href^="javascript:"]';
  const kinds = running + ',img,[href*="pwned"],[src*="pwned"]';
  const found = [...root.querySelectorAll(kinds)];
  for (const node of root.querySelectorAll('*')) {
    if ([...node.attributes].some(a => a.name.startsWith('on'))) found.push(node);
  }
  // the player's own picture, which shows frames that Python sent
  const shows = node => /^($|data:image|blob:)/.test(node.getAttribute('src') || '');
  const own = node => node.matches('.vidprism-player img') && shows(node);
  return found.filter(node => !own(node)).map(node => node.outerHTML.slice(0, 200));
}"""
# Every text that plotly drew.
DRAWN = "root => [...root.querySelectorAll('.plot text')].map(t => t.textContent)"
# Point at the first and last point of every trace of every figure; the hovers' texts.
HOVERS = """async Plotly => {
  const said = [];
  for (const gd of document.querySelectorAll('.plot')) {
    for (const [curveNumber, trace] of gd._fullData.entries()) {
      const many = (trace.z || trace.x || trace.y).length;
      for (const place of new Set([0, many - 1])) {
        const at = trace.type == 'heatmap' ? [0, place] : place;
        const subplot = (trace.xaxis || 'x') + (trace.yaxis || 'y');
        try {
          Plotly.Fx.hover(gd, [{curveNumber, pointNumber: at}], subplot);
        } catch (error) {
          if (!/undefined/.test(error.message)) throw error;
        }
        await new Promise(requestAnimationFrame);
        said.push(...[...gd.querySelectorAll('.hoverlayer text')].map(t => t.textContent));
      }
    }
  }
  return said;
}"""


def shown(payload):
    "A payload as a page shows it: what UTF-8 cannot hold is a question mark."
    return payload.encode("utf-8", "replace").decode()


def plain(text):
    "A text without the differences between kinds of spaces."
    return " ".join(text.split())


def contains(texts, payload):
    "Whether one of the texts holds the whole payload."
    return any(plain(shown(payload)) in plain(text) for text in texts)


def ticks(texts, payload):
    "Whether one of the texts is the payload as a tick shows it: its first 30 characters."
    name = shown(payload)
    cut = name if len(name) <= 30 else name[:29].rstrip() + "…"
    return plain(cut) in map(plain, texts)


def file_name(payload):
    "The payload as a file name: without a slash, and without what no file name can hold."
    return payload.replace("/", "∕").replace("\0", "").replace("\ud83d", "")


def attacked_explanation(payloads, T=4):
    "An explanation whose names are payloads, with the stages for every panel but the merges, whose rates are numbers."
    g = torch.Generator().manual_seed(0)
    one, E = " ".join(payloads), len(payloads)
    frames = torch.randint(0, 255, (T, 32, 32, 3), generator=g, dtype=torch.uint8)
    clip = Clip(frames, torch.arange(T) / 4, Path(file_name(one)) / file_name(one), one, torch.arange(T), T, 4.0)
    parts = torch.rand(E, T, generator=g)
    gates = torch.rand(E, E, generator=g).fill_diagonal_(0)
    return Explanation(
        clip,
        [(payload, 0.5 - 0.1 * k) for k, payload in enumerate(payloads)],
        torch.zeros(E),
        tuple(payloads),
        importance=parts.sum(0),
        parts=parts,
        gates=gates,
        open=gates > 0.6,
        threshold=0.6,
        shares=parts.sum(1) / parts.sum(),
        maps=torch.rand(E + 1, T, T, generator=g).softmax(-1),
        map_names=(*payloads, "readout"),
        readout_weight=parts.sum(0),
        untrained=tuple(f"{payload}.weight" for payload in payloads),
        drops=torch.rand(T, generator=g),
        saliency=torch.rand(E, T, 8, 8, generator=g),
    )


def attacked_screen(payloads):
    "A screen of such explanations, with the payloads in every text that is not an explanation's."
    e, one = attacked_explanation(payloads), " ".join(payloads)
    return Screen(
        e,
        e,
        changes=[one],
        beside={one: e, "refused": f"It said {one}"},
        name=one,
        saliency=e.saliency,
        looked=one,
        drops=e.drops,
    )


def watched(page):
    "Keep what a page asks for, the dialogs that it opens, and its errors."
    page.asked, page.dialogs, page.wrong = [], [], []

    def on_dialog(dialog):
        page.dialogs.append(dialog.message)
        dialog.dismiss()

    def on_console(message):
        if message.type == "error":
            page.wrong.append(message.text)

    def on_failed(request):
        if request.failure == "csp":  # the page's policy kept it from being sent
            page.asked.remove(request.url)

    page.on("request", lambda request: page.asked.append(request.url))
    page.on("requestfailed", on_failed)
    page.on("dialog", on_dialog)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", on_console)
    page.set_default_timeout(60_000)
    return page


def opened(browser, path):
    "A page that has drawn everything."
    page = watched(browser.new_page(viewport=dict(width=1280, height=900)))
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    return page


def check_nothing_ran(page, local=("data:", "blob:")):
    "No payload has run, opened a dialog, or asked a server."
    page.wait_for_timeout(200)
    assert page.evaluate("typeof window.__pwned") == "undefined"
    assert page.dialogs == []
    assert [url for url in page.asked if not url.startswith(local)] == []


@every_group
def test_page_of_a_clip(chromium, tmp_path, payloads):
    "In each place of a clip's page a payload is text: title, notes, ticks, hovers, words and labels."
    path = prism_page(attacked_screen(payloads), tmp_path / "page.html")
    page = opened(chromium, path)
    hovers = page.evaluate(f"() => ({HOVERS})(Plotly)")
    page.locator("summary").evaluate_all("all => all.forEach(s => s.click())")
    page.locator("nav a").evaluate_all("all => all.forEach(a => a.click())")
    check_nothing_ran(page, ("data:", "blob:", path.as_uri()))
    assert page.wrong == []
    assert page.evaluate(FOREIGN, page.query_selector("html")) == []
    assert page.evaluate("document.scripts.length") == 3
    heads = [page.locator("h1").text_content(), page.title(), page.locator(".intro").text_content()]
    notes, words = page.locator(".note").all_text_contents(), page.locator("details li").all_text_contents()
    labels = page.locator("[aria-label]").evaluate_all("all => all.map(node => node.getAttribute('aria-label'))")
    texts = page.evaluate(DRAWN, page.query_selector("html"))
    for payload in payloads:
        assert all(contains([head], file_name(payload)) for head in heads)
        assert sum(contains([note], payload) for note in notes) >= 3
        assert sum(contains([label], payload) for label in labels) >= 3
        assert ticks(texts, payload)
        assert contains(texts, payload) and contains(hovers, payload) and contains(words, payload)
    page.close()


def test_page_of_any_figures(chromium, tmp_path):
    "In a page of one's own figures, too: title, heading, note, names of curves and axes."
    payloads = list(PAYLOADS.values())
    figures = [curve_figure({p: [3.0, 2.0, 1.0]}, x_title=p, y_title=p) for p in payloads]
    path = write_page(tmp_path / "page.html", " ".join(payloads), list(zip(payloads, payloads, figures)))
    page = opened(chromium, path)
    hovers = page.evaluate(f"() => ({HOVERS})(Plotly)")
    check_nothing_ran(page, ("data:", "blob:", path.as_uri()))
    assert page.wrong == [] and hovers
    assert page.evaluate(FOREIGN, page.query_selector("html")) == []
    drawn = [page.evaluate(DRAWN, section) for section in page.query_selector_all("section")]
    for payload, texts in zip(payloads, drawn):
        places = ("h1", "h2", ".note", "nav a")
        assert all(contains(page.locator(place).all_text_contents(), payload) for place in places)
        assert sum(contains([text], payload) for text in texts) >= 3  # both axes and the legend
    page.close()


@every_payload
def test_html_of_ones_own_runs_nothing(chromium, tmp_path, payload):
    "Html goes into a page as it is where the caller says so; the page's policy lets no script in it run or load."
    content = shown(payload)
    path = write_page(tmp_path / "page.html", "A page", [("Own", "Html.", content)], intro=content)
    path.write_text(path.read_text(encoding="utf-8").replace(get_plotlyjs(), ""), encoding="utf-8")  # not drawn here
    page = watched(chromium.new_page())
    page.goto(path.as_uri())
    for link in page.locator('a[href^="javascript:"]').all():
        link.click()
    check_nothing_ran(page, ("data:", "blob:", "about:", path.as_uri()))
    page.close()


def test_policy_lets_the_page_work(chromium, tmp_path):
    "The policy is there, allows no inline script by name, and blocks a script that is put into the file later."
    path = write_page(tmp_path / "page.html", "A page", [("A", "a", curve_figure({"loss": [2.0, 1.0]}))])
    text = path.read_text(encoding="utf-8")
    head = text[: text.index("<style>")]
    assert "default-src 'none'" in head and "unsafe-eval" not in head
    assert "script-src 'sha256-" in head and "script-src 'unsafe-inline'" not in head
    path.write_text(text.replace("<main", "<script>window.__pwned=1</script><main"), encoding="utf-8")
    page = watched(chromium.new_page())
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert page.evaluate("typeof window.__pwned") == "undefined" and page.wrong
    page.close()


# The widget.

LABELS = [f"{place} {payload}" for place, payload in enumerate(PAYLOADS.values())][:18]
CLIPS = list(map(file_name, PAYLOADS.values()))
SETUP = """
import torch
from pathlib import Path
from vidprism.errors import ConfigError
from vidprism.model import VideoModel, sample_model
from vidprism.viz.inspector import ClipInspector

folder, labels, names = {folder!r}, {labels!r}, {names!r}


def renamed(kind):
    "A shipped model whose classes and experts have payloads for names."
    model = sample_model(kind)
    head = model.head

    class Named(type(head)):
        expert_names = tuple(names[: head.num_experts])

    head.__class__ = Named
    return VideoModel(model.encoder, head, labels)


def refuse(*args, **options):
    "A model that answers with an error."
    raise ConfigError("Refused: " + names[0] + names[1])


other, broken = renamed("bmoe"), renamed("bmoe")
broken.head.forward = refuse
inspector = ClipInspector(renamed("bmoe"), folder, beside={{names[0]: other, names[2]: broken}}, name=names[1])
inspector
"""


def notebook(*cells):
    "A notebook of code cells, as JSON."
    made = [
        dict(cell_type="code", source=c, metadata={}, outputs=[], execution_count=None, id=f"c{i}")
        for i, c in enumerate(cells)
    ]
    kernel = dict(name="python3", display_name="Python 3", language="python")
    return json.dumps(dict(cells=made, metadata=dict(kernelspec=kernel), nbformat=4, nbformat_minor=5))


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    "JupyterLab with an inspector whose clips, folder, classes, experts and models have payloads for names."
    folder = tmp_path_factory.mktemp("lab")
    clips = folder / file_name(PAYLOADS["image"])
    clips.mkdir()
    for name, clip in zip(CLIPS, sample_clips() * 2):
        shutil.copy(clip, clips / f"{name}.mp4")
    (clips / f"zz {CLIPS[0]}.mp4").write_bytes(b"no video")
    code = SETUP.format(folder=str(clips), labels=LABELS, names=list(PAYLOADS.values()))
    (folder / "attack.ipynb").write_text(notebook(code))
    with jupyterlab(folder) as address:
        page = watched(chromium.new_page(viewport=dict(width=1366, height=900)))
        run_notebook(page, address, "attack.ipynb")
        page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
        page.wait_for_timeout(1000)
        yield page
        page.close()


def check_widget(lab):
    "Nothing ran, and no payload became an element."
    check_nothing_ran(lab, ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
    assert lab.evaluate(FOREIGN, lab.query_selector(".vidprism-inspector")) == []


def test_widget_names_are_text(lab):
    "Clips in the menu, experts on the buttons, classes in the answer, as ticks, words and hovers."
    inspector = Inspector(lab)
    check_widget(lab)
    options = inspector.box.locator(".widget-dropdown:has(label:text-is('clip')) option").all_text_contents()
    assert [name for name in CLIPS if not contains(options, f"{name}.mp4")] == []
    buttons = inspector.box.locator("button.widget-toggle-button").all_text_contents()
    assert [payload for payload in list(PAYLOADS.values())[:4] if not contains(buttons, payload)] == []
    words = inspector.figure("answer")["layout"]["words"]
    assert all(any(line.startswith(shown(label)) for label in LABELS) for line in words)
    assert len(words) == 5
    drawn = lab.evaluate(DRAWN, lab.query_selector(".vidprism-inspector [data-panel=answer]"))
    best = [label for label in LABELS if any(line.startswith(shown(label)) for line in words)]
    assert all(ticks(drawn, label) for label in best)


@pytest.mark.parametrize("tab", ["Importance", "Kept and merged", "Gates", "Attention", "Saliency maps", "Two models"])
def test_widget_tabs(lab, tab):
    "Each tab, with the mouse over all its figures."
    inspector = Inspector(lab)
    if inspector.box.locator(".widget-toggle-buttons button.mod-active").text_content() != tab:
        inspector.tab(tab)
    for plot in inspector.view.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        box = plot.bounding_box()
        for x in (0.2, 0.5, 0.8):
            for y in (0.25, 0.5, 0.75):
                lab.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
                lab.wait_for_timeout(30)
    check_widget(lab)
    if tab == "Two models":
        note = inspector.note("beside")
        assert contains([note], PAYLOADS["image"] + PAYLOADS["script"])  # the error message
        assert contains([note], PAYLOADS["end of script"])  # the other model's name


def test_widget_switches_an_expert_off(lab):
    "The changes in words name the expert."
    inspector = Inspector(lab)
    inspector.after(inspector.box.locator("button.widget-toggle-button").first.click)
    assert contains([inspector.note("answer")], f"without {PAYLOADS['image']}")
    check_widget(lab)
    inspector.as_trained()


def clip_menu(inspector):
    "The menu of clips, and the place of each name in it."
    menu = inspector.box.locator(".widget-dropdown:has(label:text-is('clip')) select")
    options = menu.locator("option").all_text_contents()
    return menu, {plain(option): place for place, option in enumerate(options)}


UTF_8 = [name for name in CLIPS if shown(name) == name]


@pytest.mark.parametrize("name", UTF_8)
def test_widget_opens_every_clip(lab, name):
    "Each clip is chosen in the menu by its name."
    inspector = Inspector(lab)
    inspector.as_trained()  # what another test left over the panels goes
    menu, places = clip_menu(inspector)
    place = places[plain(shown(f"{name}.mp4"))]
    if menu.evaluate("menu => menu.selectedIndex") != place:
        inspector.after(lambda: menu.select_option(index=place))
    assert inspector.status() == []
    check_widget(lab)


def test_widget_name_that_is_not_utf_8(lab):
    "A clip whose name is not UTF-8 is opened, or the message names it."
    inspector = Inspector(lab)
    menu, places = clip_menu(inspector)
    (name,) = set(CLIPS) - set(UTF_8)
    place, old = places[plain(shown(f"{name}.mp4"))], inspector.serial()
    menu.select_option(index=place)
    said = "el => el.querySelector('.vidprism-status') || +el.querySelector('.prism').dataset.serial > {}"
    lab.wait_for_function(said.format(old), arg=inspector.box.element_handle(), timeout=30_000)
    lab.wait_for_timeout(300)
    status = inspector.status()
    assert not status or contains(status, f"{name}.mp4 was not opened")
    check_widget(lab)
    inspector.as_trained()


def test_widget_error_message(lab):
    "A clip that cannot be read is named in the message, as text."
    inspector = Inspector(lab)
    menu, places = clip_menu(inspector)
    menu.select_option(index=places[plain(f"zz {CLIPS[0]}.mp4")])
    inspector.box.locator(".vidprism-status").wait_for(timeout=20_000)
    (said,) = inspector.status()
    assert contains([said], f"zz {CLIPS[0]}.mp4 was not opened")
    check_widget(lab)
    inspector.as_trained()


DROP = """([el, name]) => {
  const d = new DataTransfer();
  d.items.add(new File(['only words'], name));
  el.dispatchEvent(new DragEvent('drop', {dataTransfer: d, bubbles: true, cancelable: true}));
}"""
DROPPED = [
    PAYLOADS["image"],
    PAYLOADS["template"],
    PAYLOADS["surrogate"],
    "..",
    ".",
    "../../up.mp4",
    "/etc/abs.mp4",
    "a\\b.mp4",
    "x" * 300 + ".mp4",
    "\0nul.mp4",
    "",
]


@pytest.mark.parametrize("name", DROPPED)
def test_widget_file_dropped(lab, name):
    "A dropped file is named in the message, whatever it is called; it stays in the inspector's own folder."
    inspector = Inspector(lab)
    inspector.as_trained()
    lab.evaluate(DROP, [inspector.view.element_handle(), shown(name)])
    inspector.box.locator(".vidprism-status", has_text="was not opened").wait_for(timeout=60_000)
    (said,) = inspector.status()
    last = shown(name).replace("\\", "/").split("/")[-1].replace("\0", "")
    assert len(last) > 200 or plain(last or "clip").strip(".") in plain(said)
    check_widget(lab)


def test_no_console_error(lab):
    "All of it left the page and the kernel alive."
    assert lab.wrong == []
    inspector = Inspector(lab)
    inspector.as_trained()
    assert inspector.status() == []


@pytest.mark.parametrize("name", ["image", "attribute", "surrogate"])
def test_where_widgets_do_not_run(chromium, tmp_path, name):
    "The inspector's html for other front ends, in a place that shows it raw, and the page that it saves."
    path = tmp_path / f"{file_name(PAYLOADS[name])}.mp4"
    shutil.copy(sample_clips()[0], path)
    model = sample_model()
    view = ClipInspector(VideoModel(model.encoder, model.head, LABELS), [path], name=PAYLOADS[name])
    view.on[0].value = False
    page = watched(chromium.new_page())
    page.set_content(view._repr_mimebundle_()["text/html"])
    check_nothing_ran(page, ("about:",))
    assert page.evaluate(FOREIGN, page.query_selector("html")) == []
    assert contains([page.locator("p").text_content()], path.name)
    assert contains(page.locator("li").all_text_contents(), view._after.answer[0][0])
    page.close()
    saved = opened(chromium, view.save(tmp_path / "page.html"))
    check_nothing_ran(saved, ("data:", "blob:", "file:"))
    assert saved.evaluate(FOREIGN, saved.query_selector("html")) == []
    assert contains([saved.locator("h1").text_content()], path.name)
    saved.close()
