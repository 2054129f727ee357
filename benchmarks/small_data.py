"""Heads where clips are few: JHMDB-21's 650 clips, frozen features, source-grouped folds.

Every row is kept in small_data.json with its settings.

    python benchmarks/small_data.py features            # encode the clips once into a file outside the checkout
    python benchmarks/small_data.py check 10            # encode ten clips anew and compare
    python benchmarks/small_data.py run [NAME ...]      # the rows that are not there yet, in order
    python benchmarks/small_data.py world               # the preset against the paper's head on the embedded world
    python benchmarks/small_data.py table

A row is measured once and never again while its settings stand; stopping it loses one fold at most."""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
import torch
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple
from vidprism.data.clips import read_clip
from vidprism.data.splits import grouped_folds, source_of
from vidprism.encoders.cache import FeatureCache
from vidprism.encoders.factory import create_encoder
from vidprism.encoders.motion import motion_features
from vidprism.errors import ConfigError
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit, find_commit, world_bench
from vidprism.evaluation.metrics import measure, view_logits
from vidprism.evaluation.protocols import GRID, grid_search, train_head
from vidprism.experiments.studies import difference
from vidprism.files import locked, write_json
from vidprism.training.pipeline import default_cache
from vidprism.training.trainer import TrainConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from mobilenet import SHARED, make

TABLE = HERE / "small_data.json"
FRAMES, FOLDS, CELLS = 16, 5, 2
FULL = TrainConfig()  # the kit's defaults
# for the heads that take minutes a fit; they know their clips by heart by then
SHORT = replace(FULL, epochs=12, precision="bf16")


def further(classes):
    "Paths and labels of the clips in the folder VIDPRISM_LAB_CLIPS, one folder per class; none without it."
    if "VIDPRISM_LAB_CLIPS" not in os.environ:
        return [], []
    root = Path(os.environ["VIDPRISM_LAB_CLIPS"]).absolute()
    paths = sorted(p for p in root.glob("*/*") if p.is_file())
    unknown = {p.parent.name for p in paths}.difference(classes)
    if unknown:
        raise ConfigError(f"No class of JHMDB-21: {', '.join(sorted(unknown))} in VIDPRISM_LAB_CLIPS.")
    return [str(p) for p in paths], [classes.index(p.parent.name) for p in paths]


def listed():
    "Folder, paths, labels and class names of the 650 clips, and after them those of `further`."
    root = SHARED / "jhmdb21"
    rows = [line.rsplit(" ", 1) for line in (root / "clips.txt").read_text().splitlines() if line.strip()]
    paths, labels = [path for path, _ in rows], [int(label) for _, label in rows]
    classes = [line.strip() for line in (root / "classes.txt").read_text().splitlines() if line.strip()]
    more_paths, more_labels = further(classes)
    return root, paths + more_paths, labels + more_labels, classes


def encode(paths, root):
    "Pooled features of some clips."
    encoder = make()
    with torch.no_grad():
        for i, p in enumerate(paths):
            if i % 50 == 0:
                print(f"{i} of {len(paths)} clips", flush=True)
            seen = encoder(read_clip(root / p, FRAMES).frames[None], grid=True)
            yield seen.pooled[0], motion_features(seen.grid, CELLS)[0].half()


def make_features(file):
    "Encode every clip, and keep the features in a file."
    root, items, labels, _ = listed()
    pooled, motion = map(torch.stack, zip(*encode(items, root)))
    torch.save(dict(pooled=pooled, motion=motion, labels=torch.tensor(labels), items=items), file)


def check_features(file, count):
    "Largest difference of features made anew, in parts of their mean length."
    root, items, _, _ = listed()
    kept = torch.load(file)
    places = torch.linspace(0, len(items) - 1, count).long().tolist()
    pooled, motion = map(torch.stack, zip(*encode([items[i] for i in places], root)))
    for what, new in (("pooled", pooled), ("motion", motion)):
        old = kept[what][places].float()
        difference = (new.float() - old).abs().max() / old.norm(dim=-1).mean()
        print(f"{what}: {count} clips made anew, largest difference {difference:.1e} of a feature's length")


