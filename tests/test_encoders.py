"""Encoders by name and of one's own, real weights where they are at hand, a hub that does not answer.

And the feature cache with several writers."""

import json
import os
import pytest
import shlex
import signal
import socket
import subprocess
import sys
import time
import torch
from pathlib import Path
from real import SHARED
from torch import nn
from vidprism.data.clips import read_clip, sample_clips
from vidprism.encoders.base import Preprocess
from vidprism.encoders.cache import FeatureCache, cache_features
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError
from vidprism.heads.base import create_head
from vidprism.model import VideoModel

WEIGHTS = SHARED / "weights" / "mobilenet_edgetpu_100.imagenet1k.safetensors"


class Small(nn.Module):
    "Pictures to 20 numbers."

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.body = nn.Conv2d(3, 20, 8, 8)

    def forward(self, x):
        return self.body(x).mean((2, 3))


def small():
    net = Small()
    return create_encoder(net, how=Preprocess(32, (0.5,) * 3, (0.25,) * 3), grid=net.body)


# real weights


@pytest.fixture(scope="module")
def mobile():
    "The encoder of the shared weights, as its README says."
    if not WEIGHTS.is_file():
        pytest.skip(f"{WEIGHTS.name} is not here")
    import timm
    from safetensors.torch import load_file

    class Mobile(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = timm.create_model("mobilenet_edgetpu_100", pad_type="same", num_classes=1001)
            self.net.blocks[0][0].bn1.act = nn.Identity()
            left = self.net.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()}, strict=False)
            assert not left.unexpected_keys and all(k.endswith("num_batches_tracked") for k in left.missing_keys)

        def forward(self, x):
            return self.net.forward_head(self.net.forward_features(x), pre_logits=True)

    net = Mobile()
    how = Preprocess(224, (128 / 255,) * 3, (127 / 255,) * 3, interpolation="bilinear")
    return create_encoder(net, how=how, grid=net.net.blocks[-1])


@pytest.mark.parametrize("name,word", [("bears", "brown bear"), ("weightlifting", "barbell")])
def test_own_module_sees(mobile, name, word):
    "Real frames, this preprocessing, this net: the right word. So size, mean and deviation are right."
    clip = SHARED / "clips" / "ordinary" / f"{name}.mp4"
    if not clip.is_file():
        pytest.skip(f"{clip.name} is not here")
    words = [l.strip() for l in (WEIGHTS.parent / "imagenet1001_labels.txt").read_text().splitlines()]
    pooled = mobile(read_clip(clip, 8).frames[None]).pooled
    best = mobile.model.net.classifier(pooled)[0].mean(0).topk(3).indices.tolist()
    assert any(word in words[i].lower() for i in best), [words[i] for i in best]


def test_own_module_model(mobile, tmp_path):
    "A head of its width, saved, and loaded around the module given again."
    assert (mobile.dim, mobile.how.size) == (1280, 224)
    seen = mobile(read_clip(sample_clips()[0], 4).frames[None], grid=True)
    assert seen.pooled.shape == (1, 4, 1280) and seen.grid.shape[:4] == (1, 4, 7, 7)
    model = VideoModel(mobile, create_head("vidprism", 1280, 3, 4, rates=(2, 4)), list("abc")).eval()
    model.save_pretrained(tmp_path)
    assert not (tmp_path / "encoder.safetensors").exists()
    assert json.loads((tmp_path / "config.json").read_text())["preprocess"]["size"] == 224
    again = VideoModel.from_pretrained(tmp_path, encoder=mobile.model)
    assert torch.equal(again.embed(sample_clips()[0]), model.embed(sample_clips()[0]))
    with pytest.raises(ConfigError, match="encoder=module"):
        VideoModel.from_pretrained(tmp_path)


MINE = """import timm, torch
from pathlib import Path
from safetensors.torch import load_file
from vidprism.encoders.base import Preprocess
from vidprism.encoders.factory import create_encoder

class Mobile(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = timm.create_model("mobilenet_edgetpu_100", pad_type="same", num_classes=1001)
        self.net.blocks[0][0].bn1.act = torch.nn.Identity()
        self.net.load_state_dict({{k: v.float() for k, v in load_file({path!r}).items()}}, strict=False)

    def forward(self, x):
        return self.net.forward_head(self.net.forward_features(x), pre_logits=True)

def make():
    how = Preprocess(224, (128 / 255,) * 3, (127 / 255,) * 3, interpolation="bilinear")
    return create_encoder(Mobile(), how=how)
"""


