"The parts of a training's pipeline, against values worked by hand."

import contextlib
import dataclasses
import io
import json
import pytest
import torch
from pathlib import Path
from types import SimpleNamespace
from vidprism.encoders.base import find_device
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit
from vidprism.training import pipeline
from vidprism.training.pipeline import Recipe, Split, paper_recipe
from vidprism.training.trainer import TrainConfig
from vidprism.training.watch import Watch

DEFAULTS = dict(
    encoder="mini",
    head="vidprism",
    options={},
    num_frames=16,
    sampling="sparse",
    views=(1, 1),
    split="auto",
    folds=5,
    fold=0,
    shots=0,
    classifier="linear",
    templates="mote",
    grid_search=False,
    finetune_encoder=False,
    adapters="none",
    adapter_options={},
    lengths="refuse",
    training=TrainConfig(),
)


def test_default_recipe():
    "The documented defaults; a recipe does not change."
    assert vars(Recipe()) == DEFAULTS
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().folds = 3
    assert Recipe(folds=2, fold=1).fold == 1


WRONG = [
    (dict(split="random"), "split"),
    (dict(classifier="svm"), "classifier"),
    (dict(lengths="cut"), "lengths"),
    (dict(adapters="lora"), "adapters"),
    (dict(folds=1), "folds must be 2 or more"),
    (dict(folds=3, fold=3), "fold must be 0 to 2"),
    (dict(fold=-1), "fold"),
    (dict(grid_search=True, finetune_encoder=True), "does not go with finetune_encoder"),
    (dict(adapter_options=dict(width=2)), "adapters is none"),
    (dict(adapters="aim", adapter_options=dict(kernel=3)), "no option"),
    (dict(adapters="aim", finetune_encoder=True), "do not go with finetune_encoder"),
    (dict(adapters="aim", grid_search=True), "do not go with grid_search"),
]


@pytest.mark.parametrize("options,why", WRONG)
def test_wrong_recipe(options, why):
    with pytest.raises(ConfigError, match=why):
        Recipe(**options)


def test_what_a_recipe_says_of_itself():
    assert not Recipe().learns_on_frames and Recipe(finetune_encoder=True).learns_on_frames
    assert Recipe(adapters="aim").learns_on_frames
    auto = Recipe(options=dict(rates="auto", width=3))
    assert auto.chooses_rates and not Recipe().chooses_rates
    for rates in ((2, 4), "all", 2):
        assert not Recipe(options=dict(rates=rates)).chooses_rates
    assert auto.with_rates([2, 8]).options == dict(rates=(2, 8), width=3)
    assert Recipe(classifier="text").needs_text and Recipe(options=dict(contrastive_weight=0.1)).needs_text
    assert not Recipe().needs_text and not Recipe(options=dict(contrastive_weight=0)).needs_text


B16, L14 = "open_clip:ViT-B-16-quickgelu/openai", "open_clip:ViT-L-14-quickgelu/openai"
SHORT, LONG = (2, 4, 8), (2, 4, 8, 16)
SCRIPT = dict(preset="released", rank_weight=0.1, div_weight=0.005, gate_weight=0.01, contrastive_weight=0.01)
# name: encoder, head, options, frames, clips a step, epochs, batch, rate, warm-up epochs, encoder's rate, decay
PAPERS = {
    "mote-k400": (B16, "mote", dict(layers=4), 8, 144, 30, 48, 5e-5, 5, 0.06, 0.2),
    "mote-k400-l14": (L14, "mote", dict(layers=6), 8, 144, 20, 48, 5e-5, 5, 0.06, 0.2),
    "vidprism-k400": (B16, "vidprism", dict(rates=SHORT), 8, 64, 40, 32, 1e-4, 10, 0.07, 0.2),
    "vidprism-k400-32": (B16, "vidprism", dict(rates=LONG), 32, 64, 40, 32, 1e-4, 10, 0.07, 0.2),
    "vidprism-k400-l14": (L14, "vidprism", dict(rates=SHORT), 8, 128, 40, 32, 1e-4, 10, 0.06, 0.2),
    "vidprism-k400-script": (B16, "vidprism", dict(rates=LONG, **SCRIPT), 32, 64, 40, 32, 1e-4, 10, 0.07, 0.2),
    "vidprism-hmdb51": (B16, "vidprism", dict(rates=LONG), 32, 64, 30, 32, 5e-5, 5, 0.06, 0.1),
}


