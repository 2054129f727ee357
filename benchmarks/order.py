"""Order: what heads make of JHMDB-21's clips when their frames are shuffled or reversed.

    python benchmarks/order.py features         # of the 650 clips, forwards, backwards and shuffled; minutes
    python benchmarks/order.py run [NAME ...]   # the folds that are not there yet
    python benchmarks/order.py table

`--encoder efficientnet` does the same with another encoder, in order_efficientnet.json.

Each head is trained on the clips as they are, on source-grouped folds, and measured on the held-out clips: as they are,
with their frames in random order, and backwards. Of sit and stand, two classes that order tells apart, the higher logit
counts. A second training tells clips from their reverse. Frames are permuted before they are encoded. Results are in
order.json, a fold at a time."""

import argparse
import statistics
import sys
import tempfile
import time
import torch
from functools import partial
from pathlib import Path
from typing import NamedTuple
from vidprism.data.clips import read_clip
from vidprism.data.splits import grouped_folds, source_of
from vidprism.encoders.flow import FLOW_WIDTH, FlowEncoder
from vidprism.encoders.motion import ColourEncoder
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit, find_commit
from vidprism.evaluation.protocols import train_head
from vidprism.experiments.studies import difference
from vidprism.training.trainer import TrainConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import efficientnet
import lab
import mobilenet
from lab import DEVELOPMENT, folds_of
from small_data import FOLDS, FRAMES, SHORT, listed

TABLE = HERE / "order.json"
ENCODERS = {"mobilenet": (mobilenet.make, TABLE), "efficientnet": (efficientnet.make, HERE / "order_efficientnet.json")}
read = partial(lab.read, TABLE)
LOOK = 1280
ORDERS = ("forwards", "backwards", "shuffled")
FULL = TrainConfig()


class Plan(NamedTuple):
    "A head, its options, the channels that it reads (the first, or all), and its training."

    head: str
    options: dict
    channels: int | None
    training: TrainConfig
    predicted: str


PLAN = {
    "mean": Plan("mean", {}, LOOK, FULL, "no drop, half of the pairs: the mean has no order"),
    "statistics": Plan("statistics", {}, LOOK, FULL, "a drop of 2: only change and drift have an order"),
    "ridge": Plan("vidprism_tubes", {}, LOOK, FULL, "as statistics: the same vector in closed form"),
    "vidprism_lowdata": Plan("vidprism_lowdata", {}, LOOK, FULL, "as statistics"),
    "vidprism": Plan("vidprism", dict(width=128), LOOK, SHORT, "a drop of 5, 60% of the pairs"),
    "bmoe": Plan("bmoe", dict(width=128), LOOK, FULL, "a drop of 2: its layers see positions"),
    "mote": Plan("mote", dict(layers=1, width=128), LOOK, FULL, "a drop of 2"),
    "transformer": Plan("transformer", dict(layers=1, width=128), LOOK, FULL, "a drop of 2"),
    "attentive_probe": Plan("attentive_probe", {}, LOOK, SHORT, "a drop of 2"),
    "tubes": Plan(
        "vidprism_tubes",
        dict(colours=True, flow=True),
        None,
        FULL,
        "a drop of 15, as flow between random frames is noise; 75% of the pairs and of the arrows",
    ),
    "tubes, no greys": Plan("vidprism_tubes", dict(flow=True), -LOOK, FULL, "1 less than with greys"),
}


def permuted(clip, order, generator):
    "The frames of a clip in an order."
    if order == "backwards":
        return clip.flip(0)
    return clip[torch.randperm(len(clip), generator=generator)] if order == "shuffled" else clip


def make_features(file, inner):
    "Features [N,T,D] of all clips in each order, by flow, greys and an image encoder."
    root, items, labels, _ = listed()
    encoder = FlowEncoder(ColourEncoder(inner, 0))
    generator = torch.Generator().manual_seed(0)
    found = {order: [] for order in ORDERS}
    with torch.inference_mode():
        for item in items:
            frames = read_clip(root / item, FRAMES).frames
            for order in ORDERS:
                found[order].append(encoder(permuted(frames, order, generator)[None]).pooled[0].half())
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        dict({order: torch.stack(x) for order, x in found.items()}, labels=torch.tensor(labels), items=items), file
    )


def chosen(x, channels):
    "The channels that a head reads: the first, all, or all without the greys."
    if channels is not None and channels < 0:
        return torch.cat([x[..., :LOOK], x[..., -FLOW_WIDTH:]], -1).float()
    return x[..., :channels].float()


def sides_of(kept, plan):
    "Clips in each order, by order."
    items = kept["items"]
    sources = [source_of(Path(item)) for item in items]
    return {order: FeatureSplit(chosen(kept[order], plan.channels), kept["labels"], items, sources) for order in ORDERS}


def joined(first, second):
    "Clips of two sides, labelled 0 and 1."
    labels = torch.cat([torch.zeros_like(first.labels), torch.ones_like(second.labels)])
    features = torch.cat([first.features, second.features])
    return FeatureSplit(features, labels, first.items + second.items, first.sources + second.sources)


