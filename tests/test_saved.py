"The saved outputs, read as they are: figures are pictures, numbers in prose are asserted, notebooks named exist."

import ast
import json
import math
import nbformat
import pytest
import re
from collections import namedtuple
from pathlib import Path
from real import load_script
from types import SimpleNamespace

ROOT = Path(__file__).parent.parent
HIDDEN = re.compile(r"/[._]")  # checkpoints, built pages
NOTEBOOKS = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not HIDDEN.search(f"/{p.relative_to(ROOT)}"))
GUIDES = [p for p in NOTEBOOKS if "guides" in p.parts or p.stem == "04_small_data"]
Cell = namedtuple("Cell", "number kind source tree outputs")  # tree: of a code cell, parsed

MAKERS = {"Figure", "make_subplots", "contact_sheet", "Image"}  # as do all calls whose name ends in _figure
GROWN = ("update", "add_", "for_each_")  # methods of a figure that return it
WIDGETS = {"ClipInspector", "DatasetInspector"}
REPR = re.compile(r"\bFigure\(\{|<PIL\.|<Figure size|<IPython\.core|object at 0x")
FOLDERS = "data|encoders|heads|training|evaluation|interpret|viz|experiments|guides|guides/topics|papers"
OLD = re.compile(r"(?<![\w/.])\d\d_[a-z][a-z_]+(?![\w.]*\.(?:mp4|csv|json))")  # a notebook without its folder
NAMED = re.compile(rf"(?<![\w/])(?:{FOLDERS})/\w+(?![\w/]|\.\w)")
UNITS = r"%|points?|bits?|seconds?|ms|s|minutes?|MB|GB|times|lines|clips|frames"
NUMBER = re.compile(rf"(?<![\w.,^])(?<![A-Za-z]-)(\d+(?:,\d{{3}})*(?:\.\d+)?|\.\d+)(?:\s?({UNITS})(?!\w)|(?!\w))")


def read_cells(path):
    "The cells of a notebook, in order."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [read_cell(i, c) for i, c in enumerate(cells)]


def read_cell(number, raw):
    source = "".join(raw["source"])
    plain = re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)  # magics are no Python
    tree = ast.parse(plain) if raw["cell_type"] == "code" else None
    return Cell(number, raw["cell_type"], source, tree, raw.get("outputs", []))


def called(node):
    "The last part of the name of what is called, or an empty string."
    func = getattr(node, "func", None)
    return getattr(func, "attr", getattr(func, "id", ""))


def is_figure(node, known):
    "Whether an expression is a figure, or holds figures; known: names that do."
    if isinstance(node, ast.Name):
        return node.id in known
    if isinstance(node, ast.Subscript):
        return is_figure(node.value, known)
    if isinstance(node, ast.DictComp):
        return is_figure(node.value, known)
    if isinstance(node, ast.ListComp):
        return is_figure(node.elt, known)
    if not isinstance(node, ast.Call):
        return False
    name = called(node)
    if name.startswith(GROWN) and isinstance(node.func, ast.Attribute):
        return is_figure(node.func.value, known)
    return name in MAKERS or name in known or name.endswith("_figure")


def returns_figure(function, known):
    "Whether a function hands a figure back."
    inner = known | figure_names(function, known)
    return any(is_figure(n.value, inner) for n in ast.walk(function) if isinstance(n, ast.Return))


def assigned(node):
    "The plain names that an assignment binds."
    return {t.id for t in node.targets if isinstance(t, ast.Name)}


def figure_names(tree, known=frozenset({"fig", "figure"})):
    "Names that stand for figures, or for functions that make them."
    found = set(known)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and is_figure(node.value, found):
            found |= assigned(node)
        if isinstance(node, ast.FunctionDef) and node is not tree and returns_figure(node, found):
            found.add(node.name)
    return found


def top_level(tree):
    "The nodes that run when the cell runs."
    for statement in tree.body:
        if not isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
            yield from ast.walk(statement)


def last_value(cell):
    "The expression that a cell ends with, if its value is shown."
    last = cell.tree.body[-1] if cell.tree.body else None
    return last.value if isinstance(last, ast.Expr) and not cell.source.rstrip().endswith(";") else None


def figures_shown(cell, known):
    "How many figures the cell's source shows, at least."
    calls = [n for n in top_level(cell.tree) if isinstance(n, ast.Call)]
    shown = sum(called(n) == "show" and not n.args and isinstance(n.func, ast.Attribute) for n in calls)
    shown += sum(called(n) == "display" and any(is_figure(a, known) for a in n.args) for n in calls)
    return shown + is_figure(last_value(cell), known)


def pictures(cell):
    "The outputs that hold a picture."
    return [o for o in cell.outputs if any(k.startswith("image/") for k in o.get("data", {}))]


