"""Files of features from strangers, and those that the kit writes: nothing is run, nothing lost, nothing guessed."""

import io
import json
import numpy as np
import os
import pickle
import pytest
import shutil
import struct
import torch
import zipfile
from dataclasses import replace
from pathlib import Path
from safetensors.torch import load_file, save_file
from torch import nn
from vidprism.cli import main
from vidprism.data.cliplist import ClipList
from vidprism.data.clips import frame_indices, read_clip, read_frames, sample_clips
from vidprism.data.shards import PackedClips, pack, shard_list, unpacked
from vidprism.encoders.base import ModuleEncoder, Preprocess
from vidprism.encoders.cache import cache_features
from vidprism.encoders.export import export_features
from vidprism.encoders.feature_files import is_feature_folder, read_features
from vidprism.errors import ClipError, ConfigError, VidPrismError, WriteError
from vidprism.evaluation.benchmark import FeatureSplit
from vidprism.model import VideoModel
from vidprism.processes import Team
from vidprism.training.pipeline import Recipe, train_clips
from vidprism.training.trainer import TrainConfig


class Means(nn.Module):
    "The mean colour of each frame; it counts the pictures that it was asked for."

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.count = 0

    def forward(self, x):
        self.count += len(x) * (len(x) > 1)  # one black picture shows the width
        return x.mean((2, 3)) * self.scale


def means(factor=1.0):
    module = Means()
    module.scale.data *= factor
    return ModuleEncoder(module, Preprocess(32, (0.5,) * 3, (0.25,) * 3)).requires_grad_(False).eval()


def listed(paths, items=None):
    items = [path.name for path in paths] if items is None else items
    labels = [i % 2 for i in range(len(paths))]
    return ClipList(list(items), list(paths), labels, ["a", "b"], [""] * len(paths), root=Path(paths[0]).parent)


@pytest.fixture
def export(tmp_path):
    "Export clips with four frames each."

    def run(clips, folder="out", encoder=None, **options):
        how = dict(num_frames=4, progress=False, cache=tmp_path / "cache") | options
        return export_features(clips, encoder or means(), tmp_path / folder, **how)

    return run


def manifest(folder):
    return json.loads((folder / "features.json").read_text())


# a stranger's file


def npy(header: str, data=b"", version=b"\x01\x00"):
    text = header.encode("latin-1")
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + data


class Evil:
    def __reduce__(self):
        return os.mkdir, ("PWNED",)


def pickled_array():
    out = io.BytesIO()
    np.save(out, np.array([Evil()], dtype=object), allow_pickle=True)
    return out.getvalue()