@pytest.mark.parametrize("name", PAPERS)
def test_numbers_of_the_papers(name):
    "Every recipe, and what all share: test views, decay of every parameter, no clipping, and the encoder learns."
    encoder, head, options, frames, total, epochs, batch, lr, warmup, encoder_lr, decay = PAPERS[name]
    assert set(pipeline.RECIPES) == set(PAPERS)
    paper = pipeline.RECIPES[name]
    r, t = paper.recipe, paper.recipe.training
    assert (r.encoder, r.head, r.options, r.num_frames, paper.total_batch) == (encoder, head, options, frames, total)
    assert (t.epochs, t.batch, t.lr, t.encoder_lr, t.weight_decay) == (epochs, batch, lr, encoder_lr, decay)
    assert t.warmup * t.epochs == pytest.approx(warmup)
    assert t.decay_all and t.clip_norm == 0 and r.finetune_encoder and r.views == (4, 3)
    assert r.classifier == ("text" if head == "mote" else "linear")


@pytest.mark.parametrize("processes,accumulate,batch", [(1, 3, 48), (2, 2, 36), (3, 1, 48), (4, 1, 36), (200, 1, 1)])
def test_batch_of_a_paper_in_processes(processes, accumulate, batch):
    "144 clips a step, at most 48 at a time."
    training = paper_recipe("mote-k400", processes).training
    assert (training.accumulate, training.batch) == (accumulate, batch)


def test_changes_of_a_paper_recipe():
    own = TrainConfig(epochs=1)
    changed = paper_recipe("mote-k400", num_frames=4, training=own)
    assert changed.num_frames == 4 and changed.training == own
    for wrong in (0, -1, 1.5):
        with pytest.raises(ConfigError):
            paper_recipe("mote-k400", wrong)
    with pytest.raises(ConfigError, match="recipe"):
        paper_recipe("none")


def test_encoder_of_clips(monkeypatch):
    "Given features have their own; a name is made, an encoder moved."
    made = create_encoder("mini", text=False)
    assert pipeline.find_encoder(made) is made and made.device.type == find_device().type
    monkeypatch.setattr(pipeline, "given_features", lambda clips: "given")
    for holds in (True, False):
        monkeypatch.setattr(pipeline, "holds_features", lambda clips, holds=holds: holds)
        assert pipeline.encoder_for(None, made) == ("given" if holds else made)


FORMS = [  # format, listing, folder of shards, folder of features -> how it is read
    (None, None, False, False, "any"),
    (None, None, True, True, "shards"),
    (None, None, False, True, "features"),
    (None, "l.csv", True, False, "features"),
    ("csv", None, True, True, "any"),
    ("shards", None, False, False, "shards"),
    ("features", "l.csv", False, False, "features"),
    ("csv", "l.csv", False, False, None),
    ("shards", "l.csv", False, False, None),
]


@pytest.mark.parametrize("format,listing,shards,features,read", FORMS)
def test_form_of_data(format, listing, shards, features, read, monkeypatch):
    "A format that is named decides; else a list, then what the folder is."
    found = []
    monkeypatch.setattr(pipeline, "is_shard_folder", lambda data: shards)
    monkeypatch.setattr(pipeline, "is_feature_folder", lambda data: features)
    monkeypatch.setattr(pipeline, "shard_list", lambda data: found.append(("shards", data)))
    monkeypatch.setattr(pipeline, "feature_list", lambda data, listing: found.append(("features", data, listing)))
    monkeypatch.setattr(pipeline.ClipList, "from_any", lambda data, **how: found.append(("any", data, how)))
    if read is None:
        with pytest.raises(ConfigError, match="listing is for features"):
            pipeline.find_clips("d", format, "r", 2, listing)
        return
    pipeline.find_clips("d", format, "r", 2, listing)
    given = dict(any=dict(format=format, root="r", official_split=2), features=listing)
    assert found == [(read, "d", *([given[read]] if read in given else []))]


