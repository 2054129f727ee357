"""Experts that earn their place: attempts on JHMDB-21's 650 clips, each predicted before it is run.

    python benchmarks/lab.py arrays             # what the experts read, once, an hour on one core; resumable
    python benchmarks/lab.py run [NAME ...]     # the attempts that are not there yet, in order
    python benchmarks/lab.py confirm NAME ...   # the same on folds drawn anew, five times
    python benchmarks/lab.py table
    python benchmarks/lab.py hidden NAME ...    # train on the 650 clips, answer for others

`hidden` takes the clips of the folder VIDPRISM_LAB_CLIPS, which has one folder per class. It needs a `--cache` of its
own, for which `arrays` has run with the same variable.

An expert is a vector of each clip with a classifier of its own: ridge regression, its strength and the temperature of
its scores chosen on source-grouped folds inside the training side. Experts are joined in one of five ways:
`joined` (one classifier on all vectors side by side), `weighted` (the same; the inner folds choose how long the added
vectors are), `mean` (mean log-probability), `stacked` (log-probabilities
weighted by what they are worth on the inner folds), `head` (a head of the kit, as `small_data.json` has it).
The twin of an attempt is its first expert alone. Results are in lab.json, a fold at a time."""

import argparse
import json
import numpy as np
import statistics
import sys
import tempfile
import time
import torch
from functools import cache
from pathlib import Path
from scipy.optimize import minimize
from typing import NamedTuple
from vidprism.data.splits import Fold, grouped_folds, source_of
from vidprism.errors import ConfigError
from vidprism.evaluation.benchmark import find_commit
from vidprism.experiments.studies import difference
from vidprism.files import locked, write_json

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from lab_colours import write_colours
from lab_flow import write_cells
from lab_views import view_for
from small_data import FOLDS, FULL, bench_of, listed, make_features, measure_fold, read_rows

TABLE = HERE / "lab.json"
CLIPS, INNER = 650, 4
RIDGES = (10.0 ** np.arange(-4, 2.1, 0.5)).astype(np.float32)
STRENGTHS = (0, 0.25, 0.5, 1, 2, 4)
TEMPERATURES = 2.0 ** np.arange(-1, 6.1, 0.5)


class Attempt(NamedTuple):
    "What is tried: views of the clips, one an expert, how they are joined, and what was predicted."

    experts: tuple
    join: str
    predicted: str