def an_archive():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("features.npy", pickled_array())
    return out.getvalue()


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3), }\n"
HOSTILE = {
    "pickled array": pickled_array(),
    "a pickle": pickle.dumps(Evil()),
    "npz": an_archive(),
    "code in the header": npy("__import__('os').mkdir('PWNED')\n"),
    "code in the shape": npy(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').mkdir('PWNED'),), }\n"
    ),
    "huge shape": npy(GOOD.replace("(4, 3)", "(1000000000000, 3)")),
    "product overflows": npy(GOOD.replace("(4, 3)", "(4294967296, 4294967296)")),
    "negative shape": npy(GOOD.replace("(4, 3)", "(-4, -3)"), bytes(48)),
    "true for a number": npy(GOOD.replace("(4, 3)", "(True, 12)"), bytes(48)),
    "no shape": npy("{'descr': '<f4', 'fortran_order': False}\n"),
    "scalar": npy(GOOD.replace("(4, 3)", "()"), bytes(4)),
    "flat": npy(GOOD.replace("(4, 3)", "(12,)"), bytes(48)),
    "four axes": npy(GOOD.replace("(4, 3)", "(1, 2, 2, 3)"), bytes(48)),
    "empty": npy(GOOD.replace("(4, 3)", "(0, 3)")),
    "too short": npy(GOOD, bytes(47)),
    "too long": npy(GOOD, bytes(49)),
    "nothing": b"",
    "text": b"label,name\n",
    "cut header": npy(GOOD)[:30],
    "version 9": npy(GOOD, bytes(48), b"\x09\x00"),
    "version 3": npy(GOOD, bytes(48), b"\x03\x00"),
    "whole numbers": npy(GOOD.replace("<f4", "<i4"), bytes(48)),
    "complex": npy(GOOD.replace("<f4", "<c8"), bytes(96)),
    "structured": npy(GOOD.replace("'<f4'", "[('a', '<f4')]"), bytes(48)),
    "dates": npy(GOOD.replace("<f4", "<M8[s]"), bytes(96)),
    "text numbers": npy(GOOD.replace("<f4", "<U1"), bytes(48)),
    "long double": npy(GOOD.replace("<f4", "<f16"), bytes(192)),
    "nested": npy("(" * 60000),
    "not a number": npy(GOOD, np.array([np.nan] * 12, "<f4").tobytes()),
    "infinite": npy(GOOD, np.array([np.inf] * 12, "<f4").tobytes()),
    "double that is too large": npy(GOOD.replace("<f4", "<f8"), np.full(12, 1e300).tobytes()),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_npy(tmp_path, monkeypatch, name):
    "One sentence that names the file; nothing is run, and no memory is taken for what the header promises."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip.npy").write_bytes(HOSTILE[name])
    with pytest.raises(ConfigError, match="clip.npy") as refused:
        read_features("clip.npy")
    assert len(str(refused.value).splitlines()) == 1 and len(str(refused.value)) < 500
    assert not (tmp_path / "PWNED").exists()


def test_mutated_npy(tmp_path):
    "Any one byte of the header changed: features, or a sentence."
    out = io.BytesIO()
    np.save(out, np.ones((4, 3), dtype=np.float32))
    good = out.getvalue()
    for place in range(128):
        for value in (0, 40, 0x7F, 0xFF):
            (tmp_path / "x.npy").write_bytes(good[:place] + bytes([value]) + good[place + 1 :])
            try:
                assert read_features(tmp_path / "x.npy").ndim in (2, 3)
            except ConfigError as error:
                assert "x.npy" in str(error)


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "link to a device"])
def test_what_is_no_file_is_not_opened(tmp_path, kind):
    "A pipe would wait for ever, a device never ends."
    path = tmp_path / "x.npy"
    make = {"folder": path.mkdir, "fifo": lambda: os.mkfifo(path)}
    if kind in make:
        make[kind]()
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError):
        read_features(path)


