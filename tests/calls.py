"""One valid call of each public name, and values that nobody means.

`CALLS` maps a name to a function of the workshop that gives the keyword arguments of a call which succeeds.
`NONSENSE` are the values that take the place of one argument.
"""

import json
import math
import numpy as np
import tempfile
import torch
import vidprism as vp
from copy import deepcopy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from test_mote_file import fusion_state, write
from torch.utils.data import TensorDataset
from vidprism.errors import ConfigError, _check, _parameter
from vidprism.evaluation.benchmark import FeatureSplit
from vidprism.experiments.claims import prism_claims
from vidprism.experiments.studies import Metric
from vidprism.experiments.tables import table_1
from vidprism.heads.base import create_head

DIM, FRAMES, CLASSES = 8, 8, 3


def generator(seed: int = 0):
    return torch.Generator().manual_seed(seed)


def feature_split(n: int, seed: int) -> FeatureSplit:
    "Features of n clips, with labels in turn."
    x = torch.randn(n, FRAMES, DIM, generator=generator(seed))
    names = [f"{i}.mp4" for i in range(n)]
    return FeatureSplit(x, torch.arange(n) % CLASSES, names, names)


class Workshop:
    "What calls are made of; each part is made when it is first asked for."

    def __init__(self):
        self._home = tempfile.TemporaryDirectory()
        self.folder = Path(self._home.name)
        self.count = 0

    def new(self, name: str = "out") -> Path:
        "A path at which nothing is."
        self.count += 1
        return self.folder / f"{name}{self.count}"

    @cached_property
    def encoder(self):
        return vp.create_encoder("mini")

    @cached_property
    def plain_encoder(self):
        return vp.create_encoder("mini", text=False)

    @cached_property
    def pooling(self):
        return vp.sample_model("mean")

    @cached_property
    def model(self):
        return vp.sample_model("vidprism")

    @cached_property
    def original(self):
        return vp.sample_model("vidprism").encoder

    @cached_property
    def clip_path(self):
        return vp.sample_clips()[0]

    @cached_property
    def clip(self):
        return vp.read_clip(self.clip_path, num_frames=FRAMES)

    @cached_property
    def bench(self):
        text = torch.randn(CLASSES, DIM, generator=generator(3))
        train, test = feature_split(24, 1), feature_split(12, 2)
        return vp.Benchmark("tiny", train, test, ["a", "b", "c"], {"encoder": "none"}, text)

    @cached_property
    def head(self):
        return create_head("vidprism", DIM, CLASSES, FRAMES, rates=(1, 2))

    @cached_property
    def features(self):
        return torch.randn(2, FRAMES, DIM, generator=generator(4))

    @cached_property
    def model_features(self):
        "Made-up features of three clips for the model."
        c = self.model.head.config
        x = torch.randn(3, c.num_frames, c.dim, generator=generator(10))
        return FeatureSplit(x, torch.arange(3), ["a", "b", "c"], ["a", "b", "c"])

    @cached_property
    def clip_list(self):
        paths = [str(p) for p in vp.sample_clips()[:6]]
        return vp.ClipList(
            items=[Path(p).name for p in paths],
            paths=paths,
            labels=[0, 1, 0, 1, 0, 1],
            classes=["a", "b"],
            parts=["train"] * 4 + ["test"] * 2,
        )

    @cached_property
    def clip_dataset(self):
        return vp.ClipDataset(self.clip_list, num_frames=2, size=16)

    @cached_property
    def mote_file(self):
        "A checkpoint in MoTE's published layout, around the small CLIP."
        tower = {k: v for k, v in self.encoder.model.state_dict().items() if "visual" in k or "scale" in k}
        return write(self.new("mote.pt"), tower, fusion_state(128, 3, layers=1))

    @cached_property
    def model_list(self):
        "The same clips under two of the model's labels."
        return replace(self.clip_list, classes=list(self.model.labels[:2]))

    @cached_property
    def shards(self):
        folder = self.new("shards")
        vp.pack(self.clip_list, folder)
        return folder

    @cached_property
    def result(self):
        return vp.close_set(self.bench, "mean", config=self.training, seeds=(0,))

    @cached_property
    def training(self):
        return vp.TrainConfig(epochs=1, batch=8)

    @cached_property
    def study(self):
        return vp.Study("x", self.bench, "none", runs=1, training=self.training, few=self.training, folder=self.new())

    @cached_property
    def study_folder(self):
        folder = self.new("study")
        study = vp.Study("tiny", self.bench, "none", runs=1, training=self.training, folder=folder)
        vp.run_cells(study, [vp.Trial("mean")], progress=False)
        return folder

    @cached_property
    def explanation(self):
        return vp.explain(self.model, self.clip_path)

    @cached_property
    def saved(self):
        folder = self.new("saved")
        self.model.save(folder)
        return folder

    @cached_property
    def class_splits(self):
        file = self.new("splits.json")
        file.write_text(json.dumps(["a", "b"]))
        return file

    def module(self):
        return create_head("mean", DIM, CLASSES, FRAMES)

    def dataset(self, n: int = 8):
        split = feature_split(n, 5)
        return TensorDataset(split.features, split.labels)