PLAN = {
    "statistics": Attempt(("statistics",), "head", "65.1: measured before, in small_data.json, on these folds."),
    "ridge": Attempt(
        ("statistics",), "joined", "65: the same vector, and ridge regression is as strong as the trained layer."
    ),
    "moving, joined": Attempt(
        ("statistics", "moving"), "joined", "+1 over the twin: appearance where something moves is half new."
    ),
    "moving, late": Attempt(
        ("statistics", "moving"), "mean", "+1.5: two classifiers that err apart; a joined one overfits more."
    ),
    "moving and cells, late": Attempt(
        ("statistics", "moving", "cells"), "mean", "+2: the quadrants' change adds where it moves."
    ),
    "moving and cells, stacked": Attempt(
        ("statistics", "moving", "cells"), "stacked", "+2: weights bring nothing over the mean with three experts."
    ),
    "differences at 1, 4, 8, late": Attempt(
        ("statistics", "differences 1", "differences 4", "differences 8"),
        "mean",
        "-1: rise and fall of pooled features are in the statistics already; the mean gives them too much weight.",
    ),
    "differences at 1, 4, 8, stacked": Attempt(
        ("statistics", "differences 1", "differences 4", "differences 8"), "stacked", "+0.5, as the weights shrink."
    ),
    "extremes, late": Attempt(("statistics", "extremes"), "mean", "0: the peak of a feature is close to its mean."),
    "flow layout, 1": Attempt(
        ("statistics", "layout 1"),
        "mean",
        "+2: flow alone reaches about 35, but knows what the image encoder cannot see.",
    ),
    "flow moments, 1": Attempt(
        ("statistics", "moments 1"),
        "mean",
        "+2.5: which flows go together is closer to the dense-trajectory methods, about 40 alone.",
    ),
    "flow moments, 1, stacked": Attempt(
        ("statistics", "moments 1"), "stacked", "+3: a weaker expert deserves a weight below a half."
    ),
    "flow moments, 1, joined": Attempt(
        ("statistics", "moments 1"), "joined", "+1.5: one strength of the ridge for two unlike vectors."
    ),
    "flow at 1, 2, 4, stacked": Attempt(
        ("statistics", "moments 1", "moments 2", "moments 4"),
        "stacked",
        "+3.5: a point more than one rate, as slow motions need the longer rates.",
    ),
    "flow at 1, 2, 4 and layout, stacked": Attempt(
        ("statistics", "moments 1", "moments 2", "moments 4", "layout 1", "layout 2", "layout 4"),
        "stacked",
        "+4: each half-new expert adds half a point.",
    ),
    "all, stacked": Attempt(
        ("statistics", "moving", "cells", "moments 1", "moments 2", "moments 4", "layout 1", "layout 2", "layout 4"),
        "stacked",
        "+5: appearance where it moves and flow err apart.",
    ),
    "tubes, 1, stacked": Attempt(
        ("statistics", "tubes 1"),
        "stacked",
        "+1: a Fisher vector of tubes reaches 47 where whole-picture histograms reach 37, and still says little new.",
    ),
    "tubes, 1, joined": Attempt(("statistics", "tubes 1"), "joined", "+1.5: one ridge may use what is half sure."),
    "flow, 1, weighted": Attempt(
        ("statistics", "moments 1", "layout 1"),
        "weighted",
        "+1.5: `joined` gave +1.0 with the moments; the layout adds a little, the strength is chosen noisily.",
    ),
    "flow and tubes, 1, weighted": Attempt(
        ("statistics", "moments 1", "layout 1", "tubes 1"), "weighted", "+2: three descriptions of one flow."
    ),
    "flow and tubes, 1, joined": Attempt(
        ("statistics", "moments 1", "layout 1", "tubes 1"), "joined", "+1.5: flow has three quarters of the length."
    ),
    "tubes of 1, 2, 4 frames, stacked": Attempt(
        ("statistics", "short tubes 1", "tubes 1", "long tubes 1"),
        "stacked",
        "+2.5: `tubes, 1, stacked` gave +1.8; three rates see the same flow, so each adds little.",
    ),
    "tubes of 1, 2, 4 frames and flow, stacked": Attempt(
        ("statistics", "short tubes 1", "tubes 1", "long tubes 1", "moments 1", "layout 1"),
        "stacked",
        "+2.5: where in the picture flow goes is missing in the tubes.",
    ),
    "tubes of 1, 2, 4 frames, late": Attempt(
        ("statistics", "short tubes 1", "tubes 1", "long tubes 1"),
        "mean",
        "-3: three weak experts outvote the strong one.",
    ),
    "tubes at 1 and 4, moving, stacked": Attempt(
        ("statistics", "tubes 1", "tubes 4", "moving"), "stacked", "+1.5: the longer rate adds half a point."
    ),
    "tubes at 1 and 4, moving, joined": Attempt(
        ("statistics", "tubes 1", "tubes 4", "moving"), "joined", "+2: as above."
    ),
    "colours, 1, joined": Attempt(
        ("statistics", "colours 1"), "joined", "+0.5: a sketch on other folds gave 65.7 where the statistics gave 65.3."
    ),
    "colours, 1, stacked": Attempt(
        ("statistics", "colours 1"),
        "stacked",
        "+2: 62 alone in the sketch, and it errs otherwise than the statistics, as it sees motion and no colour.",
    ),
    "greys, stacked": Attempt(
        ("statistics", "colours 0"), "stacked", "+0.3: the control; grey pictures without motion say nothing new."
    ),
    "colours at 1, 4, stacked": Attempt(
        ("statistics", "colours 1", "colours 4"), "stacked", "+2.5: the longer rate adds half a point."
    ),
    "colours, 1, and tubes, stacked": Attempt(
        ("statistics", "colours 1", "short tubes 1", "tubes 1", "long tubes 1"),
        "stacked",
        "+5: colours say where in an object motion is, tubes say how it goes.",
    ),
    "greys and tubes, stacked": Attempt(
        ("statistics", "colours 0", "short tubes 1", "tubes 1", "long tubes 1"),
        "stacked",
        "+3: the control of `colours, 1, and tubes`, which gave +4.2; without motion in the colours a point less.",
    ),
    "colours, 1, moving and tubes, stacked": Attempt(
        ("statistics", "colours 1", "moving", "short tubes 1", "tubes 1", "long tubes 1"),
        "stacked",
        "+4.5: a third reading of appearance adds half a point, as the greys did.",
    ),
    "colours, 1, tubes and flow, stacked": Attempt(
        ("statistics", "colours 1", "short tubes 1", "tubes 1", "long tubes 1", "moments 1", "layout 1"),
        "stacked",
        "+4.5: flow added 0.3 to tubes on these folds.",
    ),
    "sampled colours, 1, and tubes, stacked": Attempt(
        ("statistics", "sampled colours 1", "short tubes 1", "tubes 1", "long tubes 1"),
        "stacked",
        "+4: a point less than the video's neighbouring frames, as faster motion smears.",
    ),
    "colours at 1, 4 and tubes, stacked": Attempt(
        ("statistics", "colours 1", "colours 4", "short tubes 1", "tubes 1", "long tubes 1"),
        "stacked",
        "+5: the longer colours add nothing beside tubes.",
    ),
}