STRANGE = {
    "two tensors": {"a": torch.ones(4, 3), "b": torch.ones(4, 3)},
    "whole numbers": {"features": torch.ones(4, 3, dtype=torch.int64)},
    "flat": {"features": torch.ones(12)},
    "none": {},
    "not a number": {"features": torch.full((4, 3), torch.nan)},
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_safetensors(tmp_path, name):
    save_file(STRANGE[name], tmp_path / "clip.safetensors")
    with pytest.raises(ConfigError, match="clip.safetensors"):
        read_features(tmp_path / "clip.safetensors")


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8"])
def test_kinds_of_numbers(tmp_path, kind):
    x = np.arange(12).reshape(4, 3)
    np.save(tmp_path / "x.npy", np.asfortranarray(x.astype(kind)))
    assert read_features(tmp_path / "x.npy").tolist() == x.tolist()


# a stranger's folder


def fill(folder, shapes: dict):
    "Files of features: name -> shape."
    for k, (name, shape) in enumerate(shapes.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, np.full(shape, k, dtype=np.float32))
    return folder


def write_manifest(folder, *clips, **changes):
    found = dict(format="vidprism features", version=1, encoder="mini", classes=["a", "b"], clips=list(clips))
    (folder / "features.json").write_text(json.dumps({**found, **changes}))


@pytest.mark.parametrize("name", ["../secret.npy", "sub/../../secret.npy", "ABSOLUTE", "link.npy", "linked/secret.npy"])
@pytest.mark.parametrize("by", ["manifest", "csv", "json"])
def test_a_path_outside_is_refused(tmp_path, name, by):
    "A list names files of its folder only, also through links."
    fill(tmp_path, {"secret.npy": (4, 3)})
    folder = fill(tmp_path / "given", {"x.npy": (4, 3)})
    (folder / "link.npy").symlink_to(tmp_path / "secret.npy")
    (folder / "linked").symlink_to(tmp_path)
    name = str(tmp_path / "secret.npy") if name == "ABSOLUTE" else name
    if by == "manifest":
        write_manifest(folder, dict(clip="x", label=0, file=name))
    elif by == "csv":
        (folder / "list.csv").write_text(f"name,label\n{name},a\n")
    else:
        (folder / "list.json").write_text(json.dumps({name: "a"}))
    with pytest.raises(ConfigError, match="outside of the folder"):
        FeatureSplit.from_folder(folder)


ODD_MANIFESTS = [
    dict(format="other"),
    dict(version=2),
    dict(version=True),
    dict(encoder=None),
    dict(classes="ab"),
    dict(classes=[1]),
    dict(clips={}),
    dict(clips=[]),
    dict(clips=[5]),
    dict(clips=[dict(clip="x", label=2, file="x.npy")]),
    dict(clips=[dict(clip="x", label=-1, file="x.npy")]),
    dict(clips=[dict(clip="x", label=0.0, file="x.npy")]),
    dict(clips=[dict(clip="x", label=0)]),
    dict(clips=[dict(clip="x", label=0, file="x.npy", sha256="0")]),
    dict(clips=[dict(clip="x", label=0, file="x.npy", sha256="0" * 64)]),
    dict(clips=[dict(clip="x", label=0, file="none.npy")]),
    dict(clips=[dict(clip="x", label=0, file="\0.npy")]),
    dict(clips=[dict(clip="x", label=0, file="x.npy", part=5)]),
    dict(complete=False),
    dict(preprocess=5),
    dict(weights=5),
    dict(channels=5),
    dict(channels=dict(flow=1)),
]


@pytest.mark.parametrize("changes", ODD_MANIFESTS, ids=str)
def test_odd_manifest(tmp_path, changes):
    folder = fill(tmp_path, {"x.npy": (4, 3)})
    write_manifest(folder, dict(clip="x", label=0, file="x.npy"), **changes)
    with pytest.raises(ConfigError) as refused:
        FeatureSplit.from_folder(folder)
    assert len(str(refused.value).splitlines()) == 1


ODD_LISTS = {
    "list.json": ["[", "5", "[5]", '[{"name": "x"}]', '[{"label": "a"}]', '{"x": null}', '{"x": -1}', '{"x": true}']
    + ['{"x": 1e9}', '{"x": ""}', "[" * 100000, "{}", '{"x": 1000000000}'],
    "list.csv": ["", "name,label\n", "name\nx\n", "name,label\nx\n", "name,label\nx,\n", "name,label\nx,1000000000\n"],
}


@pytest.mark.parametrize("name, text", [(name, text) for name, texts in ODD_LISTS.items() for text in texts])
def test_odd_list(tmp_path, name, text):
    folder = fill(tmp_path, {"x.npy": (4, 3)})
    (folder / name).write_text(text)
    with pytest.raises(ConfigError) as refused:
        FeatureSplit.from_folder(folder)
    assert len(str(refused.value).splitlines()) == 1


def test_lists_are_read_alike(tmp_path):
    "Names with and without suffixes, of videos or of features; labels by name or by number; parts."
    folder = fill(tmp_path / "f", {"a.npy": (4, 3), "b.npy": (4, 3), "deep/c.npy": (4, 3)})
    (tmp_path / "l.csv").write_text("name,label,split\na,run,train\nb.mp4,walk,test\ndeep/c.npy,run,train\n")
    side = FeatureSplit.from_folder(folder, tmp_path / "l.csv")
    assert (side.labels.tolist(), side.features[:, 0, 0].tolist()) == ([0, 1, 0], [0, 1, 2])
    assert FeatureSplit.from_folder(folder, tmp_path / "l.csv", part="test").items == ["b.mp4"]
    (tmp_path / "l.json").write_text(json.dumps([dict(name="deep/c", label=1), dict(name="a", label=0)]))
    assert FeatureSplit.from_folder(folder, tmp_path / "l.json").features[:, 0, 0].tolist() == [2, 0]


def test_missing_clips_are_counted_and_named(tmp_path):
    folder = fill(tmp_path, {"x.npy": (4, 3)})
    names = [f"clip{i}" for i in range(7)]
    (folder / "list.csv").write_text("name,label\nx,a\n" + "".join(f"{name},b\n" for name in names))
    with pytest.raises(ConfigError, match=r"lacks the features of 7 of 8 clips: clip0, clip1, clip2 \.\.\."):
        FeatureSplit.from_folder(folder)


def test_lengths_are_refused_or_resampled_and_never_mixed(tmp_path):
    folder = fill(tmp_path, {"a/x.npy": (4, 3), "b/y.npy": (9, 3)})
    with pytest.raises(ConfigError, match="b/y.npy has 9 features, not 4"):
        FeatureSplit.from_folder(folder)
    np.save(folder / "b" / "y.npy", np.arange(27, dtype=np.float32).reshape(9, 3))
    side = FeatureSplit.from_folder(folder, num_frames=5, lengths="resample")
    assert side.features[1, :, 0].tolist() == (3.0 * frame_indices(9, 5)).tolist()
    np.save(folder / "b" / "y.npy", np.zeros((4, 2), dtype=np.float32))
    with pytest.raises(ConfigError, match="b/y.npy has features of width 2"):
        FeatureSplit.from_folder(folder)


# what the kit writes

NAMES = ["a/x.mp4", "b/x.mp4", "../../x.mp4", "/etc/x.mp4", "..", "x" * 3000, "\udcff\udcfe.mp4", "a\\x.mp4", "CON.mp4"]


def test_names_of_clips_make_no_trouble(tmp_path, export):
    "Equal stems, `..`, names that are not UTF-8 or very long: one file each, in the folder, and read back by name."
    clips = listed([sample_clips()[i] for i in range(len(NAMES))], NAMES)
    assert export(clips, "deep/out").clips == len(NAMES)
    out = tmp_path / "deep" / "out"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "deep"]
    assert len(list(out.glob("*.npy"))) == 2 * len(NAMES) and [path.name for path in out.parent.iterdir()] == ["out"]
    side = FeatureSplit.from_folder(out)
    assert side.items == NAMES and side.labels.tolist() == clips.labels
    expected = cache_features(clips.paths, means(), tmp_path / "other", num_frames=4, progress=False).pooled
    assert torch.equal(side.features, expected)


