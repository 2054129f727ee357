"Probe heads: held against transformers' own pooler of V-JEPA 2, and in every place where a head may stand."

import json
import pytest
import shutil
import torch
from torch import nn
from vidprism.cli import main
from vidprism.data.clips import sample_clips, samples_folder
from vidprism.encoders.factory import create_encoder
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit
from vidprism.evaluation.cost import head_cost
from vidprism.evaluation.protocols import close_set, cross_validate, few_shot, zero_shot
from vidprism.experiments.mote_tables import MOTE_TABLES
from vidprism.experiments.samples import BuildConfig, build_world, write_sources
from vidprism.experiments.studies import Study
from vidprism.experiments.tables import VIDPRISM_TABLES
from vidprism.heads.base import create_head, variant
from vidprism.interpret.explanation import describe, explain
from vidprism.model import VideoModel
from vidprism.training.trainer import TensorClips, TrainConfig, fit, seeded

PROBES = [
    ("linear_probe", {}),
    ("linear_probe", dict(norm="layer")),
    ("attentive_probe", {}),
    ("attentive_probe", dict(depth=2, positions="learned")),
]
ONCE = TrainConfig(epochs=1, batch=4)


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bench():
    "Three classes that the mean tells apart."
    y = torch.arange(24) % 3
    x = features(24, 6, 16) + 2 * torch.eye(16)[y][:, None]
    items = [f"{i}.mp4" for i in range(24)]
    side = FeatureSplit(x, y, items, items)
    return Benchmark("tiny", side, side, ["a", "b", "c"], {"encoder": "none"}, features(3, 16, seed=1))


