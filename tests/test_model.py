"""Whole models: from the hub's cache with no network, halved, read strictly.

And OpenAI's archive, and published checkpoints at their own size."""

import json
import os
import pytest
import subprocess
import sys
import torch
import warnings
from pathlib import Path
from safetensors.torch import save_file
from torch import nn
from vidprism.data.clips import sample_clips
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError
from vidprism.heads.base import HEADS, create_head
from vidprism.heads.released import released_layout
from vidprism.model import VideoModel, import_released, interpolate, sample_model
from vidprism.training.trainer import seeded


def into_cache(home, repo, files):
    "Lay files into the hub's cache as a download would."
    at = Path(home) / "hub" / f"models--{repo.replace('/', '--')}"
    (at / "refs").mkdir(parents=True)
    (at / "refs" / "main").write_text("a" * 40)
    there = at / "snapshots" / ("a" * 40)
    there.mkdir(parents=True)
    for name, data in files.items():
        (there / name).write_bytes(data)


def alone(home, code, *args, **env):
    "Run a few lines in a process whose hub is another."
    environment = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | dict(HF_HOME=str(home), **env)
    command = [sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert not done.returncode, done.stderr[-800:]
    return done.stdout.strip()


@pytest.mark.long
def test_from_the_hubs_cache(tmp_path):
    "A model that was downloaded once is loaded with the hub switched off, and with a hub that does not exist."
    sample_model("mean").save_pretrained(tmp_path / "m")
    into_cache(tmp_path / "home", "someone/prism", {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()})
    code = """
import sys
from vidprism.model import VideoModel
model = VideoModel.from_pretrained('someone/prism')
print(model.predict(sys.argv[1], topk=1)[0][0])"""
    expected = sample_model("mean").predict(sample_clips()[0], topk=1)[0][0]
    assert alone(tmp_path / "home", code, sample_clips()[0], HF_HUB_OFFLINE="1") == expected
    assert alone(tmp_path / "home", code, sample_clips()[0], HF_ENDPOINT="http://127.0.0.1:9") == expected


@pytest.mark.long
def test_tag_from_the_hubs_cache(tmp_path):
    "A tag of timm's whose file was downloaded once needs no hub."
    import timm

    net = timm.create_model("test_vit")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for p in net.parameters():
            nn.init.normal_(p, std=0.1)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    files = {"model.safetensors": (tmp_path / "model.safetensors").read_bytes()}
    into_cache(tmp_path / "home", "timm/test_vit.r160_in1k", files)
    code = """
from vidprism.encoders.factory import create_encoder
e = create_encoder('timm:test_vit/r160_in1k')
print(float(e.model.blocks[1].mlp.fc1.weight.detach().sum()), e.how.size)"""
    got, size = alone(tmp_path / "home", code, HF_HUB_OFFLINE="1").split()
    assert abs(float(got) - float(net.blocks[1].mlp.fc1.weight.detach().sum())) < 1e-3
    assert size == "160"


# OpenAI's archive


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    "A small CLIP with QuickGELU, and its plain twin, in open_clip's list."
    import open_clip

    folder = tmp_path_factory.mktemp("tiny")
    cfg = dict(
        embed_dim=64,
        vision_cfg=dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16),
        text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
    )
    for name, more in (("tiny-jit", {}), ("tiny-jit-quickgelu", dict(quick_gelu=True))):
        (folder / f"{name}.json").write_text(json.dumps(cfg | more))
        open_clip.add_model_config(folder / f"{name}.json")
    return folder


class Box(nn.Module):
    "Parameters under the names of a state dict."

    def __init__(self, state):
        super().__init__()
        for first in dict.fromkeys(k.partition(".")[0] for k in state):
            inner = {k.partition(".")[2]: v for k, v in state.items() if k.partition(".")[0] == first}
            own = inner.get("")
            if own is None:
                self.add_module(first, Box(inner))
            elif own.is_floating_point():
                self.register_parameter(first, nn.Parameter(own))
            else:
                self.register_buffer(first, own)

    def forward(self, x):
        return x


