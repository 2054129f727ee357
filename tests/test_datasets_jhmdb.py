"The data rooms on 650 real AVIs and on odd files; each test skips by name where they are missing."

import json
import os
import pytest
import shutil
import torch
from real import shared
from vidprism.data.audit import audit_clips
from vidprism.data.augment import Augment, directional
from vidprism.data.cliplist import ClipList, content_hash
from vidprism.data.dataset import ClipDataset


def test_folders_and_list_agree():
    "The two forms of one data set: the same clips, labels, map, sources and draws."
    a, b = ClipList.from_any(shared("jhmdb21")), ClipList.from_any(shared("jhmdb21", "clips.txt"))
    assert (a.form, b.form) == ("folders", "list")
    assert len(a) == len(b) == 650
    assert len(a.classes) == 21
    assert a.classes == b.classes
    assert a.map_hash == b.map_hash
    assert dict(zip(a.items, a.labels)) == dict(zip(b.items, b.labels))
    assert a.classes[0] == "brush hair"
    assert b.notes == ("Class names come from classes.txt.",)
    assert a.k_shot(4, 1).items == b.k_shot(4, 1).items
    assert len(set(a.sources())) == 242 and not directional(a.classes)


def test_report():
    "Counts against the folders' own."
    root = shared("jhmdb21")
    counts = {d.name.replace("_", " "): len(list(d.glob("*.avi"))) for d in root.iterdir() if d.is_dir()}
    c = ClipList.from_any(root)
    r = c.report(content=True)
    assert dict(zip(c.classes, c.counts())) == counts
    assert r.fewest[1] == min(counts.values())
    assert r.most[1] == max(counts.values())
    assert (r.clips, r.expected, r.missing, r.duplicates, r.conflicts, r.empty) == (650, 650, (), [], [], [])
    slow = {}
    for item, path in zip(c.items, c.paths):
        slow.setdefault(content_hash(path), []).append(item)
    assert sorted(map(sorted, r.copies)) == sorted(sorted(v) for v in slow.values() if len(v) > 1)


def test_split_by_source(tmp_path):
    "No source on both sides, every class on both; saved and read again."
    train, test = ClipList.from_any(shared("jhmdb21")).sides(seed=0)
    assert len(train) + len(test) == 650
    assert not set(train.sources()) & set(test.sources())
    assert min(train.counts()) > 0
    assert min(test.counts()) > 0
    again = ClipList.from_any(train.save(tmp_path / "train.csv"), root=shared("jhmdb21"))
    assert again.items == train.items and again.labels == train.labels and again.map_hash == train.map_hash


def test_loading():
    "Batches of real clips: the same with two processes, another view in another epoch."
    clips = ClipList.from_any(shared("jhmdb21")).k_shot(1)
    data = ClipDataset(clips, num_frames=8, size=112, augment=Augment(), seed=3)
    got = []
    for workers in (0, 2):
        loader = data.loader(batch=8, seed=0, workers=workers)
        loader.sampler.set_epoch(1)
        got.append(list(loader))
    for (x, y), (u, v) in zip(*got):
        assert torch.equal(x, u)
        assert torch.equal(y, v)
    assert sum(len(y) for _, y in got[0]) == 21
    assert not torch.equal(data[0][0], data[21][0])
    assert str(data.epoch_report(1)) == "All 21 clips could be read in epoch 2."
    x, y = ClipDataset(clips, num_frames=8, size=112, views=(2, 3))[0]
    assert x.shape == (6, 8, 112, 112, 3) and y == 0


@pytest.mark.long
def test_audit(tmp_path):
    """One clip a class: all can be read, mpeg4 in AVI, 320x240; nothing is read twice.

    A header that counts frames shown twice makes a clip odd."""
    clips = ClipList.from_any(shared("jhmdb21")).k_shot(1)
    before = [content_hash(p) for p in clips.paths]
    a = audit_clips(clips, tmp_path / "report", workers=2, timeout=60)
    assert len(a.rows) == 21
    assert not a.of("unreadable")
    assert {(r.codec, r.form, r.width, r.height) for r in a.rows} == {("mpeg4", "avi", 320, 240)}
    for r in a.rows:
        assert (r.verdict == "ok") == (r.promised == r.decoded)
        assert r.promised >= r.decoded >= 12
    assert json.loads(a.quarantine.read_text())["clips"] == {}
    assert audit_clips(clips, tmp_path / "report").resumed == 21 and [content_hash(p) for p in clips.paths] == before
    assert len(clips.without(a.quarantine)) == 21