def standardised(x, train):
    "Clips less the training clips' mean, over their deviation with a floor, at a mean squared length of 1."
    seen = x[train]
    deviation = seen.std(0)
    z = (x - seen.mean(0)) / (deviation + 0.1 * deviation.mean() + 1e-6)
    return z / np.sqrt(np.square(z[train]).sum(1).mean())


def solve(kernel, targets, train, test, ridges=RIDGES):
    "Ridge scores of the test clips for every strength, [R,n,C], from the training clips' targets."
    values, vectors = np.linalg.eigh(kernel[np.ix_(train, train)])
    onto = kernel[np.ix_(test, train)] @ vectors
    seen = vectors.T @ targets[train]
    return np.stack([onto @ (seen / (values + ridge)[:, None]) for ridge in ridges])


def log_softmax(scores):
    "Log-probabilities over the last axis."
    scores = scores - scores.max(-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(-1, keepdims=True))


def log_loss(logs, labels):
    "Mean negative log-probability of the labels."
    return -logs[np.arange(len(labels)), labels].mean()


class Clips(NamedTuple):
    "Labels and sources of the clips."

    labels: np.ndarray
    sources: list
    classes: list


@cache
def find_clips():
    "The 650 clips."
    _, paths, labels, classes = listed()
    return Clips(np.array(labels), [source_of(Path(p)) for p in paths], classes)


def inner_folds(train, seed):
    "Source-grouped folds of the training side, as places among all clips."
    clips = find_clips()
    train = np.array(train)
    folds = grouped_folds(clips.labels[train].tolist(), [clips.sources[i] for i in train], INNER, seed)
    return [(train[f.train], train[f.test]) for f in folds]


def classify(kernel, train, seed):
    """Log-probabilities of all clips [N,C], and those that the inner folds gave to training clips.

    The strength has the best inner accuracy, ties go to the lower loss at the best temperature; the temperature has
    the lowest inner loss."""
    labels, _, classes = find_clips()
    targets = (np.eye(len(classes))[labels] - 1 / len(classes)).astype(np.float32)
    inner = np.zeros((len(RIDGES), *targets.shape), np.float32)
    for kept, held in inner_folds(train, seed):
        inner[:, held] = solve(kernel, targets, kept, held)
    rows = []
    for r, scores in enumerate(inner):
        losses = [log_loss(log_softmax(t * scores[train]), labels[train]) for t in TEMPERATURES]
        best = int(np.argmin(losses))
        rows.append((-(scores[train].argmax(1) == labels[train]).mean(), losses[best], r, TEMPERATURES[best]))
    _, _, r, temperature = min(rows)
    everywhere = np.arange(len(labels))
    outer = solve(kernel, targets, train, everywhere, RIDGES[[r]])[0]
    return log_softmax(temperature * outer), log_softmax(temperature * inner[r])


def kernel_of(folder, name, train):
    "Products of all clips' vectors of a view, standardised by the training side."
    z = standardised(view_for(folder, name, train), train)
    return z @ z.T


def expert(folder, names, fold, seed, strength=1):
    "`classify` on the views side by side, all but the first times a strength; computed once and kept in the folder."
    part = find_clips().labels[fold.test].sum() + 1000 * sum(fold.test)  # tells folds of a seed apart
    file = folder / "experts" / f"{'+'.join(names)}{'' if strength == 1 else strength}_{seed}_{part}.npz"
    if not file.exists():
        first, *others = (kernel_of(folder, n, fold.train) for n in names)
        outer, inner = classify(first + strength * sum(others), fold.train, seed)
        file.parent.mkdir(exist_ok=True)
        np.savez(file, outer=outer, inner=inner)
    kept = np.load(file)
    return kept["outer"], kept["inner"]