def bench_of(file, motion=False):
    "Both sides are the same clips: the folds split them. With motion: its channels come after the pooled ones."
    kept = torch.load(file)
    _, items, _, classes = listed()
    assert kept["items"] == items
    features = kept["pooled"]
    if motion:
        features = torch.cat([features, kept["motion"].float()], -1)
    side = FeatureSplit(features, kept["labels"], items, [source_of(Path(p)) for p in items])
    metadata = dict(encoder="mobilenet_edgetpu_100/imagenet1k", num_frames=FRAMES, sampling="sparse", views=[1, 1])
    return Benchmark("jhmdb21", side, side, classes, metadata)


def averaged(bench):
    "The same clips with one frame, their mean: for the mean head, the same answer at a sixteenth of the cost."

    def pool(side):
        return side._replace(features=side.features.mean(1, keepdim=True))

    return replace(bench, train=pool(bench.train), test=pool(bench.test))


class Row(NamedTuple):
    "How a row is measured, and what was predicted of it."

    head: str
    options: dict
    training: TrainConfig
    tuned: bool
    predicted: str


# The first rows are the comparison, the others take the recipe apart.
PLAN = {
    "mean": Row("mean", {}, FULL, True, "about 57: measured before on other clips"),
    "statistics": Row(
        "statistics",
        {},
        FULL,
        True,
        "as the preset: it is its linear part, and the streams brought nothing when they were switched off",
    ),
    "statistics, as it comes": Row("statistics", {}, FULL, False, "as tuned"),
    "small": Row(
        "vidprism_lowdata",
        {},
        FULL,
        True,
        "seven points above the mean: on other splits the same statistics gained so much",
    ),
    "mean + motion": Row("mean", {}, FULL, True, "three points above the mean: a sketch gained as much"),
    "small + motion": Row(
        "vidprism_lowdata", dict(motion=(CELLS**2 + 1) * 1280), FULL, False, "two points above the preset without"
    ),
    "transformer, 1 layer": Row(
        "transformer", dict(layers=1), SHORT, True, "below the mean: 52.7 measured before on other clips"
    ),
    "vidprism": Row("vidprism", {}, SHORT, True, "below the mean: 54.0 measured before on other clips"),
    "bmoe": Row("bmoe", {}, SHORT, True, "below the mean"),
    "mote, 1 layer": Row("mote", dict(layers=1), SHORT, True, "at or below the mean"),
    "small, as it comes": Row(
        "vidprism_lowdata", {}, FULL, False, "as tuned: the default rate is in the middle of the grid"
    ),
    "without deviation": Row(
        "vidprism_lowdata", dict(statistics=("mean", "change", "drift")), FULL, False, "a little less"
    ),
    "without change": Row(
        "vidprism_lowdata", dict(statistics=("mean", "deviation", "drift")), FULL, False, "a little less"
    ),
    "without drift": Row(
        "vidprism_lowdata", dict(statistics=("mean", "deviation", "change")), FULL, False, "two points less"
    ),
    "mean and streams": Row("vidprism_lowdata", dict(statistics=("mean",)), FULL, False, "most of the gain is gone"),
    "streams alone": Row("vidprism_lowdata", dict(statistics=()), FULL, False, "far below the mean: they don't see it"),
    "streams off": Row(
        "vidprism_lowdata",
        dict(rates=(16,), width=4, interaction="none", positions="none", aggregation="avg"),
        FULL,
        False,
        "the same: what the streams bring is motion, and there is little of it in these features",
    ),
    "streams 128 wide": Row(
        "vidprism_lowdata", dict(width=128), FULL, False, "far below the mean: 43 when it was the default"
    ),
    "without positions": Row("vidprism_lowdata", dict(positions="none"), FULL, False, "a little less"),
    "without roots": Row(
        "vidprism_lowdata", dict(power=1.0), FULL, False, "a point and a half less: ridge regression lost two"
    ),
    "streams see the mean": Row("vidprism_lowdata", dict(centre=False), FULL, False, "a point less"),
    "streams see all channels": Row("vidprism_lowdata", dict(channel_dropout=0.0), FULL, False, "half a point less"),
    "streams see all": Row(
        "vidprism_lowdata", dict(centre=False, channel_dropout=0.0), FULL, False, "six points less, as on another split"
    ),
    "vidprism, width 128": Row(
        "vidprism",
        dict(width=128),
        FULL,
        True,
        "two points above the wide one, as there is less to learn the clips by heart with",
    ),
    "vidprism, width 128, 12 epochs": Row(
        "vidprism",
        dict(width=128),
        SHORT,
        True,
        "seven points above the same with 40 epochs: on another split it gained so much",
    ),
    "transformer, width 128": Row("transformer", dict(layers=1, width=128), FULL, True, "as the wide one"),
    "bmoe, width 128": Row("bmoe", dict(width=128), FULL, True, "as the wide one"),
    "mote, width 128": Row("mote", dict(layers=1, width=128), FULL, True, "as the wide one"),
    "streams 16 wide": Row("vidprism_lowdata", dict(width=16), FULL, False, "the same"),
}


