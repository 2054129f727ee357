"""Hostile media: files, names and folders that once stopped a reader, an audit or the process."""

import av
import csv
import json
import numpy as np
import os
import pytest
import resource
import struct
import subprocess
import sys
import torch
import zlib
from fractions import Fraction
from io import BytesIO
from PIL import Image, ImageOps
from real import HELD
from spatial import kinds_of, write_views
from vidprism.cli import main
from vidprism.data.audit import audit_clips
from vidprism.data.clips import clip_info, read_clip, sample_clips
from vidprism.data.worker import Worker
from vidprism.errors import ClipError, ConfigError

SAMPLE = sample_clips()[0]
PYAV = tuple(int(part) for part in av.__version__.split(".")[:2])
WAYS = (None, "fast", "pyav")


def photo():
    "A picture without symmetry."
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:24, :32] = 255
    pixels[:24, 32:, 0] = 200
    pixels[24:, :32, 2] = 200
    return Image.fromarray(pixels)


def encoded(kind, orientation, profile=None):
    "The photograph's file, and how it looks upright."
    exif = Image.Exif()
    exif[0x112], exif[0x10E] = orientation, "a note"
    file = BytesIO()
    photo().save(file, kind, exif=exif, icc_profile=profile, quality=95)
    upright = ImageOps.exif_transpose(Image.open(file)).convert("RGB")
    return file.getvalue(), torch.from_numpy(np.array(upright))


def write_mjpeg(path, jpeg):
    "Three frames of Motion JPEG, each with its EXIF."
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for k in range(3):
            packet = av.Packet(jpeg)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), k, k
            packet.is_keyframe = True
            file.mux(packet)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "avi", "mov", "mkv"])
def test_exif(suffix, orientation, tmp_path):
    "EXIF in PNG, JPEG and Motion JPEG: read, and upright where FFmpeg tells how (8.1 and later)."
    path = tmp_path / f"clip.{suffix}"
    data, upright = encoded("PNG" if suffix == "png" else "JPEG", orientation, bytes(300))
    path.write_bytes(data) if suffix in ("png", "jpg") else write_mjpeg(path, data)
    for way in WAYS:
        frame = read_clip(path, 2, decoder=way).frames[0]
        if PYAV >= (17, 1):
            assert frame.shape == upright.shape
            assert (frame.float() - upright.float()).abs().mean() < 12


def chunk(kind, data):
    "A chunk of a PNG."
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, extra=b"", interlaced=0, depth=8):
    "A grey PNG with further chunks."
    rows = b"".join(b"\0" + bytes(width * depth // 8) for _ in range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


EXTRA = {
    "profile": chunk(b"iCCP", b"x\0\0" + zlib.compress(b"junk" * 50)),
    "long_name": chunk(b"iCCP", b"n" * 79 + b"\0\0" + zlib.compress(bytes(5000))),
    "exif": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHIHH", 0x112, 3, 1, 6, 0) + bytes(4)),
    "exif_in_a_circle": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\1" + struct.pack(">HHII", 0x8769, 4, 1, 8) + bytes(4)),
    "primaries": chunk(b"cICP", bytes([99, 99, 99, 9])),
    "text_bomb": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**7))),
}


@pytest.fixture(scope="module")
def worker():
    with Worker() as process:
        yield process


@pytest.mark.parametrize("name", EXTRA)
def test_png_with_more(name, worker, tmp_path):
    "The process lives: the reading is done in another one, whose end would be told as a crash."
    path = tmp_path / "a.png"
    path.write_bytes(png(64, 48, EXTRA[name]))
    for way in WAYS:
        try:
            clip = worker.call("data.clips.read_clip", path, num_frames=2, decoder=way)
            assert clip.frames.shape[0] == 2
        except ClipError as error:
            assert "crashed" not in str(error) and "did not finish" not in str(error)


def test_png_too_large_or_flat(tmp_path):
    "Pictures that are no use as frames are refused in a sentence."
    (tmp_path / "huge.png").write_bytes(png(60000, 1, depth=8)[:16] + struct.pack(">II", 60000, 60000) + bytes(99))
    (tmp_path / "flat.png").write_bytes(png(500, 1, interlaced=1))
    for name in ("huge.png", "flat.png"):
        for way in WAYS:
            with pytest.raises(ClipError) as error:
                read_clip(tmp_path / name, 2, decoder=way)
            assert "\n" not in str(error.value) and str(error.value).endswith(".")