def of_features(w):
    return dict(x=w.features, similarity=torch.ones(2, FRAMES))


CALLS = {
    "read_clip": lambda w: dict(path=w.clip_path, num_frames=4, sampling="sparse", seed=0, stride=1, short=32),
    "read_frames": lambda w: dict(path=w.clip_path, indices=[0, 1]),
    "read_views": lambda w: dict(path=w.clip_path, num_frames=4, clips=1, crops=3, size=32),
    "clip_info": lambda w: dict(path=w.clip_path),
    "read_clip_safely": lambda w: dict(path=w.clip_path, timeout=30.0, num_frames=2),
    "Augment": lambda w: dict(scale=(0.5, 1.0), ratio=(0.75, 1.3), flip=0.5, grey=0.2, randaugment=1, magnitude=9),
    "k_shot": lambda w: dict(labels=[0, 1, 0, 1], k=1, seed=0),
    "grouped_folds": lambda w: dict(labels=[0, 1, 0, 1], groups=["a", "b", "c", "d"], folds=2, seed=0),
    "source_of": lambda w: dict(path="a/b_g01_c02.mp4"),
    "readable_name": lambda w: dict(raw="PlayingGuitar"),
    "ClipList": lambda w: dict(
        items=["a.mp4"], paths=["a.mp4"], labels=[0], classes=["a"], parts=["train"], form="made", root=Path(".")
    ),
    "read_class_splits": lambda w: dict(files=[w.class_splits], trained_on=()),
    "audit_clips": lambda w: dict(
        data=w.clip_list, out=w.new("audit"), workers=1, timeout=30.0, fix=None, resume=True, format=None, root=None
    ),
    "ClipDataset": lambda w: dict(
        clips=w.clip_list,
        num_frames=4,
        sampling="sparse",
        stride=2,
        size=32,
        views=(1, 1),
        seed=0,
        allow=0.01,
        timeout=9.0,
    ),
    "ShardClips": lambda w: dict(
        folder=w.shards, num_frames=4, sampling="sparse", stride=2, size=32, seed=0, buffer=10
    ),
    "pack": lambda w: dict(clips=w.clip_list, folder=w.new("pack"), shard_size=3, seed=0, check=False),
    "world_pictures": lambda w: dict(n=2, seed=0, split="train", size=16, start=0),
    "world_clips": lambda w: dict(n=2, seed=0, split="train", num_frames=4, size=16, start=0),
    "create_encoder": lambda w: dict(name="mini", bare=True, text=True),
    "FrameEncoder": lambda w: dict(name="x", dim=8, how=w.encoder.how, chunk=4),
    "FeatureCache": lambda w: dict(folder=w.new("cache")),
    "cache_features": lambda w: dict(
        clips=[w.clip_path],
        encoder=w.encoder,
        folder=w.new("cache"),
        num_frames=4,
        sampling="sparse",
        grid=False,
        views=(1, 1),
        workers=0,
        timeout=20.0,
        progress=False,
        half=False,
        seed=0,
        stride=2,
        device="cpu",
        collect=True,
    ),
    "encode_clips": lambda w: dict(encoder=w.encoder, items=[w.clip_path], num_frames=4, sampling="sparse", grid=False),
    "STAdapterConfig": lambda w: dict(width=4, kernel=(3, 1, 1), layers=1, place="both", activation="none"),
    "AIMConfig": lambda w: dict(width=4, layers=1, scale=0.5, num_positions=8),
    "add_adapters": lambda w: dict(encoder=deepcopy(w.plain_encoder), kind="st_adapter", config=dict(width=4), seed=0),
    "remove_adapters": lambda w: dict(encoder=vp.add_adapters(deepcopy(w.plain_encoder))),
    "ColourEncoder": lambda w: dict(encoder=w.encoder, shift=1),
    "colour_frames": lambda w: dict(frames=torch.zeros(1, 4, 8, 8, 3, dtype=torch.uint8), shift=1),
    "FlowEncoder": lambda w: dict(encoder=w.encoder, rate=1),
    "find_flow": lambda w: dict(
        first=torch.rand(2, 1, 8, 16, generator=generator(6)), second=torch.rand(2, 1, 8, 16, generator=generator(7))
    ),
    "flow_cells": lambda w: dict(grey=torch.rand(3, 1, 56, 56, generator=generator(6)), rate=1),
    "MotionEncoder": lambda w: dict(encoder=w.encoder, cells=2),
    "motion_features": lambda w: dict(grid=torch.randn(1, 4, 4, 4, 8, generator=generator(6)), cells=2),
    "RgSTA": lambda w: dict(dim=8, rate=2, alpha=0.7, tau=0.1, delta=0.5, keep=1, preset="paper"),
    "DBI": lambda w: dict(
        dim=8, rates=(1, 2), threshold=0.5, direction="both", preset="paper", gate_start=0.8, straight_through=True
    ),
    "HMoE": lambda w: dict(dim=8, experts=2, num_heads=4, combination="global", preset="paper"),
    "ranking_loss": lambda w: dict(
        predicted=torch.rand(2, 8, generator=generator(7)),
        target=torch.rand(2, 8, generator=generator(8)),
        rate=2,
        temperature=0.2,
    ),
    "ranking_target": lambda w: dict(x=w.features, similarity=torch.rand(2, 4, 2, 2, generator=generator(9)), rate=2),
    "diversity_loss": lambda w: dict(outputs=[w.features, w.features[:, :4]]),
    "gate_balance_loss": lambda w: dict(shares=torch.full((2, 2), 0.5)),
    "create_head": lambda w: dict(name="vidprism", dim=8, num_classes=3, num_frames=8),
    "register_head": lambda w: dict(name="my_own_head"),
    "variant": lambda w: dict(head=w.head),
    "load_released_head": lambda w: dict(state_dict={}, rates=None, num_frames=8),
    "load_released_mote": lambda w: dict(state_dict={}, num_frames=8),
    "import_released": lambda w: dict(path=w.new("released.pt"), labels=["a"], kind="vidprism", num_frames=8),
    "VideoModel": lambda w: dict(
        encoder=w.encoder, head=w.model.head, labels=list(w.model.labels), sampling="sparse", templates=("a {}",)
    ),
    "zero_shot_model": lambda w: dict(encoder=w.encoder, labels=["a", "b"], num_frames=4, templates=("{}",)),
    "sample_model": lambda w: dict(name="vidprism"),
    "interpolate": lambda w: dict(model=w.model, original=w.original, alpha=0.5),
    "TrainConfig": lambda w: dict(
        epochs=1,
        batch=2,
        lr=1e-3,
        weight_decay=0.05,
        decay_all=False,
        warmup=0.1,
        clip_norm=1.0,
        accumulate=1,
        precision="no",
        seed=0,
        encoder_lr=0.1,
        checkpointing=False,
        workers=0,
    ),
    "fit": lambda w: dict(
        module=w.module(),
        train=w.dataset(),
        test=w.dataset(),
        config=w.training,
        resume=False,
        watch=True,
        trackers=[],
        logs=None,
        keep=2,
    ),
    "finetune_encoder": lambda w: dict(model=deepcopy(w.pooling)),
    "Recipe": lambda w: dict(
        encoder="mini",
        head="mean",
        options={},
        num_frames=4,
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
        training=w.training,
    ),
    "evaluate_model": lambda w: dict(
        model=w.model, data=w.model_list, views=(1, 1), workers=0, progress=False, batch=4
    ),
    "split_clips": lambda w: dict(clips=w.clip_list, recipe=vp.Recipe()),
    "train_clips": lambda w: dict(
        data=w.clip_list,
        recipe=vp.Recipe(head="mean", num_frames=4, training=w.training),
        workers=0,
        progress=False,
        watch=False,
        trackers=[],
        keep=2,
    ),
    "Benchmark": lambda w: dict(
        name="x", train=w.bench.train, test=w.bench.test, classes=["a", "b", "c"], metadata={}, text=None
    ),
    "Result": lambda w: dict(record=w.result.record, heads=[]),
    "world_bench": lambda w: dict(
        encoder=w.encoder, train=18, test=18, seed=0, num_frames=4, views=1, templates="name"
    ),
    "clip_bench": lambda w: dict(
        encoder=w.encoder,
        train=[(w.clip_path, 0), (w.clip_path, 1)],
        test=[(w.clip_path, 0)],
        classes=["a", "b"],
        num_frames=4,
        views=(1, 1),
        templates="mote",
        name="clips",
    ),
    "close_set": lambda w: dict(
        bench=w.bench, head="mean", options={}, config=w.training, seeds=(0,), classifier="linear", curves=False
    ),
    "few_shot": lambda w: dict(
        bench=w.bench, head="mean", k=1, options={}, config=w.training, seeds=(0,), classifier="linear"
    ),
    "zero_shot": lambda w: dict(
        head=create_head("mean", DIM, CLASSES, FRAMES, text=w.bench.text),
        bench=w.bench,
        splits=1,
        seed=0,
        trained_on=(),
    ),
    "over_splits": lambda w: dict(run=lambda split: w.result, splits=(1,)),
    "choose_rates": lambda w: dict(
        benchmark=w.bench,
        candidates=(2, 4),
        head="vidprism",
        options=dict(width=4),
        config=w.training,
        seed=0,
        classifier="linear",
        train=w.bench.train,
        sizes=(1, 2),
        resamples=10,
    ),
    "cross_validate": lambda w: dict(
        bench=w.bench, head="mean", options={}, config=w.training, folds=2, seed=0, classifier="linear"
    ),
    "compare": lambda w: dict(bench=w.bench, heads=["mean"], config=w.training, seeds=(0,)),
    "isolate_experts": lambda w: dict(head=w.head, bench=w.bench, sets=[(0,)]),
    "results_table": lambda w: dict(results=[w.result]),
    "head_cost": lambda w: dict(head=w.head, num_frames=8),
    "measure_cost": lambda w: dict(
        model=w.model, num_frames=16, views=(1, 1), batch=1, repeats=2, warmup=0, precision="no", device="cpu"
    ),
    "paper_costs": lambda w: dict(gpu=None),
    "draw_paper_costs": lambda w: dict(rows=None),
    "describe": lambda w: dict(
        head=w.head, features=w.features[:1], clip=w.clip, labels=["a", "b", "c"], active_experts=None, untrained=()
    ),
    "explain": lambda w: dict(
        model=w.model, clip=w.clip_path, expert=0, target=0, method="gradcam", active_experts=None
    ),
    "expert_usage": lambda w: dict(head=w.head, bench=w.bench, permutations=5, seed=0),
    "frame_scores": lambda w: dict(model=w.model, clip=w.clip_path, active_experts=[0, 1]),
    "localise": lambda w: dict(
        model=w.model,
        video=w.clip_path,
        window=2.0,
        threshold=0.5,
        min_length=0.1,
        overlap=0.5,
        smoothing=0.1,
        cache=w.new("cache"),
        progress=False,
        method="sliding",
        context=0.5,
    ),
    "clip_table": lambda w: dict(
        model=w.model,
        clips=w.model_features,
        cache=None,
        workers=0,
        progress=False,
        batch=2,
        timeout=20.0,
        seconds=True,
        classes=None,
        stop=None,
    ),
    "prism_page": lambda w: dict(e=w.explanation, path=w.new("page.html")),
    "ClipInspector": lambda w: dict(model=w.model, clips=[w.clip_path], beside=None, name="x"),
    "DatasetInspector": lambda w: dict(
        model=w.model, clips=[w.clip_path], beside=None, train=None, cache=w.new(), workers=0, most=9, seed=0, wait=True
    ),
    "Trial": lambda w: dict(head="mean", options={}, shots=0, stride=1, classifier="linear", probes={}),
    "Study": lambda w: dict(
        name="x", bench=w.bench, encoder="none", folds=0, runs=1, training=w.training, shots=(2,), layers=2, width=0
    ),
    "open_study": lambda w: dict(folder=w.study_folder),
    "paired": lambda w: dict(study=w.study, a=Metric(vp.Trial("mean")), b=Metric(vp.Trial("mean"))),
    "run_cells": lambda w: dict(study=w.study, cells=[], workers=0, progress=False),
    "world_study": lambda w: dict(encoder="mini", folder=w.new(), text=False, train=36, test=36),
    "clips_study": lambda w: dict(
        data=w.clip_list, encoder=w.encoder, folder=w.new(), num_frames=4, width=8, folds=2, runs=1, progress=False
    ),
    "draw_table": lambda w: dict(table=table_1(w.study), study=w.study, base="."),
    "draw_claims": lambda w: dict(claims=prism_claims(w.study)[:1], study=w.study),
}

