"Explanations: they add up, they leave nothing behind, and the maps point at what moves."

import pytest
import torch
from copy import deepcopy
from real import SHARED
from torch import nn
from vidprism.data.clips import sample_clips
from vidprism.data.synthetic import world_clips
from vidprism.errors import ConfigError
from vidprism.heads.base import create_head
from vidprism.interpret.attribution import head_rows
from vidprism.interpret.explanation import explain
from vidprism.interpret.faithfulness import pointing, random_hits
from vidprism.interpret.saliency import METHODS, encode_for_maps, hooks_on, saliency_maps, tap
from vidprism.interpret.specialisation import in_short, measure_specialisation
from vidprism.model import VideoModel, sample_model
from vidprism.training.trainer import seeded

KINDS = [
    ("vidprism", {}),
    ("vidprism", dict(preset="released")),
    ("vidprism", dict(combination="mlp")),
    ("vidprism", dict(width=16)),
    ("bmoe", {}),
    ("bmoe", dict(width=16)),
    ("mote", {}),
    ("mote", dict(width=16)),
    ("transformer", {}),
    ("transformer", dict(width=16)),
    ("linear_probe", {}),
    ("linear_probe", dict(norm="layer")),
    ("attentive_probe", {}),
    ("attentive_probe", dict(depth=3, positions="learned")),
    ("attentive_probe", dict(width=16)),
]


@pytest.fixture(scope="module")
def model():
    return sample_model()


@pytest.fixture(scope="module")
def clip(model):
    "A shipped clip, every fourth frame."
    c = model.open_clip(sample_clips()[12])
    return c._replace(frames=c.frames[::4], times=c.times[::4], indices=c.indices[::4])


def new(encoder, kind, options):
    with seeded(0):
        return VideoModel(encoder, create_head(kind, encoder.dim, 4, 8, **options), list("abcd")).eval()


@pytest.mark.parametrize("path", sample_clips(), ids=lambda p: p.stem)
def test_contributions_sum_to_the_logit(model, path):
    "Every class, float32 to 1e-5 of the largest part and float64 to 1e-9."
    features = model.features(path)
    for dtype, bound in ((torch.float32, 1e-5), (torch.float64, 1e-9)):
        head = deepcopy(model.head).to(dtype)
        with torch.no_grad():
            out = head(features.to(dtype))
        for y in range(len(model.labels)):
            c = head.parts(out, y)
            error = float((c.experts.sum(1) + c.bias - out.logits[:, y]).detach().abs())
            largest = float(c.experts.detach().abs().max())
            assert error <= bound * max(1.0, largest)


@pytest.mark.parametrize("kind,options", KINDS, ids=lambda v: str(v))
def test_every_head_explains_itself(model, clip, kind, options):
    e = explain(new(model.encoder, kind, options), clip, target=2)
    assert abs(float(e.contributions.sum()) + e.bias - e.logit) < 1e-4
    assert abs(float(e.importance.sum()) - 1) < 1e-5 and e.target == 2
    assert e.saliency.shape == (len(e.rates), 8, 64, 64)
    assert e.drops.shape == (8,)
    assert e.saliency.isfinite().all()
    assert e.saliency.max() > 0
    assert not any(v.requires_grad for v in e if torch.is_tensor(v))


def traces(model):
    "What a pass may leave behind: hooks, gradients asked for, modes."
    gradients = [p.requires_grad for p in model.parameters()]
    modes = model.training, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    return hooks_on(model), gradients, modes


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("broken", ["head", "encoder", "captum"])
def test_no_trace_after_an_error(model, clip, method, broken, monkeypatch):
    "An error in the head, behind the tapped layer, or in captum leaves no hook, no gradient, no mode."

    def fail(*args, **kw):
        raise KeyError("in the middle")

    before = traces(model)
    with monkeypatch.context() as m:
        if broken == "head":
            m.setattr(type(model.head.mixture), "forward", fail)
        if broken == "encoder":
            m.setattr(model.encoder.model.visual.layer3, "forward", fail)
        if broken == "captum":
            m.setitem(METHODS, method, lambda kept, i: saliency_then_fail(kept, i, METHODS_BEFORE[method]))
        with pytest.raises(KeyError, match="in the middle"):
            saliency_maps(model, clip, method=method)
    assert before == traces(model)
    assert all(p.grad is None for p in model.parameters())


METHODS_BEFORE = dict(METHODS)


def saliency_then_fail(kept, i, method):
    "captum's hooks are on when its forward fails."

    def fail(self, *args):
        raise KeyError("in the middle")

    was = type(kept).forward
    type(kept).forward = fail
    kept.again = lambda x: fail(None)
    try:
        method(kept, i)
    finally:
        type(kept).forward = was
        assert hooks_on(kept) == 0