def clip_of(path, width, height, count, codec="libx264"):
    "A grey clip of some size."
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), format="yuv420p")
        for k in range(count):
            frame.pts, frame.time_base = k, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def peak(code):
    "The most memory that a script holds beyond its imports, MB, and what it prints."
    code = f"""
import vidprism.data.clips as clips
import vidprism.data.decoding
def most():
    return {HELD}
start = most()
{code}
print(most() - start)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *said, used = done.stdout.split()
    return int(used), said


LARGE = [(way, size) for way in WAYS for size in ((7680, 4320), (2160, 3840))]


@pytest.mark.parametrize("way,size", [LARGE[0], *(pytest.param(*one, marks=pytest.mark.long) for one in LARGE[1:])])
def test_large_pictures(size, way, tmp_path):
    "32 frames of 8K or of upright 4K, asked for without a size: under 2 GB; the shape tells that they are scaled."
    clip_of(tmp_path / "large.mp4", *size, 16)
    used, shape = peak(f"c = clips.read_clip({str(tmp_path / 'large.mp4')!r}, decoder={way!r})\nprint(*c.frames.shape)")
    t, h, w, _ = map(int, shape)
    assert t == 32 and 3 * t * h * w <= 1 << 28
    assert abs(w / h - size[0] / size[1]) < 0.01
    assert used < 1500


@pytest.mark.long
def test_prediction_of_8k(tmp_path):
    "From the file to the answer: under 2 GB, the program itself included."
    clip_of(tmp_path / "8k.mp4", 7680, 4320, 8)
    code = f"import vidprism\nvidprism.sample_model().predict({str(tmp_path / '8k.mp4')!r})\nprint(most())"
    _, (most,) = peak(code)
    assert int(most) < 2000


def test_pictures_of_usual_size_stay(tmp_path):
    "32 frames of full HD are not scaled; nor is a large picture of which a part is kept, or whose size is given."
    clip_of(tmp_path / "hd.mp4", 1920, 1080, 4)
    clip_of(tmp_path / "4k.mp4", 3840, 2160, 2)
    assert read_clip(tmp_path / "hd.mp4", 32).frames.shape == (32, 1080, 1920, 3)
    assert read_clip(tmp_path / "4k.mp4", 12, each=lambda f: f[:9, -9:]).frames.shape == (12, 9, 9, 3)
    assert read_clip(tmp_path / "4k.mp4", 12, short=2160).frames.shape == (12, 2160, 3840, 3)
    assert clip_info(tmp_path / "4k.mp4").height == 2160


@pytest.fixture(scope="module")
def spatial(tmp_path_factory):
    "A folder with a video of two views, and the video with its left view alone."
    folder, noise = tmp_path_factory.mktemp("spatial"), np.random.default_rng(0)
    still = noise.integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    pictures = [np.roll(still, 4 * k, 1) for k in range(12)]
    write_views(folder / "left.mov", pictures, 1)
    (folder / "set" / "walk").mkdir(parents=True)
    write_views(folder / "set" / "walk" / "both.mov", pictures, 2)
    return folder


def test_spatial_video_has_what_phones_write(spatial):
    "Two layers in one track, which the decoder recognises: it attaches the view's number (kind 29) to each picture."
    with av.open(str(spatial / "set" / "walk" / "both.mov")) as file:
        packets = [kinds_of(bytes(packet)) for packet in file.demux(video=0) if packet.size]
        file.seek(0)
        pictures = list(file.decode(video=0))
    assert len(packets) == 12 and all({layer for _, layer in kinds} == {0, 1} for kinds in packets)
    attached = [{int(data.type.value): bytes(data) for data in picture.side_data} for picture in pictures]
    assert len(attached) == 12 and all(data[29] == bytes(4) for data in attached)


@pytest.mark.parametrize("way", (*WAYS, "decord"))
def test_spatial_video(way, spatial):
    "Apple's spatial video is its left view, by each decoder."
    if way == "decord":
        pytest.importorskip("decord")
    both = read_clip(spatial / "set" / "walk" / "both.mov", 12, decoder=way)
    left = read_clip(spatial / "left.mov", 12, decoder=way)
    assert torch.equal(both.frames, left.frames) and torch.equal(both.times, left.times)


def test_spatial_video_in_a_set(spatial, tmp_path):
    "One such clip does not stop an audit or the features of a set."
    audit_clips(spatial / "set", tmp_path / "report")
    assert rows_of(tmp_path / "report")["walk/both.mov"]["verdict"] == "ok"
    assert main(["features", str(spatial / "set"), "--export", str(tmp_path / "features")]) == 0
    assert list((tmp_path / "features").rglob("*.npy"))


def sound(path):
    "The shipped clip under another name."
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(SAMPLE.read_bytes())


def deep(folder, levels):
    "A folder far below another: a path of one call is limited."
    for _ in range(levels // 150):
        folder = folder / "/".join("d" * 150)
        folder.mkdir(parents=True)
    return folder


def rows_of(report):
    return {row["item"]: row for row in json.loads((report / "audit.json").read_text())["rows"]}


def test_a_verdict_for_each(tmp_path):
    "Links that lead nowhere or in a circle, a tree of 1,500, names that are no text, pipes: none ends the audit."
    data, out = tmp_path / "set", tmp_path / "report"
    sound(data / "good.mp4")
    (data / "nowhere.mp4").symlink_to("nothing.mp4")
    (data / "itself.mp4").symlink_to("itself.mp4")
    (data / "one").symlink_to("two")
    (data / "two").symlink_to("one")
    (data / "circle").symlink_to(".")
    os.mkfifo(data / "pipe.mp4")
    inner = deep(data / "deep", 1500)
    sound(inner / "last.mp4")
    nameless = os.fsdecode(b"na\xefve \xff.mp4")
    sound(data / nameless)
    sound(data / os.fsdecode(b"\xfe") / "inner.mp4")
    (data / os.fsdecode(b"\xffbad.avi")).write_bytes(b"RIFF" + bytes(range(256)))
    sound(data / ("x" * 251 + ".mp4"))
    (data / ("y" * 251 + ".avi")).write_bytes(bytes(100) + b"\xff")
    made = audit_clips(data, out, workers=1, fix=tmp_path / "copies")
    verdicts = {row.item: row.verdict for row in made.rows}
    last = str((inner / "last.mp4").relative_to(data))
    good = ["good.mp4", nameless, os.fsdecode(b"\xfe") + "/inner.mp4", "x" * 251 + ".mp4", last]
    assert [name for name, verdict in verdicts.items() if verdict == "ok"] == sorted(good, key=list(verdicts).index)
    for bad in ("nowhere.mp4", "itself.mp4", "pipe.mp4", os.fsdecode(b"\xffbad.avi"), "y" * 251 + ".avi"):
        assert verdicts[bad] == "unreadable", bad
    assert "link" in made.rows[[row.item for row in made.rows].index("nowhere.mp4")].why
    assert rows_of(out).keys() == verdicts.keys()
    str(made).encode(), (out / "audit.csv").read_text(encoding="utf-8"), (out / "audit.md").read_text(encoding="utf-8")
    again = audit_clips(data, out, workers=1, fix=tmp_path / "copies")
    assert again.resumed == len(verdicts)
    (inner / "last.mp4").unlink()
    os.removedirs(inner)


NAMES = [
    "=cmd|' -C calc'!A1.mp4",
    "+1.mp4",
    "-2+3.mp4",
    "@SUM(1).mp4",
    "\t=1.mp4",
    "\uff1d1.mp4",
    "<script>alert(1)<&.mp4",
    "![x](http:x).mp4",
    "[x](javascript:x).mp4",
    "a\n| b | c\n# h.mp4",
    "`x` $y$ ~~z~~.mp4",
    "\x1b[2J\x07.mp4",
    "\u202egpj.mp4",
    "a\\|b.mp4",
    "\u2028x\u0085.mp4",
]


def test_names_are_shown_and_not_run(tmp_path):
    "HTML, links, formulas, line breaks and terminal codes in names of files."
    for name in NAMES:
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name.replace("/", "")).write_text("no video")
    made = audit_clips(tmp_path / "set", tmp_path / "out", workers=1)
    page = (tmp_path / "out" / "audit.md").read_text(encoding="utf-8")
    for text in (page, made._repr_markdown_()):
        assert "<" not in text and "](" not in text.replace("\\](", "")
        assert not any(c in text for c in "\x1b\x07\u202e\u2028\u0085\t")
    table = [line for line in page.splitlines() if "unreadable" in line and line.startswith("|")]
    assert len(table) == len(NAMES)
    for line in table:  # six columns, whatever is escaped
        assert line.replace("\\\\", "").replace("\\|", "").count("|") == 7
    with open(tmp_path / "out" / "audit.csv", newline="", encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\uff1d")) for cell in cells)
    assert not any(c in cell for cell in cells for c in "\n\r\t\x1b")
    assert not any(c in str(made).replace("\n", "") for c in "\x1b\x07\r\u202e")
    held = json.loads((tmp_path / "out" / "quarantine.json").read_text(encoding="utf-8"))["clips"]
    assert sorted(held) == sorted(NAMES)  # for programs, the names as they are


BROKEN = """
import av
def open(*args, **options):
    raise {error}
