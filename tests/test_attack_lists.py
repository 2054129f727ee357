"""Attacks on lists of clips: labels beyond measure, names that break a CSV or a spreadsheet, broken files, odd trees.

A list is read as it was written, or refused in one sentence.
"""

import csv
import json
import os
import pytest
import random
import re
import resource
from pathlib import Path
from vidprism.data.cliplist import ClipList, label_map_hash
from vidprism.data.manifests import clip_names, parse, read_class_names
from vidprism.data.splits import hashed, k_shot, read_list
from vidprism.errors import ConfigError


@pytest.fixture
def two_clips(tmp_path):
    "A folder with two empty clips."
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    return tmp_path


def refusal(action) -> str:
    "The one sentence with which something is refused."
    with pytest.raises(ConfigError) as error:
        action()
    assert str(error.value).endswith(".")
    return str(error.value)


LISTS = {"l.txt": "a.mp4 0\nb.mp4 {}\n", "l.csv": "path,label\na.mp4,0\nb.mp4,{}\n", "f.txt": "a.mp4 9 0\nb.mp4 9 {}\n"}
FORMATS = {"l.txt": "list", "l.csv": "csv", "f.txt": "frame-list"}


@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("label", (10_000, 10**6, 10**9, 10**12, 10**18, 10**40))
def test_large_label(two_clips, form, label):
    "A large label is not as many classes: no memory is taken, and the sentence names it."
    path = two_clips / form
    path.write_text(LISTS[form].format(label))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = refusal(lambda: ClipList.from_any(path, FORMATS[form], root=two_clips))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # kilobytes
    shown = f"label {label}" if label < 10**18 else f"label of {len(str(label))} digits"
    assert shown in text
    assert "line 3" in text or "line 2" in text
    assert "2 clips" in text


def test_endless_label(two_clips):
    "More digits than Python turns into a number."
    for form, text in LISTS.items():
        (two_clips / form).write_text(text.format("9" * 5000))
        refusal(lambda form=form: ClipList.from_any(two_clips / form, FORMATS[form]))


def test_good_labels(two_clips):
    "Labels with gaps, up to the bound, are classes by number; a file of names allows any number."
    path = two_clips / "l.txt"
    path.write_text("a.mp4 3\nb.mp4 9999\n")
    found = ClipList.from_any(path)
    assert (len(found.classes), found.labels, found.classes[9999]) == (10_000, [3, 9999], "9999")
    path.write_text("a.mp4 7\nb.mp4 1000000000\n")
    (two_clips / "labels.csv").write_text("id,name\n7,walk\n1000000000,run\n")
    named = ClipList.from_any(path)
    assert (named.classes, named.labels) == (["walk", "run"], [0, 1])


FORMULAS = ["=1+1", "=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(1)", '=HYPERLINK("x","y")', "=", "-", "\t=1", " =1"]
WORDS = [
    *FORMULAS,
    "a,b",
    'a"b',
    "a\nb",
    "a\r\nb",
    "a\rb",
    "'=1'",
    "'a'",
    "''",
    "a;b",
    "a\tb",
    " a",
    "a ",
    "a\u2028b",
    "\u00e9t\u00e9",
    "e\u0301",
    "\ufeffa",
    "#a",
    "1",
    "007",
    "it's",
    "TaiChi",
    "tai_chi",
    "tai chi",
    b"\xff\xfe",
    b"\xe9t\xe9",
]


def cells_of(path):
    "The cells of a CSV as a spreadsheet sees them."
    text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    return [cell for row in csv.reader(text.splitlines(keepends=True)) for cell in row]


def assert_same(a: ClipList, b: ClipList):
    "Two lists of the same clips and classes."
    assert b.items == a.items
    assert [os.path.realpath(path) for path in b.paths] == [os.path.realpath(path) for path in a.paths]
    assert (b.labels, b.classes, b.parts, b.map_hash) == (a.labels, a.classes, a.parts, a.map_hash)


@pytest.mark.parametrize("word", WORDS, ids=ascii)
def test_names_round_trip(tmp_path, word):
    "A folder, a clip and a class of any name are read again as they were; no cell is a formula."
    word = os.fsdecode(word)
    for name in (f"{word}/a.mp4", f"walk/{word}.mp4", f"{word}b/c{word}.mp4", "walk/z.mp4"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "data" / f"{word}.mp4").touch()
    clips = ClipList.from_any(tmp_path / "data", "folders")
    saved = clips.save(tmp_path / "list.csv")
    assert_same(clips, ClipList.from_any(saved, root=tmp_path / "data"))
    for file in (saved, tmp_path / "list.classes.csv"):
        assert not [cell for cell in cells_of(file) if re.match(r"[=+\-@\t\r]", cell)]
    flat = ClipList(
        [f"{word}.mp4"], [tmp_path / "data" / f"{word}.mp4"], [1], ["x", word], [word], root=tmp_path / "data"
    )
    read = ClipList.from_any(flat.save(tmp_path / "flat.csv"), root=tmp_path / "data")
    assert (read.items, read.labels, read.classes) == (flat.items, flat.labels, flat.classes)