@pytest.mark.parametrize("depth", [1, 4])
def test_attentive_probe_is_the_published_pooler(depth):
    """transformers' pooler of V-JEPA 2 on the same weights, to 1e-6.

    It has no output layer after the cross-attention, so ours is the identity here."""
    jepa = pytest.importorskip("transformers.models.vjepa2.modeling_vjepa2")
    sizes = dict(hidden_size=64, num_attention_heads=4, mlp_ratio=4.0, num_pooler_layers=depth - 1, layer_norm_eps=1e-5)
    config = jepa.VJEPA2Config(**sizes, attn_implementation="eager")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = jepa.VJEPA2AttentivePooler(config).double().eval()
        for p in theirs.parameters():
            nn.init.normal_(p, std=0.3)
    head = create_head("attentive_probe", 64, 5, 8, depth=depth, num_heads=4).double().eval()

    def copy(ours, block, attention):
        parts = [getattr(attention, f"{name}_proj") for name in "qkv"]
        ours.ln.load_state_dict(block.layer_norm1.state_dict())
        ours.attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        ours.attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        out = getattr(attention, "out_proj", None) or nn.Linear(64, 64)
        if not hasattr(attention, "out_proj"):
            out.weight.copy_(torch.eye(64))
            out.bias.zero_()
        ours.attn.out_proj.load_state_dict(out.state_dict())
        ours.mlp.ln.load_state_dict(block.layer_norm2.state_dict())
        ours.mlp.fc1.load_state_dict(block.mlp.fc1.state_dict())
        ours.mlp.fc2.load_state_dict(block.mlp.fc2.state_dict())

    with torch.no_grad():
        last = theirs.cross_attention_layer
        copy(head.readout, last, last.cross_attn)
        head.readout.query.copy_(theirs.query_tokens[0, 0])
        for ours, block in zip(head.layers, theirs.self_attention_layers, strict=True):
            copy(ours, block, block.self_attn)
        x = features(3, 8, 64).double()
        expected = theirs(x)
        assert float(expected.std()) > 0.1
        assert torch.allclose(head(x).video, expected, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name, options", PROBES, ids=str)
def test_every_protocol(name, options, tmp_path):
    "Close-set, few-shot, folds; the result says its head, and a trained probe learns what the mean tells."
    b = bench()
    found = [
        close_set(b, name, options, config=TrainConfig(epochs=30, batch=8, lr=0.01), seeds=(0,)),
        few_shot(b, name, 2, options, config=ONCE, seeds=(0,)),
        cross_validate(b, name, options, config=ONCE, folds=2),
    ]
    assert [r.record["head"] for r in found] == [name] * 3
    assert found[0].record["top1"]["mean"] > 0.9
    json.dumps([r.record for r in found])


def test_text_and_zero_shot():
    "An attentive probe is compared with text, also of other classes; a linear one says why not."
    b = bench()
    with seeded(0):
        head = create_head("attentive_probe", 16, 3, 6, text=b.text)
    fit(head, TensorClips(b.train.features, b.train.labels), config=ONCE)
    head.eval()
    other = features(5, 16, seed=3)
    assert head(b.test.features, text=other).logits.shape == (24, 5)
    assert zero_shot(head, b).record["head"] == "attentive_probe"
    with pytest.raises(ValueError, match="use the head 'mean'"):
        create_head("linear_probe", 16, 3, 6, text=b.text)


@pytest.mark.parametrize("name, options", PROBES, ids=str)
def test_saved_explained_described_and_counted(name, options, tmp_path):
    "A saved probe answers the same; its parts sum to the logit; cost and inspector have a number for it."
    with seeded(0):
        model = VideoModel(create_encoder("mini"), create_head(name, 128, 3, 8, **options), list("abc")).eval()
        if name == "linear_probe" and not options:  # running averages must come back, too
            model.head.norm.running_mean.normal_()
            model.head.norm.running_var.uniform_(0.5, 2)
    model.save_pretrained(tmp_path / "m")
    clip = sample_clips()[4]
    again = VideoModel.from_pretrained(tmp_path / "m")
    assert again.predict(clip) == model.predict(clip)
    e = explain(again, clip, target=1)
    assert abs(float(e.contributions.sum()) + e.bias - e.logit) < 1e-5 * max(1, float(e.contributions.abs().max()))
    assert e.rates == model.head.part_names and abs(float(e.importance.sum()) - 1) < 1e-5
    d = describe(again.head, again.features(clip), model.open_clip(clip), model.labels)
    assert d.map_names[-1] == "readout" and torch.allclose(d.maps.sum(-1), torch.ones_like(d.maps[..., 0]), atol=1e-5)
    assert abs(float(d.readout_weight.sum()) - 1) < 1e-5
    cost = head_cost(model.head)
    assert cost.head_parameters == sum(p.numel() for p in model.head.parameters())
    width, frames, depth = 128, 8, options.get("depth", 1)
    classify = 3 * width
    if name == "linear_probe":
        assert cost.head_macs == classify
    else:
        read = (
            width**2 + 2 * frames * width**2 + 2 * frames * width + width**2 + 8 * width**2
        )  # q, kv, two sums, out, MLP
        mix = frames * 12 * width**2 + 2 * frames**2 * width
        assert cost.head_macs == read + (depth - 1) * mix + classify


def test_one_clip_a_batch():
    "A last batch of a single clip trains: PyTorch's batch norm would refuse it."
    x, y = features(5, 4, 8), torch.tensor([0, 1, 2, 0, 1])
    with seeded(0):
        head = create_head("linear_probe", 8, 3, 4)
    fit(head, TensorClips(x, y), config=TrainConfig(epochs=2, batch=4))
    assert all(v.isfinite().all() for v in head.state_dict().values())
    with seeded(0):
        alone = create_head("linear_probe", 8, 3, 4)
    fit(alone, TensorClips(x[:1], y[:1]), config=TrainConfig(epochs=2, batch=1))
    assert alone.norm.running_mean.count_nonzero() == 0


def test_they_stand_in_every_table():
    "Every table of VidPrism's, and every one of MoTE's but those of seconds and of quoted systems, has both probes."
    b = bench()
    study = Study("tiny", b, "none", shots=(2,))
    for tables, without in ((VIDPRISM_TABLES, ()), (MOTE_TABLES, ("table_3", "table_7d"))):
        for name, make in tables.items():
            heads = {cell.head for cell in make(study).cells}
            if name not in without:
                assert {"linear_probe", "attentive_probe", "statistics"} <= heads, name


@pytest.mark.parametrize("head", ["linear_probe", "attentive_probe"])
def test_train_as_a_command(head, tmp_path, monkeypatch, capsys):
    "`vidprism train --head` and what follows it."
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDPRISM_CACHE", str(tmp_path / "cache"))
    write_sources("clips", ("drift left", "blink"), sources=2, each=1, num_frames=4)
    line = ["train", "clips", "--head", head, "--num-frames", "4", "--epochs", "1", "--split", "source", "--folds", "2"]
    assert main([*line, "--out", "model"]) == 0
    assert main(["cost", "--model", "model", "--repeats", "0"]) == 0
    assert head in (tmp_path / "model" / "config.json").read_text()
    assert main(["predict", str(next((tmp_path / "clips" / "blink").iterdir())), "--model", "model"]) == 0
    assert "blink" in capsys.readouterr().out


@pytest.mark.long
def test_a_shipped_head_names_its_encoder(tmp_path):
    "`vidprism-world --heads` writes the head alone: the small CLIP beside it is 17 MB."
    for name in ("mini_clip", "build.json"):
        source = samples_folder() / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    config = BuildConfig(train=36, test=18, num_frames=4, head_epochs=1, seeds=1)
    found = build_world(tmp_path, config, only_heads=True, heads=["linear_probe"])
    assert sorted(p.name for p in (tmp_path / "heads" / "linear_probe").iterdir()) == [
        "config.json",
        "head.safetensors",
    ]
    kept = json.loads((samples_folder() / "build.json").read_text())
    assert found["systems"]["statistics"] == kept["systems"]["statistics"]
    model = VideoModel.from_pretrained(tmp_path / "heads" / "linear_probe")
    assert len(model.predict(sample_clips()[0], topk=18)) == 18


def test_trained_weights_take_no_other_shape():
    "`variant` shares the weights of a probe and names what is new."
    head = create_head("attentive_probe", 16, 3, 6)
    found = variant(head, positions="learned")
    assert found.untrained == ["positions.table"] and found.head.readout.query is head.readout.query