def test_times_and_manifest_tell_the_truth(tmp_path, export):
    clips = listed(sample_clips()[:2])
    for kind in ("npy", "safetensors"):
        export(clips, kind, file_format=kind)
        for entry, path in zip(manifest(tmp_path / kind)["clips"], clips.paths):
            read = read_clip(path, 4)
            file = tmp_path / kind / entry["file"]
            times = np.load(tmp_path / kind / entry["times"]) if kind == "npy" else load_file(file)["times"].numpy()
            assert times.dtype == np.float64 and times.tolist() == read.times.tolist()
            assert (entry["start"], entry["end"], entry["decoder"]) == (times[0], times[-1], read.decoder)
            assert entry["class"] == clips.classes[entry["label"]] and entry["shape"] == [4, 3]


def test_a_stopped_export_goes_on(tmp_path, export, monkeypatch):
    "Finished files are kept by their hash; torn, deleted and foreign ones are made anew; a reader waits for the end."
    from vidprism.encoders import export as module

    clips, note = listed(sample_clips()[:5]), module._note
    rows = []

    def stop_at_three(folder, team, row):
        rows.append(row)
        if len(rows) == 4:
            raise KeyboardInterrupt
        note(folder, team, row)

    monkeypatch.setattr(module, "_note", stop_at_three)
    with pytest.raises(KeyboardInterrupt):
        export(clips)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="was not finished"):
        FeatureSplit.from_folder(tmp_path / "out")
    with open(tmp_path / "out" / ".features.0.jsonl", "ab") as file:
        file.write(b'{"file": "half a li')
    (tmp_path / "out" / rows[0]["file"]).write_bytes(b"torn")
    (tmp_path / "out" / rows[1]["times"]).unlink()
    found = export(clips)
    assert (found.clips, found.kept) == (5, 1)
    assert export(clips).kept == 5 and not list((tmp_path / "out").glob(".features*"))
    side = FeatureSplit.from_folder(tmp_path / "out")
    assert torch.equal(side.features, export_again(tmp_path, clips))