def test_random_names_round_trip(tmp_path):
    "Names of random letters, among them all that mean something to a CSV, a path or a spreadsheet."
    generator = random.Random(3)
    letters = "ab'\"=+-@,;|\t\n\r #.%\\\u00e9\udcff_AB01~$*"
    for k in range(40):
        root = tmp_path / str(k)
        for _ in range(6):
            parts = ["".join(generator.choices(letters, k=generator.randint(1, 8))) for _ in range(2)]
            parts = [part for part in parts if part.strip(". ") and not part.startswith(".")]
            if len(parts) == 2:
                (root / parts[0]).mkdir(parents=True, exist_ok=True)
                (root / parts[0] / f"{parts[1]}.mp4").touch()
        if not root.exists():
            continue
        clips = ClipList.from_any(root, "folders")
        assert_same(clips, ClipList.from_any(clips.save(tmp_path / f"{k}.csv"), root=root))


def test_classes_without_clips_round_trip(two_clips):
    "Classes without a clip keep their places, and labels are not moved by names of folders."
    (two_clips / "walk").mkdir()
    (two_clips / "walk" / "c.mp4").touch()
    clips = ClipList(
        ["walk/c.mp4"], [two_clips / "walk" / "c.mp4"], [1], ["walk", "run", "jump"], ["test"], root=two_clips
    )
    read = ClipList.from_any(clips.save(two_clips / "l.csv"), root=two_clips)
    assert (read.labels, read.classes, read.parts) == ([1], ["walk", "run", "jump"], ["test"])


def test_good_lists_are_written_as_before(two_clips):
    "A list of ordinary names has the same bytes as ever."
    names = ["walk", "push-up", "rock 'n' roll"]
    clips = ClipList(["a.mp4"], [two_clips / "a.mp4"], [1], names, ["train"], root=two_clips)
    saved = clips.save(two_clips / "l.csv")
    assert saved.read_bytes() == b"path,label,class,part\r\na.mp4,1,push-up,train\r\n"
    expected = b"id,name\r\n0,walk\r\n1,push-up\r\n2,rock 'n' roll\r\n"
    assert (two_clips / "l.classes.csv").read_bytes() == expected


def test_half_a_character(two_clips):
    "A name that no file can have is refused; an older list stays."
    clips = ClipList(["a.mp4"], [two_clips / "a.mp4"], [0], ["walk"], [""], root=two_clips)
    saved = clips.save(two_clips / "l.csv")
    before = saved.read_bytes()
    wild = ClipList(["a.mp4"], [two_clips / "a.mp4"], [0], ["x\ud800"], [""], root=two_clips)
    refusal(lambda: wild.save(two_clips / "l.csv"))
    assert saved.read_bytes() == before
    assert len(label_map_hash(wild.classes)) == 12


def test_hash_of_any_name():
    "Draws work with names that are not UTF-8; others keep their hash."
    assert len(hashed(0, "\udcff", "\ud800")) == 64
    assert hashed(0, "walk", "\u00e9.mp4") == "cda1027d7a15032116b53b27b03ea3524ce2b7a5313ade0d728bd0f6dc64f460"
    assert k_shot([0, 0], 1, 0, ["\udcff.mp4", "a.mp4"]) in ([0], [1])


SEEDS = {
    "l.txt": b"a.mp4 0\nb.mp4 1\n",
    "f.txt": b"a.mp4 12 0\nb.mp4 30 1\n",
    "l.csv": b"path,label,class,split,frames\na.mp4,0,walk,train,12\nb.mp4,1,run,test,30\n",
    "s.csv": b"path;label\na.mp4;0\n\"b.mp4\";1\n",
    "k.csv": b"label,youtube_id,time_start,time_end,split\nwalk,aaaaaaaaaaa,1,11,train\n",
    "trainlist01.txt": b"walk/v_walk_g01_c01.avi 1\n",
    "run_test_split1.txt": b"a.avi 1\nb.avi 2\n",
    "validation.json": b'[{"id": "1", "template": "walk [something]"}, {"id": 2, "template": "run"}]',
    "labels.json": b'{"walk something": "0", "run": "1"}',
    "labels.csv": b"id,name\n0,walk\n1,run\n",
    "classInd.txt": b"1 walk\n2 run\n",
    "own.classes.csv": b"id,name\n0,walk\n1,'=run'\n",
}
PIECES = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\n", b"\r", b",", b";", b"\t", b'"', b"'", b" ", b"/", b"../"]
PIECES += [b"9" * 5000, b"1e9", b"-1", b"1.2.3", b"\xc2\xb2", b"\xd9\xa3", b"\xed\xa0\x80"]
PIECES += [b"[" * 3000, b"{", b"}", b"null", b"NaN", b"true"]