def test_own_module_by_name(mobile, tmp_path):
    "A file of one's own names it, as the command needs; a saved model does not run that file of itself."
    (tmp_path / "mine.py").write_text(MINE.format(path=str(WEIGHTS)))
    e = create_encoder(f"own:{tmp_path / 'mine.py'}:make")
    frames = read_clip(sample_clips()[0], 2).frames[None]
    assert torch.equal(e(frames).pooled, mobile(frames).pooled) and e.name == "own:mine.py:make"
    VideoModel(e, create_head("mean", 1280, 2, 2), ["a", "b"]).save_pretrained(tmp_path / "m")
    with pytest.raises(ConfigError, match="own:file.py:function"):
        VideoModel.from_pretrained(tmp_path / "m")
    again = VideoModel.from_pretrained(tmp_path / "m", encoder=f"own:{tmp_path / 'mine.py'}:make")
    assert torch.equal(again.features(sample_clips()[0]), e(read_clip(sample_clips()[0], 2).frames[None]).pooled)


# sources


SMALL = [("timm:test_vit", None), ("timm:test_resnet", None), ("timm:test_efficientnet", None)]
LARGE = ("open_clip:ViT-B-32-quickgelu", 64)
PAIRS = [(*encoder, head) for encoder in SMALL for head in ("vidprism", "mote", "mean")]
PAIRS += [pytest.param(*LARGE, head, marks=pytest.mark.long) for head in ("vidprism", "mote", "mean")]


@pytest.mark.parametrize("name,size,head", PAIRS)
def test_any_encoder_any_head(name, size, head, tmp_path):
    "The width comes from the encoder; saved and loaded it answers the same."
    e = create_encoder(name, size=size)
    options = {"vidprism": dict(rates=(2, 4)), "mote": dict(num_heads=4), "mean": {}}[head]
    model = VideoModel(e, create_head(head, e.dim, 3, 4, **options), list("abc")).eval()
    path = sample_clips()[0]
    model.save_pretrained(tmp_path)
    assert VideoModel.from_pretrained(tmp_path).predict(path) == model.predict(path)
    if not e.has_text:
        with pytest.raises(ConfigError, match="no text tower"):
            model.predict(path, labels=["x"])


def write_videomae(folder, frames):
    "A folder of a small VideoMAE with random weights that was built for some frames."
    transformers = pytest.importorskip("transformers", reason="transformers (the extra videomae) is not installed")
    config = transformers.VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=frames,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.VideoMAEModel(config).save_pretrained(folder)
    return folder


def test_videomae_model(tmp_path):
    """Two frames a feature: the model reads twice as many, and comes back from its folder alone, tuned or not.

    Weights of a local folder go with the model, whose config names no place of this machine."""
    write_videomae(tmp_path / "mae", 4)
    e = create_encoder(f"videomae:{tmp_path / 'mae'}")
    model = VideoModel(e, create_head("vidprism", e.dim, 3, 4, rates=(2, 4)), list("abc")).eval()
    path = sample_clips()[0]
    assert model.num_frames == 8 and model.features(path).shape == (1, 4, 24)
    model.save_pretrained(tmp_path / "named")
    assert VideoModel.from_pretrained(tmp_path / "named").predict(path) == model.predict(path)
    answer = model.predict(path)
    with torch.no_grad():
        model.encoder.model.embeddings.patch_embeddings.projection.bias += 0.5
    model.save_pretrained(tmp_path / "tuned")
    assert json.loads((tmp_path / "named" / "config.json").read_text())["encoder"] == "videomae:mae"
    for f in (tmp_path / "mae").iterdir():
        f.unlink()
    assert VideoModel.from_pretrained(tmp_path / "tuned").predict(path) == model.predict(path)
    assert VideoModel.from_pretrained(tmp_path / "named").predict(path) == answer


@pytest.fixture
def sixteen(tmp_path):
    "A folder of a small VideoMAE with random weights that was built for 16 frames."
    return write_videomae(tmp_path / "mae16", 16)


