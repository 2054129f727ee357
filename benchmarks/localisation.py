"""Where in a video: heads that were trained on labels of whole clips, on videos spliced from held-out clips.

Every row is kept in localisation.json with its settings; what is there is not measured again.

    python benchmarks/small_data.py features        # encode JHMDB-21's clips once
    python benchmarks/localisation.py run world     # the embedded world: 2 to 4 motions, three seeds
    python benchmarks/localisation.py run jhmdb21   # 2 or 3 clips of different classes and sources, five folds
    python benchmarks/localisation.py table"""

import argparse
import statistics
import sys
import tempfile
import time
import torch
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from vidprism.data.splits import grouped_folds
from vidprism.encoders.base import evaluation_mode
from vidprism.encoders.cache import FeatureCache
from vidprism.encoders.factory import create_encoder
from vidprism.evaluation.benchmark import Benchmark, find_commit, world_bench
from vidprism.evaluation.localisation import Segment, find_segments, frame_accuracy, localisation_map, smooth
from vidprism.evaluation.metrics import measure, view_logits
from vidprism.evaluation.protocols import train_head
from vidprism.experiments.studies import difference
from vidprism.files import locked, write_json
from vidprism.interpret.long_videos import WindowLogits
from vidprism.schema import read_json
from vidprism.training.pipeline import default_cache
from vidprism.training.trainer import TrainConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from small_data import bench_of

TABLE = HERE / "localisation.json"
TIOUS = (0.3, 0.5, 0.7)
EPOCHS = dict(world=25, jhmdb21=12)  # of a head that has more than a linear layer
THRESHOLDS = (0.3, 0.5, 0.7)  # of all heads
SMOOTHINGS = (0.125, 0.25, 0.5, 1.0)  # parts of the head's frames; the best on the tuning videos is taken
SIZES = (0.25, 0.5, 1.0)  # parts of the head's frames that a window has; the best on the tuning videos is taken
PREDICTED = (
    "Predicted before: split VidPrism above sliding mean pooling at .3 and below it at .7; MoTE best of the splits."
)


class Entry(NamedTuple):
    "A head of the table."

    head: str
    world: dict = {}
    jhmdb21: dict = {}


HEADS = {
    "mean": Entry("mean"),
    "statistics": Entry("statistics"),
    "vidprism": Entry("vidprism", {}, dict(width=128, rates=(2, 4, 8))),
    "vidprism, positions": Entry(
        "vidprism", dict(positions="learned"), dict(width=128, rates=(2, 4, 8), positions="learned")
    ),
    "bmoe, positions": Entry("bmoe", dict(positions="learned"), dict(width=128, positions="learned")),
    "mote": Entry("mote", dict(layers=1), dict(layers=1, width=128)),
    "attentive probe, positions": Entry(
        "attentive_probe", dict(positions="learned"), dict(width=128, positions="learned")
    ),
}


class Clips(NamedTuple):
    "Clips of any length, as features."

    rows: list  # of [n,D]
    labels: list
    sources: list


class Video(NamedTuple):
    "A spliced video."

    features: torch.Tensor  # [n,D]
    edges: torch.Tensor  # [n+1] seconds
    truth: list  # of Segment


class Data(NamedTuple):
    "What a head is trained on and measured on."

    bench: Benchmark  # its two sides are the training clips and the clips of the test videos
    tuning: list  # of Video
    test: list  # of Video
    rate: float  # features a second


def splice(clips: Clips, classes, count: int, most: int, rate: float, seed: int, shortest: float = 0.75) -> list:
    "Videos of 2 to `most` clips of different classes and sources, each cut to three quarters of its length or more."
    g = torch.Generator().manual_seed(seed)
    videos = []
    for _ in range(count):
        wanted = int(torch.randint(2, most + 1, (1,), generator=g))
        chosen = []
        for k in torch.randperm(len(clips.rows), generator=g).tolist():
            seen = [(clips.labels[j], clips.sources[j]) for j in chosen]
            if all(clips.labels[k] != label and clips.sources[k] != source for label, source in seen):
                chosen.append(k)
            if len(chosen) == wanted:
                break
        videos.append(
            _joined(
                [_cut(clips.rows[k], shortest, g) for k in chosen], [classes[clips.labels[k]] for k in chosen], rate
            )
        )
    return videos


def _cut(row, shortest: float, g):
    "A part of a clip."
    least = max(1, round(shortest * len(row)))
    length = int(torch.randint(least, len(row) + 1, (1,), generator=g))
    start = int(torch.randint(0, len(row) - length + 1, (1,), generator=g))
    return row[start : start + length]