def trained(plan, train, classes):
    "A head, trained."
    bench = Benchmark("jhmdb21", train, train, classes, {})
    return train_head(bench, train, plan.head, plan.options, plan.training, 0)[0]


@torch.no_grad()
def logits_of(model, side):
    "Logits [N,C] of all clips."
    return torch.cat([model(x).logits for x in side.features.split(64)])


def run_fold(plan, kept, fold, classes):
    "All measures of a fold."
    taken = time.process_time()
    sides = sides_of(kept, plan)
    model = trained(plan, sides["forwards"].rows(fold.train), classes)
    labels = sides["forwards"].labels[fold.test]
    pair = torch.tensor([classes.index("sit"), classes.index("stand")])
    asked = torch.isin(labels, pair)
    found = dict(asked=int(asked.sum()))
    for order, side in sides.items():
        logits = logits_of(model, side.rows(fold.test))
        found[order] = (logits.argmax(1) == labels).double().mean().item()
        told = logits[asked][:, pair].argmax(1) == (labels[asked] == pair[1]).long()
        found[f"told {order}"] = int(told.sum())
    arrow = [joined(*(sides[order].rows(part) for order in ORDERS[:2])) for part in (fold.train, fold.test)]
    model = trained(plan, arrow[0], ["forwards", "backwards"])
    found["arrow"] = (logits_of(model, arrow[1]).argmax(1) == arrow[1].labels).double().mean().item()
    return found | dict(cpu_seconds=round(time.process_time() - taken, 1))


def run_row(name, kept, classes, splits, table=TABLE):
    "Measure the folds of a head that are not there yet, and keep each."
    plan = PLAN[name]
    settings = dict(name=name, head=plan.head, options=plan.options, epochs=plan.training.epochs, splits=splits)
    row = next((r for r in lab.read(table) if (r["name"], r["splits"]) == (name, splits)), None)
    row = row or dict(settings, predicted=plan.predicted, commit=find_commit(), folds=[])
    sources = [source_of(Path(item)) for item in kept["items"]]
    for fold in grouped_folds(kept["labels"].tolist(), sources, FOLDS, splits)[len(row["folds"]) :]:
        row["folds"].append(run_fold(plan, kept, fold, classes))
        lab.keep(row, table)
    print(said(name, [row]), flush=True)


def fresh(rows):
    "The ways of splitting that took no part in the choice of the head."
    return sorted({row["splits"] for row in rows}.difference(DEVELOPMENT))


def above(rows, name, splits, other="statistics", key="forwards"):
    "Paired difference over folds, with the interval of Nadeau and Bengio (2003); None where folds are missing."
    own, base = (folds_of(rows, n, splits, key) for n in (name, other))
    if len(own) != len(base) or len(own) < 2:
        return None
    return difference([a - b for a, b in zip(own, base)], shared=1 / (FOLDS - 1))


def summary(rows, name, splits):
    "Mean points of every measure of a name; None without folds."
    folds = [f for r in rows if r["name"] == name and r["splits"] in splits for f in r["folds"]]
    if not folds:
        return None
    asked = sum(f["asked"] for f in folds)
    points = {key: 100 * statistics.fmean(f[key] for f in folds) for key in (*ORDERS, "arrow")}
    told = {f"told {order}": 100 * sum(f[f"told {order}"] for f in folds) / asked for order in ORDERS}
    return points | told | dict(asked=asked, folds=len(folds), cpu_seconds=sum(f["cpu_seconds"] for f in folds))


def said(name, rows):
    "A row in words."
    found = summary(rows, name, [r["splits"] for r in rows])
    return f"{name:18s} " + ", ".join(f"{key} {value:.1f}" for key, value in found.items())


def table(rows, splits):
    "Markdown: a line for each head."
    lines = [
        "| head | top-1 | shuffled | backwards | sit or stand | shuffled | clip or reverse | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in PLAN:
        found = summary(rows, name, splits)
        if found:
            keys = ("forwards", "shuffled", "backwards", "told forwards", "told shuffled", "arrow")
            cells = [name, *(f"{found[key]:.1f}" for key in keys), f"{found['cpu_seconds']:.0f}"]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("features", "run", "table"))
    ask.add_argument("names", nargs="*")
    ask.add_argument("--splits", type=int, nargs="+", default=list(DEVELOPMENT))
    ask.add_argument("--encoder", choices=ENCODERS, default="mobilenet")
    ask.add_argument("--features", type=Path)
    a = ask.parse_args()
    torch.set_num_threads(1)
    make, kept_in = ENCODERS[a.encoder]
    features = a.features or Path(tempfile.gettempdir()) / f"vidprism_order_{a.encoder}.pt"
    if a.what == "features":
        return make_features(features, make())
    if a.what == "table":
        rows = lab.read(kept_in)
        for splits in (DEVELOPMENT, fresh(rows)):
            print(table(rows, splits), end="\n\n")
        return
    kept = torch.load(features, mmap=True)
    for splits in a.splits:
        for name in a.names or PLAN:
            run_row(name, kept, listed()[3], splits, kept_in)


if __name__ == "__main__":
    main()
