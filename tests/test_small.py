"The head for few clips: what it is for, that it comes back from disk, and that its table adds up."

import json
import pytest
import torch
from pathlib import Path
from real import load_script, shared
from vidprism.data.clips import sample_clips
from vidprism.encoders.factory import create_encoder
from vidprism.encoders.motion import MotionEncoder
from vidprism.errors import ConfigError
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit
from vidprism.heads.base import HEADS, create_head
from vidprism.model import VideoModel
from vidprism.training.trainer import TensorClips, TrainConfig, fit, score, seeded


@pytest.fixture(scope="module")
def bench():
    "The benchmark script, as a module."
    return load_script("benchmarks", "small_data")


def toy(n, seed, noise=0.2):
    "Three classes: rising, falling, trembling; the mean of a clip says nothing."
    g = torch.Generator().manual_seed(seed)
    t, y = torch.linspace(-1, 1, 16), torch.arange(n) % 3
    course = torch.stack([t, -t, torch.tensor([1.0, -1.0]).repeat(8)])[y]
    x = noise * torch.randn(n, 1, 32, generator=g) + 0.1 * torch.randn(n, 16, 32, generator=g)
    x[..., :6] += course[..., None]
    return x, y


def trained(name, options, x, y, **config):
    with seeded(0):
        head = create_head(name, 32, 3, 16, **options)
        fit(head, TensorClips(x, y), None, TrainConfig(**{"epochs": 20, "batch": 16, "lr": 3e-3, **config}))
    return head


def test_few_clips_of_motion_are_learned():
    "48 clips whose mean says nothing: the head knows new ones, mean pooling guesses."
    x, y = toy(48, 0)
    new = toy(81, 1)
    small = score(trained("vidprism_lowdata", dict(width=16), x, y), *new).top1
    mean = score(trained("mean", {}, x, y, lr=0.01, epochs=40), *new).top1
    assert small > 0.9 and mean < 0.6, (small, mean)


def test_default_and_registry_stay_the_papers():
    assert create_head("vidprism", 16, 3, 8).config.preset == "paper" and type(HEADS["vidprism"]).__name__ == "type"
    assert HEADS["vidprism"].__name__ == "VidPrismHead"
    assert type(create_head("vidprism_lowdata", 16, 3, 8, width=8)).__name__ == "LowDataHead"
    for name in HEADS:
        with pytest.raises(ConfigError):
            create_head(name, 16, 3, 8, preset="small")
    with pytest.raises(ConfigError, match="paper, released"):
        create_head("vidprism", 16, 3, 8, preset="release")
    with pytest.raises(ConfigError, match="motion"):
        create_head("vidprism", 16, 3, 8, motion=4)


@pytest.mark.parametrize("centre", (True, False))
def test_saved_model_answers_the_same(tmp_path, centre):
    "Standardisation travels with the weights."
    encoder = create_encoder("mini")
    D = encoder.dim
    with seeded(0):
        head = create_head("vidprism_lowdata", D, 3, 4, width=16, rates=(2, 4), centre=centre)
    g = torch.Generator().manual_seed(0)
    clips = TensorClips(3 + torch.randn(12, 4, D, generator=g), torch.arange(12) % 3)
    fit(head, clips, None, TrainConfig(epochs=2, batch=6))
    model = VideoModel(encoder, head, ["a", "b", "c"]).eval()
    model.save_pretrained(tmp_path)
    again = VideoModel.from_pretrained(tmp_path)
    assert head.frame_scale.seen == 12 * 4 * 2
    assert again.head.clip_scale.mean.abs().sum() > 1
    assert again.head.frame_scale.square.equal(head.frame_scale.square)
    assert centre or again.head.frame_scale.mean.abs().sum() > 1  # centred frames have none
    clip = sample_clips()[0]
    assert again.predict(clip) == model.predict(clip)


def test_motion_reaches_the_head():
    "An encoder with motion and a head that is told so make a model; told a wrong width, it is refused."
    encoder = MotionEncoder(create_encoder("mini"), cells=1)
    with seeded(0):
        head = create_head("vidprism_lowdata", encoder.dim, 3, 4, width=16, motion=encoder.motion, rates=(2, 4)).eval()
    assert VideoModel(encoder, head, ["a", "b", "c"]).eval().predict(sample_clips()[0])[0][0] in "abc"
    narrow = encoder.dim - encoder.motion
    with pytest.raises(ConfigError):
        VideoModel(encoder, create_head("vidprism_lowdata", narrow, 3, 4, width=16), ["a", "b", "c"])