def measure_fold(bench, fold, head, options, config, tuned, seed):
    "Accuracy of a fold, and what tuning chose."
    train, test = bench.train.rows(fold.train), bench.train.rows(fold.test)
    chosen = None
    if tuned:
        tuning = grid_search(bench, head, options, config, GRID, seed, train=train)
        config, chosen = tuning.config, tuning.record["chosen"]
    model, _ = train_head(bench, train, head, options, config, seed)
    return measure(view_logits(model, test.features), test.labels).top1, chosen


def settings_of(name, seed, splits):
    "What a kept row is found by, as JSON gives it back."
    plan = PLAN[name]
    settings = dict(
        name=name,
        head=plan.head,
        options=plan.options,
        training=asdict(plan.training),
        grid=GRID if plan.tuned else None,
        seed=seed,
        splits=splits,
    )
    return json.loads(json.dumps(settings))


def find_row(name, seed, splits):
    "The row that is kept, finished or not, or a new one without folds."
    settings, kept = settings_of(name, seed, splits), read()
    for row in [*kept["rows"], *kept.get("unfinished", [])]:
        if row["settings"] == settings:
            return row
    return dict(
        settings=settings,
        predicted=PLAN[name].predicted,
        commit=find_commit(),
        torch=torch.__version__,
        seed=seed,
        splits=splits,
        top1=[],
        chosen=[] if PLAN[name].tuned else None,
        cpu_seconds=0,
    )


def add_fold(row, bench, fold, name, seed):
    "A row with one more fold measured."
    head, options, config, tuned, _ = PLAN[name]
    taken = time.process_time()
    score, chosen = measure_fold(bench, fold, head, options, config, tuned, seed)
    return row | dict(
        top1=[*row["top1"], score],
        chosen=[*row["chosen"], chosen] if tuned else None,
        cpu_seconds=row["cpu_seconds"] + round(time.process_time() - taken),
    )


def run_row(bench, name, seeds, splits):
    "Measure the folds of a row that are not there yet, and keep each."
    b = averaged(bench) if PLAN[name].head == "mean" else bench
    for s in splits:
        for seed in seeds:
            row = find_row(name, seed, s)
            folds = grouped_folds(b.train.labels.tolist(), b.train.sources, FOLDS, s)
            for fold in folds[len(row["top1"]) :]:
                row = add_fold(row, b, fold, name, seed)
                keep("rows" if len(row["top1"]) == FOLDS else "unfinished", row)
                scores = [round(100 * v, 1) for v in row["top1"]]
                average = f"{100 * statistics.fmean(row['top1']):.1f}"
                cost = f"({row['cpu_seconds']} CPU s)"
                print(f"{name:24s} splits {s} seed {seed}: {average} {scores} {cost}", flush=True)


def read():
    "The whole file of results."
    return json.loads(TABLE.read_text()) if TABLE.exists() else dict(rows=[])


def read_rows():
    "The finished rows."
    return read()["rows"]


def keep(what, row):
    "Append a row, or put it in the place of the one with its settings; several processes may."
    with locked(TABLE):
        table = read()
        rows = table.setdefault(what, [])
        if what == "rows":
            table["unfinished"] = [r for r in table.get("unfinished", []) if r["settings"] != row["settings"]]
        at = next((k for k, r in enumerate(rows) if r["settings"] == row["settings"]), len(rows))
        rows[at : at + 1] = [row]
        write_json(TABLE, table)


def folds_of(rows, name):
    "{(splits, fold): accuracy averaged over seeds} of a name."
    found = {}
    for r in rows:
        if r["settings"]["name"] == name:
            for f, v in enumerate(r["top1"]):
                found.setdefault((r["splits"], f), []).append(v)
    return {k: statistics.fmean(v) for k, v in found.items()}


