"""Figures for papers: the files of `ClipInspector.figures`, and those that the buttons in the browser save."""

import io
import json
import kaleido
import os
import pytest
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from PIL import Image
from vidprism.data.clips import sample_clips
from vidprism.errors import ConfigError, WriteError
from vidprism.model import VideoModel, sample_model
from vidprism.viz import figure_files
from vidprism.viz.figure_files import PAGE_COLUMNS, PRINT_JS, columns_of, print_spec
from vidprism.viz.inspector import ClipInspector
from vidprism.viz.panels import PANELS

SVG = "{http://www.w3.org/2000/svg}"
PAYLOAD = '<script>alert(1)</script>"onload="alert(2)'
EXPECTED = {
    *("answer", "frames", "counted_1", "counted_2", "counted_3", "merged", "readout", "gates"),
    *("attention_1", "attention_2", "looks", "beside_1", "beside_2", "beside_3"),
}


@pytest.fixture(scope="module")
def inspector():
    beside = {"MoTE": sample_model("mote")}
    made = ClipInspector(sample_model(), sample_clips()[12:14], beside=beside, name="VidPrism")
    made.on[0].value = False
    return made


def specs_of(inspector):
    "Every figure of every panel, as `figures` draws them."
    screen = replace(inspector.screen(), slider=False)
    return {f"{name}_{k}": spec for name, panel in PANELS.items() for k, spec in enumerate(panel(screen)[2])}


@pytest.fixture(scope="module")
def specs(inspector):
    return specs_of(inspector)


@pytest.fixture
def browser_of_kaleido(chromium_path, monkeypatch):
    "kaleido uses the browser that the other tests use."
    monkeypatch.setenv("BROWSER_PATH", chromium_path)


def points(root):
    "Width and height of an SVG, in points, and what a unit of its drawing is in points."
    width, height = (float(re.fullmatch(r"([\d.]+)pt", root.get(name))[1]) for name in ("width", "height"))
    units = [float(x) for x in root.get("viewBox").split()]
    assert width / units[2] == pytest.approx(height / units[3], rel=0.01)
    return width, height, width / units[2]


def type_sizes(root):
    "The sizes of all type, in units of the drawing."
    styles = [el.get("style") or "" for el in root.iter()]
    return [float(x) for style in styles for x in re.findall(r"font-size: ([\d.]+)px", style)]


def assert_harmless(text):
    "An SVG that runs nothing and loads nothing."
    root = ET.fromstring(text)
    for el in root.iter():
        assert el.tag.removeprefix(SVG) not in ("script", "foreignObject", "iframe", "a", "animate", "set")
        for name, value in el.attrib.items():
            assert not name.rpartition("}")[2].lower().startswith("on")
            if name.rpartition("}")[2] == "href":
                assert value.startswith(("data:image/jpeg", "data:image/png", "#"))
    return root


def assert_printable(text, columns):
    root = assert_harmless(text)
    width, height, unit = points(root)
    assert width == pytest.approx(72 * PAGE_COLUMNS[columns].inches, abs=0.1)
    assert height < 9 * 72  # of a page
    sizes = type_sizes(root)
    assert sizes and min(sizes) * unit >= 7
    assert max(sizes) * unit <= 10
    return root


@pytest.mark.parametrize("columns", [None, 1, 2])
def test_svg_files(inspector, specs, tmp_path, columns, browser_of_kaleido):
    "One file a figure, with its size in points, type of 7 points or more, and its words."
    paths = inspector.figures(tmp_path / "new" / "figures", "svg", columns)
    assert {p.name for p in paths} == {f"12_orbit_clockwise_{name}.svg" for name in EXPECTED}
    for path, spec in zip(paths, specs.values()):
        wanted = columns_of(spec, columns)
        root = assert_printable(path.read_text(), wanted)
        assert root.find(f"{SVG}title").text.startswith("12_orbit_clockwise.mp4: ")
        assert root.find(f"{SVG}desc").text == " ".join(spec.layout["meta"]["words"])
        assert "fill: rgb(255, 255, 255)" in root.find(f"{SVG}rect").get("style")  # under all the rest
    answer = "".join(ET.parse(paths[0]).getroot().itertext())
    assert "orbit clockwise" in answer and "before" in answer and "%" in answer
    kept = json.loads((tmp_path / "new" / "figures" / "figures.json").read_text())["figures"]
    assert set(kept) == {p.name for p in paths}
    assert kept[paths[0].name]["changed"] == ["without rate 2"]
    assert kept[paths[0].name]["clip"] == "12_orbit_clockwise.mp4"


def test_one_column_is_kept_where_it_fits(specs):
    "Figures of all frames take two columns, others what is asked."
    ones = {name for name, spec in specs.items() if columns_of(spec, 1) == 1}
    assert {"readout_0", "gates_0", "counted_0", "counted_1", "attention_1", "beside_2"} <= ones
    assert ones.isdisjoint({"frames_0", "merged_0", "looks_0", "attention_0", "answer_0", "beside_0"})
    assert {columns_of(spec, 2) for spec in specs.values()} == {2}