def _joined(parts, labels, rate: float) -> Video:
    "Parts one after another."
    truth, at = [], 0
    for part, label in zip(parts, labels):
        truth.append(Segment(at / rate, (at + len(part)) / rate, label))
        at += len(part)
    return Video(torch.cat(parts), torch.arange(at + 1).double() / rate, truth)


def world_data(seed: int) -> Data:
    "900 training clips of the world, 180 for the tuning videos, 540 for the test videos; 16 frames a second."
    cache = FeatureCache(default_cache())
    bench = world_bench(create_encoder("mini"), 1080, 540, num_frames=32, templates=None, cache=cache)
    whole = bench.train
    bench = replace(bench, train=whole.rows(range(900)))
    held = whole.rows(range(900, 1080))
    sides = [Clips(list(s.features), s.labels.tolist(), s.items) for s in (held, bench.test)]
    tuning, test = (splice(side, bench.classes, n, 4, 16.0, seed) for side, n in zip(sides, (40, 120)))
    return Data(bench, tuning, test, 16.0)


def jhmdb_data(file, fold: int) -> Data:
    """A fold of five: its clips for the test videos; a fifth of the others, by source, for the tuning videos.

    Each clip is the 16 frames that `small_data.py features` encodes; times count 16 frames as a second."""
    bench = bench_of(file)
    side = bench.train
    folds = grouped_folds(side.labels.tolist(), side.sources, 5, 0)
    test, train = side.rows(folds[fold].test), side.rows(folds[fold].train)
    inner = grouped_folds(train.labels.tolist(), train.sources, 5, 1)[0]
    held, rest = train.rows(inner.test), train.rows(inner.train)
    sides = [Clips(list(s.features), s.labels.tolist(), s.sources) for s in (held, test)]
    videos = [splice(s, bench.classes, n, 3, 16.0, fold) for s, n in zip(sides, (40, 100))]
    return Data(replace(bench, train=rest, test=test), *videos, 16.0)


def split_logits_of(head, video: Video, size: int):
    "Frame logits by the exact sum over frames, windows that share three quarters."
    windows = WindowLogits(head, len(video.features), size, 0.75)
    windows.add(video.features)
    return windows.logits


