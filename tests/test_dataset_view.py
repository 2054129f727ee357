"""The data set's view with many clips: each step draws once, takes no more than it needs, and shows all of them."""

import pytest
import sys
from contextlib import contextmanager
from pathlib import Path

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
# Counts the points that WebGL draws, the canvases that are asked for it, and calls of DataTables' choice of cells.
COUNTING = """window.drawn = 0;
window.contexts = 0;
for (const name of ['drawArrays', 'drawElements']) {
  const old = WebGLRenderingContext.prototype[name];
  WebGLRenderingContext.prototype[name] = function (...given) {
    window.drawn += given[name == 'drawArrays' ? 2 : 1];
    return old.apply(this, given);
  };
}
const asked = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, ...given) {
  if (kind.startsWith('webgl')) window.contexts += 1;
  return asked.call(this, kind, ...given);
};"""
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
CHOSEN = "() => [...document.querySelector('.map .plot').data[0].selectedpoints || []]"


class Page:
    "A saved page of so many rows, and what it did."

    def __init__(self, page):
        self.page, self.wrong = page, []
        page.on("pageerror", lambda e: self.wrong.append(str(e)))
        page.on("console", lambda m: self.wrong.append(m.text) if m.text.startswith("WARN") else None)

    def drawn(self, act):
        "Points that WebGL draws when something is done."
        self.page.evaluate("window.drawn = 0")
        act()
        self.page.evaluate(PAINTED)
        self.page.wait_for_timeout(300)
        return self.page.evaluate("window.drawn")

    def pick(self, label, index):
        self.page.locator(f"label.menu:has-text('{label}') select").first.select_option(index=index)


@contextmanager
def opened(browser, folder, html):
    "A page in a window of a laptop's size."
    path = folder / "page.html"
    path.write_text(html)
    page = browser.new_page(viewport=dict(width=1366, height=900))
    page.set_default_timeout(120_000)
    page.add_init_script(COUNTING)
    found = Page(page)
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    page.wait_for_timeout(500)
    yield found
    page.close()
    assert found.wrong == []


@pytest.fixture(scope="module")
def few_clips():
    "Pages of so many rows; they are those of 36 clips."
    from dataset_view import made_up_page

    return lambda rows: made_up_page(rows, 36)


def test_each_step_draws_the_points_once(chromium, tmp_path, few_clips):
    "Opening, selecting, colouring: no point is drawn twice, and no step asks for another context."
    rows = 3100
    with opened(chromium, tmp_path, few_clips(rows)) as view:
        assert view.page.evaluate("window.drawn") == rows
        before = view.page.evaluate("window.contexts")
        assert view.drawn(lambda: view.pick("class", 1)) == rows
        assert view.drawn(lambda: view.page.get_by_role("button", name="select none").click()) == rows
        for k in range(1, 6):
            assert view.drawn(lambda k=k: view.pick("colour", k)) == rows
        assert view.drawn(lambda: view.pick("map of", 1)) == rows
        assert view.page.evaluate("window.contexts") <= before + 1  # the first selection has a canvas of its own
        width = "() => document.querySelector('.map canvas').width / document.querySelector('.map .plot').clientWidth"
        assert view.page.evaluate(width) == pytest.approx(1, abs=0.02)


def test_a_drawing_of_the_grid_visits_no_cells_by_choice(chromium, tmp_path, few_clips):
    "Rows times columns are listed by no extension."
    count = """() => {
      window.visits = 0;
      GridLibrary.jQuery.fn.dataTable.ext.selector.cell.unshift((_, __, cells) => {
        window.visits += cells.length;
        return cells;
      });
    }"""
    with opened(chromium, tmp_path, few_clips(200)) as view:
        view.page.evaluate(count)
        view.page.locator(".dt-scroll-head th").nth(3).click()
        view.pick("class", 1)
        view.page.wait_for_timeout(500)
        assert view.page.evaluate("window.visits") == 0


def test_a_question_formats_visible_rows_only(chromium, tmp_path, few_clips):
    "The grid takes new columns and formats the numbers of a few rows, not of 3,100."
    count = """() => {
      window.formatted = 0;
      const old = Number.prototype.toFixed;
      Number.prototype.toFixed = function (digits) {
        window.formatted += 1;
        return old.call(this, digits);
      };
    }"""
    with opened(chromium, tmp_path, few_clips(3100)) as view:
        view.page.evaluate(count)
        view.page.locator("button[data-view]").click()
        view.page.wait_for_timeout(1000)
        assert view.page.locator(".dt-scroll-head th:has-text('then')").count() == 1
        assert 0 < view.page.evaluate("window.formatted") < 3100


def test_a_point_has_the_colour_of_its_class_when_hovered(chromium, tmp_path, few_clips):
    "The label's background is the colour in the legend; nothing is said in the console."
    point = """() => {
      const gd = document.querySelector('.map .plot');
      const {xaxis, yaxis} = gd._fullLayout;
      const box = gd.getBoundingClientRect();
      const place = (axis, value) => axis._offset + axis.d2p(value);
      return [box.x + place(xaxis, gd.data[0].x[5]), box.y + place(yaxis, gd.data[0].y[5])];
    }"""
    colours = """() => [...document.querySelectorAll('.map .key .item')].map(one =>
      getComputedStyle(one, '::before').backgroundColor)"""
    with opened(chromium, tmp_path, few_clips(3100)) as view:
        view.page.mouse.move(*view.page.evaluate(point))
        label = view.page.locator(".map .hoverlayer .hovertext path").first
        label.wait_for()
        assert label.evaluate("one => getComputedStyle(one).fill") in view.page.evaluate(colours)


def test_400_classes(chromium, tmp_path):
    "The confusions of 400 classes are 160,000 numbers, more than a call takes as arguments."
    from dataset_view import made_up_table
    from vidprism.viz.dataset_view import dataset_page, view_data

    data = view_data(*made_up_table(100, 36), live=False)
    names = [f"class {i}" for i in range(400)]
    data |= dict(confusions=[[0] * 400 for _ in names], classes=names, answers=names, usage=[])
    with opened(chromium, tmp_path, dataset_page("Many", [], data, {}, {})) as view:
        assert view.page.locator(".heat").count() == 1


@pytest.mark.long
def test_100000_clips(chromium, tmp_path, few_clips):
    "All are shown, selected and undone, and no step takes seconds."
    from dataset_view import SCRIPT

    rows = 100_000
    with opened(chromium, tmp_path, few_clips(rows)) as view:
        assert "100,000 rows" in view.page.locator(".dt-info").text_content()
        view.page.locator("button[data-view]").click()
        assert view.page.evaluate(CHOSEN) == list(range(0, rows, 2))
        assert "50,000 rows" in view.page.locator(".dt-info").text_content()
        view.page.get_by_role("button", name="undo").click()
        assert view.page.evaluate(CHOSEN) == []
        found = view.page.evaluate(SCRIPT, 5)
        assert {name: times for name, times in found.items() if sorted(times)[2] > 3000} == {}
