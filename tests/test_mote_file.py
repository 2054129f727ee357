"""MoTE's published weights: files in exactly their layout, held against CLIP's own modelling and loops by hand.

The layout is that of the training script of the repository: `model_state_dict` is the image tower with `logit_scale`,
`fusion_model_state_dict` the head with 77 positions, beside epoch and optimizer."""

import math
import pytest
import time
import torch
from contextlib import contextmanager
from open_clip import get_model_config
from open_clip.model import _build_vision_tower, build_model_from_openai_state_dict
from vidprism.cli import main
from vidprism.data.clips import read_clip, sample_clips
from vidprism.encoders.base import preprocess
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError
from vidprism.heads.mote import MOTE_TEMPLATES
from vidprism.heads.released import load_released_mote, released_architecture
from vidprism.model import VideoModel, interpolate

CLIP = sample_clips()[6]
NEW = ["somebody juggles", "a bear", "somebody sleeps"]


def draw(g, *shape, std=0.02):
    return torch.randn(*shape, generator=g) * std


def fusion_state(dim, classes, layers=4, experts=4, seed=5):
    "The head's state dict under the repository's names; `mote_fusion_weight` is zeros there."
    g = torch.Generator().manual_seed(seed)
    state = {"frame_position_embeddings.weight": draw(g, 77, dim, std=0.1)}
    state["spe_cls_feature"] = torch.nn.functional.normalize(draw(g, classes, dim), dim=-1)
    for layer in range(layers):
        at = f"transformer.resblocks.{layer}"
        state[f"{at}.attn.in_proj_weight"] = draw(g, 3 * dim, dim, std=0.1)
        state[f"{at}.attn.in_proj_bias"] = draw(g, 3 * dim)
        state[f"{at}.attn.out_proj.weight"] = draw(g, dim, dim, std=0.1)
        state[f"{at}.attn.out_proj.bias"] = draw(g, dim)
        for ln in ("ln_1", "ln_2"):
            state[f"{at}.{ln}.weight"], state[f"{at}.{ln}.bias"] = 1 + draw(g, dim), draw(g, dim)
        state[f"{at}.mlp.mote_fusion_weight"] = torch.zeros(experts)
        for e in range(experts):
            state[f"{at}.mlp.fc_up.{e}.weight"], state[f"{at}.mlp.fc_up.{e}.bias"] = (
                draw(g, 4 * dim, dim),
                draw(g, 4 * dim),
            )
            state[f"{at}.mlp.fc_dn.{e}.weight"], state[f"{at}.mlp.fc_dn.{e}.bias"] = draw(g, dim, 4 * dim), draw(g, dim)
    return state


def write(path, tower, fusion, prefix="", **more):
    "A checkpoint as the repository's `best_saving` writes it."
    optimizer = dict(
        state={0: dict(step=torch.tensor(7.0))}, param_groups=[dict(lr=5e-5, betas=(0.9, 0.98), params=[0])]
    )
    there = dict(epoch=29, model_state_dict={prefix + k: v for k, v in tower.items()})
    there |= dict(fusion_model_state_dict={prefix + k: v for k, v in fusion.items()}, optimizer_state_dict=optimizer)
    torch.save({**there, **more}, path)
    return path


def layer_norm(x, weight, bias):
    "As the repository has it, eps inside the root."
    mean = x.mean(-1, keepdim=True)
    return weight * (x - mean) / ((x - mean).square().mean(-1, keepdim=True) + 1e-12).sqrt() + bias


def head_by_hand(frames, state, layers=4, experts=4):
    "What the temporal layers make of frames [T,D] of one clip: attention frame by frame, experts merged by their mean."
    dim, heads = frames.shape[1], frames.shape[1] // 64
    x = frames + state["frame_position_embeddings.weight"][: len(frames)]
    for layer in range(layers):
        w = {k.removeprefix(f"transformer.resblocks.{layer}."): v for k, v in state.items()}
        y = layer_norm(x, w["ln_1.weight"], w["ln_1.bias"])
        q, k, v = (y @ w["attn.in_proj_weight"].T + w["attn.in_proj_bias"]).split(dim, -1)
        mixed = torch.zeros_like(x)
        for h in range(heads):
            part = slice(64 * h, 64 * (h + 1))
            for t in range(len(x)):
                scores = torch.stack([q[t, part] @ k[s, part] / 8 for s in range(len(x))])
                weights = scores.exp() / scores.exp().sum()
                mixed[t, part] = sum(weights[s] * v[s, part] for s in range(len(x)))
        x = x + mixed @ w["attn.out_proj.weight"].T + w["attn.out_proj.bias"]
        up, down = (
            [sum(w[f"mlp.{fc}.{e}.{kind}"] for e in range(experts)) / experts for kind in ("weight", "bias")]
            for fc in ("fc_up", "fc_dn")
        )
        hidden = layer_norm(x, w["ln_2.weight"], w["ln_2.bias"]) @ up[0].T + up[1]
        x = x + (hidden / (1 + (-1.702 * hidden).exp())) @ down[0].T + down[1]
    return x