av.open = open
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "error", ["TypeError(\"open() got an unexpected keyword argument 'x'\")", "ValueError('31 is not a valid Type')"]
)
def test_own_failure_is_no_verdict(error, tmp_path, monkeypatch):
    "A library that does not fit stops the audit, which blames no file; the command's exit code is not 0."
    (tmp_path / "sitecustomize.py").write_text(BROKEN.format(error=error))
    sound(tmp_path / "set" / "good.mp4")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    code = "import sys; from vidprism.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["audit", str(tmp_path / "set"), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr and "audit" in done.stderr
    assert not (tmp_path / "out" / "quarantine.json").exists()


def holed(path):
    "A clip whose picture data has a hole."
    data = bytearray((SAMPLE.parent / "14_spin.mp4").read_bytes())
    at = data.index(b"mdat") + len(data) // 3
    data[at : at + 400] = bytes(400)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


AUDIT = """
import sys
from vidprism.data.audit import audit_clips
made = audit_clips(sys.argv[1], sys.argv[2], fix=sys.argv[3], workers=1)
print(sorted((row.item, row.saved) for row in made.rows))
"""


@pytest.mark.long
@pytest.mark.parametrize("reports", [("one", "two"), ("one", "one")])
def test_two_audits_at_once(reports, tmp_path):
    "Two processes with one folder of copies: both end, each copy is whole, nothing unfinished is left."
    for k in range(4):
        holed(tmp_path / "set" / f"{k}.mp4")
    copies = tmp_path / "copies"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", AUDIT, str(tmp_path / "set"), str(tmp_path / report), str(copies)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for report in reports
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    assert sorted(p.name for p in copies.iterdir()) == [f"{k}.mp4" for k in range(4)]
    for path in copies.iterdir():
        assert clip_info(path).total > 7
        assert oct(path.stat().st_mode & 0o777) == oct(0o666 & ~current_umask())