def export_again(folder, clips):
    return cache_features(clips.paths, means(), folder / "again", num_frames=4, progress=False).pooled


def test_a_changed_clip_is_made_anew(tmp_path, export):
    mine = tmp_path / "mine.mp4"
    shutil.copy(sample_clips()[0], mine)
    clips = listed([mine, sample_clips()[1]])
    export(clips)
    shutil.copy(sample_clips()[2], mine)
    os.utime(mine, ns=(5, 5))
    assert export(clips).kept == 1
    assert torch.equal(FeatureSplit.from_folder(tmp_path / "out").features, export_again(tmp_path, clips))


def test_another_encoder_or_a_foreign_folder_is_refused(tmp_path, export):
    clips = listed(sample_clips()[:2])
    export(clips)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    other = means(2.0)
    for changes in (dict(encoder=other), dict(num_frames=8), dict(sampling="dense"), dict(file_format="safetensors")):
        with pytest.raises(ConfigError, match="choose a new folder"):
            export(clips, **changes)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        export(clips, "mine")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_unreadable_clip_is_named(tmp_path, export):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video" * 99)
    clips = listed([sample_clips()[0], bad, tmp_path / "none.mp4"])
    for folder, options in (("whole", {}), ("windows", dict(window=8, stride=8))):
        found = export(clips, folder, **options)
        assert (found.clips, [item for item, _ in found.unreadable]) == (1, ["bad.mp4", "none.mp4"])
        assert manifest(tmp_path / folder)["unreadable"] == found.unreadable
    with pytest.raises(ClipError, match="None of the 1"):
        export(listed([bad]), "none")


def test_a_full_disk_is_no_fault_of_the_clip(tmp_path, export, monkeypatch):
    from vidprism.encoders import export as module

    def full(path):
        raise WriteError(f"{path} cannot be written: no space left on device.")

    monkeypatch.setattr(module, "written", full)
    for options in ({}, dict(window=8, stride=8)):
        with pytest.raises(WriteError, match="no space left"):
            export(listed(sample_clips()[:1]), f"full{len(options)}", **options)


@pytest.mark.parametrize("window, stride", [(8, 8), (16, 4), (5, 7), (64, 64), (1, 1), (1000, 3)])
def test_windows_are_those_of_the_slow_way(tmp_path, export, window, stride):
    "Each window is the encoder's answer to its frames, read one by one; all frames are in one, if windows touch."
    path = sample_clips()[0]
    export(listed([path]), window=window, stride=stride)
    (entry,) = manifest(tmp_path / "out")["clips"]
    found, total = read_features(tmp_path / "out" / entry["file"]), read_clip(path, 1).total
    assert len(found) == len(entry["windows"])
    encoder = means()
    for number, (first, last, start, end) in enumerate(entry["windows"]):
        size = min(window, total - number * stride)
        wanted = number * stride + frame_indices(size, 4)
        assert (first, last) == (wanted[0], wanted[-1]) and start <= end
        assert torch.equal(found[number], encoder(read_frames(path, wanted.tolist())[None]).pooled[0])
    covered = (len(found) - 1) * stride + window
    assert covered >= total or stride > window


def test_a_long_video_is_walked_once(tmp_path, export, monkeypatch):
    "However many windows there are, each frame is decoded once and no more than a window is held."
    from vidprism.encoders import export as module

    seen, held, each = [], [], module._Windows.each

    def counted(self, frame):
        seen.append(1)
        found = each(self, frame)
        held.append(len(self.held))
        return found

    monkeypatch.setattr(module._Windows, "each", counted)
    path = sample_clips()[0]
    export(listed([path]), window=8, stride=1)
    assert len(seen) == read_clip(path, 1).total and max(held) <= 8


