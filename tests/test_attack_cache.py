"""Attacks on the feature cache and on files of weights: damage, company, poison, files that ask for all memory."""

import os
import pickle
import pytest
import resource
import stat
import subprocess
import sys
import time
import torch
import vidprism.encoders.cache
import zipfile
from pathlib import Path
from safetensors.torch import load_file, save_file
from torch import nn
from vidprism.data.clips import sample_clips
from vidprism.encoders.base import Features, ModuleEncoder, Preprocess
from vidprism.encoders.cache import FeatureCache, cache_features, encode_clips
from vidprism.encoders.weights import load_raw, read_weights
from vidprism.errors import ClipError, ConfigError, VidPrismError, WriteError
from vidprism.model import import_released

CLIPS = sample_clips()[:4]


class Means(nn.Module):
    "The mean of each channel, times a factor."

    def __init__(self, factor=1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.full((3,), factor))

    def forward(self, x):
        return x.mean((2, 3)) * self.factor


def means(factor=1.0):
    return ModuleEncoder(Means(factor), Preprocess(32, (0.5,) * 3, (0.5,) * 3)).requires_grad_(False).eval()


def fill(folder, encoder=None, clips=CLIPS, **options):
    return cache_features(clips, encoder or means(), folder, num_frames=2, progress=False, **options)


# files


@pytest.mark.parametrize("umask,mode", [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    old = os.umask(umask)
    try:
        fill(tmp_path / "cache")
    finally:
        os.umask(old)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "cache").iterdir()} == {mode}


def test_leftovers_go_when_they_are_old(tmp_path):
    "Those of an hour ago are removed, a young one may still be written."
    old, young = tmp_path / f".{'a' * 16}.part.safetensors", tmp_path / f".{'b' * 16}.part.safetensors"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    fill(tmp_path)
    assert not old.exists() and young.exists()