# Methods that a person calls: the bound method, and the arguments of a right call.
METHODS = {
    "VideoModel.predict": lambda w: (w.model.predict, dict(clip=w.clip_path, topk=2, labels=None)),
    "VideoModel.embed": lambda w: (w.model.embed, dict(clip=w.clip_path)),
    "VideoModel.from_mote": lambda w: (
        vp.VideoModel.from_mote,
        dict(path=w.mote_file, class_names=["a", "b", "c"], encoder="mini", num_frames=8),
    ),
    "VideoModel.zero_shot_logits": lambda w: (
        w.model.zero_shot_logits,
        dict(clip=w.clip_path, labels=["a", "b"], templates=("{}",)),
    ),
    "VideoModel.save_pretrained": lambda w: (w.model.save_pretrained, dict(folder=w.new("kept"))),
    "ClipList.k_shot": lambda w: (w.clip_list.k_shot, dict(k=1, seed=0)),
    "ClipList.part": lambda w: (w.clip_list.part, dict(name="train")),
    "ClipList.select": lambda w: (w.clip_list.select, dict(places=[0, 1], note="two")),
    "ClipList.split_by_source": lambda w: (w.clip_list.split_by_source, dict(folds=2, seed=0)),
    "ClipList.folds": lambda w: (w.clip_list.folds, dict(folds=2, seed=0)),
    "ClipList.with_classes": lambda w: (w.clip_list.with_classes, dict(names=["b", "a"])),
    "ClipList.save": lambda w: (w.clip_list.save, dict(path=w.new("list").with_suffix(".csv"))),
    "ClipDataset.loader": lambda w: (w.clip_dataset.loader, dict(batch=2, seed=0, weighted=False, workers=0)),
    "Result.save": lambda w: (w.result.save, dict(path=w.new("result.json"))),
}