def strengthen(folder, names, fold, seed):
    "The strength of all experts but the first with the best inner accuracy, ties to the lower loss; and its answer."
    labels = find_clips().labels[fold.train]
    tried = []
    for strength in STRENGTHS:
        outer, inner = expert(folder, names, fold, seed, strength)
        right = (inner[fold.train].argmax(1) == labels).mean()
        tried.append((-right, log_loss(inner[fold.train], labels), strength, outer))
    return min(tried, key=lambda row: row[:3])[2:]


def stack(inner, train):
    "Weights of the experts, 0 or more, with the lowest loss of their weighted log-probabilities on the inner folds."
    labels = find_clips().labels[train]
    seen = np.stack([logs[train] for logs in inner])

    def loss(weights):
        return log_loss(log_softmax(np.tensordot(weights, seen, 1)), labels) + 0.01 * np.square(weights).sum()

    start = np.full(len(seen), 1 / len(seen))
    return minimize(loss, start, bounds=[(0, None)] * len(seen), method="L-BFGS-B").x


class Joined(NamedTuple):
    "Log-probabilities [N,C] by all experts together and by each, and the weights of the experts."

    together: np.ndarray
    each: tuple
    weights: list | None


def join(attempt, folder, fold, seed):
    "What the experts of an attempt say of all clips."
    if attempt.join == "joined":
        alone = expert(folder, attempt.experts[:1], fold, seed)[0]
        return Joined(expert(folder, attempt.experts, fold, seed)[0], (alone,), None)
    if attempt.join == "weighted":
        alone = expert(folder, attempt.experts[:1], fold, seed)[0]
        strength, together = strengthen(folder, attempt.experts, fold, seed)
        return Joined(together, (alone,), [1, strength])
    outer, inner = zip(*[expert(folder, (name,), fold, seed) for name in attempt.experts])
    weights = np.ones(len(outer)) / len(outer)
    if attempt.join == "stacked":
        weights = stack(inner, fold.train)
    return Joined(np.tensordot(weights, np.stack(outer), 1), outer, weights.tolist())


def either(each, fold):
    "Part of the fold's clips that at least one of the experts gets right alone."
    labels = find_clips().labels[fold.test]
    return float(np.any([logs[fold.test].argmax(1) == labels for logs in each], 0).mean())


def measures(logs, fold):
    "Top-1 of the fold's clips, and how many of its sit and stand clips are told apart, and of how many."
    labels, _, classes = find_clips()
    test = np.array(fold.test)
    pair = [classes.index("sit"), classes.index("stand")]
    asked = test[np.isin(labels[test], pair)]
    told = (logs[asked][:, pair].argmax(1) == (labels[asked] == pair[1])).sum()
    return dict(top1=float((logs[test].argmax(1) == labels[test]).mean()), told=int(told), asked=len(asked))


def kept_head(name, splits):
    "Folds of a head as `small_data.json` has them; they are the same folds."
    for row in read_rows():
        settings = row["settings"]
        if (settings["name"], row["splits"], row["seed"]) == (f"{name}, as it comes", splits, 0):
            each = row["cpu_seconds"] / FOLDS
            return [dict(top1=v, twin=v, weights=None, cpu_seconds=each) for v in row["top1"]]
    return []


def run_fold(name, folder, fold, seed):
    "Measures of the attempt, top-1 of each expert alone (the first is the twin), weights, seconds."
    taken = time.process_time()
    found = join(PLAN[name], folder, fold, seed)
    each = [measures(logs, fold)["top1"] for logs in found.each]
    seconds = round(time.process_time() - taken, 1)
    more = dict(twin=each[0], each=each, either=either(found.each, fold), weights=found.weights)
    return dict(**measures(found.together, fold), **more, cpu_seconds=seconds)


def read(table=TABLE):
    "All rows of the results."
    return json.loads(table.read_text())["rows"] if table.exists() else []


def keep(row, table=TABLE):
    "Put a row in the place of the one of the same name and splits, or at the end."
    with locked(table):
        rows = read(table)
        same = [k for k, r in enumerate(rows) if (r["name"], r["splits"]) == (row["name"], row["splits"])]
        at = same[0] if same else len(rows)
        rows[at : at + 1] = [row]
        write_json(table, dict(rows=rows))


def new_row(name, splits):
    "A row without folds."
    attempt = PLAN[name]
    return dict(name=name, **attempt._asdict(), splits=splits, commit=find_commit(), folds=[])