@torch.no_grad()
def sliding_logits_of(head, video: Video, size: int, hop: int = 2):
    "Logits of the window around each second frame, for the frames next to it."
    count = len(video.features)
    size = min(size, count)
    starts = [min(max(0, k - size // 2), count - size) for k in range(0, count, hop)]
    with evaluation_mode(head):
        logits = head(torch.stack([video.features[s : s + size] for s in starts])).logits
    return logits.repeat_interleave(hop, 0)[:count]


def measures_of(logits: list, videos: list, labels, seconds: float, rate: float) -> dict:
    "mAP and frame accuracy of smoothed logits."
    found, accuracies = {}, []
    for k, (row, video) in enumerate(zip(logits, videos)):
        values = smooth(row, video.edges, seconds).softmax(-1)
        found[k] = find_segments(values, video.edges, labels, THRESHOLDS, 4 / rate)
        accuracies.append(frame_accuracy(values, video.edges, labels, video.truth))
    result = localisation_map({k: v.truth for k, v in enumerate(videos)}, found, TIOUS)
    return dict(map={str(t): v for t, v in result.mean.items()}, frames=statistics.fmean(accuracies))


READOUTS = ("split", "split, whole windows", "sliding")


def best_readout(data: Data, head, readout: str, size: int) -> dict:
    "The size of the windows and the smoothing that are best on the tuning videos; and the measures on the test."
    sizes = [size] if readout == "split, whole windows" else [max(2, round(part * size)) for part in SIZES]
    read = sliding_logits_of if readout == "sliding" else split_logits_of
    labels, tried = data.bench.classes, []
    for own in sizes:
        logits = [read(head, video, own) for video in data.tuning]
        for part in SMOOTHINGS:
            seconds = part * size / data.rate
            got = measures_of(logits, data.tuning, labels, seconds, data.rate)
            tried.append((got["map"]["0.5"], own, seconds))
    _, own, seconds = max(tried)
    logits = [read(head, video, own) for video in data.test]
    return dict(chosen=dict(size=own, smoothing=seconds), **measures_of(logits, data.test, labels, seconds, data.rate))


def settings_of(data: str, name: str, readout: str, seed: int) -> dict:
    "What a row is found by."
    options = HEADS[name]._asdict()[data]
    return dict(
        data=data,
        name=name,
        options={k: list(v) if isinstance(v, tuple) else v for k, v in options.items()},
        readout=readout,
        seed=seed,
    )


def read_rows() -> list:
    "The rows that are kept."
    return read_json(TABLE)["rows"] if TABLE.exists() else []


def keep(row: dict):
    "Append a row."
    with locked(TABLE):
        write_json(TABLE, dict(predicted=PREDICTED, rows=[*read_rows(), row]))


def train(data: Data, name: str, which: str, seed: int):
    "A head trained on labels of whole clips."
    entry = HEADS[name]
    few = entry.head in ("mean", "statistics")
    epochs = (
        40 if few or which == "world" and name == "attentive probe, positions" else (30 if which == "world" else 12)
    )
    config = TrainConfig(epochs=epochs, lr=1e-3)
    head, _ = train_head(data.bench, data.bench.train, entry.head, entry._asdict()[which], config, seed)
    return head


def run(which: str, features, seeds):
    "The rows that are not there yet."
    for seed in seeds:
        data = None
        for name in HEADS:
            missing = [
                r
                for r in ("split", "sliding")
                if settings_of(which, name, r, seed) not in [k["settings"] for k in read_rows()]
            ]
            if not missing:
                continue
            data = data or (world_data(seed) if which == "world" else jhmdb_data(features, seed))
            size, began = data.bench.metadata["num_frames"], time.process_time()
            head = train(data, name, which, seed)
            top1 = measure(view_logits(head, data.bench.test.features), data.bench.test.labels).top1
            for readout in missing:
                got = best_readout(data, head, readout, size)
                row = dict(
                    settings=settings_of(which, name, readout, seed),
                    top1=top1,
                    **got,
                    commit=find_commit(),
                    cpu_seconds=round(time.process_time() - began),
                )
                keep(row)
                print(which, name, readout, seed, f"top1 {top1:.2f}", got, row["cpu_seconds"], flush=True)


def columns_of(which: str) -> dict:
    "{(head, readout): {seed: measures}} of the rows that are kept."
    found = {}
    for row in read_rows():
        s = row["settings"]
        if s["data"] == which:
            measures = {t: 100 * v for t, v in row["map"].items()}
            measures |= dict(frames=100 * row["frames"], top1=100 * row["top1"])
            found.setdefault((s["name"], s["readout"]), {})[s["seed"]] = measures
    return found


def said(values: list, shared: float = 0.0) -> str:
    "A mean with its 95% interval over seeds or folds."
    if len(values) < 2:
        return f"{values[0]:.1f}"
    d = difference(values, shared=shared)
    return f"{d.mean:.1f} ({d.low:.1f} to {d.high:.1f})"


RIVAL = ("mean", "sliding")


def table_of(which: str) -> list:
    "Lines of a Markdown table."
    found, measures = columns_of(which), [str(t) for t in TIOUS] + ["frames", "top1"]
    shared = 1 / 4 if which == "jhmdb21" else 0.0  # folds share training clips
    heads = [f"mAP at {t}" for t in TIOUS] + ["frames right", "clips right", "mAP at 0.5 less sliding mean"]
    lines = ["| head | read | " + " | ".join(heads) + " |", "|" + "---|" * (2 + len(heads))]
    for (name, readout), seeds in found.items():
        cells = [said([row[m] for row in seeds.values()], shared) for m in measures]
        rival = found.get(RIVAL, {})
        both = sorted(seeds.keys() & rival.keys())
        less = said([seeds[k]["0.5"] - rival[k]["0.5"] for k in both], shared) if both else ""
        cells.append("" if (name, readout) == RIVAL else less)
        lines.append(f"| {name} | {readout} | " + " | ".join(cells) + " |")
    return lines


def tables() -> list:
    "Lines of both tables."
    return ["world", "", *table_of("world"), "", "jhmdb21", "", *table_of("jhmdb21")]


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("run", "table"))
    ask.add_argument("data", nargs="?", choices=("world", "jhmdb21"), default="world")
    ask.add_argument("--features", default=str(Path(tempfile.gettempdir()) / "vidprism_jhmdb21.pt"))
    ask.add_argument("--seeds", type=int, nargs="+")
    a = ask.parse_args()
    torch.set_num_threads(1)
    if a.what == "run":
        run(a.data, a.features, a.seeds or (range(3) if a.data == "world" else range(5)))
    else:
        print(*tables(), sep="\n")


if __name__ == "__main__":
    main()
