"""The inspector's controls in a real JupyterLab: groups, marks, undo, the answer in sight, keyboard, names, colours."""

import pytest
import test_inspector
from contextlib import contextmanager
from test_inspector import CLIP, Inspector, notebook_page

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
THEMES = "@jupyterlab/apputils-extension/themes"
CELLS = [
    f"""from vidprism.data.clips import sample_clips
from vidprism.model import sample_model
from vidprism.viz.inspector import ClipInspector

clips = sorted(sample_clips(), key=lambda path: path.name != "{CLIP}")
inspector = ClipInspector(sample_model(), clips, beside={{"MoTE": sample_model("mote")}}, name="VidPrism")""",
    "inspector",
]


@contextmanager
def shown(folder, browser, theme):
    "An inspector in a JupyterLab with a theme of its own settings."
    settings = {**test_inspector.SETTINGS, THEMES: dict(theme=theme)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_inspector, "SETTINGS", settings)
        with notebook_page(browser, folder, CELLS) as page:
            page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=60_000)
            page.wait_for_selector(".vidprism-group[role=group]", timeout=60_000)
            page.wait_for_timeout(1000)
            yield page


@pytest.fixture(scope="module")
def light(tmp_path_factory, chromium):
    with shown(tmp_path_factory.mktemp("light"), chromium, "JupyterLab Light") as page:
        yield page


@pytest.fixture
def i(light):
    "The inspector, as trained, in a laptop's window."
    light.set_viewport_size(dict(width=1366, height=900))
    inspector = Inspector(light)
    inspector.as_trained()
    return inspector


def changed(i):
    "The names of the undo buttons that are there."
    buttons = i.box.locator(".vidprism-undo")
    return [b.get_attribute("title") for b in buttons.all() if b.is_visible()]


def undo(i, name):
    i.after(i.box.get_by_role("button", name=f"undo {name}", exact=True).click)


def line(i):
    return i.box.locator(".vidprism-line").inner_text()


def test_groups_have_names(i):
    "Each control stands in one named group."
    groups = i.box.get_by_role("group")
    names = [g.get_attribute("aria-label") for g in groups.all()]
    assert [n for n in names if n in ("Clip", "Experts", "Thresholds", "Time", "Panels")] == [
        "Clip",
        "Experts",
        "Thresholds",
        "Time",
        "Panels",
    ]
    sliders = i.box.get_by_role("group", name="Thresholds", exact=True).get_by_role("slider")
    assert [s.get_attribute("aria-label") for s in sliders.all()] == ["threshold", "alpha", "tau", "delta"]
    assert i.box.get_by_role("group", name="Time", exact=True).get_by_role("combobox", name="order").count() == 1
    assert i.box.get_by_role("group", name="Experts", exact=True).get_by_role("button", name="rate 8").count() == 1


def test_each_change_is_marked_and_undone_alone(i):
    "Four kinds of control: the mark comes and goes with the change, and undo takes back this one only."
    assert changed(i) == [] and "changed" not in line(i)
    answer = i.figure("answer")["layout"]["words"]
    i.after(i.box.get_by_role("button", name="rate 2 (fastest)", exact=True).click)
    i.press("alpha", "End")
    i.choose("order", "reversed")
    field = i.box.get_by_placeholder("3, 5-7")
    field.fill("3")
    i.after(lambda: field.press("Enter"))
    names = ["undo rate 2 (fastest)", "undo alpha", "undo order", "undo dropped frames"]
    assert changed(i) == names
    assert line(i).endswith("changed: without rate 2, alpha 1, frames reversed, 1 frame dropped")
    undo(i, "alpha")
    assert changed(i) == [n for n in names if n != "undo alpha"]
    assert i.box.locator(".widget-slider:has(label:text-is('alpha')) .widget-readout").inner_text() == "0.70"
    assert i.box.evaluate("() => document.activeElement.getAttribute('aria-label')") == "alpha"
    assert "alpha" not in line(i) and "frames reversed" in line(i)
    undo(i, "order")
    undo(i, "rate 2 (fastest)")
    undo(i, "dropped frames")
    assert changed(i) == [] and i.figure("answer")["layout"]["words"] == answer