def test_each_clip_is_encoded_by_one_process(tmp_path):
    "Two members of a team, one after the other: together they encode each clip once."

    class Half(Team):
        def total(self, count):
            return count

    counts = []
    for process in (0, 1):
        encoder = means()
        team = Half(process, 2)
        clips = sample_clips()[:5]
        if process == 0:  # what is left after the wait is what the other has done meanwhile
            cache_features(clips[1::2], means(), tmp_path / "c", num_frames=4, progress=False)
        cache_features(clips, encoder, tmp_path / "c", num_frames=4, progress=False, team=team, collect=False)
        counts.append(sum(getattr(part, "count", 0) for part in encoder.modules()))
    assert counts == [12, 0]


# train

SMALL = Recipe(num_frames=4, head="vidprism", options=dict(rates=(1, 2), num_heads=1), split="source", folds=2)
SMALL = replace(SMALL, training=TrainConfig(epochs=3, batch=4))


@pytest.fixture
def sourced(tmp_path):
    "Twelve clips of two classes, and of six sources."
    paths = []
    for i, clip in enumerate(sample_clips()[:12]):
        path = tmp_path / "clips" / f"c{i % 2}" / f"s{i // 2}_{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, path)
        paths.append(path)
    return ClipList.from_any(tmp_path / "clips")


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_exported_features_train_to_the_same_bits(tmp_path, export, sourced):
    from_cache = train_clips(sourced, SMALL, means(), tmp_path / "cache")
    for kind in ("npy", "safetensors"):
        export(sourced, kind, file_format=kind)
        from_files = train_clips(tmp_path / kind, SMALL)
        assert same(from_cache.model.head, from_files.model.head)
        assert from_cache.result.runs[0]["confusion"] == from_files.result.runs[0]["confusion"]


def test_a_model_of_features(tmp_path, export, sourced):
    "It is saved and loaded, answers features, names the encoder for a clip, and takes the encoder when it is given."
    export(sourced)
    trained = train_clips(tmp_path / "out", SMALL)
    trained.save(tmp_path / "model")
    model = VideoModel.from_pretrained(tmp_path / "model")
    first = manifest(tmp_path / "out")["clips"][0]
    x = read_features(tmp_path / "out" / first["file"])
    answer = model.predict(x)
    assert answer == model.predict(tmp_path / "out" / first["file"])
    clip = tmp_path / "clips" / first["clip"]
    for call in (model.predict, model.embed):
        with pytest.raises(ConfigError, match="was trained on features of module:Means"):
            call(clip)
    whole = VideoModel.from_pretrained(tmp_path / "model", encoder=means())
    assert whole.predict(clip) == answer
    other = means(2.0)
    with pytest.raises(ConfigError, match="other weights"):
        VideoModel.from_pretrained(tmp_path / "model", encoder=other)
    for wrong in (x[:3], x[:, :2], x * torch.nan, torch.zeros(0, 3), tmp_path / "none.npy"):
        with pytest.raises(VidPrismError):
            model.predict(wrong)


def test_a_model_of_features_names_no_code(tmp_path, monkeypatch):
    "The encoder's name in a stranger's manifest is text, also after it went through a model."
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("import os\nos.mkdir('PWNED')\n")
    files = {f"{name}/{i}.npy": (4, 3) for name in "ab" for i in range(4)}
    folder = fill(tmp_path / "f", files)
    clips = [dict(clip=f"s{i}_{k}", label=k % 2, file=name) for i, (k, name) in enumerate(enumerate(files))]
    write_manifest(folder, *clips, encoder="own:evil.py:make")
    trained = train_clips(folder, replace(SMALL, folds=2))
    trained.save("model")
    model = VideoModel.from_pretrained("model")
    assert model.encoder.name == "features:own:evil.py:make" and not Path("PWNED").exists()
    with pytest.raises(ConfigError, match="own:evil.py:make"):
        model.predict(sample_clips()[0])
    assert not Path("PWNED").exists()