@pytest.mark.long
def test_audit_of_odd_files(tmp_path):
    "Every odd file gets a verdict; what can be saved is, and no original changes."
    root = shared("clips", "odd")
    before = {p.name: (content_hash(p), p.stat().st_mtime_ns) for p in root.iterdir()}
    a = audit_clips(root, tmp_path / "report", workers=2, timeout=120, fix=tmp_path / "fixed")
    assert {p.name: (content_hash(p), p.stat().st_mtime_ns) for p in root.iterdir()} == before
    row = {r.item: r for r in a.rows}
    assert set(row) == set(before)
    assert row["audio_only.mp4"].verdict == "unreadable"
    assert "no video stream" in row["audio_only.mp4"].why
    assert row["corrupted.mp4"].verdict == "unreadable"
    assert row["one_frame.mp4"].verdict == "odd"
    assert row["av1.mp4"].decoder == "pyav"
    assert (row["rotated_90.mov"].verdict == "ok") and row["rotated_90.mov"].height > row["rotated_90.mov"].width
    for r in a.rows:
        assert bool(r.fixed) == bool(r.saved)
        assert r.fixed == "" or (r.verdict == "unreadable" and (tmp_path / "fixed" / r.fixed).is_file())
    written = {p.name for p in (tmp_path / "fixed").rglob("*") if p.is_file()}
    assert written == {r.fixed for r in a.rows if r.fixed}


def test_training_stops_at_one_percent(tmp_path):
    "3 of 300 unreadable is 1% and goes on; the fourth stops it."
    one = sorted(shared("jhmdb21", "wave").glob("*.avi"))[0]
    same_device = one.stat().st_dev == tmp_path.stat().st_dev
    put = os.link if same_device else shutil.copy
    for k in range(300):
        folder = tmp_path / "set" / f"c{k % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        put(one, folder / f"{k:03d}.avi")
    clips = ClipList.from_any(tmp_path / "set")
    for p in clips.paths[:4]:
        p.unlink()
        p.write_bytes(b"RIFF" + bytes(3000))
    listed = {i: "cut" for i in clips.items[:2]}
    data = ClipDataset(clips, num_frames=2, size=32, quarantine=listed)
    data[0]
    assert len(data.epoch_report().unreadable) == 1 and data.quarantined == 2
    from vidprism.data.dataset import Unreadable

    says = (
        r"4 of 300 clips \(1.3%\) cannot be read \(2 in quarantine, 2 while reading, such as .*"
        r"more than the 1% allowed"
    )
    with pytest.raises(Unreadable, match=says):
        data[1]
    assert ClipDataset(clips, num_frames=2, size=32, quarantine=listed, allow=0.02)[1][1] == 0


@pytest.mark.long
def test_a_reader_that_takes_too_long_is_replaced(tmp_path):
    "With a time limit no reader can keep: named, counted, and the class has nobody left."
    from vidprism.data.dataset import Unreadable

    (tmp_path / "s" / "wave").mkdir(parents=True)
    for p in sorted(shared("jhmdb21", "wave").glob("*.avi"))[:2]:
        shutil.copy(p, tmp_path / "s" / "wave")
    data = ClipDataset(tmp_path / "s", num_frames=2, size=32, allow=1, timeout=1e-4)
    says = "No clip of the class 'wave' can be read; .*did not finish in 0.0001 s and was stopped"
    with pytest.raises(Unreadable, match=says):
        data[0]
    assert ClipDataset(tmp_path / "s", num_frames=2, size=32, timeout=120)[0][0].shape == (2, 32, 32, 3)