@pytest.mark.parametrize("name", SEEDS)
def test_wild_lists(two_clips, name):
    "Lists and files of names, cut and spliced: read, or refused by the kit's own error."
    generator = random.Random(name)
    for other in ("classInd.txt", "labels.json"):
        (two_clips / other).write_bytes(SEEDS[other])
    for _ in range(100):
        data = bytearray(SEEDS[name])
        for _ in range(generator.randint(1, 4)):
            start = generator.randrange(len(data) + 1)
            data[start : start + generator.choice((0, 0, 1, 5, 30))] = generator.choice(PIECES)
        (two_clips / name).write_bytes(data)
        for action in (
            lambda: ClipList.from_any(two_clips / name, root=two_clips),
            lambda: read_class_names(two_clips / name),
        ):
            try:
                action()
            except ConfigError as error:
                assert len(str(error)) < 20_000


BROKEN = [b"", b"null", b"5", b"[]", b"{}", b'{"items": 5}', b'{"items": [5]}', b"\xff", b"[" * 10**5]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: ascii(text[:20]))
def test_broken_draws_and_quarantine(two_clips, text):
    "A malformed file of drawn clips or of a quarantine is refused in one sentence."
    path = two_clips / "kept.json"
    path.write_bytes(text)
    assert "kept.json" in refusal(lambda: read_list(path, ["a.mp4"]))
    (two_clips / "l.txt").write_text("a.mp4 0\nb.mp4 1\n")
    clips = ClipList.from_any(two_clips / "l.txt")
    path.write_bytes(text.replace(b"items", b"clips"))
    assert "kept.json" in refusal(lambda: clips.without(path))
    for wild in ({"root": 5, "clips": {}}, {"clips": ["a.mp4"]}):
        path.write_text(json.dumps(wild))
        refusal(lambda: clips.without(path))


def test_odd_tree(tmp_path):
    "Loops, links that lead nowhere, a link to itself and pipes do not stop the walk, nor list a clip twice."
    home = tmp_path / "data"
    (home / "walk" / "in").mkdir(parents=True)
    (home / "walk" / "in" / "a.mp4").touch()
    (home / "walk" / "up").symlink_to(home)
    (home / "walk" / "here").symlink_to(".")
    (home / "walk" / "in" / "back").symlink_to(home / "walk")
    (home / "walk" / "self").symlink_to("self")
    (home / "self").symlink_to("self")
    (home / "nowhere").symlink_to("missing")
    (home / "run").mkdir()
    (home / "run" / "b.mp4").touch()
    (home / "class").symlink_to(home / "run")
    assert clip_names(home / "walk") == ["in/a.mp4"]
    listing = parse(home)
    assert [row.name for row in listing.rows] == ["class/b.mp4", "run/b.mp4", "walk/in/a.mp4"]
    (home / "l.txt").write_text("b.mp4 0\n")
    clips = ClipList.from_any(home / "l.txt")
    assert clips.items == ["b.mp4"] and Path(clips.root).resolve() == (home / "run").resolve()


@pytest.fixture
def deep(tmp_path):
    "A tree of 1,500 folders in each other, with a clip in the last. It is removed without recursion."
    folders = [str(tmp_path / "data" / "walk")]
    os.makedirs(folders[0])
    for _ in range(1500):
        folders.append(folders[-1] + "/n")
        os.mkdir(folders[-1])
    Path(folders[-1] + "/a.mp4").touch()
    yield tmp_path / "data"
    os.unlink(folders[-1] + "/a.mp4")
    for folder in reversed(folders):
        os.rmdir(folder)


def test_deep_tree(deep):
    "A tree deeper than Python's stack."
    clips = ClipList.from_any(deep)
    assert clips.items == ["walk/" + "n/" * 1500 + "a.mp4"]
    assert clips.paths[0].exists()