def test_sampling_and_number_of_frames_are_marked(i):
    i.choose("frames", "16")
    i.choose("sampling", "dense")
    assert changed(i) == ["undo sampling", "undo frames"]
    assert "changed: dense sampling, 16 frames" in line(i)
    undo(i, "sampling")
    assert changed(i) == ["undo frames"] and len(i.figure("frames")["data"][0]["x"]) == 16
    i.as_trained()
    assert changed(i) == [] and len(i.figure("frames")["data"][0]["x"]) == 32


def test_the_answer_stays_in_sight(light, i):
    "The line stays at the top of what scrolls, in the notebook, and in an output that scrolls by itself."
    bar = i.box.locator(".vidprism-bar")
    last = i.view.locator("[data-panel=counted] .plot").last
    for scrolled in (False, True):
        if scrolled:
            light.evaluate("()=>jupyterapp.commands.execute('notebook:enable-output-scrolling')")
            light.wait_for_timeout(500)
        last.evaluate("el => el.scrollIntoView({block: 'end'})")
        light.wait_for_timeout(500)
        box = bar.bounding_box()
        x, y = box["x"] + 40, box["y"] + box["height"] / 2
        seen = light.evaluate("([x, y]) => !!document.elementFromPoint(x, y)?.closest('.vidprism-bar')", [x, y])
        assert seen and 0 < box["y"] < 700, (scrolled, box)
        assert last.bounding_box()["y"] > box["y"] + box["height"] - 1
        assert "orbit clockwise" in bar.inner_text()
    light.evaluate("()=>jupyterapp.commands.execute('notebook:disable-output-scrolling')")
    light.wait_for_timeout(500)


# What Tab reaches inside the inspector, in order: tag, name.
FOCUSED = """() => {
  const el = document.activeElement;
  const inside = el.closest('.vidprism-inspector');
  const name = el.getAttribute('aria-label') || el.textContent.trim() || el.title || '';
  return inside && [el.tagName, name, getComputedStyle(el).outlineStyle];
}"""


def test_all_is_reached_by_keyboard(light, i):
    "Tab goes through every control, undo buttons that are there among them, and shows where it is."
    i.press("alpha", "End")
    i.box.get_by_role("button", name="as trained").focus()
    reached = []
    for _ in range(60):
        light.keyboard.press("Tab")
        now = light.evaluate(FOCUSED)
        if now is None:
            break
        reached.append(now)
    names = [name for _, name, _ in reached]
    for wanted in (
        *(
            "clip",
            "sampling",
            "frames",
            "rate 16 (slowest)",
            "rate 2 (fastest)",
            "interaction",
            "combination",
            "preset",
        ),
        *(
            "preset",
            "threshold",
            "alpha",
            "undo alpha",
            "tau",
            "delta",
            "order",
            "drop frames",
            "frame",
            "Gates",
            "recompute",
        ),
        *("SVG file: The answer", "PNG file: The frames", "In words"),
    ):
        assert wanted in names, wanted
    assert "undo tau" not in names
    assert any(name.startswith("upload a clip") for name in names)
    assert [entry for entry in reached if entry[2] == "none"] == []
    undone = i.box.get_by_role("button", name="undo alpha", exact=True)
    undone.focus()
    i.after(lambda: light.keyboard.press("Enter"))
    assert changed(i) == []


ROLES = {"button", "combobox", "slider", "textbox", "spinbutton", "checkbox", "group", "status", "image", "img"}