def modulation_by_hand(frames, text, trained, k=5, gamma=0.05):
    "How far the given names are from the training classes: 5 nearest of each, the largest cosine of each, their mean."
    clip = frames.mean(0) / frames.mean(0).norm()

    def near(bank):
        return sorted(range(len(bank)), key=lambda i: -float(bank[i] @ clip))[:k]

    best = [max(float(text[i] @ trained[j]) for j in near(trained)) for i in near(text)]
    return math.exp(-(1 - sum(best) / len(best)) / gamma)


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


@contextmanager
def within(seconds):
    "At most so many seconds of this process's own time."
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds


def rounded_clip():
    "A random CLIP of ViT-B/16's sizes whose numbers half precision holds: OpenAI's loader rounds matrices to it."
    encoder = create_encoder("open_clip:ViT-B-16-quickgelu")
    with torch.no_grad():
        for p in encoder.model.parameters():
            p.copy_(p.half())
    return encoder


@pytest.fixture(scope="module")
def b16():
    "A CLIP of ViT-B/16's real sizes, whose image tower was moved as by training, and 400 classes in a file."
    original = rounded_clip()
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in original.model.visual.parameters():
            p.add_(torch.randn(p.shape, generator=g) * 0.01).copy_(p.half())
        original.model.logit_scale.fill_(math.log(60))
    return original


@pytest.fixture(scope="module")
def file(b16, tmp_path_factory):
    tower = {k: v for k, v in b16.model.state_dict().items() if k.startswith("visual.") or k == "logit_scale"}
    return write(tmp_path_factory.mktemp("mote") / "MoTE_B16.pt", tower, fusion_state(512, 400))


@pytest.mark.long
def test_b16_against_clip_and_loops(b16, file):
    "Close-set and zero-shot logits, to 1e-4 of their scale: OpenAI's CLIP as open_clip builds it, the head by loops."
    pristine = rounded_clip()
    with pytest.warns(UserWarning, match="of 16 class names fit"):  # the text features are random numbers
        model = VideoModel.from_mote(file, encoder=pristine)
    assert model.labels[:2] == ["abseiling", "air drumming"] and len(model.labels) == 400
    assert (model.num_frames, model.head.config.layers, model.head.config.experts) == (8, 4, 4)

    saved = torch.load(file, weights_only=True)
    text_tower = {k: v for k, v in pristine.model.state_dict().items() if not k.startswith("visual.")}
    openai = build_model_from_openai_state_dict({**text_tower, **saved["model_state_dict"]}, cast_dtype=torch.float32)
    openai = openai.float().eval()
    clip = read_clip(CLIP, num_frames=8)
    fusion = saved["fusion_model_state_dict"]
    with torch.no_grad():
        frames = openai.encode_image(preprocess(clip.frames, model.encoder.how))
        assert torch.allclose(model.features(clip)[0], frames, atol=1e-4 * float(frames.abs().max()))
        temporal = head_by_hand(frames.double(), {k: v.double() for k, v in fusion.items()})
        video = (frames + temporal).mean(0)
        logits = 60 * unit(video) @ fusion["spe_cls_feature"].double().T
        assert torch.allclose(model.head(model.features(clip)).logits[0].double(), logits, atol=60e-4)

        sentences = [[t.format(name) for t in MOTE_TEMPLATES] for name in NEW]
        text = torch.stack([unit(openai.encode_text(pristine.tokenizer(s))).mean(0) for s in sentences])
        text = unit(text)
        rho = modulation_by_hand(frames, text, fusion["spe_cls_feature"])
        assert 0 < rho < 1
        logits = 60 * unit(frames.mean(0) + rho * temporal.mean(0)) @ text.double().T
        assert torch.allclose(model.zero_shot_logits(clip, NEW)[0].double(), logits, atol=60e-4)
    answer = dict(model.predict(clip, labels=NEW))
    assert all(abs(answer[n] - p) < 1e-3 for n, p in zip(NEW, logits.softmax(-1).tolist()))


@pytest.mark.long
def test_the_published_zero_shot_mixes_the_towers(file):
    "99% of the file's image tower and 1% of the original's: `interpolate` gives just that."
    original = create_encoder("open_clip:ViT-B-16-quickgelu")
    with pytest.warns(UserWarning):
        model = VideoModel.from_mote(file, encoder=original)
    mixed = interpolate(model, original, 0.99)
    name = "visual.transformer.resblocks.3.attn.in_proj_weight"
    tuned, start = (e.model.state_dict()[name] for e in (model.encoder, original))
    assert torch.allclose(mixed.encoder.model.state_dict()[name], 0.99 * tuned + 0.01 * start, atol=1e-6)
    assert mixed.templates == MOTE_TEMPLATES and not torch.equal(tuned, start)


@pytest.mark.long
def test_without_a_text_tower(file):
    "One line, nothing fetched: the 400 classes by the file's text features; other names need a text tower."
    model = VideoModel.from_mote(file)
    assert not model.encoder.has_text and len(model.predict(CLIP, topk=400)) == 400
    with pytest.raises(ConfigError, match="no text tower"):
        model.predict(CLIP, labels=NEW)