def run_row(name, folder, splits):
    "Measure the folds of an attempt that are not there yet, and keep each."
    labels, sources, _ = find_clips()
    row = next((r for r in read() if (r["name"], r["splits"]) == (name, splits)), new_row(name, splits))
    if PLAN[name].join == "head":
        row["folds"] = kept_head(PLAN[name].experts[0], splits)
        keep(row)
        return
    for fold in grouped_folds(labels.tolist(), sources, FOLDS, splits)[len(row["folds"]) :]:
        row["folds"].append(run_fold(name, folder, fold, splits))
        keep(row)
    top1, twin = (100 * statistics.fmean(f[k] for f in row["folds"]) for k in ("top1", "twin"))
    print(f"{name:36s} splits {splits}: {top1:.1f}, twin {twin:.1f}", flush=True)


def folds_of(rows, name, splits, key="top1"):
    "Points of every fold of a name over some ways of splitting."
    chosen = [r for r in rows if r["name"] == name and r["splits"] in splits]
    return [100 * fold[key] for r in sorted(chosen, key=lambda r: r["splits"]) for fold in r["folds"]]


def above(rows, name, splits, other="statistics", key="top1"):
    """Paired difference over folds, with the interval of Nadeau and Bengio (2003); None where folds are missing.

    `other` is a name, or None for the twin of the attempt itself."""
    own = folds_of(rows, name, splits)
    base = folds_of(rows, other or name, splits, key if other else "twin")
    if len(own) != len(base) or len(own) < 2:
        return None
    return difference([a - b for a, b in zip(own, base)], shared=1 / (FOLDS - 1))


def said(d):
    "A difference in words; empty for none."
    return f"{d.mean:+.1f} ({d.low:+.1f} to {d.high:+.1f})" if d else ""


def table(rows, splits=(0,)):
    "Markdown: every attempt, what was predicted, top-1, above `statistics` and above its twin, order, cost."
    lines = [
        "| attempt | predicted | top-1 | above statistics (95%) | above its twin (95%) | sit or stand | CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in PLAN:
        v = folds_of(rows, name, splits)
        if not v:
            continue
        folds = [f for r in rows if r["name"] == name and r["splits"] in splits for f in r["folds"]]
        asked = sum(f.get("asked", 0) for f in folds)
        order = f"{100 * sum(f['told'] for f in folds) / asked:.0f}" if asked else ""
        cells = (
            name,
            PLAN[name].predicted,
            f"{statistics.fmean(v):.1f}",
            said(above(rows, name, splits)) if name != "statistics" else "",
            said(above(rows, name, splits, None)) if len(PLAN[name].experts) > 1 else "",
            order,
            f"{sum(f['cpu_seconds'] for f in folds):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def make_arrays(folder):
    "Make the arrays of features, flow and colours that are missing."
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "features.pt").exists():
        make_features(folder / "features.pt")
    write_cells(folder, (1,))
    write_colours(folder, (0, 1), sampled=False)
    write_colours(folder, (1,), sampled=True)


def run_hidden(names, folder):
    "Train on the 650 clips and print top-1 of the others, by each attempt, its twin, and the head `statistics`."
    labels, *_ = find_clips()
    split = Fold(list(range(CLIPS)), list(range(CLIPS, len(labels))))
    test = np.array(split.test, int)
    if not len(test):
        raise ConfigError("VIDPRISM_LAB_CLIPS must name a folder with clips, one folder per class.")
    top1, _ = measure_fold(bench_of(folder / "features.pt"), split, "statistics", {}, FULL, False, 0)
    print(f"{len(test)} clips; the head statistics: {top1:.1%}")
    for name in names:
        found = join(PLAN[name], folder, split, 0)
        with_experts, alone = (logs[test].argmax(1) == labels[test] for logs in (found.together, found.each[0]))
        gained, lost = (with_experts & ~alone).sum(), (alone & ~with_experts).sum()
        print(f"{name}: {with_experts.mean():.1%}, twin {alone.mean():.1%}; {gained} clips gained, {lost} lost")


DEVELOPMENT, CONFIRMATION = (0,), (10, 11, 12, 13, 14)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("arrays", "run", "confirm", "table", "hidden"))
    ask.add_argument("names", nargs="*")
    ask.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "vidprism_lab")
    a = ask.parse_args()
    torch.set_num_threads(1)
    if a.what == "arrays":
        return make_arrays(a.cache)
    if a.what == "hidden":
        return run_hidden(a.names, a.cache)
    if a.what == "table":
        for splits in (DEVELOPMENT, CONFIRMATION):
            print(table(read(), splits), end="\n\n")
        return
    for splits in DEVELOPMENT if a.what == "run" else CONFIRMATION:
        for name in a.names or PLAN:
            run_row(name, a.cache, splits)


if __name__ == "__main__":
    main()