@pytest.mark.parametrize("frames,tokens", [(8, [2, 1, 1]), (16, [4, 2, 1]), (32, [8, 4, 2])])
def test_videomae_of_fewer_frames(sixteen, tmp_path, frames, tokens):
    """8, 16 and 32 frames of a model built for 16: encoder and VidPrism head end to end.

    The model reads that many, and comes back."""
    from vidprism import finetune_encoder

    e = create_encoder(f"videomae:{sixteen}")
    model = VideoModel(e, create_head("vidprism", e.dim, 3, frames // e.span, rates=(2, 4, 8)), list("abc")).eval()
    assert model.num_frames == frames
    clips = torch.stack([read_clip(p, frames).frames for p in sample_clips()[:2]])
    out = finetune_encoder(model)(clips, torch.tensor([0, 2]))
    assert out.logits.shape == (2, 3)
    assert [m.tokens.shape[1] for m in out.trace.merges] == tokens
    out.losses["total"].backward()
    assert model.encoder.model.embeddings.patch_embeddings.projection.weight.grad.abs().max() > 0
    model.requires_grad_(False).eval()
    path = sample_clips()[0]
    model.save_pretrained(tmp_path / "saved")
    assert VideoModel.from_pretrained(tmp_path / "saved").predict(path) == model.predict(path)


def test_videomae_of_fewer_frames_by_command(sixteen, tmp_path, capsys, monkeypatch):
    """`features` and `train` take 8 frames of VideoMAE; the cache keeps 8 and 16 apart.

    7 frames are one sentence, before any clip is read."""
    from vidprism.cli import main

    monkeypatch.setenv("VIDPRISM_CACHE", str(tmp_path / "cache"))
    for k, path in enumerate(sample_clips()[:8]):
        (tmp_path / "clips" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / "ab"[k % 2] / path.name).symlink_to(path)
    what = [str(tmp_path / "clips"), "--encoder", f"videomae:{sixteen}"]
    assert main(["features", *what, "--num-frames", "8"]) == 0
    assert "8 clips: 0 found, 8 made, 0 unreadable" in capsys.readouterr().out
    assert main(["features", *what, "--num-frames", "16"]) == 0 and "0 found, 8 made" in capsys.readouterr().out
    options = shlex.split("--num-frames 8 --option rates=2,4 --folds 2 --epochs 1")
    assert main(["train", *what, *options, "--out", str(tmp_path / "model")]) == 0
    model = VideoModel.from_pretrained(tmp_path / "model")
    assert model.num_frames == 8
    assert model.head.config.num_frames == 4
    assert model.features(sample_clips()[0]).shape == (1, 4, 24)
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 16  # training found the features of 8 frames
    assert main(["eval", str(tmp_path / "model"), *what[:1]]) == 0
    capsys.readouterr()
    for word in (["features"], ["train", "--folds", "2", "--out", str(tmp_path / "refused")]):
        assert main([*word, *what, "--num-frames", "7", "--cache", str(tmp_path / "none")]) == 2
        assert "a multiple of 16, or a multiple of 2 below it, not 7" in capsys.readouterr().err
        assert not list((tmp_path / "none").glob("*.safetensors"))


def test_no_remote_code():
    "Nowhere is a repository's own code allowed, or a pickle read whole: the word stands only where it is refused."
    refused = ("trust_remote_code=False", '.get("trust_remote_code")', "sets trust_remote_code, which is not allowed")
    for path in (Path(__file__).parents[1] / "vidprism").rglob("*.py"):
        text = path.read_text()
        for use in refused:
            text = text.replace(use, "")
        assert "trust_remote_code" not in text and "weights_only=False" not in text and "torch.jit.load" not in text, (
            path.name
        )
        assert text.replace("safetensors.torch.load(", "").count("torch.load(") == text.count("weights_only=True"), (
            path.name
        )


# a hub that does not answer


@pytest.fixture
def deaf():
    "An address that takes the call and never answers."
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(50)
    yield f"http://127.0.0.1:{s.getsockname()[1]}"
    s.close()


ASK = """import sys, time
from huggingface_hub import hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.utils import build_hf_headers
from vidprism.errors import ConfigError
from vidprism.encoders.factory import create_encoder
from vidprism.model import VideoModel
start = time.monotonic()
load = create_encoder if ":" in sys.argv[1] else VideoModel.from_pretrained
try:
    load(sys.argv[1])
except ConfigError as e:
    print(f"{time.monotonic() - start:.1f}")
    print(e)
"""


@pytest.mark.long
@pytest.mark.parametrize(
    "name",
    [
        "open_clip:ViT-B-16-quickgelu/openai",
        "timm:vit_small_patch14_dinov2/lvd142m",
        "videomae:MCG-NJU/videomae-base",
        "someone/some-model",
    ],
)
def test_deaf_hub(deaf, name, tmp_path):
    "One sentence with the command to run, within 10 seconds (measured from the call: no import counts)."
    if name.startswith("videomae"):
        pytest.importorskip("transformers", reason="transformers (the extra videomae) is not installed")
    env = {k: v for k, v in os.environ.items() if k.lower() not in ("hf_hub_offline", "http_proxy", "https_proxy")}
    env |= dict(HF_ENDPOINT=deaf, HF_HOME=str(tmp_path), no_proxy="*")
    done = subprocess.run([sys.executable, "-c", ASK, name], env=env, capture_output=True, text=True, timeout=240)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2, done.stderr[-500:]
    assert float(lines[0]) < 10 and "hf download" in lines[1], lines


# the cache


def test_readers_in_processes(tmp_path):
    "Readers of their own give what reading here gives; what cannot be read is named; a second call reads nothing."
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(sample_clips()[0].read_bytes()[:300])
    clips = [*sample_clips()[:4], bad]
    here, there = (
        cache_features(clips, small(), tmp_path / f"w{n}", num_frames=4, grid=True, workers=n, progress=False)
        for n in (0, 2)
    )
    assert torch.equal(here.pooled, there.pooled)
    assert torch.equal(here.grid, there.grid)
    assert here.kept.tolist() == there.kept.tolist() == [0, 1, 2, 3]
    assert [p for p, _ in there.unreadable] == [bad] and "bad.mp4" in str(there)
    again = cache_features(clips[:4], small(), tmp_path / "w2", num_frames=4, grid=True, workers=2, progress=False)
    assert (again.found, again.made) == (4, 0) and torch.equal(again.pooled, here.pooled)


def test_a_reader_that_hangs(tmp_path, monkeypatch):
    "A file on which the reader hangs (a pipe that nobody writes into) is given up, and the others are read."
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    clips = [sample_clips()[0], pipe, sample_clips()[1]]
    got = cache_features(clips, small(), tmp_path / "c", num_frames=2, workers=1, timeout=5, progress=False)
    assert got.kept.tolist() == [0, 2] and len(got.unreadable) == 1


def test_cache_is_shared_with_the_bench(tmp_path):
    "What `cache_features` made, `clip_bench` finds."
    from vidprism.evaluation.benchmark import clip_bench

    clips, cache = sample_clips()[:4], FeatureCache(tmp_path)
    got = cache_features(clips, small(), tmp_path, num_frames=4, progress=False)
    side = [(p, i % 2) for i, p in enumerate(clips)]
    bench = clip_bench(small(), side, side, ["a", "b"], num_frames=4, templates=None, cache=cache)
    assert cache.misses == 0 and torch.equal(bench.train.features, got.pooled)


def test_progress_is_a_bar(tmp_path, capsys):
    "A bar on stderr, that reaches the end; nothing on stdout."
    cache_features(sample_clips()[:3], small(), tmp_path, num_frames=2)
    out, err = capsys.readouterr()
    assert "3/3" in err and not out


FILL = """import sys, time, torch
from pathlib import Path
from torch import nn
from vidprism.encoders.base import ModuleEncoder, Preprocess
from vidprism.encoders.cache import cache_features

class Slow(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        time.sleep(.1)
        return x.mean((2, 3)) * self.scale

encoder = ModuleEncoder(Slow(), Preprocess(32, (.5,) * 3, (.5,) * 3)).eval()
print("ready", flush=True)
sys.stdin.readline()
clips = sorted(Path(sys.argv[1]).glob("*.mp4"))
print(cache_features(clips, encoder, sys.argv[2], num_frames=2, progress=False, workers=1), flush=True)
"""


@pytest.mark.long
def test_killed_then_two_at_once(tmp_path):
    "Killed in the middle; then two processes finish the folder together. Every file whole, every clip there, in both."
    clips = sample_clips()

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", FILL, str(clips[0].parent), str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def go(*ps):
        for p in ps:
            assert p.stdout.readline() == "ready\n"
        for p in ps:
            p.stdin.write("\n")
            p.stdin.flush()

    p = start()
    go(p)
    while len(list(tmp_path.glob("[!.]*.safetensors"))) < 3 and p.poll() is None:
        time.sleep(0.02)
    p.send_signal(signal.SIGKILL)
    p.wait()
    left = len(list(tmp_path.glob("[!.]*.safetensors")))
    assert 3 <= left < len(clips)
    two = [start(), start()]
    go(*two)
    said = [p.communicate(timeout=200)[0].strip() for p in two]
    made = [int(s.split(" made")[0].split()[-1]) for s in said]
    missing = len(clips) - left
    assert all("0 unreadable" in s for s in said), said
    assert missing <= sum(made) <= missing + 8, said
    assert len(list(tmp_path.glob("[!.]*.safetensors"))) == len(clips)