def test_recipe_for_features(monkeypatch):
    "Their own length and encoder, unless they are resampled; no frames, so nothing that needs them."
    clips = SimpleNamespace(root="f", paths=["a"])
    monkeypatch.setattr(pipeline, "holds_features", lambda clips: clips is not None)
    monkeypatch.setattr(pipeline, "feature_shape", lambda path: (2, 24, 512))
    monkeypatch.setattr(pipeline, "given_features", lambda clips: SimpleNamespace(name="features:512"))
    plain = Recipe(num_frames=8)
    assert pipeline.recipe_for(None, plain) is plain
    found = pipeline.recipe_for(clips, plain)
    assert (found.num_frames, found.encoder) == (24, "features:512")
    resampled = pipeline.recipe_for(clips, dataclasses.replace(plain, lengths="resample"))
    assert (resampled.num_frames, resampled.encoder) == (8, "features:512")
    assert pipeline.recipe_for(clips, Recipe(views=[1, 1])).num_frames == 24
    for wrong in (dict(views=(2, 1)), dict(views=(1, 3)), dict(finetune_encoder=True), dict(adapters="aim")):
        with pytest.raises(ConfigError, match="holds features"):
            pipeline.recipe_for(clips, Recipe(**wrong))


class Parts:
    "A list of clips with parts."

    def __init__(self, parts, asked):
        self.parts, self.asked = parts, asked

    def part(self, name):
        return Parts([name], self.asked)

    def folds(self, count, seed):
        self.asked.append(("folds", count, seed))
        return [(Parts([f"train {k}"], self.asked), Parts([f"test {k}"], self.asked)) for k in range(count)]

    def k_shot(self, shots, seed):
        self.asked.append(("shots", shots, seed))
        return Parts([*self.parts, "few"], self.asked)


SPLITS = [  # parts of the data, recipe -> parts of both sides, the rule
    (["train", "val", "test"], {}, ["train"], ["test"], "own parts: train, test"),
    (["train", "val"], {}, ["train"], ["val"], "own parts: train, val"),
    (["train", "val"], dict(split="own"), ["train"], ["val"], "own parts: train, val"),
    (["test", "val"], {}, ["train 0"], ["test 0"], "fold 1 of 5, grouped by source, seed 7"),
    (["train"], {}, ["train 0"], ["test 0"], "fold 1 of 5, grouped by source, seed 7"),
    (
        ["train", "test"],
        dict(split="source", folds=3, fold=2),
        ["train 2"],
        ["test 2"],
        "fold 3 of 3, grouped by source, seed 7",
    ),
]


@pytest.mark.parametrize("parts,options,train,test,how", SPLITS)
@pytest.mark.parametrize("shots", [0, 3])
def test_sides_of_clips(parts, options, train, test, how, shots, monkeypatch):
    "The data's own parts or a fold, as the recipe asks; shots are of the training side alone."
    asked = []
    recipe = Recipe(shots=shots, training=TrainConfig(seed=7), **options)
    found = pipeline.split_clips.__wrapped__(Parts(parts, asked), recipe)
    assert found.train.parts == [*train, *(["few"] if shots else [])]
    assert (found.test.parts, found.how) == (test, how)
    by_fold = [] if how.startswith("own") else [("folds", recipe.folds, 7)]
    assert asked == [*by_fold, *([("shots", 3, 7)] if shots else [])]


def test_own_parts_are_needed():
    for parts in (["train"], ["test", "val"], []):
        with pytest.raises(ConfigError, match="no training and test parts"):
            pipeline.split_clips.__wrapped__(Parts(parts, []), Recipe(split="own"))