def test_a_copy_that_another_audit_makes_at_this_moment(tmp_path, monkeypatch):
    "Between the look whether a copy is there and the making of it, another audit made it: it is counted."
    from vidprism.data import audit
    from vidprism.errors import ConfigError

    class Late:
        def call(self, name, *places, timeout, **more):
            if name == "data.audit.salvage":
                raise ConfigError("it is there already")
            assert name == "data.audit._count_frames" and places == (tmp_path / "copy.mp4",)
            return 31

    monkeypatch.setattr(audit, "_called", lambda worker, *call, **more: worker.call(*call, **more))
    assert audit._save_copy(Late(), tmp_path / "film.mp4", tmp_path / "copy.mp4", 5.0) == 31


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_copies_stay_inside(tmp_path):
    "A list's `../../x`, and a link in the folder of copies, write nothing outside of it."
    holed(tmp_path / "set" / "a.mp4")
    holed(tmp_path / "b.mp4")
    holed(tmp_path / "set" / "sub" / "c.mp4")
    (tmp_path / "clips.txt").write_text("a.mp4 0\n../b.mp4 0\nsub/c.mp4 1\n")
    copies, outside = tmp_path / "in" / "copies", tmp_path / "outside"
    copies.mkdir(parents=True)
    outside.mkdir()
    (copies / "sub").symlink_to(outside)
    made = audit_clips(tmp_path / "clips.txt", tmp_path / "out", root=tmp_path / "set", fix=copies, workers=1)
    assert [bool(row.saved) for row in made.rows] == [True, False, False]
    assert all("out of the folder" in row.why for row in made.rows[1:])
    assert not list(outside.iterdir()) and sorted(p.name for p in (tmp_path / "in").iterdir()) == ["copies"]


def test_foreign_report_is_kept(tmp_path):
    "A file of the report's name that no audit wrote is not replaced."
    sound(tmp_path / "set" / "a.mp4")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "audit.csv").write_text("mine")
    with pytest.raises(ConfigError, match="no audit wrote"):
        audit_clips(tmp_path / "set", tmp_path / "out")
    assert (tmp_path / "out" / "audit.csv").read_text() == "mine"


@pytest.mark.long
def test_torn_journal(tmp_path):
    "Junk in the journal costs a second reading, and no row."
    for name in ("a.mp4", "b.mp4"):
        sound(tmp_path / "set" / name)
    made = audit_clips(tmp_path / "set", tmp_path / "out", workers=1)
    journal = tmp_path / "out" / "rows.jsonl"
    line = journal.read_text().splitlines()[0]
    row = json.loads(line)
    junk = ["5", "null", "[" * 10**5, json.dumps(dict(row, why=5)), json.dumps(dict(row, state=None)), line[:30]]
    journal.write_bytes("\n".join([line, *junk]).encode() + b"\xff")
    again = audit_clips(tmp_path / "set", tmp_path / "out", workers=1)
    assert [row.item for row in again.rows] == [row.item for row in made.rows]
    assert {row["item"] for row in map(json.loads, journal.read_text().splitlines())} == {"a.mp4", "b.mp4"}


def test_unknown_things_are_not_opened(tmp_path):
    "A pipe would hold its reader for ever; a device has no end."
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", "/dev/zero"):
        with pytest.raises(ClipError, match="neither a file nor a folder"):
            read_clip(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime > 0