def paired(rows, name, classifier):
    """Mean difference over folds that both have, its standard deviation, and its corrected 95% interval.

    The correction is that of Nadeau and Bengio (2003)."""
    a, b = folds_of(rows, name), folds_of(rows, classifier)
    d = [100 * (a[k] - b[k]) for k in sorted(a.keys() & b.keys())]
    found = difference(d, shared=1 / (FOLDS - 1))  # folds share training clips
    return found and dict(mean=found.mean, sd=statistics.stdev(d), low=found.low, high=found.high, folds=found.n)


def said(d):
    "A difference in words; empty for none."
    return f"{d['mean']:+.1f} ({d['low']:+.1f} to {d['high']:+.1f})" if d else ""


def table(rows):
    "Markdown: top-1 over folds, the paired difference from the mean, and by how much the preset is above each."
    small = "small" if folds_of(rows, "small") else "small, as it comes"
    lines = [
        "| head | tuned | folds | top-1 | less the mean (95% over folds) | small less it |",
        "|---|---|---|---|---|---|",
    ]
    for name in [n for n in PLAN if folds_of(rows, n)]:
        v = [100 * x for x in folds_of(rows, name).values()]
        tuned = "grid" if PLAN[name].tuned else "no"
        top1 = f"{statistics.fmean(v):.1f}"
        if len(v) > 1:
            top1 += f" ± {statistics.stdev(v):.1f}"
        less_mean = said(paired(rows, name, "mean")) if name != "mean" else ""
        small_less = said(paired(rows, small, name)) if name != small else ""
        lines.append(f"| {name} | {tuned} | {len(v)} | {top1} | {less_mean} | {small_less} |")
    return "\n".join(lines)


# Name, head and options: the preset, the preset whose streams see the clip's mean, and the paper's head.
WORLD_HEADS = (
    ("small", "vidprism_lowdata", {}),
    ("streams see the mean", "vidprism_lowdata", dict(centre=False)),
    ("paper", "vidprism", {}),
)


def run_world(seeds, train=1080, epochs=30):
    "The heads of `WORLD_HEADS` on the world's motions, at two learning rates of the grid."
    bench = world_bench(create_encoder("mini"), train, 540, templates=None, cache=FeatureCache(default_cache()))
    for seed, (name, head, options), lr in itertools.product(seeds, WORLD_HEADS, GRID["lr"][1:]):
        settings = dict(name=name, options=options, train=train, epochs=epochs, lr=lr, seed=seed)
        if any(r["settings"] == settings for r in read().get("world", [])):
            continue
        model, history = train_head(bench, bench.train, head, options, TrainConfig(epochs=epochs, lr=lr), seed)
        top1 = measure(view_logits(model, bench.test.features), bench.test.labels).top1
        keep("world", dict(settings=settings, commit=find_commit(), top1=top1, seconds=round(history.seconds)))
        print(f"world, {name}, lr {lr:g}, seed {seed}: {top1:.1%}", flush=True)


def run_rows(features, names, seeds, splits):
    "Measure rows of the plan, those without motion first."
    for motion in (False, True):
        chosen = [n for n in names if n.endswith("+ motion") == motion]
        if not chosen:
            continue
        bench = bench_of(features, motion)
        for name in chosen:
            run_row(bench, name, seeds, splits)


def print_tables():
    "Print a table for each way of splitting."
    rows = read_rows()
    for s in sorted({r["splits"] for r in rows}):
        print(f"splits {s}", table([r for r in rows if r["splits"] == s]), sep="\n\n", end="\n\n")


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("features", "check", "run", "world", "table"))
    ask.add_argument("names", nargs="*")
    ask.add_argument("--features", default=str(Path(tempfile.gettempdir()) / "vidprism_jhmdb21.pt"))
    ask.add_argument("--seeds", type=int, nargs="+", default=[0])
    ask.add_argument("--splits", type=int, nargs="+", default=[0])
    ask.add_argument("--threads", type=int, default=1)
    a = ask.parse_args()
    torch.set_num_threads(a.threads)
    if a.what == "features":
        make_features(a.features)
    elif a.what == "check":
        check_features(a.features, int((a.names or ["10"])[0]))
    elif a.what == "world":
        run_world(a.seeds)
    elif a.what == "table":
        print_tables()
    else:
        run_rows(a.features, a.names or PLAN, a.seeds, a.splits)


if __name__ == "__main__":
    main()
