"""Every supported form, written as its authors write it, oddities included.

What is checked: label map, counts, parts, files; and how each form fails."""

import pytest
from vidprism.data.cliplist import ClipList, label_map_hash
from vidprism.errors import ConfigError

BOM, CRLF = "\ufeff", "\r\n"


def write(path, *lines, end="\n", mark="", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((mark + end.join(lines) + end).encode(encoding))
    return path


def touch(root, *names):
    for name in names:
        write(root / name, name)


def summary(clips):
    return len(clips), clips.classes, clips.counts()


ENDS = pytest.mark.parametrize(
    "end,mark,tail",
    [("\n", "", ()), (CRLF, "", ("",)), (CRLF, BOM, ("", "  "))],
    ids=["unix", "windows", "windows_bom"],
)


@ENDS
def test_list_with_labels_csv(tmp_path, end, mark, tail):
    "MoTE: `path label` and labels.csv; spaces, quotes and non-ASCII in names."
    touch(tmp_path / "data", "air drumming/é 1.mp4", "air drumming/b.mp4", "été/c.mp4", "x/it's.mp4")
    write(
        tmp_path / "lists" / "ucf101" / "train.txt",
        "air drumming/é 1.mp4 0",
        '"air drumming/b.mp4" 0',
        "été/c.mp4 2",
        "x/it's.mp4 1",
        "gone/d.mp4 2",
        *tail,
        end=end,
        mark=mark,
    )
    write(
        tmp_path / "lists" / "ucf101" / "ucf_labels.csv",
        "id,name",
        "0,Air Drumming",
        '1,"dance, slow"',
        "2,Été",
        "3,YoYo",
        *tail,
        end=end,
        mark=mark,
    )
    c = ClipList.from_any(tmp_path / "lists" / "ucf101" / "train.txt", root=tmp_path / "data")
    assert summary(c) == (4, ["air drumming", "dance, slow", "été", "yo yo"], [2, 1, 1, 0])
    assert c.form == "list"
    assert c.missing == ("gone/d.mp4",)
    assert c.paths[0].read_text().strip() == "air drumming/é 1.mp4"
    assert c.items[1] == "air drumming/b.mp4"
    r = c.report()
    assert (r.expected, r.clips, r.fewest, r.most, r.empty) == (
        5,
        4,
        ("dance, slow", 1),
        ("air drumming", 2),
        ["yo yo"],
    )
    assert ClipList.from_any(tmp_path / "lists" / "ucf101" / "train.txt").root == tmp_path / "data"


@ENDS
def test_frame_list(tmp_path, end, mark, tail):
    "Text4Vis: `path frames label` of folders of pictures, hmdb51_labels.csv one folder up."
    for v in ("brush_hair/a_brush_hair_0", "clap/b c_clap_1"):
        touch(tmp_path / "frames" / v, "img_00001.jpg", "img_00002.jpg")
    write(
        tmp_path / "lists" / "hmdb51" / "val_rgb_split_1.txt",
        "brush_hair/a_brush_hair_0 163 0",
        "clap/b c_clap_1 87 1",
        *tail,
        end=end,
        mark=mark,
    )
    write(tmp_path / "lists" / "hmdb51_labels.csv", "id,name", "0,brush hair", "1,clap", end=end, mark=mark)
    c = ClipList.from_any(tmp_path / "lists" / "hmdb51" / "val_rgb_split_1.txt", root=tmp_path / "frames")
    assert summary(c) == (2, ["brush hair", "clap"], [1, 1])
    assert c.form == "frame-list"
    assert c.frames == (163, 87)
    assert c.paths[1].is_dir()


@ENDS
def test_csv(tmp_path, end, mark, tail):
    "A header, quotes, commas in quoted names, parts."
    touch(tmp_path, "a, b.mp4", "ü.mp4", "c.mp4")
    path = write(
        tmp_path / "set.csv",
        "video_path,label,split",
        '"a, b.mp4","wave, twice",train',
        "ü.mp4,brush_hair,validation",
        '"c.mp4","brush_hair","test"',
        *tail[:1],
        end=end,
        mark=mark,
    )
    c = ClipList.from_any(path)
    assert summary(c) == (3, ["brush hair", "wave, twice"], [2, 1])
    assert c.parts == ["train", "val", "test"]
    assert c.form == "csv"
    assert not c.missing
    assert len(ClipList.from_any(path, part="val")) == 1


def test_csv_with_numbers_and_names(tmp_path):
    "Semicolons, 1-based numbers, a column of names."
    touch(tmp_path, "a.mp4", "b.mp4")
    c = ClipList.from_any(write(tmp_path / "set.csv", "file;class_id;class_name", "a.mp4;1;brush_hair", "b.mp4;2;YoYo"))
    assert summary(c) == (2, ["brush hair", "yo yo"], [1, 1]) and c.labels == [0, 1]


@ENDS
def test_ucf101(tmp_path, end, mark, tail):
    "1-based labels, a test list without labels, a folder that is written otherwise than its class."
    lists = tmp_path / "ucfTrainTestlist"
    write(lists / "classInd.txt", "1 ApplyEyeMakeup", "2 HandStandPushups", "3 YoYo", *tail, end=end, mark=mark)
    train = [
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi",
        "HandstandPushups/v_HandStandPushups_g08_c01.avi",
        "YoYo/v_YoYo_g25_c05.avi",
    ]
    test = ["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "HandstandPushups/v_HandStandPushups_g01_c01.avi"]
    write(lists / "trainlist01.txt", *(f"{n} {l}" for n, l in zip(train, (1, 1, 2, 3))), *tail, end=end, mark=mark)
    write(lists / "testlist01.txt", *test, *tail, end=end, mark=mark)
    write(lists / "trainlist02.txt", f"{train[3]} 3", end=end)
    write(lists / "testlist02.txt", train[0], end=end)
    touch(tmp_path / "UCF-101", *(n for n in train + test if "g25" not in n))
    for path in (tmp_path, lists):  # the folder above, or the lists themselves; the videos are found
        c = ClipList.from_any(path)
        assert summary(c) == (5, ["apply eye makeup", "hand stand pushups", "yo yo"], [3, 2, 0]) and c.form == "ucf101"
        assert c.part("train").counts() == [2, 1, 0]
        assert c.part("test").counts() == [1, 1, 0]
        assert c.missing == (train[3],)
    assert [len(s) for s in ClipList.from_any(tmp_path).sides()] == [3, 2]
    assert c.sources()[0] == "ApplyEyeMakeup_g08"
    assert ClipList.from_any(lists / "testlist01.txt").parts == ["test", "test"]
    second = ClipList.from_any(tmp_path, official_split=2)
    assert second.items == [train[0]]
    assert second.parts == ["test"]
    (tmp_path / "UCF-101" / "flat").mkdir()
    assert c.map_hash == label_map_hash(["apply eye makeup", "hand stand pushups", "yo yo"])


def test_ucf101_flat_and_in_lower_case(tmp_path):
    "Videos in no class folder, with another suffix."
    write(tmp_path / "classInd.txt", "1 YoYo")
    write(tmp_path / "trainlist01.txt", "YoYo/v_YoYo_g01_c01.avi 1", "YoYo/v_YoYo_g02_c01.avi 1")
    touch(tmp_path / "videos", "v_YoYo_g01_c01.avi", "v_yoyo_g02_c01.mp4")
    assert len(ClipList.from_any(tmp_path)) == 2


def test_a_list_numbered_from_0_beside_the_old_classind(tmp_path):
    "MoTE renumbers UCF-101's lists from 0; classInd.txt still counts from 1."
    touch(tmp_path, "ApplyEyeMakeup/a.avi", "YoYo/b.avi")
    write(tmp_path / "classInd.txt", "1 ApplyEyeMakeup", "2 YoYo")
    for name, labels in (("zero.txt", (0, 1)), ("one.txt", (1, 2))):
        path = write(tmp_path / name, f"ApplyEyeMakeup/a.avi {labels[0]}", f"YoYo/b.avi {labels[1]}")
        c = ClipList.from_any(path, format="list")
        assert c.labels == [0, 1] and c.classes == ["apply eye makeup", "yo yo"]
    c = ClipList.from_any(write(tmp_path / "few.txt", "YoYo/b.avi 1"))  # alone it may be either: the folder tells
    assert c.classes[c.labels[0]] == "yo yo"


@ENDS
def test_hmdb51(tmp_path, end, mark, tail):
    "Flags 0, 1, 2 with a space behind; names with # and brackets; three splits."
    lists = tmp_path / "testTrainMulti_7030_splits"
    brush = [
        "April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "Aussie_II_brush_hair_u_nm_np1_ri_med_3.avi",
        "third_brush_hair_u_nm_np1_ba_goo_1.avi",
    ]
    chew = ["#2_Gum_chew_h_nm_np1_fr_med_0.avi", "Blowing_(Bubbles)!_chew_h_nm_np1_fr_goo_2.avi"]
    write(
        lists / "brush_hair_test_split1.txt",
        f"{brush[0]} 1 ",
        f"{brush[1]} 2 ",
        f"{brush[2]} 0 ",
        *tail,
        end=end,
        mark=mark,
    )
    write(lists / "chew_test_split1.txt", f"{chew[0]} 1 ", f"{chew[1]} 2 ", *tail, end=end, mark=mark)
    write(lists / "chew_test_split2.txt", f"{chew[0]} 2 ", end=end)
    touch(tmp_path / "hmdb51_org", *(f"brush_hair/{n}" for n in brush), *(f"chew/{n}" for n in chew))
    for path in (tmp_path, lists, lists / "chew_test_split1.txt"):
        c = ClipList.from_any(path)
        assert summary(c) == (4, ["brush hair", "chew"], [2, 2])
        assert c.form == "hmdb51"
        assert [len(s) for s in c.sides()] == [2, 2]
        assert not c.missing
    assert any("unused clips (flag 0): 1." in n for n in c.notes) and c.sources()[0] == "April_09"
    assert ClipList.from_any(tmp_path, official_split=2).parts == ["test"]


@ENDS
@pytest.mark.parametrize(
    "place",
    [
        "eating cake/{f}",
        "eating_cake/{f}",
        "{f}",
        "val/eating_cake/{f}",
        "val/{f}",
        "eating cake/{v}.mp4",
        "val/{v}.mp4",
    ],
)
def test_kinetics(tmp_path, end, mark, tail, place):
    "The CSV of Kinetics, with and without class folders and seconds in the file's name."
    video, other = "0wR5jVB-WPk", "-UJgyiWe500"
    touch(tmp_path / "videos", place.format(f=f"{video}_000417_000427.mp4", v=video))
    path = write(
        tmp_path / "annotations" / "val.csv",
        "label,youtube_id,time_start,time_end,split,is_cc",
        f"eating cake,{video},417,427,val,0",
        f'"cooking, slow",{other},0,10,val,0',
        *tail[:1],
        end=end,
        mark=mark,
    )
    c = ClipList.from_any(path)
    assert summary(c) == (1, ["cooking, slow", "eating cake"], [0, 1])
    assert c.form == "kinetics"
    assert c.parts == ["val"]
    assert c.items == [f"eating cake/{video}_000417_000427.mp4"]
    assert c.missing == (f"cooking, slow/{other}_000000_000010.mp4",)
    assert c.sources() == [video]


@ENDS
def test_ssv2(tmp_path, end, mark, tail):
    "Templates with [something]; a label map of text numbers, not in order; left and right are never mirrored."
    write(
        tmp_path / "labels" / "something-something-v2-labels.json",
        '{"Pushing something from right to left":"2",',
        '"Holding something":"0",',
        '"Pushing something from left to right":"1"}',
        *tail,
        end=end,
        mark=mark,
    )
    rows = [
        '{"id":"78687","label":"holding a café","template":"Holding [something]","placeholders":["a café"]},',
        '{"id":"42326","label":"pushing","template":"Pushing [something] from left to right"}]',
    ]
    write(tmp_path / "labels" / "something-something-v2-train.json", "[", *rows, *tail, end=end, mark=mark)
    write(
        tmp_path / "labels" / "something-something-v2-validation.json",
        '[{"id":"3","template":"Pushing [something] from right to left"},{"id":"4","template":"Holding [something]"}]',
        end=end,
    )
    write(tmp_path / "labels" / "something-something-v2-test.json", '[{"id":"9"}]')
    touch(tmp_path / "20bn-something-something-v2", "78687.webm", "42326.webm", "3.webm")
    c = ClipList.from_any(tmp_path / "labels")
    assert summary(c) == (
        3,
        ["holding something", "pushing something from left to right", "pushing something from right to left"],
        [1, 1, 1],
    )
    assert c.form == "ssv2"
    assert c.labels == [0, 1, 2]
    assert c.parts == ["train", "train", "val"]
    assert c.missing == ("4.webm",)
    from vidprism.data.augment import directional

    assert directional(c.classes) == {1, 2}


def test_folders(tmp_path):
    "Class folders, with parts above or not, with clips that are folders of pictures."
    touch(
        tmp_path / "a",
        "brush_hair/x.avi",
        "ApplyEyeMakeup/y 1.MP4",
        "ApplyEyeMakeup/z/img_00001.jpg",
        "ApplyEyeMakeup/z/img_00002.jpg",
    )
    c = ClipList.from_any(tmp_path / "a")
    assert summary(c) == (3, ["apply eye makeup", "brush hair"], [2, 1])
    assert c.items == ["ApplyEyeMakeup/y 1.MP4", "ApplyEyeMakeup/z", "brush_hair/x.avi"]
    touch(tmp_path / "b", "train/clap/1.mp4", "train/wave/2.mp4", "val/clap/3.mp4")
    c = ClipList.from_any(tmp_path / "b")
    assert summary(c) == (3, ["clap", "wave"], [2, 1])
    assert c.parts == ["train", "train", "val"]
    assert [len(s) for s in c.sides()] == [2, 1]
    touch(tmp_path / "c", *(f"clap/v{v}/img_{n:05d}.jpg" for v in range(3) for n in range(1, 90)))
    c = ClipList.from_any(tmp_path / "c")
    assert c.form == "frames" and summary(c) == (3, ["clap"], [3])


def test_duplicates_copies_and_conflicts(tmp_path):
    "The same path twice, the same content under two names, one clip under two classes."
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "c.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    path = write(tmp_path / "l.txt", "a.mp4 0", "b.mp4 1", "a.mp4 0", "./b.mp4 0", "c.mp4 1")
    r = ClipList.from_any(path, classes=["clap", "wave"]).report(content=True)
    assert r.duplicates == [["a.mp4", "a.mp4"], ["b.mp4", "./b.mp4"]]
    assert r.conflicts == [["b.mp4", "./b.mp4"]]
    assert r.copies == [["a.mp4", "c.mp4"]]
    assert ClipList.from_any(path, classes=["clap", "wave"]).report().copies is None


def test_what_does_not_fit_names_file_and_line(tmp_path):
    "One sentence, with the file and the line."
    touch(tmp_path, "a.mp4", "b.mp4", "brush_hair/c.mp4", "clap/d.mp4")
    names = write(tmp_path / "names.txt", "brush hair", "clap")
    cases = {
        ("a.mp4 0", "", "b.mp4"): r"l\.txt, line 3: 'b\.mp4' is not `path label`",
        ("a.mp4 0", "b.mp4 7"): r"l\.txt, line 2: the label 7 is not among the 2 classes of names\.txt \(0 to 1\)",
        ("a.mp4 0", "b.mp4 1", "a.mp4 two"): r"l\.txt, line 3: the label 'two' is a name",
        ("brush_hair/c.mp4 1", "clap/d.mp4 0"): (
            r"l\.txt, line 1: brush_hair/c\.mp4 has the label 1, which is not 'brush_hair' in names\.txt"
        ),
        ("a.mp4 clap", "b.mp4 jump"): r"l\.txt, line 2: the class 'jump' is not in names\.txt",
        ("a.mp4 -1",): r"line 1: the label -1",
    }
    for lines, says in cases.items():
        with pytest.raises(ConfigError, match=says) as e:
            ClipList.from_any(write(tmp_path / "l.txt", *lines), root=tmp_path, classes=names)
        assert "\n" not in str(e.value)
    says = (
        r"None of the 1 clips in .*l\.txt exists; the first was expected at .*x\.mp4: "
        r"set root to their folder"
    )
    alone = tmp_path / "a" / "b" / "c"  # a root is guessed from the two folders above, too
    with pytest.raises(ConfigError, match=says):
        ClipList.from_any(write(alone / "l.txt", "x.mp4 0"))
    with pytest.raises(ConfigError, match="format must be one of folders, frames"):
        ClipList.from_any(tmp_path, format="ucf")
    assert ClipList.from_any(tmp_path, format="folders").classes == ["brush hair", "clap"]


def test_the_same_map_from_every_form(tmp_path):
    "Folders, a list, a CSV and a saved list agree on the label map and the draws."
    names = [f"{c}/{c}_{k}.avi" for c in ("brush_hair", "clap", "golf") for k in range(4)]
    touch(tmp_path / "v", *names)
    order = {"brush_hair": 0, "clap": 1, "golf": 2}
    labels = {n: order[n.split("/")[0]] for n in names}
    folders = ClipList.from_any(tmp_path / "v")
    files = [
        write(tmp_path / "l.txt", *(f"{n} {labels[n]}" for n in reversed(names))),
        write(tmp_path / "c.csv", "path,label", *(f"{n},{n.split('/')[0]}" for n in names)),
        folders.save(tmp_path / "kept.csv"),
    ]
    forms = [folders, *(ClipList.from_any(file, root=tmp_path / "v") for file in files)]
    assert len({c.map_hash for c in forms}) == 1
    assert len({tuple(c.k_shot(2, 5).items) for c in forms}) == 1
    assert {tuple(sorted(zip(c.items, c.labels))) for c in forms} == {tuple(sorted(labels.items()))}


@pytest.mark.parametrize("form", ["frames", "frame-list"])
def test_frame_folders_are_read(tmp_path, form):
    """Folders of img_00001.jpg, by folder or by list, become frames in the order of their numbers.

    The audit reads them, too."""
    import numpy as np
    from PIL import Image
    from vidprism.data.audit import audit_clips
    from vidprism.data.dataset import ClipDataset

    for c, name in enumerate(("clap/v 1", "wave/v2")):
        (tmp_path / "f" / name).mkdir(parents=True)
        for k in range(12):
            grey = np.full((48, 48, 3), 20 * k + c, np.uint8)
            Image.fromarray(grey).save(tmp_path / "f" / name / f"img_{k + 1:05d}.png")
    write(tmp_path / "l.txt", "clap/v 1 12 0", "wave/v2 12 1")
    clips = ClipList.from_any(tmp_path / "f" if form == "frames" else tmp_path / "l.txt")
    assert clips.form == form and clips.classes == ["clap", "wave"]
    x, y = ClipDataset(clips, num_frames=6, size=48)[1]
    assert y == 1
    assert x[:, 0, 0, 0].tolist() == [20 * k + 1 for k in (1, 3, 5, 7, 9, 11)]
    assert all((f == f[0, 0, 0]).all() for f in x)
    if form == "frame-list":
        (tmp_path / "f" / "wave" / "v2" / "img_00012.png").unlink()
        rows = audit_clips(clips, tmp_path / "report", workers=1).rows
        assert [(r.verdict, r.why, r.decoded, r.form) for r in rows] == [
            ("ok", "", 12, "images"),
            ("odd", "the list promises 12 frames, but it has 11", 11, "images"),
        ]


def write_official(lists, data, names, tests):
    "Three official splits of two classes, as UCF-101 or HMDB-51 writes them; `tests` are the test clips of each."
    for n, test in tests.items():
        if data == "ucf101":
            train = [name for name in names if name not in test]
            write(lists / f"trainlist0{n}.txt", *(f"{name} {1 + name.startswith('YoYo')}" for name in train))
            write(lists / f"testlist0{n}.txt", *test)
            continue
        for c in ("TaiChi", "YoYo"):
            flags = {name.split("/")[1]: 2 if name in test else 1 for name in names if name.startswith(c)}
            write(lists / f"{c}_test_split{n}.txt", *(f"{file} {flag} " for file, flag in flags.items()))
    if data == "ucf101":
        write(lists / "classInd.txt", "1 TaiChi", "2 YoYo")


@pytest.mark.parametrize("data", ["ucf101", "hmdb51"])
def test_zero_shot_over_the_official_splits(tmp_path, data):
    "Three lists of one data set, read by number: zero-shot on the test side of each, mean and sample deviation."
    import statistics
    from vidprism.data.clips import sample_clips
    from vidprism.encoders.factory import create_encoder
    from vidprism.evaluation.benchmark import clip_bench, prompts
    from vidprism.evaluation.metrics import measure, view_logits
    from vidprism.evaluation.protocols import over_splits, zero_shot
    from vidprism.heads.base import create_head

    names = [f"{c}/v_{c}_g0{g}_c01.avi" for c in ("TaiChi", "YoYo") for g in range(3)]
    for name, path in zip(names, sample_clips()):
        (tmp_path / "videos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "videos" / name).symlink_to(path)
    # split 1 tests one clip, 2 and 3 two
    tests = {n: [name for name in names if f"_g0{n - 1}_" in name][:n] for n in (1, 2, 3)}
    write_official(tmp_path / "lists", data, names, tests)
    encoder = create_encoder("mini")

    def bench(n):
        train, test = ClipList.from_any(tmp_path, official_split=n).sides()
        assert sorted(test.items) == sorted(tests[n])
        assert len(train) == 6 - len(tests[n])
        sides = [list(zip(side.paths, side.labels)) for side in (train, test)]
        return clip_bench(encoder, *sides, test.classes, num_frames=4, templates="name")

    head = create_head("mean", encoder.dim, 2, 4, text=prompts(encoder, ["tai chi", "yo yo"], "name"))
    found = over_splits(lambda n: zero_shot(head, bench(n)))
    tops = []
    for b in map(bench, (1, 2, 3)):
        logits = view_logits(head, b.test.features, text=b.text)
        tops.append(measure(logits, b.test.labels).top1)
    assert [r["top1"] for r in found.runs] == tops
    assert found.top1 == dict(mean=statistics.mean(tops), std=statistics.stdev(tops), n=3)
    assert found.record["official_splits"] == [1, 2, 3]
    assert [r["clips"]["test"] for r in found.runs] == [1, 2, 2]
    with pytest.raises(ConfigError, match="must be 1, 2 or 3, not 4"):
        bench(4)