def said_by(capsys, *words):
    code = main([str(word) for word in words])
    return code, capsys.readouterr()


def test_the_command_trains_on_features(tmp_path, export, sourced, capsys, monkeypatch):
    "train, eval, predict and rerun, with a list of another team's own and clips of other lengths."
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "theirs"
    generator = np.random.default_rng(0)
    rows = ["name,label"]
    folder.mkdir()
    for i in range(16):
        np.save(folder / f"s{i // 2}_{i}.npy", generator.normal(i % 2, 1, (6 + i % 3, 5)).astype(np.float32))
        rows.append(f"s{i // 2}_{i},{'run' if i % 2 else 'walk'}")
    Path("list.csv").write_text("\n".join(rows))
    train = ["train", "theirs", "--list", "list.csv", "--option", "rates=1,2", "--option", "num_heads=1"]
    train += ["--epochs", "2", "--split", "source"]
    code, said = said_by(capsys, *train, "--out", "m")
    assert code == 2 and "7 features, not 6" in said.err
    assert len(said.err.strip().splitlines()) == 1 and not Path("m").exists()
    code, said = said_by(capsys, *train, "--lengths", "resample", "--num-frames", "4", "--out", "m")
    assert code == 0 and "16 clips of 2 classes" in said.out, said.err
    assert said_by(capsys, "eval", "m")[0] == 0
    assert said_by(capsys, "rerun", "m")[0] == 0
    code, said = said_by(capsys, "predict", "theirs/s0_0.npy", "--model", "m")
    assert code == 2 and "[4,5]" in said.err
    np.save("four.npy", np.zeros((4, 5), dtype=np.float32))
    assert said_by(capsys, "predict", "four.npy", "--model", "m")[0] == 0
    np.save(folder / "s0_0.npy", np.zeros((6, 5), dtype=np.float32))
    code, said = said_by(capsys, "rerun", "m")
    assert "changed since: the content of the features" in said.out


WRONG = """
features clips --window 8 --stride 8
features clips --export out --window 8
features clips --export out --stride 8
features clips --export out --window 0 --stride 8
features clips --export out --window 8 --stride 0
features clips --export out --window 8 --stride 8 --workers 2
features clips --export out --window 8 --stride 8 --sampling dense
features clips --export out --grid
features clips --export out --views 2x1
features clips --export out --file-format csv
features clips --file-format safetensors
features feats --export out
features clips --export clips
train feats --encoder mini
train feats --num-frames 8
train feats --finetune-encoder
train feats --classifier text
train feats --views 2x3
train feats --lengths zzz
train clips --list list.csv
train feats --list none.csv
train empty --format features
train empty --format shards
train feats --format shards
train clips --lengths zzz
"""