def test_png_files(inspector, specs, tmp_path, browser_of_kaleido):
    "300 dots an inch."
    paths = inspector.figures(tmp_path / "png", "png")
    assert len(paths) == len(EXPECTED)
    for path, spec in zip(paths, specs.values()):
        image = Image.open(path)
        assert image.width == pytest.approx(300 * PAGE_COLUMNS[columns_of(spec)].inches, abs=1)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
        assert len(set(image.convert("L").resize((64, 64)).getdata())) > 3  # something is drawn


def test_pdf_files(inspector, tmp_path, browser_of_kaleido):
    paths = inspector.figures(tmp_path / "pdf", "pdf", 2)
    for path in paths:
        content = path.read_bytes()
        assert content.startswith(b"%PDF-")
        box = re.search(rb"/MediaBox \[\s*0 0 ([\d.]+) ([\d.]+)", content)
        assert float(box[1]) == pytest.approx(72 * 6.9, abs=2)


# Boxes of an SVG's texts that touch others, as the browser lays them out.
OVERLAPS = """svg => {
  document.body.innerHTML = svg;
  const lines = t => t.querySelectorAll('tspan.line').length ? [...t.querySelectorAll('tspan.line')] : [t];
  const texts = [...document.querySelectorAll('svg text')].flatMap(lines).filter(t => t.textContent.trim());
  const boxes = texts.map(t => t.getBoundingClientRect());
  const frame = document.querySelector('svg').getBoundingClientRect();
  const wrong = [];
  boxes.forEach((a, i) => {
    if (a.left < frame.left - 1 || a.right > frame.right + 1) wrong.push('outside: ' + texts[i].textContent);
    boxes.slice(i + 1).forEach((b, j) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1.5 && high > 3) wrong.push(texts[i].textContent + ' | ' + texts[i + 1 + j].textContent);
    });
  });
  return wrong;
}"""


@pytest.mark.parametrize("columns", [1, 2])
def test_no_labels_touch(specs, chromium, columns):
    "In the width of a column every label is free of the others and inside the figure."
    page = drawing_page(chromium)
    for name, spec in specs.items():
        if columns_of(spec, columns) == columns:
            printed = json.loads(print_spec(spec, columns).text())
            svg = page.evaluate("f => Plotly.toImage(f, {format: 'svg', ...f.layout}).then(decode)", printed)
            assert page.evaluate(OVERLAPS, svg) == [], name
    page.close()


def drawing_page(chromium):
    "A page with plotly.js and the functions of the buttons, without a network."
    from plotly.offline import get_plotlyjs

    page = chromium.new_context(offline=True, accept_downloads=True).new_page()
    page.add_script_tag(content=get_plotlyjs())
    page.add_script_tag(content=PRINT_JS)
    return page


@pytest.mark.parametrize("columns", [None, 1, 2])
def test_python_and_browser_lay_out_alike(specs, chromium, columns):
    "The two implementations of the rules give the same figure, number for number."
    page = drawing_page(chromium)
    for name, spec in specs.items():
        theirs = page.evaluate("([text, columns]) => printSpec(text, columns)", [spec.text(), columns])
        ours = json.loads(print_spec(spec, columns).text())
        assert theirs == ours, name
    page.close()


SAVE = """([text, form, columns, title, name]) => saveFigure(text, form, columns, title, name, Plotly)"""


def saved(page, *said):
    with page.expect_download() as download:
        page.evaluate(SAVE, list(said))
    return download.value


def test_buttons_files(specs, chromium):
    "What a button saves has the same size, type and words; names are text."
    page = drawing_page(chromium)
    got = saved(page, specs["readout_0"].text(), "svg", 1, PAYLOAD + "\x01", "a_readout.svg")
    assert got.suggested_filename == "a_readout.svg"
    root = assert_printable(got.path().read_text(), 1)
    assert root.find(f"{SVG}title").text == PAYLOAD + "\ufffd"
    assert root.find(f"{SVG}desc").text == " ".join(specs["readout_0"].layout["meta"]["words"])
    image = Image.open(saved(page, specs["frames_0"].text(), "png", 2, "a", "a.png").path())
    assert image.width == pytest.approx(2070, abs=1) and image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    image.load()
    page.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    "Names from strangers everywhere: class, clip, model."
    folder = tmp_path_factory.mktemp("hostile")
    clip = folder / 'a<script>"onload=\x02.mp4'
    clip.write_bytes(sample_clips()[12].read_bytes())
    model = sample_model()
    labels = [f"{PAYLOAD} <a href='javascript:x'>{k}</a>\x03" for k in range(len(model.labels))]
    other = VideoModel(model.encoder, sample_model("mote").head, labels)
    named = VideoModel(model.encoder, model.head, labels)
    return ClipInspector(named, [clip], beside={PAYLOAD: other}, name=PAYLOAD)