def test_pairs_by_hand(bench):
    "Differences are taken fold by fold, seeds averaged first."
    found = [("mean", 0, [0.5, 0.6]), ("small", 0, [0.6, 0.6]), ("small", 1, [0.6, 0.8])]
    rows = [dict(settings=dict(name=n, seed=s), splits=0, top1=v) for n, s, v in found]
    d = bench.paired(rows, "small", "mean")
    assert d["folds"] == 2
    assert d["mean"] == pytest.approx(10)
    assert d["sd"] == pytest.approx(0, abs=1e-9)
    assert bench.paired(rows, "small", "vidprism") is None and "| small |" in bench.table(rows)


def test_table_is_whole(bench):
    "Every row says how it was made, has one number a fold, and is of a cell that the script still has."
    if not bench.TABLE.exists():
        pytest.skip("benchmarks/small_data.json is not there")
    for r in json.loads(bench.TABLE.read_text())["rows"]:
        assert r["settings"]["name"] in bench.PLAN
        assert len(r["top1"]) == bench.FOLDS
        assert all(0 <= v <= 1 for v in r["top1"])
        assert r["commit"]
        assert (r["chosen"] is None) == (r["settings"]["grid"] is None)


def test_a_row_goes_on_fold_by_fold(bench, tmp_path, monkeypatch):
    """Stopped in the third fold, a row keeps two; started again, it measures the others only.

    It ends as if it had not been stopped."""
    monkeypatch.setattr(bench, "TABLE", tmp_path / "table.json")
    asked = []

    def measure_fold(b, fold, *rest):
        asked.append(fold.test[0])
        if len(asked) == 3:
            raise KeyboardInterrupt
        return len(fold.test) / 1000, None

    monkeypatch.setattr(bench, "measure_fold", measure_fold)
    sources = [f"s{i // 2}" for i in range(60)]
    side = FeatureSplit(torch.zeros(60, 1, 2), torch.arange(60) % 3, [str(i) for i in range(60)], sources)
    b = Benchmark("toy", side, side, ["a", "b", "c"], {})
    with pytest.raises(KeyboardInterrupt):
        bench.run_row(b, "without drift", [0], [0])
    assert bench.read_rows() == []
    assert [len(r["top1"]) for r in bench.read()["unfinished"]] == [2]
    bench.run_row(b, "without drift", [0], [0])
    rows = bench.read_rows()
    assert bench.read()["unfinished"] == []
    assert len(rows) == 1
    assert len(rows[0]["top1"]) == bench.FOLDS
    assert asked[2] == asked[3]
    assert len(set(asked)) == bench.FOLDS
    bench.run_row(b, "without drift", [0], [0])
    assert len(asked) == bench.FOLDS + 1 and bench.read_rows() == rows


def test_folds_keep_sources_apart(bench):
    "On the real list."
    shared("jhmdb21", "clips.txt")
    from vidprism.data.splits import grouped_folds, source_of

    _, items, labels, classes = bench.listed()
    sources = [source_of(Path(p)) for p in items]
    assert (len(items), len(classes), len(set(sources))) == (650, 21, 242)
    for f in grouped_folds(labels, sources, bench.FOLDS, 0):
        assert not {sources[i] for i in f.train} & {sources[i] for i in f.test}


def test_explained_and_inspected():
    """What an expert of the head added is what the answer loses without its streams' vector.

    The inspector's handles turn, and give back the answer they found."""
    from vidprism import ClipInspector, explain
    from vidprism.heads.base import variant
    from vidprism.viz.session import settings_of

    encoder = create_encoder("mini")
    with seeded(0), torch.no_grad():
        head = create_head("vidprism_lowdata", encoder.dim, 3, 16)
        head.train()(torch.randn(8, 16, encoder.dim))
        head.classifier.weight.normal_(std=0.2)
    model = VideoModel(encoder, head.eval(), ["a", "b", "c"])
    found = explain(model, sample_clips()[0])
    assert float(found.contributions.sum()) + found.bias == pytest.approx(found.logit, abs=1e-4)
    assert found.contributions.abs().sum() > 0.01
    assert found.saliency.shape[0] == 3 and torch.isfinite(found.saliency).all() and "preset" not in settings_of(head)
    x = torch.randn(4, 16, encoder.dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        other = variant(head, interaction="none")
        again = variant(other.head, interaction="both")
        assert not torch.allclose(other.head(x).logits, head(x).logits) and again.untrained
        avg = variant(head, combination="avg")
        assert torch.equal(avg.head.clip_scale.mean, head.clip_scale.mean) and avg.untrained == []
        same = variant(head).head
        assert torch.equal(same(x).logits, head(x).logits)
    assert ClipInspector(model, sample_clips()[:1]).children