def call_of(name: str, workshop) -> tuple:
    "What a name calls, and the arguments of a right call."
    if name in METHODS:
        return METHODS[name](workshop)
    return getattr(vp, name), CALLS[name](workshop)


PLAIN = [0, -1, 1, 2, 2.5, -0.5, 0.0, math.nan, math.inf, -math.inf, None, "", "x", "\0", True, False]
LARGE = [10**6, 10**9, 10**19, -(10**19), 1e30]
OTHER = [[], (), {}, {"a": 1}, [None], ["x"], [math.nan], (0, 0), b"", b"x", object(), int, 1j, {1, 2}]
ARRAYS = [
    np.int64(2),
    np.float64("nan"),
    np.zeros(0),
    np.zeros((2, 2)),
    torch.zeros(0),
    torch.zeros(()),
    torch.tensor([math.nan]),
    torch.ones(2, 8),
    torch.ones(2, 8, 8, dtype=torch.long),
]
NONSENSE = [*PLAIN, *LARGE, *OTHER, *ARRAYS]

# Calls that start processes or train for seconds; only their plain values are tried.
SLOW = {"audit_clips", "read_clip_safely", "open_study", "clips_study", "world_study", "prism_page"}
SLOW |= {"ClipInspector", "DatasetInspector"}


def refused_by(annotation, default) -> list:
    "The plain values that an annotation does not allow."
    wanted = _parameter(annotation, default)
    return [value for value in [*PLAIN, *LARGE] if not allowed(wanted, value)]


def allowed(wanted, value) -> bool:
    "Whether a value passes the check of an argument."
    try:
        _check("value", value, wanted)
    except ConfigError:
        return False
    return True