@pytest.mark.parametrize("line", WRONG.strip().splitlines())
def test_wrong_lines(tmp_path, capsys, monkeypatch, line):
    "One sentence, exit code 2, nothing written."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDPRISM_CACHE", str(tmp_path / "cache"))
    for i in range(4):
        Path(f"clips/c{i % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(sample_clips()[i], f"clips/c{i % 2}/s{i}_.mp4")
    fill(Path("feats"), {f"c{i % 2}/s{i}_.npy": (4, 3) for i in range(8)})
    Path("empty").mkdir()
    Path("list.csv").write_text("name,label\nc0/s0_,a\n")
    before = sorted(str(path) for path in Path().rglob("*"))
    code, said = said_by(capsys, *line.split())
    errors = [row for row in said.err.strip().splitlines() if row.startswith("vidprism:")]
    assert code == 2 and len(errors) == 1 and "Traceback" not in said.err, said.err
    assert [path for path in sorted(str(path) for path in Path().rglob("*")) if not path.startswith("cache")] == before


# shards


def test_shards_are_a_list_of_the_same_clips(tmp_path, sourced):
    pack(sourced, tmp_path / "shards", shard_size=5)
    packed = shard_list(tmp_path / "shards")
    assert sorted(packed.items) == sorted(sourced.items) and packed.classes == sourced.classes
    label = dict(zip(sourced.items, sourced.labels))
    path = dict(zip(sourced.items, sourced.paths))
    for item, its_label, place in zip(packed.items, packed.labels, packed.paths):
        with unpacked(place) as file:
            assert file.read_bytes() == path[item].read_bytes() and its_label == label[item]
    assert is_feature_folder(tmp_path / "shards") is False


def test_parts_go_through_shards(tmp_path, sourced):
    parts = ["train", "test"] * 6
    pack(replace(sourced, parts=parts), tmp_path / "shards", shard_size=5)
    packed = shard_list(tmp_path / "shards")
    assert dict(zip(packed.items, packed.parts)) == dict(zip(sourced.items, parts))


def test_features_of_shards_are_those_of_the_files(tmp_path, sourced, export):
    pack(sourced, tmp_path / "shards", shard_size=5)
    packed = shard_list(tmp_path / "shards")
    for workers in (0, 1):
        got = cache_features(packed.paths, means(), tmp_path / f"p{workers}", 4, progress=False, workers=workers)
        place = {item: number for number, item in enumerate(sourced.items)}
        order = [place[item] for item in packed.items]
        expected = cache_features(sourced.paths, means(), tmp_path / "files", 4, progress=False).pooled
        assert torch.equal(got.pooled, expected[order])
    export(packed, "out", window=8, stride=8)


def test_a_broken_clip_in_a_shard_is_named_by_its_place(tmp_path, sourced):
    sourced.paths[3].write_bytes(b"no video" * 99)
    pack(sourced, tmp_path / "shards", shard_size=5)
    packed = shard_list(tmp_path / "shards")
    got = cache_features(packed.paths, means(), tmp_path / "cache", 4, progress=False)
    ((path, why),) = got.unreadable
    assert "clips-00000" in why and str(path) in why
    data = PackedClips(packed, num_frames=2, size=32, allow=0.5)
    assert len(list(data)) == 12 and len(data.epoch_report().unreadable) == 1


def test_a_shard_that_changes_is_no_other_clip(tmp_path, sourced):
    "A path into a shard that no longer holds it is a sentence, and the features are keyed by the shard's change."
    pack(sourced, tmp_path / "shards", shard_size=5)
    packed = shard_list(tmp_path / "shards")
    first = packed.paths[0]
    cache_features([first], means(), tmp_path / "cache", 4, progress=False)
    os.utime(first.parent, ns=(7, 7))
    assert cache_features([first], means(), tmp_path / "cache", 4, progress=False).made == 1
    with pytest.raises(ClipError, match="has no clip"), unpacked(first.with_name("99999999.mp4")):
        pass
    first.parent.write_bytes(b"no tar" * 999)
    with pytest.raises(ClipError, match="cannot be read"), unpacked(first):
        pass


@pytest.mark.long
def test_the_command_trains_on_shards(tmp_path, sourced, capsys, monkeypatch):
    "Frozen and finetuned; the same weights for 0, 1 and 2 workers; done again; measured on the kept side."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDPRISM_CACHE", str(tmp_path / "cache"))
    pack(sourced, "shards", shard_size=5)
    line = [
        "train",
        "shards",
        "--num-frames",
        "4",
        "--option",
        "rates=1,2",
        "--epochs",
        "2",
        "--batch",
        "4",
        "--split",
        "source",
        "--folds",
        "2",
    ]
    for kind, more in (("frozen", []), ("tuned", ["--finetune-encoder"])):
        for workers in (0, 1, 2):
            code, said = said_by(capsys, *line, *more, "--workers", workers, "--out", f"{kind}{workers}")
            assert code == 0, said.err
        names = [path.name for path in Path(f"{kind}0").glob("*.safetensors")]
        assert len(names) == 1 + bool(more)
        for name in names:
            states = [load_file(f"{kind}{workers}/{name}") for workers in (0, 1, 2)]
            assert all(torch.equal(states[0][key], state[key]) for state in states for key in state)
        assert said_by(capsys, "eval", f"{kind}0")[0] == 0
        code, said = said_by(capsys, "rerun", f"{kind}0")
        assert code == 0 and "equal: all weights" in said.out, said.out