def test_names_from_strangers_are_text(hostile, tmp_path, chromium, browser_of_kaleido):
    "Nothing runs in a browser that shows the files, and the names stand in them as text."
    paths = hostile.figures(tmp_path / "out", "svg")
    assert all(re.fullmatch(r"[\w.-]+", p.name) for p in paths)
    page = chromium.new_page()
    page.on("dialog", lambda d: pytest.fail(d.message))
    for path in paths:
        root = assert_harmless(path.read_text())
        assert root.find(f"{SVG}title").text.startswith('a<script>"onload=\ufffd.mp4: ')
        page.goto(path.as_uri())
    assert "<script>alert(1)" in "".join(ET.parse(paths[0]).getroot().itertext())
    page.close()


def test_own_files_are_replaced_and_others_not(inspector, tmp_path, monkeypatch):
    "A second run replaces; a foreign folder, a changed file and a foreign file are left alone, unless it is asked for."
    monkeypatch.setattr(figure_files, "draw_specs", lambda specs, form: [SMALL for _ in specs])
    folder = tmp_path / "out"
    paths = inspector.figures(folder)
    assert inspector.figures(folder) == paths
    (folder / "notes.txt").write_text("mine")
    inspector.figures(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    paths[0].write_text("edited by hand")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ConfigError, match="is not as the kit wrote it"):
        inspector.figures(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    inspector.figures(folder, overwrite=True)
    assert paths[0].read_bytes() != b"edited by hand"
    paths[1].unlink()
    paths[1].symlink_to(tmp_path / "elsewhere.svg")
    with pytest.raises(ConfigError, match="is not as the kit wrote it"):
        inspector.figures(folder)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        inspector.figures(foreign)
    assert [p.name for p in foreign.iterdir()] == ["thesis.tex"]
    with pytest.raises(ConfigError, match="is a file"):
        inspector.figures(foreign / "thesis.tex")


SMALL = (
    b'<svg class="main-svg" xmlns="http://www.w3.org/2000/svg" width="312" height="9" viewBox="0 0 312 9"><g/></svg>'
)


def test_two_clips_share_a_folder(inspector, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_files, "draw_specs", lambda specs, form: [SMALL for _ in specs])
    first = inspector.figures(tmp_path / "out")
    inspector.clip.value = sample_clips()[13]
    second = inspector.figures(tmp_path / "out")
    inspector.clip.value = sample_clips()[12]
    assert not set(first) & set(second)
    kept = json.loads((tmp_path / "out" / "figures.json").read_text())["figures"]
    assert set(kept) == {p.name for p in first + second} and all(p.is_file() for p in first + second)


def test_a_failure_leaves_the_folder_as_it_was(inspector, tmp_path, monkeypatch):
    monkeypatch.setattr(figure_files, "draw_specs", lambda specs, form: [SMALL for _ in specs])
    inspector.figures(tmp_path / "out")
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure_files, "write_json", full)
    with pytest.raises(WriteError, match="no space left"):
        inspector.figures(tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def assert_one_sentence(error, why):
    text = str(error.value)
    assert why in text and text.count(". ") == 0 and text.endswith(".") and "\n" not in text
    assert "press SVG or PNG" in text and "save()" in text and "kaleido" in text


def test_without_kaleido(inspector, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(ConfigError) as error:
        inspector.figures(tmp_path / "out")
    assert_one_sentence(error, "kaleido is not installed")
    assert not (tmp_path / "out").exists()


def test_without_a_browser(inspector, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("BROWSER_PATH", raising=False)
    monkeypatch.setattr(kaleido.Kaleido, "__init__", missing)
    with pytest.raises(ConfigError) as error:
        inspector.figures(tmp_path / "out", "png")
    assert_one_sentence(error, "no Chromium or Chrome was found")
    assert not (tmp_path / "out").exists()


def missing(*_, **__):
    "What kaleido does where it finds no browser."
    from choreographer.errors import ChromeNotFoundError

    raise ChromeNotFoundError


def test_a_browser_that_does_not_start(inspector, tmp_path, monkeypatch):
    stub = tmp_path / "chromium"
    stub.write_text("#!/bin/sh\nexit 1\n")
    stub.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(stub))
    with pytest.raises(ConfigError) as error:
        inspector.figures(tmp_path / "out")
    assert_one_sentence(error, "the browser failed")


@pytest.mark.parametrize("wrong", [dict(form="gif"), dict(columns=3), dict(columns="one"), dict(folder=7)])
def test_wrong_arguments(inspector, tmp_path, wrong):
    with pytest.raises(ConfigError):
        inspector.figures(**{"folder": tmp_path / "out", **wrong})
    assert not os.listdir(tmp_path)


def test_without_a_clip(tmp_path):
    with pytest.raises(ConfigError, match="No clip is open"):
        ClipInspector(sample_model()).figures(tmp_path / "out")


def test_size_is_that_of_the_bytes():
    "A PNG that the kit rewrites keeps every pixel."
    image = Image.effect_noise((40, 30), 80)
    out = io.BytesIO()
    image.save(out, "PNG")
    again = Image.open(io.BytesIO(figure_files._png_file(out.getvalue())))
    assert again.tobytes() == image.tobytes()