def test_openais_archive(tiny):
    """An archive like OpenAI's (half precision, three extra keys) goes into the QuickGELU architecture.

    Its numbers stand as they are. The plain architecture refuses it."""
    e = create_encoder("open_clip:tiny-jit-quickgelu")
    state = {k: v.half() for k, v in e.model.state_dict().items()}
    extra = dict(input_resolution=32, context_length=16, vocab_size=49408)
    state |= {k: torch.tensor(n) for k, n in extra.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Box(state)), tiny / "weights.pt")
    got = create_encoder(f"open_clip:tiny-jit-quickgelu/{tiny / 'weights.pt'}")
    assert all(torch.equal(v, state[k].float()) for k, v in got.model.state_dict().items())
    assert torch.allclose(got.encode_text(["a dog"]), e.encode_text(["a dog"]), atol=1e-2)
    with pytest.raises(ConfigError, match="QuickGELU.*name tiny-jit-quickgelu instead"):
        create_encoder(f"open_clip:tiny-jit/{tiny / 'weights.pt'}")
    # converted by somebody: the sign stays
    save_file({k: v.contiguous() for k, v in got.model.state_dict().items()}, tiny / "converted.safetensors")
    with pytest.raises(ConfigError, match="QuickGELU"):
        create_encoder(f"open_clip:tiny-jit/{tiny / 'converted.safetensors'}")


# saved and loaded


@pytest.mark.parametrize("name", sorted(HEADS))
def test_every_head_comes_back(name, tmp_path):
    "Whole, and in half precision within its grain; two files, and the encoder is not copied."
    model = sample_model("mean")
    options = dict(text=torch.randn(3, 128, generator=torch.Generator().manual_seed(0))) if name == "mote" else {}
    with seeded(0):
        model = VideoModel(model.encoder, create_head(name, 128, 3, 8, **options), list("abc")).eval()
    model.save_pretrained(tmp_path / "whole", epochs=3)
    model.save_pretrained(tmp_path / "half", half=True)
    assert sorted(p.name for p in (tmp_path / "whole").iterdir()) == ["config.json", "head.safetensors"]
    path = sample_clips()[3]
    assert torch.equal(VideoModel.from_pretrained(tmp_path / "whole").embed(path), model.embed(path))
    half = VideoModel.from_pretrained(tmp_path / "half")
    assert torch.allclose(half.embed(path), model.embed(path), rtol=0.05, atol=0.05)


def test_shipped_models_load():
    "Folders that were written before encoders had options."
    for name in ("vidprism", "mean", "bmoe", "mote", "transformer"):
        assert len(sample_model(name).predict(sample_clips()[0])) == 5


def test_encoder_copied_on_demand(tmp_path):
    "With encoder=True nothing else is needed to load it."
    model = sample_model("mean")
    model.save_pretrained(tmp_path, encoder=True)
    assert (tmp_path / "encoder.safetensors").is_file()
    assert torch.equal(VideoModel.from_pretrained(tmp_path).embed(sample_clips()[0]), model.embed(sample_clips()[0]))


def test_difference_is_readable(tmp_path):
    "What does not fit is one sentence, layers of one kind told together."
    model = sample_model("mean")
    VideoModel(model.encoder, create_head("transformer", 128, 3, 8, layers=2), list("abc")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["options"]["layers"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError) as e:
        VideoModel.from_pretrained(tmp_path)
    assert "missing: temporal.layers.{2-3}.attn.in_proj_bias (2)" in str(e.value)
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 600


# published checkpoints


def projection(model):
    "The last weight of a model's encoder, or of an encoder."
    return getattr(model, "encoder", model).model.visual.proj


@pytest.mark.long
def test_published_at_full_size(tmp_path):
    """ViT-B/16's tower under visual.*, VidPrism's head at width 512.

    The architecture is found from shapes, the numbers are the file's, and alpha mixes them with the original."""
    original = create_encoder("open_clip:ViT-B-16-quickgelu", text=False)
    tower = {f"module.{k}": (v + 0.01 if v.is_floating_point() else v) for k, v in original.model.state_dict().items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = create_head("vidprism", 512, 4, 8, rates=(2, 4, 8), preset="released").eval()
    weights = head.state_dict()
    fusion = {there: weights[here] for there, here in released_layout(head)}
    checkpoint = dict(epoch=29, model_state_dict=tower, optimizer_state_dict={}, fusion_model_state_dict=fusion)
    torch.save(checkpoint, tmp_path / "model.pt")
    model = import_released(tmp_path / "model.pt", list("abcd"), num_frames=8, rates=(2, 4, 8))
    assert model.encoder.name == "open_clip:ViT-B-16-quickgelu"
    assert model.num_frames == 8
    assert model.head.config.rates == (2, 4, 8)
    assert torch.allclose(projection(model), projection(original) + 0.01)
    assert torch.equal(projection(interpolate(model, original, 0)), projection(original))
    assert torch.equal(projection(interpolate(model, original, 1)), projection(model))
    assert torch.allclose(projection(interpolate(model, original, 0.3)), projection(original) + 0.003, atol=1e-6)
    with pytest.raises(ConfigError, match="3 labels|4 classes"):
        import_released(tmp_path / "model.pt", list("abc"), num_frames=8, rates=(2, 4, 8))