def nodes(page):
    "Role, name and description of what the accessibility tree holds of the inspector."
    client = page.context.new_cdp_session(page)
    client.send("Accessibility.enable")
    root = client.send("DOM.getDocument")["root"]["nodeId"]
    box = client.send("DOM.querySelector", dict(nodeId=root, selector=".vidprism-inspector"))["nodeId"]
    found = []
    for role in sorted(ROLES):
        answer = client.send("Accessibility.queryAXTree", dict(nodeId=box, role=role))
        found += [(role, node.get("name", {}).get("value", "")) for node in answer["nodes"] if not node["ignored"]]
    client.detach()
    return found


@pytest.mark.parametrize("tab", ["Importance", "Gates", "Two models"])
def test_every_control_has_a_name(light, i, tab):
    "In the browser's accessibility tree, with changes and an error on the screen; no two controls share a name."
    i.press("alpha", "End")
    if tab != "Importance":
        i.tab(tab)
    found = [(role, name) for role, name in nodes(light) if role not in ("group", "status")]
    assert len(found) > 25
    assert [(role, name) for role, name in found if not name.strip()] == []
    controls = [pair for pair in found if pair[0] not in ("image", "img")]
    assert sorted(set(controls)) == sorted(controls)
    assert ("button", "undo alpha") in found and ("slider", "alpha") in found and ("combobox", "clip") in found
    if tab != "Importance":
        i.tab("Importance")


# axe's rules that can be asked of the page: ids are unique, labels point at something, ARIA states are allowed words,
# nothing that takes focus is hidden from screen readers, no positive tabindex.
RULES = """box => {
  const wrong = [];
  const all = [...box.querySelectorAll('*')];
  for (const el of all) {
    if (el.tabIndex > 0) wrong.push('tabindex ' + el.className);
    if (el.closest('[aria-hidden=true]') && el.matches('button,select,input,[tabindex="0"]')) {
      wrong.push('hidden ' + el.outerHTML.slice(0, 80));
    }
    if (el.tagName == 'IMG' && !el.hasAttribute('alt')) wrong.push('alt');
    if (el.htmlFor && !document.getElementById(el.htmlFor)) wrong.push('for ' + el.textContent);
    for (const name of ['aria-pressed', 'aria-expanded']) {
      const value = el.getAttribute(name);
      if (value !== null && !['true', 'false', 'mixed'].includes(value)) wrong.push(name);
    }
    const role = el.getAttribute('role');
    if (role == 'slider' && !el.hasAttribute('aria-valuenow')) wrong.push('valuenow ' + el.className);
  }
  return wrong;
}"""


def test_rules_of_accessibility(i):
    assert i.box.evaluate(RULES) == []
    pressed = i.box.locator(".jupyter-button.widget-toggle-button")
    states = [(b.inner_text().strip(), b.get_attribute("aria-pressed")) for b in pressed.all()]
    assert dict(states)["rate 8"] == "true" and dict(states)["Importance"] == "true"
    assert dict(states)["Gates"] == "false"
    assert i.box.locator(".vidprism-line").get_attribute("role") == "status"


# Text of the inspector outside figures, with its colour and the colours behind it, and the contrast of the two.
CONTRAST = """box => {
  function channels(text) {
    const parts = text.match(/[\\d.]+/g).map(Number);
    return [...parts.slice(0, 3), parts[3] ?? 1];
  }
  function over(top, under) {
    return [0, 1, 2].map(k => top[k] * top[3] + under[k] * (1 - top[3]));
  }
  function behind(el) {
    const layers = [];
    for (let node = el; node; node = node.parentElement) {
      const colour = channels(getComputedStyle(node).backgroundColor);
      if (colour[3]) layers.push(colour);
      if (colour[3] == 1) break;
    }
    let ground = [255, 255, 255];
    for (const layer of layers.reverse()) ground = over(layer, ground);
    return ground;
  }
  function light(colour) {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  }
  const found = [];
  const walker = document.createTreeWalker(box, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const el = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    const style = getComputedStyle(el);
    if (!text || el.closest('svg') || style.visibility == 'hidden' || !el.getClientRects().length) continue;
    const ground = behind(el);
    const ink = over(channels(style.color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    found.push([text, (a + .05) / (b + .05), style.color]);
  }
  for (const field of box.querySelectorAll('select, input[type=text]')) {
    const ground = behind(field);
    const ink = over(channels(getComputedStyle(field).color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    found.push([field.tagName, (a + .05) / (b + .05), getComputedStyle(field).color]);
    if (!field.placeholder) continue;
    const pale = over(channels(getComputedStyle(field, '::placeholder').color), ground);
    const [c, d] = [light(pale), light(ground)].sort((x, y) => y - x);
    found.push(['placeholder', (c + .05) / (d + .05), getComputedStyle(field, '::placeholder').color]);
  }
  return found;
}"""