@pytest.mark.long
def test_the_cached_text_tower_is_taken(file, monkeypatch):
    "Where the hub's cache has OpenAI's weights, they are named; here only the name is looked at."
    asked = []
    monkeypatch.setattr("vidprism.model.cached_file", lambda repo, names: asked.append(repo) or file)
    monkeypatch.setattr("vidprism.model.create_encoder", lambda name, **o: (_ for _ in ()).throw(ConfigError(name)))
    with pytest.raises(ConfigError, match="^open_clip:ViT-B-16-quickgelu/openai$"):
        VideoModel.from_mote(file)
    assert len(asked) == 1 and asked[0]


@pytest.mark.long
def test_other_layouts_are_one_sentence(file, tmp_path):
    "Each is refused by a ConfigError of one line, within 10 seconds of the process's time."
    saved = torch.load(file, weights_only=True)
    tower, fusion = saved["model_state_dict"], saved["fusion_model_state_dict"]
    no_head = {k: v for k, v in saved.items() if k != "fusion_model_state_dict"}
    strange = {**fusion, "transformer.resblocks.0.mlp.router.weight": torch.ones(4, 512)}
    learned = {**fusion, "transformer.resblocks.1.mlp.mote_fusion_weight": torch.tensor([1.0, 0, 0, 0])}
    short = {k: v for k, v in tower.items() if "resblocks.11." not in k}
    infinite = {**tower, "visual.proj": tower["visual.proj"] / 0}
    space_time = {**tower, "visual.time_embedding": torch.ones(8, 768)}
    for what, given, contains in (
        ("head alone", fusion, "no CLIP tower"),
        ("tower alone", no_head, "not a checkpoint"),
        ("unknown key", dict(saved, fusion_model_state_dict=strange), "left over: .*router"),
        ("learned merge", dict(saved, fusion_model_state_dict=learned), "learned weights"),
        ("layers missing", dict(saved, model_state_dict=short), "missing: visual.transformer.resblocks.11"),
        ("a time embedding", dict(saved, model_state_dict=space_time), "left over: visual.time_embedding"),
        ("not finite", dict(saved, model_state_dict=infinite), "visual.proj"),
        ("a list", [1, 2], "no state dict"),
    ):
        path = tmp_path / "other.pt"
        torch.save(given, path)
        with within(10), pytest.raises(ConfigError, match=contains) as refusal:
            VideoModel.from_mote(path)
        assert "\n" not in str(refusal.value), what
    (tmp_path / "half.pt").write_bytes(file.read_bytes()[:100_000_000])
    with within(10), pytest.raises(ConfigError, match="cannot be read as weights"):
        VideoModel.from_mote(tmp_path / "half.pt")


@pytest.mark.long
def test_under_module_and_in_half(b16, tmp_path):
    "A parallel run's prefix, half precision, a whole CLIP with OpenAI's extra keys: the same model."
    whole = {k: v.half() if v.is_floating_point() else v for k, v in b16.model.state_dict().items()}
    extra = dict(input_resolution=torch.tensor(224), context_length=torch.tensor(77), vocab_size=torch.tensor(49408))
    fusion = {k: v.half() for k, v in fusion_state(512, 3).items()}
    path = write(tmp_path / "parallel.pt", {**whole, **extra}, fusion, "module.")
    with pytest.warns(UserWarning):
        model = VideoModel.from_mote(path, ["a", "b", "c"])
    state = model.encoder.model.state_dict()
    assert all(torch.equal(v, whole[k].to(v)) for k, v in state.items())
    assert model.encoder.has_text and len(model.predict(CLIP, labels=NEW)) == 3


def test_l14_by_shapes():
    "The large tower's architecture and six layers are told by shapes alone; nothing is built."
    config = get_model_config("ViT-L-14-quickgelu")
    with torch.device("meta"):
        tower = _build_vision_tower(config["embed_dim"], config["vision_cfg"], quick_gelu=True).state_dict()
    assert released_architecture({f"visual.{k}": v for k, v in tower.items()}) == "ViT-L-14-quickgelu"
    head = load_released_mote(fusion_state(768, 7, layers=6), 8)
    assert (head.config.layers, head.config.num_heads, head.config.dim) == (6, 12, 768)


@pytest.mark.long
def test_import_as_a_command(file, tmp_path, capsys):
    "A model folder that any other command takes; a folder of the user's is refused before any work."
    assert main(["import", str(file), str(tmp_path / "mote")]) == 0
    assert "400 classes, no others" in capsys.readouterr().out
    model = VideoModel.from_pretrained(tmp_path / "mote")
    assert model.templates == MOTE_TEMPLATES and model.predict(CLIP) == VideoModel.from_mote(file).predict(CLIP)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert main(["import", str(tmp_path / "none.pt"), str(tmp_path / "mine")]) == 2
    assert "holds other files" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "none.pt"), str(tmp_path / "new")]) == 2
    assert "does not exist" in capsys.readouterr().err and not (tmp_path / "new").exists()