def text_alternative(output):
    "The text alternative of an output's picture, or an empty string."
    kinds = output.get("metadata", {})
    return next((kinds[k].get("alt", "") for k in kinds if k.startswith("image/")), "")


def faults_of_outputs(cell):
    "What no saved output may hold."
    for o in cell.outputs:
        data = o.get("data", {})
        if o["output_type"] == "error":
            yield f"an error: {o['ename']}"
        if o.get("name") == "stderr":
            yield "lines of stderr: " + repr("".join(o["text"])[:80])
        bare = "".join(data["text/plain"]) if set(data) == {"text/plain"} else ""
        if REPR.search(bare):
            yield "the repr of an object where something to look at belongs"
        widget = any("widget-view" in k for k in data)
        if widget and "text/html" not in data:
            yield "a widget with no words for those who read only"
        if len(text_alternative(o)) < 20 and o in pictures(cell):
            yield "a picture without a text alternative (tools/slim.py writes it)"


def faults_of_cell(cell, known, widgets):
    "What the source promises and the outputs lack."
    yield from faults_of_outputs(cell)
    want, have = figures_shown(cell, known), len(pictures(cell))
    if have < want:
        yield f"{want} figures are shown, {have} pictures saved"
    live = any(called(n) == "live_curve" for n in top_level(cell.tree))
    if live and have != 1:
        yield f"a live curve left {have} pictures, not one"
    end = last_value(cell)
    words = any("text/html" in o.get("data", {}) for o in cell.outputs)
    if isinstance(end, ast.Name) and end.id in widgets and not words:
        yield "a widget is shown, and nothing saved"
    printed = any(isinstance(s, ast.Expr) and called(s.value) == "print" for s in cell.tree.body)
    skipped = cell.source.startswith("#| ")
    if printed and not cell.outputs and not skipped:
        yield "it prints, and nothing is saved: run it anew"


def faults_of(path):
    "All faults of a notebook, a line each."
    cells = [c for c in read_cells(path) if c.kind == "code"]
    whole = ast.Module([s for c in cells for s in c.tree.body], [])
    known = figure_names(whole, figure_names(whole))
    made = [n for n in whole.body if isinstance(n, ast.Assign) and called(n.value) in WIDGETS]
    widgets = {name for n in made for name in assigned(n)}
    return [f"cell {c.number}: {fault}" for c in cells for fault in faults_of_cell(c, known, widgets)]


PICTURE = dict(output_type="display_data", data={"image/png": ""})
BAD = {
    "curve_figure(rows)": ([], "1 figures are shown, 0 pictures"),
    "for figure in many: figure.show()": ([], "1 figures are shown"),
    "shown = {k: f_figure(k) for k in names}\nshown['a']": ([], "1 figures are shown"),
    "def draw(): return go.Figure().update_layout()\ndraw()": ([], "1 figures are shown"),
    "many": ([dict(output_type="execute_result", data={"text/plain": "[Figure({'data': []})]"})], "repr"),
    "fit(on_epoch=live_curve())": ([PICTURE, PICTURE], "2 pictures, not one"),
    "f()": ([dict(output_type="stream", name="stderr", text="WARNING")], "stderr"),
    "g()": ([dict(output_type="error", ename="ValueError")], "ValueError"),
    "print(1)": ([], "run it anew"),
    "bars_figure(rows)": ([PICTURE], "without a text alternative"),
}


@pytest.mark.parametrize("source", BAD)
def test_faults_are_found(source):
    "What the test over notebooks looks for, it finds."
    outputs, words = BAD[source]
    cell = read_cell(0, dict(cell_type="code", source=source, outputs=outputs))
    assert words in "\n".join(faults_of_cell(cell, figure_names(cell.tree), set()))


def test_numbers_are_found():
    "A percentage is a part, a count keeps its value; code, formulas and years are no claims."
    prose = "It is over 70%, -0.4 at $x=0.5$, `0.3`, in 2,000 times of CVPR 2026, ViT-B-16, figure 3, 25 points."
    assert dict(claims(prose)) == {"70%": [70.0, 0.7], "0.4": [0.4], "2,000 times": [2000.0], "25 points": [25.0, 0.25]}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs(path):
    "A cell that shows a figure holds a picture, a live curve one; no error, stderr or repr of a figure is saved."
    faults = faults_of(path)
    assert not faults, "\n".join([path.name, *faults])


def bare(prose):
    "Markdown without code, formulas and addresses."
    return re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|<[^>]*>", " ", prose, flags=re.S)


def claims(prose):
    "Numbers with a unit or a decimal point, as (the words, the values it may stand for in code)."
    for m in NUMBER.finditer(bare(prose)):
        value, unit = float(m[1].replace(",", "")), m[2]
        parts = [value / 100] if unit in ("%", "point", "points") else []
        if unit or "." in m[1]:
            yield m[0].strip(), [value, *parts]