def damaged(data):
    "A file's bytes with one thing wrong."
    yield from (data[:n] for n in (0, 1, 8, 20, len(data) // 2, len(data) - 1))
    yield b"torn"
    yield (1 << 62).to_bytes(8, "little") + data[8:]
    for place in (9, len(data) // 2, len(data) - 1):
        yield data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]


def test_damage_is_made_anew(tmp_path):
    "Whatever one file becomes, the features are those of the clips."
    right = fill(tmp_path).pooled
    path = sorted(tmp_path.glob("*.safetensors"))[0]
    whole = path.read_bytes()
    for data in damaged(whole):
        path.write_bytes(data)
        assert torch.equal(fill(tmp_path).pooled, right)
        assert load_file(path)["pooled"].isfinite().all()


def test_the_file_of_another_clip_is_not_taken(tmp_path):
    right = fill(tmp_path).pooled
    one, two = sorted(tmp_path.glob("*.safetensors"))[:2]
    one.write_bytes(two.read_bytes())
    assert torch.equal(fill(tmp_path).pooled, right)


def test_poison_on_the_disk_is_not_taken(tmp_path):
    "A file of NaN that an older version stored, without a checksum."
    right = fill(tmp_path).pooled
    path = sorted(tmp_path.glob("*.safetensors"))[0]
    save_file(dict(pooled=torch.full_like(load_file(path)["pooled"], float("nan"))), path)
    assert torch.equal(fill(tmp_path).pooled, right)


def test_a_full_disk(tmp_path, monkeypatch):
    "One sentence; what was stored stays, and nothing half is left."
    real, calls = vidprism.encoders.cache.save_file, []

    def full(tensors, path, **options):
        calls.append(path)
        real(tensors, path, **options)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(vidprism.encoders.cache, "save_file", full)
    with pytest.raises(WriteError, match="no space left"):
        fill(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    assert fill(tmp_path).found == 2


def test_a_cache_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(WriteError):
            fill(place)


WORK = """import sys
sys.path.insert(0, sys.argv[2])
from test_attack_cache import fill
print("ready", flush=True)
sys.stdin.readline()
for round in range(int(sys.argv[3])):
    print(fill(sys.argv[1]).pooled.sum().item(), flush=True)
"""


def start(folder, rounds):
    command = [sys.executable, "-c", WORK, str(folder), str(Path(__file__).parent), str(rounds)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.long
def test_two_processes_and_a_hand_that_deletes(tmp_path):
    "While two processes fill one cache, files are deleted and torn; both give the right numbers each time."
    right = fill(tmp_path / "alone").pooled.sum().item()
    place = tmp_path / "shared"
    place.mkdir()
    two = [start(place, 15) for _ in range(2)]
    for process in two:
        process.stdin.write("\n")
        process.stdin.flush()
    turn = 0
    while any(process.poll() is None for process in two):
        turn += 1
        for path in list(place.glob("[0-9a-f]*.safetensors"))[:1]:
            part = place / f"torn{turn}"
            part.write_bytes(b"torn")
            os.replace(part, path)
        time.sleep(0.01)
    for process in two:
        said = process.communicate()[0].split()
        assert process.returncode == 0
        assert [float(x) for x in said] == [right] * 15


# numbers that are none


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), -float("inf")])
def test_features_that_are_not_finite(tmp_path, factor):
    "The clip is named, and nothing is stored."
    with pytest.raises(ClipError, match=rf"{CLIPS[0].name}.*NaN or infinite"):
        fill(tmp_path, means(factor))
    with pytest.raises(ConfigError, match=CLIPS[0].name):
        encode_clips(means(factor), CLIPS, FeatureCache(tmp_path), num_frames=2)
    assert not list(tmp_path.iterdir())


def test_half_precision_that_overflows(tmp_path):
    "70,000 is a number, and infinity in half precision."
    assert fill(tmp_path / "whole", means(1e6)).made == 4
    with pytest.raises(ClipError, match="half precision"):
        fill(tmp_path / "half", means(1e6), half=True)
    assert not list((tmp_path / "half").iterdir())


def test_one_bad_clip_among_good_ones(tmp_path, capsys, monkeypatch):
    "It is left out and named; the others' features are as without it."
    right = fill(tmp_path / "good").pooled
    real = vidprism.encoders.cache._encode
    calls = []

    def poisoned(*args):
        calls.append(args)
        seen = real(*args)
        return Features(seen.pooled * float("nan")) if len(calls) == 2 else seen

    monkeypatch.setattr(vidprism.encoders.cache, "_encode", poisoned)
    got = fill(tmp_path / "bad")
    assert len(got.unreadable) == 1 and len(got.kept) == 3
    path, why = got.unreadable[0]
    assert path.name in why and path.name in capsys.readouterr().err
    assert torch.equal(got.pooled, right[got.kept])


# files of weights that ask for all memory


def zip_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        for k in range(4):
            archive.writestr(f"a/data/{k}", bytes(1 << 28))


def stretched(path):
    torch.save(dict(model_state_dict=dict(w=torch.zeros(1).expand(1 << 16, 1 << 16))), path)


def nested_parts(path):
    "A TorchScript archive whose parts hold the same part twice each: 2^40 in all."
    nothing, part = b"N", b"h\x00"
    text = b"\x80\x02"
    for k in range(40):
        inner = part if k else nothing
        text += b"c__torch__.m\nBox\n)\x81}(X\x01\x00\x00\x00a" + inner + b"X\x01\x00\x00\x00b" + inner + b"ubq\x000"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", text + part + b".")
        archive.writestr("a/code/__torch__/m.py", "class Box(Module):\n  __parameters__ = []\n")
        archive.writestr("a/constants.pkl", b"")


def long_header(path):
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")


@pytest.mark.parametrize("name,make", [("bomb.pt", zip_bomb), ("wide.pt", stretched), ("parts.pt", nested_parts)])
def test_a_small_file_takes_little_memory(tmp_path, name, make):
    path = tmp_path / name
    make(path)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for read in (load_raw, read_weights, lambda p: import_released(p, ["a"])):
        with pytest.raises(ConfigError):
            read(path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 200_000  # kilobytes
    assert after.ru_utime - before.ru_utime < 20


def test_headers_without_end(tmp_path):
    long_header(tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="x.safetensors"):
        load_raw(tmp_path / "x.safetensors")


class Trap:
    "Runs a command when a pickle is read whole."

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


STATES = [
    5,
    [1],
    {},
    {1: torch.ones(1)},
    dict(model_state_dict=5),
    dict(model_state_dict={1: 2}),
    dict(fusion_model_state_dict=5),
    dict(fusion_model_state_dict={"pooling_layers.0.x": 5}),
    dict(fusion_model_state_dict={"pooling_layers.999999999.metric_proj.weight": torch.ones(1)}),
    dict(fusion_model_state_dict={"spe_cls_feature": torch.ones(3)}),
    dict(fusion_model_state_dict={"spe_cls_feature": "x", "frame_position_embeddings": 5}),
    {"pooling_layers.0.metric_proj.weight": torch.ones(4, 4), "head.weight": torch.ones(2, 4) * 1j},
]


@pytest.mark.parametrize("state", STATES, ids=lambda state: str(state)[:60])
def test_a_published_checkpoint_of_a_stranger(tmp_path, state):
    "Whatever a file holds, it is one sentence."
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(VidPrismError) as caught:
        import_released(tmp_path / "x.pt", ["a", "b"])
    assert "\n" not in str(caught.value)


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    mark = tmp_path / "PWNED"
    torch.save(dict(model_state_dict=Trap(mark)), tmp_path / "zip.pt")
    torch.save(dict(model_state_dict=Trap(mark)), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Trap(mark)))
    (tmp_path / "raw.safetensors").write_bytes(pickle.dumps(Trap(mark)))
    for path in tmp_path.glob("*.*"):
        with pytest.raises(ConfigError):
            load_raw(path)
        with pytest.raises(ConfigError):
            import_released(path, ["a"])
    assert not mark.exists()


def test_a_name_that_is_too_long_is_one_sentence():
    from vidprism.encoders.factory import create_encoder
    from vidprism.model import VideoModel

    for name in ("x" * 5000, "open_clip:RN50/" + "x" * 5000, "videomae:" + "x" * 5000, "own:" + "x" * 5000 + ":f"):
        with pytest.raises(ConfigError):
            create_encoder(name)
    with pytest.raises(ConfigError):
        VideoModel.from_pretrained("x" * 5000)