def contrasts(box, least=1):
    "Texts of a part of a page, and those among them that are hard to read: [text, contrast, colour]."
    found = box.evaluate(CONTRAST)
    texts = [text for text, _, _ in found]
    assert len(texts) >= least
    return texts, [entry for entry in found if entry[1] < 4.5]


@contextmanager
def in_theme(page, name):
    "JupyterLab with a theme, and after the block with the light one."
    change = "name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})"
    try:
        page.evaluate(change, name)
        page.wait_for_timeout(2500)
        yield
    finally:
        page.evaluate(change, "JupyterLab Light")
        page.wait_for_timeout(1500)


def in_trouble(i):
    "Changes, and an error over the panels."
    i.after(i.box.get_by_role("button", name="rate 2 (fastest)", exact=True).click)
    i.press("alpha", "End")
    field = i.box.get_by_placeholder("3, 5-7")
    field.fill("five")
    i.after(lambda: field.press("Enter"))
    assert len(i.status()) == 1


def assert_readable(i, name):
    texts, pale = contrasts(i.box)
    for wanted in (
        "Clip",
        "Thresholds",
        "alpha",
        "as trained",
        "The answer",
        "In words",
        "SVG",
        "SELECT",
        "placeholder",
    ):
        assert wanted in texts, wanted
    assert pale == []
    i.shot(f"controls_{name}")


def test_light_theme_is_readable(i):
    in_trouble(i)
    assert_readable(i, "light")


def test_dark_theme_is_readable(tmp_path, chromium):
    "JupyterLab's dark theme: controls and words have its colours, figures stay on white."
    with shown(tmp_path, chromium, "JupyterLab Dark") as page:
        assert page.evaluate("document.body.dataset.jpThemeLight") == "false"
        i = Inspector(page)
        in_trouble(i)
        assert_readable(i, "dark")
        ground = "el => getComputedStyle(el).backgroundColor"
        assert i.box.locator(".vidprism-bar").evaluate(ground) == page.locator(".jp-Notebook").first.evaluate(ground)
        assert i.view.locator(".figure").first.evaluate(ground) == "rgb(255, 255, 255)"
        page.set_viewport_size(dict(width=700, height=900))
        page.wait_for_timeout(800)
        i.shot("controls_dark_700")
        assert page.wrong == []


@pytest.mark.parametrize("width", [1366, 700])
def test_controls_fit(light, i, width):
    "No control reaches beyond the inspector, changed or not."
    i.press("alpha", "End")
    light.set_viewport_size(dict(width=width, height=900))
    light.wait_for_timeout(800)
    beyond = """el => {
      const edge = el.getBoundingClientRect().right + 1;
      const own = [...el.querySelectorAll('.vidprism-bar *, .vidprism-group *')];
      return own.filter(x => x.getBoundingClientRect().right > edge).map(x => x.className);
    }"""
    assert i.box.evaluate(beyond) == []
    assert i.box.bounding_box()["width"] <= width
    i.shot(f"controls_{width}")
    assert light.wrong == []