def asserted(tree):
    "The numbers in a cell's assertions."
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.Assert) or called(n).startswith("test_")]
    constants = [n.value for t in tests for n in ast.walk(t) if isinstance(n, ast.Constant)]
    return [v for v in constants if type(v) in (int, float)]


def sections(cells):
    "From one heading to the next: (prose, numbers asserted)."
    prose, numbers = "", []
    for cell in cells:
        if cell.kind == "code":
            numbers += asserted(cell.tree)
        if cell.kind != "markdown":
            continue
        first, *others = re.split(r"^(?=#{1,3} )", cell.source, flags=re.M)
        prose += "\n" + first
        for part in others:
            yield prose, numbers
            prose, numbers = part, []
    yield prose, numbers


@pytest.mark.parametrize("path", GUIDES, ids=lambda p: p.stem)
def test_numbers_are_asserted(path):
    "In a guide, a number that the prose claims is asserted in the same section."
    loose = [
        words
        for prose, numbers in sections(read_cells(path))
        for words, values in claims(prose)
        if not any(math.isclose(v, n) for v in values for n in numbers)
    ]
    assert not loose, f"{path.name}: not asserted in their section: {loose}"


def prose_of(path):
    "What a person reads: markdown cells, a page, or a module."
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    return "\n".join(c.source for c in read_cells(path) if c.kind == "markdown")


def test_named_notebooks_exist():
    "A notebook that prose names is there."
    names = {p.relative_to(ROOT / "nbs").with_suffix("").as_posix() for p in NOTEBOOKS}
    pages = [*NOTEBOOKS, ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "vidprism").rglob("*.py")]
    gone = [
        f"{p.name} names {name}"
        for p in pages
        for name in sorted({*NAMED.findall(prose_of(p)), *OLD.findall(prose_of(p))} - names)
    ]
    assert not gone, "\n".join(gone)


def test_live_curve_is_one_picture(monkeypatch):
    "A training curve is displayed once, and then updated, every few epochs."
    import IPython.display
    from vidprism.viz.charts import live_curve

    log = []

    def display(bundle, raw, display_id):
        log.append(("display", raw, sorted(bundle)))
        return SimpleNamespace(update=lambda bundle, raw: log.append(("update", raw, sorted(bundle))))

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr("plotly.io.renderers.default", "json")
    draw, rows = live_curve(every=2), []
    for epoch in range(1, 7):
        rows.append(dict(epoch=epoch, total=1 / epoch, top1=0.5))
        draw(rows)
    assert log == [("display", True, ["application/json"]), *[("update", True, ["application/json"])] * 3]


LINK = re.compile(r"\]\((\.\.?/[^)\s#]+)\)")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    "A relative link of a cell, or of what it shows, leads to a file."
    links = {link for link in LINK.findall(path.read_text(encoding="utf-8"))}
    assert not [link for link in links if not (path.parent / link).exists()]


def saved_figure(size):
    "An output with a picture and a figure's data of about so many characters."
    data = {"application/vnd.plotly.v1+json": dict(text="x" * size), "image/png": "iVBORw0K"}
    return nbformat.v4.new_output("display_data", data=data)


def test_the_largest_figures_lose_their_data():
    "Until the rest is small enough; the pictures stay, and so do smaller figures."
    slim = load_script("tools", "slim")
    sizes = (300_000, 10, 250_000, 100_000)
    cell = nbformat.v4.new_code_cell("figure", outputs=[saved_figure(size) for size in sizes])
    slim.limit_data(nbformat.v4.new_notebook(cells=[cell]))
    assert [slim.FIGURE in output.data for output in cell.outputs] == [False, True, True, True]
    assert all("image/png" in output.data for output in cell.outputs)
    slim.limit_data(nbformat.v4.new_notebook(cells=[cell]))
    assert sum(slim.FIGURE in output.data for output in cell.outputs) == 3


def test_log_lines_of_other_programs_are_left_out():
    "A traceback of the program that draws pictures, a line of decord; the kit's own warnings stay."
    slim = load_script("tools", "slim")
    texts = ("ERROR:choreographer.channels:JSONError\nTraceback\n", "[1] src/video_reader.cc: ERROR\n\n", "Careful.\n")
    outputs = [nbformat.v4.new_output("stream", name="stderr", text=text) for text in texts]
    assert [slim.passing(output) for output in outputs] == [True, True, False]
    mixed = nbformat.v4.new_output(
        "stream", name="stderr", text="kaleido: started\nUserWarning: two clips are left out\n"
    )
    assert not slim.passing(mixed)