def test_inference_mode(model, clip):
    "Inside inference_mode, where captum fails by itself."
    with torch.inference_mode():
        e = explain(model, clip)
    assert torch.allclose(e.saliency, explain(model, clip).saliency, atol=1e-5)


def test_one_pass_of_the_encoder(model, clip):
    "explain runs the encoder once; a kept pass is asked again without it."
    runs = []

    def count(out):
        runs.append(1)
        return out

    with tap(model.encoder.model.visual.conv1, count):
        explain(model, clip)
        assert len(runs) == 1
        seen = encode_for_maps(model.encoder, clip.frames)
        for keep in (None, [0], [1, 3]):
            saliency_maps(model, clip, active_experts=keep, seen=seen)
        assert len(runs) == 2


def test_released_rows_do_not_see_each_other(model):
    "The released preset's gates ask the whole batch; drops are measured clip by clip."
    with seeded(0):
        head = create_head("vidprism", 16, 4, 8, preset="released").eval()
    x = torch.randn(5, 8, 16, generator=torch.Generator().manual_seed(0)) * 3
    with torch.no_grad():
        assert torch.equal(head_rows(head, x)[3], head(x[3:4]).logits[0])


def test_maps_point_at_what_moves(model):
    "On six world clips GradCAM's peak lies on the thing in most frames; a random pixel does in a tenth."
    hits, chance = [], []
    for i in range(90, 96):
        w = world_clips(1, split="test", start=i)
        place, size = w.place[0], w.scene.size[0]
        c = model.open_clip(sample_clips()[0])._replace(frames=w.frames[0])
        hits.append(pointing(saliency_maps(model, c).sum(0), place, size).float().mean())
        chance.append(random_hits(place, size, 64, 64).mean())
    assert sum(hits) / 6 > 0.8 and sum(chance) / 6 < 0.2


@pytest.mark.parametrize("path", sorted((SHARED / "clips" / "ordinary").glob("*")), ids=lambda p: p.stem)
def test_real_clips(model, path):
    "Frames that are not square: saliency covers the whole frame."
    e = explain(model, path)
    h, w = e.clip.frames.shape[1:3]
    assert e.saliency.shape[2:] == (int(64 * h / min(h, w)), int(64 * w / min(h, w)))
    assert abs(float(e.contributions.sum()) + e.bias - e.logit) < 1e-4


def test_unknown_encoder_asks_for_a_layer(clip):
    "An encoder whose last block is not known is told so; with a layer given it works."
    from vidprism.encoders.base import Features, FrameEncoder, Preprocess

    class Plain(FrameEncoder):
        def __init__(self):
            super().__init__("plain", 8, Preprocess(16, (0.5,) * 3, (0.25,) * 3))
            self.model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())

        def encode(self, x, grid=False):
            return Features(self.model(x).mean((2, 3)))

    with seeded(0):
        model = VideoModel(Plain().requires_grad_(False), create_head("vidprism", 8, 4, 8), list("abcd")).eval()
    with pytest.raises(ConfigError, match="layer="):
        saliency_maps(model, clip)
    assert saliency_maps(model, clip, layer=model.encoder.model[0]).shape == (4, 8, 16, 16)
    assert explain(model, clip, method=None).saliency is None


def test_specialisation_of_the_shipped_head(model):
    "The shipped experts are less alike than four copies of one."
    w = world_clips(18, split="test", start=90)
    with torch.no_grad():
        x = torch.cat([model.encoder(f[None]).pooled for f in w.frames])
    s = in_short(measure_specialisation(model.head, x, w.motion))
    assert s["cka"] < 0.9 and s["needed"] > 0.3 and s["accuracy"] > 0.6


def test_specialisation_on_real_clips(model):
    "On real clips, too, every score is a number, and VidPrism's experts are the least alike of the three mixtures'."
    paths = sorted((SHARED / "clips" / "ordinary").glob("*"))
    if not paths:
        pytest.skip(f"real clips: {SHARED.name}/clips/ordinary is not there")
    x = torch.cat([model.features(p) for p in paths])
    found = {}
    for name in ("vidprism", "bmoe", "mote"):
        head = sample_model(name).head
        with torch.no_grad():
            answers = head(x).logits.argmax(1)
        # the labels of these clips are not the model's: its answers stand in
        found[name] = in_short(measure_specialisation(head, x, answers))
        assert all(v == v for v in found[name].values())
        assert found[name]["accuracy"] == 1
    assert found["vidprism"]["cosine"] < min(found["bmoe"]["cosine"], found["mote"]["cosine"]), found