def test_default_cache(monkeypatch, tmp_path):
    "The kit's variable first, then the system's, then home."
    for name in ("VIDPRISM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert pipeline.default_cache() == tmp_path / ".cache" / "vidprism" / "features"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert pipeline.default_cache() == tmp_path / "x" / "vidprism" / "features"
    monkeypatch.setenv("VIDPRISM_CACHE", str(tmp_path / "own"))
    assert pipeline.default_cache() == tmp_path / "own"


def clips_of(count, classes=("x", "y"), root="/data/mine"):
    names = [f"{k}.mp4" for k in range(count)]
    return SimpleNamespace(
        root=root,
        paths=[Path(root) / name for name in names],
        items=names,
        labels=[k % len(classes) for k in range(count)],
        classes=list(classes),
        map_hash="f00d",
        sources=lambda: [f"film {k // 2}" for k in range(count)],
    )


def test_readable_clips():
    "Rows keep their label, name and source; unreadable and not finite ones are told with the reason."
    clips = clips_of(5)
    pooled = torch.arange(4.0)[:, None, None].expand(4, 2, 3).clone()
    kept = torch.tensor([0, 2, 3, 4])
    got = SimpleNamespace(pooled=pooled, kept=kept, unreadable=[(clips.paths[1], "it is damaged")])
    side, lost = pipeline._readable_side(clips, got)
    assert side.features is pooled and lost == [["/data/mine/1.mp4", "it is damaged"]]
    assert side.labels.tolist() == [0, 0, 1, 0] and side.items == ["0.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert side.sources == ["film 0", "film 1", "film 1", "film 2"]
    pooled[1, 1, 2] = float("inf")
    side, lost = pipeline._readable_side(clips, got)
    assert lost[1:] == [["/data/mine/2.mp4", "its features are not finite numbers"]]
    assert side.features[:, 0, 0].tolist() == [0, 2, 3] and side.items == ["0.mp4", "3.mp4", "4.mp4"]
    assert side.labels.tolist() == [0, 1, 0] and side.sources == ["film 0", "film 1", "film 2"]


@pytest.mark.parametrize("cache", [None, "here"])
def test_side_of_videos(cache, monkeypatch):
    "Every setting goes to `cache_features`."
    told = []
    monkeypatch.setattr(pipeline, "holds_features", lambda clips: False)
    monkeypatch.setattr(pipeline, "default_cache", lambda: "the default")
    monkeypatch.setattr(pipeline, "cache_features", lambda *given, **how: told.append((given, how)))
    monkeypatch.setattr(pipeline, "_readable_side", lambda clips, got: "side")
    clips = clips_of(2)
    assert pipeline.side_of(clips, "e", cache, 8, "dense", [2, 3], 1, True, team="t") == "side"
    how = dict(num_frames=8, sampling="dense", views=(2, 3), workers=1, progress=True, team="t")
    assert told == [((clips.paths, "e", cache or "the default"), how)]
    pipeline.side_of(clips, "e")
    defaults = dict(num_frames=16, sampling="sparse", views=(1, 1), workers=0, progress=False, team=None)
    assert told[1][1] == defaults


def test_side_of_features(monkeypatch):
    "Their width must be the encoder's."
    side = SimpleNamespace(features=torch.zeros(2, 3, 5))
    told = []
    monkeypatch.setattr(pipeline, "holds_features", lambda clips: True)
    monkeypatch.setattr(pipeline.FeatureSplit, "from_list", lambda *given: told.append(given) or side)
    clips, encoder = clips_of(2), SimpleNamespace(dim=5)
    assert pipeline.side_of(clips, encoder, num_frames=4, lengths="resample") == (side, [])
    assert told == [(clips, 4, "resample")]
    with pytest.raises(ConfigError, match="of width 5, not 6"):
        pipeline.side_of(clips, SimpleNamespace(dim=6))


def test_text_of_classes(monkeypatch):
    "Only where the head needs it."
    told = []
    monkeypatch.setattr(pipeline, "prompts", lambda *given: told.append(given) or torch.ones(2, 3))
    plain, text = Recipe(), Recipe(classifier="text", templates="name")
    assert pipeline._class_text(plain, "e", ["x"]) is None and pipeline._prompts_used(plain) is None
    assert pipeline._class_text(text, "e", ["x"]).shape == (2, 3) and told == [("e", ["x"], "name")]
    assert pipeline._prompts_used(text) == list(pipeline.find_templates("name"))


def features_of(name):
    "A side of one clip."
    return FeatureSplit(torch.zeros(1, 2, 3), torch.zeros(1, dtype=torch.long), [name], [name])


def test_bench_of_a_split(monkeypatch):
    "Test views are the test side's alone; the record says how the features were made."
    told = []

    def side(clips, encoder, **how):
        told.append((clips.items[0], how))
        return features_of(clips.items[0]), [[clips.items[0], "bad"]]

    encoder = SimpleNamespace(name="mini", channels={})
    monkeypatch.setattr(pipeline, "side_of", side)
    monkeypatch.setattr(pipeline, "encoder_for", lambda clips, name: encoder if name == "mini" else name)
    monkeypatch.setattr(pipeline, "holds_features", lambda clips: clips.root == "features")
    monkeypatch.setattr(pipeline, "readers_by_default", lambda: "decord")
    train, test = clips_of(2), clips_of(1)
    test.items = ["test"]
    recipe = Recipe(num_frames=8, views=(2, 3), sampling="dense", shots=4)
    bench = pipeline.bench_of(Split(train, test, "by hand"), recipe, None, "cache", 2, True, "team")
    how = dict(cache="cache", num_frames=8, sampling="dense", workers=2, progress=True, lengths="refuse", team="team")
    assert told == [("0.mp4", how), ("test", how | dict(views=(2, 3)))]
    assert (bench.name, bench.train.items, bench.test.items) == ("mine", ["0.mp4"], ["test"])
    assert bench.classes == ["x", "y"] and bench.text is None
    assert bench.metadata == dict(
        encoder="mini",
        decoder="decord",
        num_frames=8,
        sampling="dense",
        views=[2, 3],
        split="by hand",
        shots=4,
        label_map="f00d",
        unreadable=[["0.mp4", "bad"], ["test", "bad"]],
        prompts=None,
        lengths=None,
        channels=None,
    )
    train.root = "features"
    given = SimpleNamespace(name="g", channels=dict(flow=True))
    found = pipeline.bench_of(Split(train, test, "h"), Recipe(lengths="resample"), given).metadata
    assert (found["decoder"], found["lengths"], found["shots"]) == ("features made elsewhere", "resample", None)
    assert found["channels"] == dict(flow=True) and found["encoder"] == "g"


def test_numbers_of_classes():
    "The model's; a class that it does not know is refused where there are clips of it."
    known = ["b", "a", "c"]
    found = pipeline._relabel(SimpleNamespace(classes=["a", "b", "z"], labels=[0, 1, 1]), known)
    assert found.tolist() == [1, 0, -1]
    with pytest.raises(ConfigError, match="not trained on 'z'; it knows b, a, c"):
        pipeline._relabel(SimpleNamespace(classes=["a", "z"], labels=[1]), known)
    six = [str(k) for k in range(6)]
    assert pipeline._first_five(six[:5]) == "0, 1, 2, 3, 4" and pipeline._first_five(six) == "0, 1, 2, 3, 4 ..."


def test_saved_training(tmp_path, monkeypatch):
    "The model with facts of its record, the result with the root, curves, a watched record if any, both lists."
    told = []
    names = pipeline._SAVED_WITH_THE_MODEL
    assert names == ("training", "split", "label_map", "clips", "top1", "commit", "versions")
    record = dict.fromkeys(names, 1) | dict(other=2)

    def listed(name, root):
        return SimpleNamespace(root=root, save=lambda path: told.append((name, path.name)))

    split = Split(listed("train", str(tmp_path / "x" / "..")), listed("test", "r"), "how")
    model = SimpleNamespace(save_pretrained=lambda folder, **facts: told.append(("model", folder, facts)))
    result = SimpleNamespace(record=record, save=lambda path: path.write_text(json.dumps(record)))
    monkeypatch.setattr(pipeline, "write_watch", lambda folder, watched: told.append(("watch", watched)))
    history = SimpleNamespace(rows=[dict(epoch=1)], watched=[])
    pipeline.Trained(model, result, split, history).write_into(tmp_path)
    assert told == [("model", tmp_path, dict.fromkeys(names, 1)), ("train", "train.csv"), ("test", "test.csv")]
    assert json.loads((tmp_path / "result.json").read_text())["root"] == str(tmp_path)
    assert json.loads((tmp_path / "curves.json").read_text()) == [dict(epoch=1)]
    pipeline.Trained(model, result, split, history=SimpleNamespace(rows=[], watched=[3])).write_into(tmp_path)
    assert ("watch", [3]) in told
    pipeline.Trained(model, result, split).write_into(tmp_path)
    assert json.loads((tmp_path / "curves.json").read_text()) == []


@pytest.mark.parametrize("packed", [False, True])
def test_clips_that_a_folder_keeps(packed, tmp_path, monkeypatch):
    "The root of the training, unless one is given."
    told = []
    monkeypatch.setattr(pipeline, "is_shard_folder", lambda root: packed)
    monkeypatch.setattr(pipeline, "_kept_packed", lambda path, root: told.append((path.name, root)))
    monkeypatch.setattr(pipeline.ClipList, "from_any", lambda path, root: told.append((path.name, root)))
    (tmp_path / "result.json").write_text(json.dumps(dict(root="/before")))
    with pytest.raises(ConfigError, match="keeps no list of test clips"):
        pipeline.kept_clips(tmp_path)
    for side in ("train", "test"):
        (tmp_path / f"{side}.csv").write_text("")
        pipeline.kept_clips(tmp_path, side)
    pipeline.kept_clips(tmp_path, root="/now")
    assert told == [("train.csv", "/before"), ("test.csv", "/before"), ("test.csv", "/now")]
    with pytest.raises(ConfigError, match="side"):
        pipeline.kept_clips(tmp_path, "val")


def test_head_of_a_recipe():
    "Tokens are frames over the encoder's span; text as the classifier asks."
    encoder = SimpleNamespace(dim=6, span=2, channels={})
    head = pipeline.fresh_head(Recipe(head="statistics", num_frames=9), encoder, ["x", "y", "z"])
    c = head.config
    assert (c.dim, c.num_classes, c.num_frames, c.classifier) == (6, 3, 4, "linear")
    text = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    recipe = Recipe(head="mean", classifier="text")
    head = pipeline.fresh_head(recipe, encoder, ["x", "y"], text)
    assert head.config.classifier == "text" and "classifier" not in recipe.options


def test_adapters_of_a_recipe():
    "Their options and seed; AIM learns as many positions as there are frames, unless told otherwise."
    encoder = create_encoder("mini", text=False)
    assert pipeline.with_adapters(encoder, Recipe()) is encoder
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "add_adapters", lambda *given: told.append(given))
        for options in ({}, dict(num_positions=3)):
            recipe = Recipe(adapters="aim", adapter_options=options, num_frames=12, training=TrainConfig(seed=5))
            pipeline.with_adapters("e", recipe)
            assert recipe.adapter_options == options
        pipeline.with_adapters("e", Recipe(adapters="st_adapter"))
    expected = [("e", "aim", dict(num_positions=12), 5), ("e", "aim", dict(num_positions=3), 5)]
    assert told == [*expected, ("e", "st_adapter", {}, 0)]


def test_loss_on_stderr():
    with contextlib.redirect_stderr(io.StringIO()) as told:
        pipeline._tell_loss([dict(epoch=k, total=9.0) for k in (0, 1)] + [dict(epoch=2, total=0.12345)])
    assert told.getvalue() == "epoch 2: loss 0.123\n"


@pytest.mark.parametrize("packed", [False, True])
def test_clips_for_tuning_and_watching(packed, monkeypatch):
    "Augmented for training, plain for watching; at most 64 watched clips, those that are given first."
    told = []

    def kind(name):
        return lambda clips, **how: told.append((name, clips, how)) or [name]

    monkeypatch.setattr(pipeline, "is_packed", lambda path: packed)
    monkeypatch.setattr(pipeline, "PackedClips", kind("packed"))
    monkeypatch.setattr(pipeline, "ClipDataset", kind("files"))
    chosen = []
    monkeypatch.setattr(pipeline, "choose_clips", lambda *given: chosen.append(given) or (1, 2))
    train, test = Sized(3), Sized(2)
    recipe = Recipe(num_frames=8, sampling="dense", training=TrainConfig(seed=4))
    pipeline._augmented_clips(Split(train, test, ""), recipe, 96)
    name = "packed" if packed else "files"
    how = dict(num_frames=8, sampling="dense", size=96)
    assert told == [(name, train, how | dict(augment=pipeline.Augment(), seed=4))]
    for count, most in ((5, 5), (64, 64), (65, 64)):
        watch = pipeline._watch_frames(Watch(count=count, seed=9), Split(train, test, ""), recipe, 96)
        assert watch.clips == (1, 2) and chosen[-1] == ([name], most, 9) and told[-1] == (name, test, how)
    assert pipeline._watch_frames(False, Split(train, test, ""), recipe, 96) is None
    given = Watch(clips=(3, 4))
    assert pipeline._watch_frames(given, Split(train, test, ""), recipe, 96).clips == (3, 4)
    assert pipeline._watch_frames(Watch(), Split(train, Sized(0), ""), recipe, 96).clips is None


class Sized:
    "A list of clips of a length."

    def __init__(self, count):
        self.count, self.paths = count, ["a"] * count

    def __len__(self):
        return self.count


def test_watched_features(monkeypatch):
    "The first view of the test clips."
    chosen = []
    monkeypatch.setattr(pipeline, "choose_clips", lambda *given: chosen.append(given) or (1, 2))
    one = FeatureSplit(torch.zeros(3, 4, 5), torch.arange(3), list("abc"), list("abc"))
    views = one._replace(features=torch.arange(3 * 2 * 4 * 5.0).reshape(3, 2, 4, 5))
    for side, features in ((one, one.features), (views, views.features[:, 0])):
        assert pipeline._watch_features(Watch(count=6, seed=9), side).clips == (1, 2)
        clips, count, seed = chosen[-1]
        assert torch.equal(clips.features, features) and (count, seed) == (6, 9)
    assert pipeline._watch_features(False, one) is None
    assert pipeline._watch_features(Watch(clips=(3, 4)), one).clips == (3, 4)
    empty = FeatureSplit(torch.zeros(0, 4, 5), torch.zeros(0), [], [])
    assert pipeline._watch_features(Watch(), empty).clips is None


def test_record_of_a_tuned_encoder():
    split = Split(Sized(7), Sized(2), "by hand")
    result = SimpleNamespace(record=dict(clips=2))
    history = SimpleNamespace(seconds=3.5)
    recipe = Recipe(finetune_encoder=True, shots=2)
    found = pipeline._how_finetuned(split, recipe, result, history)
    assert found == dict(
        training=dataclasses.asdict(recipe.training),
        options={},
        split="by hand",
        shots=2,
        clips=dict(train=7, test=2),
        seconds=3.5,
        classifier="linear",
        prompts=None,
        finetuned_encoder=True,
        adapters=None,
    )
    adapted = pipeline._how_finetuned(split, Recipe(adapters="aim"), result, history)
    assert adapted["adapters"] == dict(kind="aim", options={}) and adapted["shots"] is None
    assert adapted["finetuned_encoder"] is False


@pytest.mark.parametrize("rank,first", [(None, True), ("0", True), ("1", False)])
def test_first_process(rank, first, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    if rank:
        monkeypatch.setenv("RANK", rank)
    assert pipeline._is_first_process() is first


KEPT = [  # a tuning.json, and whether it is used
    (dict(chosen=dict(lr=0.1, weight_decay=0.2)), True),
    (dict(chosen=dict(lr=0.1)), False),
    (dict(chosen=dict(lr=0.1, weight_decay="0.2")), False),
    (dict(chosen=dict(lr=1, weight_decay=0.2)), False),
    (dict(chosen=3), False),
    ({}, False),
]


@pytest.mark.parametrize("record,used", KEPT)
@pytest.mark.parametrize("rank", ["0", "1"])
def test_kept_search(record, used, rank, tmp_path, monkeypatch):
    "A whole one is not repeated; the first process writes a new one."
    assert set(pipeline.GRID) == {"lr", "weight_decay"}
    monkeypatch.setenv("RANK", rank)
    file = tmp_path / "run" / "tuning.json"
    file.parent.mkdir()
    file.write_text(json.dumps(record))
    told = []
    found = SimpleNamespace(config=TrainConfig(lr=0.5), record=dict(new=True))
    monkeypatch.setattr(pipeline, "grid_search", lambda *given: told.append(given) or found)
    recipe = Recipe(grid_search=True, head="mean", training=TrainConfig(seed=3))
    assert pipeline._tuned("bench", Recipe(), file) == (Recipe().training, None)
    config, kept = pipeline._tuned("bench", recipe, file)
    if used:
        assert (config.lr, config.weight_decay, config.seed) == (0.1, 0.2, 3) and kept == record and not told
        return
    assert config.lr == 0.5 and kept == dict(new=True)
    assert told == [("bench", "mean", {}, recipe.training, pipeline.GRID, 3, "linear")]
    assert json.loads(file.read_text()) == (kept if rank == "0" else record)
    assert pipeline._tuned("bench", recipe, None)[1] == dict(new=True)


RATES = [([2, 4], True), ([4096], True), ([], False), ([0], False), ([4097], False), ([2.0], False), ([True], False)]


@pytest.mark.parametrize("rates,whole", [*RATES, ("2", False), (None, False)])
def test_kept_rates(rates, whole, tmp_path):
    "A list of whole numbers from 1 to 4096."
    assert pipeline.kept_rates(None) is None and pipeline.kept_rates(tmp_path) is None
    (tmp_path / "rates.json").write_text(json.dumps(dict(rates=rates)))
    assert pipeline.kept_rates(tmp_path) == (dict(rates=rates) if whole else None)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_chosen_rates(rank, tmp_path, monkeypatch):
    "By the recipe's head, options and training; kept in the run's folder by the first process, and used again."
    monkeypatch.setenv("RANK", rank)
    told = []

    def choose(*given, **how):
        told.append((given, how))
        return SimpleNamespace(record=dict(rates=[2, 8]))

    monkeypatch.setattr(pipeline, "choose_rates", choose)
    plain = Recipe()
    assert pipeline._with_chosen_rates("bench", plain, tmp_path) == (plain, None)
    recipe = Recipe(options=dict(rates="auto", width=6), training=TrainConfig(seed=3))
    for folder in (None, tmp_path / "run"):
        found, record = pipeline._with_chosen_rates("bench", recipe, folder)
        assert found.options == dict(rates=(2, 8), width=6) and record == dict(rates=[2, 8])
    how = dict(config=recipe.training, seed=3, classifier="linear")
    assert told == [(("bench", None, "vidprism", dict(width=6)), how)] * 2
    assert (tmp_path / "run" / "rates.json").exists() is (rank == "0")
    pipeline._with_chosen_rates("bench", recipe, tmp_path / "run")
    assert len(told) == (2 if rank == "0" else 3)


def test_rates_before_tuning(tmp_path, monkeypatch):
    "On features of the training side; not where they are kept, or not asked for."
    told = []
    side = features_of("a")
    monkeypatch.setattr(pipeline, "side_of", lambda *given, **how: told.append((given, how)) or (side, []))
    monkeypatch.setattr(pipeline, "_with_chosen_rates", lambda bench, recipe, folder: (bench, folder))
    train = clips_of(2)
    split, auto = Split(train, None, ""), Recipe(options=dict(rates="auto"), num_frames=8, sampling="dense")
    assert pipeline._rates_before_tuning(split, Recipe(), "e", "c", 1, "t", tmp_path) == (None, tmp_path)
    bench, _ = pipeline._rates_before_tuning(split, auto, "e", "c", 1, "t", tmp_path)
    assert isinstance(bench, Benchmark) and bench.train is bench.test is side
    assert (bench.name, bench.classes, bench.metadata, bench.text) == ("mine", ["x", "y"], {}, None)
    assert told == [((train, "e", "c"), dict(num_frames=8, sampling="dense", workers=1, team="t"))]
    (tmp_path / "rates.json").write_text(json.dumps(dict(rates=[2])))
    assert pipeline._rates_before_tuning(split, auto, "e", "c", 1, "t", tmp_path) == (None, tmp_path)


def test_trial_recipe():
    "All candidates of the tokens' number stand for rates that are not chosen yet."
    encoder = SimpleNamespace(span=2)
    plain = Recipe()
    assert pipeline._trial_recipe(plain, encoder) is plain
    auto = Recipe(options=dict(rates="auto"), num_frames=20)
    assert pipeline._trial_recipe(auto, encoder).options["rates"] == (1, 2, 4, 8)


@pytest.mark.parametrize("rank", ["0", "1"])
def test_checkpoints_of_a_run(rank, tmp_path, monkeypatch):
    "A new run has no choices of an earlier one; resumed is what has a checkpoint."
    monkeypatch.setenv("RANK", rank)
    assert pipeline._checkpoints_in(None, False, 0, 2, ()) == {}
    with pytest.raises(ConfigError, match="trackers need the folder"):
        pipeline._checkpoints_in(None, False, 0, 2, ("tensorboard",))
    for name in ("tuning.json", "rates.json"):
        (tmp_path / name).write_text("{}")
    kept = dict(folder=tmp_path / "checkpoints", every=5, keep="all", trackers=("t",), logs=tmp_path / "trackers")
    for has in (True, False):
        monkeypatch.setattr(pipeline, "find_checkpoint", lambda place, has=has: place if has else None)
        found = pipeline._checkpoints_in(tmp_path, True, 5, "all", ("t",))
        assert found == kept | dict(resume=has) and (tmp_path / "rates.json").exists()
        left = tmp_path / f"new {has}"
        left.mkdir()
        assert pipeline._checkpoints_in(left, False, 5, "all", ("t",))["resume"] is False
    pipeline._checkpoints_in(tmp_path, False, 5, "all", ("t",))
    assert (tmp_path / "rates.json").exists() is (tmp_path / "tuning.json").exists() is (rank == "1")
