"""Rates chosen by one training, against the exhaustive search of table 3; every run is appended to rates.json.

    python benchmarks/rates.py run [KIND ...]    # the runs that are not there yet, the first of each kind first
    python benchmarks/rates.py summary           # correlation, regret, cost and choices, from the runs: written anew

The separate trainings of table 3 are those of benchmarks/tables, with the same clips, training and seeds.
JHMDB's features are those that `benchmarks/small_data.py features` writes.
Stop it at any time; started again, it goes on."""

import argparse
import json
import statistics
import sys
import tempfile
import time
import torch
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from scipy.stats import spearmanr
from vidprism.data.splits import grouped_folds
from vidprism.encoders.cache import FeatureCache
from vidprism.encoders.factory import create_encoder
from vidprism.evaluation.benchmark import find_commit, world_bench
from vidprism.evaluation.metrics import measure, view_logits
from vidprism.evaluation.protocols import build_head, train_head
from vidprism.evaluation.rates import RateChoice, RateSubset, _ask_all, _rank, choose_rates, rate_sets
from vidprism.experiments.studies import narrow, open_study, values
from vidprism.experiments.tables import VIDPRISM_TABLES
from vidprism.files import locked, write_json
from vidprism.training.pipeline import default_cache
from vidprism.training.trainer import TensorClips, TrainConfig, fit, seeded

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import small_data

FILE = HERE / "rates.json"
TRAINING = TrainConfig(epochs=24)  # as in benchmarks/tables
RATES = (2, 4, 8, 16)  # table 3's
SEEDS, FOLDS, WIDTH = 5, 5, 256
FEATURES = str(Path(tempfile.gettempdir()) / "vidprism_jhmdb21.pt")


def read() -> list:
    "The runs that are kept."
    return json.loads(FILE.read_text())["runs"] if FILE.exists() else []


def write(runs: list):
    "Write runs and their summary."
    write_json(FILE, dict(training=asdict(TRAINING), summary=summary_of(runs), runs=runs))


def keep(run: dict):
    "Append a run, and bring the summary up to date."
    with locked(FILE):
        write([*read(), run])
    print({name: value for name, value in run.items() if name not in ("rows", "record")}, flush=True)


@cache
def world():
    "The world of table 3."
    return world_bench(create_encoder("mini"), 1080, 540, cache=FeatureCache(default_cache()))


def seen(bench, take):
    "A benchmark whose clips have only some of their frames."

    def part(side):
        return side._replace(features=side.features[..., take, :].contiguous())

    return replace(bench, train=part(bench.train), test=part(bench.test))


# frames of the 32 that are seen: a window in the middle is a shorter clip, every n-th frame a lower frame rate
VIEWS = {
    "16 frames": slice(8, 24),
    "8 frames": slice(12, 20),
    "half the frame rate": slice(1, None, 2),
    "a quarter of the frame rate": slice(2, None, 4),
}


def jhmdb_fold(fold: int):
    "JHMDB with the sides of a fold, in the 256 directions that table 3 has."
    bench = small_data.bench_of(FEATURES)
    found = grouped_folds(bench.train.labels.tolist(), bench.train.sources, FOLDS, 0)[fold]
    train, test, _ = narrow(bench.train.rows(found.train), bench.train.rows(found.test), WIDTH)
    return replace(bench, train=train, test=test)


def chosen(kind: str, number: int, choice: RateChoice, **more) -> dict:
    "A run's entry."
    return dict(kind=kind, number=number, **more, **choice.record, commit=find_commit(), torch=torch.__version__)


def run_world(seed: int) -> dict:
    return chosen("world", seed, choose_rates(world(), RATES, config=TRAINING, seed=seed))


def run_world_default(seed: int) -> dict:
    return chosen("world, six candidates", seed, choose_rates(world(), config=TRAINING, seed=seed))


def run_jhmdb(fold: int) -> dict:
    return chosen("jhmdb", fold, choose_rates(jhmdb_fold(fold), RATES, config=TRAINING))


def run_view(number: int) -> dict:
    view = list(VIEWS)[number]
    bench = seen(world(), VIEWS[view])
    return chosen("view", number, choose_rates(bench, config=TRAINING), view=view, num_frames=bench.num_frames)


def sides_of(seed: int) -> tuple:
    "The world's training clips as `choose_rates` splits them: to train on, and held out."
    train = world().train
    fold = grouped_folds(train.labels.tolist(), train.sources, 4, seed)[0]
    return train.rows(fold.train), train.rows(fold.test)


def ranked(kind: str, seed: int, heads: dict, held, began: float) -> dict:
    "The entry of a ranking of sets, each by a head (rates -> head)."
    answers = _ask_all([RateSubset(head, rates) for rates, head in heads.items()], held)
    rows = _rank(list(heads), answers, held.sources, 1000, seed)
    cost = dict(cpu_seconds=round(time.process_time() - began, 1))
    return chosen(kind, seed, RateChoice(rows[0]["rates"], rows, RATES, dict(clips=len(held.labels)), cost))


def run_twin(seed: int) -> dict:
    "The twin: the whole set alone is trained, and its subsets are ranked."
    began, (kept, held) = time.process_time(), sides_of(seed)
    head, _ = train_head(world(), kept, "vidprism", dict(rates=RATES), TRAINING, seed)
    return ranked("twin", seed, dict.fromkeys(rate_sets(RATES), head), held, began)


def run_search(seed: int) -> dict:
    "The search that the choice replaces: every set is trained by itself on the same clips, and ranked on the same."
    began, (kept, held) = time.process_time(), sides_of(seed)
    heads = {}
    for rates in rate_sets(RATES):
        heads[rates], _ = train_head(world(), kept, "vidprism", dict(rates=rates), TRAINING, seed)
    return ranked("search", seed, heads, held, began)


def run_cost(number: int) -> dict:
    "CPU seconds of a step of each set's separate training, of measuring it once, and how many steps there are."
    kept, held = sides_of(0)
    rows = [dict(rates=list(rates), **seconds_of(rates, kept, held)) for rates in rate_sets(RATES)]
    steps, of_table_3 = (TRAINING.epochs * -(-len(s.labels) // TRAINING.batch) for s in (kept, world().train))
    return dict(kind="cost", number=number, sets=rows, steps=steps, steps_of_table_3=of_table_3)


def seconds_of(rates: tuple, kept, held, steps: int = 8) -> dict:
    "CPU seconds of a step of `fit`: those of some steps less those of one, so that what comes once is not counted."
    head, spent = build_head(world(), "vidprism", dict(rates=rates), 0), []
    for count in (1, 1 + steps):
        few = kept.rows(range(count * TRAINING.batch))
        began = time.process_time()
        with seeded(0):
            fit(head, TensorClips(few.features, few.labels), None, replace(TRAINING, epochs=1))
        spent.append(time.process_time() - began)
    began = time.process_time()
    measure(view_logits(head, held.features), held.labels)
    measured = time.process_time() - began
    return dict(step=round((spent[1] - spent[0]) / steps, 5), measured=round(measured, 3))


def run_separate(number: int) -> dict:
    "A set that table 3 lacks, trained by itself: the first chosen one that has no such run, all seeds in turn."
    rates, seed = missing(read())[number]
    bench = world()
    head, _ = train_head(bench, bench.train, "vidprism", dict(rates=rates), TRAINING, seed)
    top1 = measure(view_logits(head, bench.test.features), bench.test.labels).top1
    return dict(kind="separate", number=seed, rates=list(rates), top1=top1, commit=find_commit())


KINDS = dict(
    cost=(run_cost, 1),
    world=(run_world, SEEDS),
    jhmdb=(run_jhmdb, FOLDS),
    view=(run_view, len(VIEWS)),
    twin=(run_twin, SEEDS),
    search=(run_search, SEEDS),
    world_default=(run_world_default, SEEDS),
)
NAMES = dict(world_default="world, six candidates")


def table_3(name: str) -> dict:
    "Rates -> accuracy of each separate training, by seed or fold."
    study = open_study(HERE / "tables" / name)
    rows = VIDPRISM_TABLES["table_3"](study).rows[:14]
    return {tuple(map(int, row.name.split(","))): values(study, row.picks[0]) for row in rows}


def separate(runs: list) -> dict:
    "Rates -> accuracies over seeds of the separate trainings on the world: table 3's, and those added here."
    found = table_3("world")
    for run in runs:
        if run["kind"] == "separate":
            found.setdefault(tuple(run["rates"]), {})[run["number"]] = run["top1"]
    return found


def missing(runs: list) -> list:
    "(rates, seed) of the separate trainings that the choices on the whole world need and that are not there."
    have = separate(runs)
    wanted = [RATES[:1] + RATES[2:]]  # the one set of the four rates that table 3 lacks
    wanted += [tuple(run["rates"]) for run in runs if run["kind"] in ("world", NAMES["world_default"])]
    return [(r, s) for r in dict.fromkeys(wanted) for s in range(SEEDS) if s not in have.get(r, {})]


def correlation(run: dict, truth: dict) -> float:
    "Spearman's rank correlation of held-out accuracies with those of separate trainings, over the sets of both."
    guess = {tuple(row["rates"]): row["top1"] for row in run["rows"]}
    both = [rates for rates in truth if rates in guess]
    return round(float(spearmanr([guess[r] for r in both], [truth[r] for r in both]).statistic), 3)


def correlation_of_size(truth: dict) -> float:
    "The same for a ranking by the number of experts alone."
    return round(float(spearmanr([len(rates) for rates in truth], list(truth.values())).statistic), 3)


def of_pairs(truth: dict) -> dict:
    "The sets of two rates: among them, the number of experts ranks nothing."
    return {rates: value for rates, value in truth.items() if len(rates) == 2}


def regret_of(run: dict, truth: dict) -> float | None:
    "By how many points the chosen set is below the best, both trained separately; None where it was not."
    rates = tuple(run["rates"])
    return round(100 * (max(truth.values()) - truth[rates]), 2) if rates in truth else None


def by_kind(runs: list, kind: str) -> list:
    return [run for run in runs if run["kind"] == kind]


def world_summary(runs: list, kind: str) -> dict | None:
    "Correlation, regret, interval and cost of the runs of a kind on the world."
    found = by_kind(runs, kind)
    if not found:
        return None
    complete = {r: v for r, v in separate(runs).items() if len(v) == SEEDS}
    truth = {rates: statistics.fmean(v.values()) for rates, v in complete.items()}
    listed = table_3("world")
    best = max(truth, key=truth.get)
    spent = [run["cost"]["cpu_seconds"] for run in found]
    return dict(
        runs=len(found),
        spearman_14=[correlation(run, {r: truth[r] for r in listed}) for run in found],
        spearman_by_size=correlation_of_size({r: truth[r] for r in listed}),
        spearman_pairs=[correlation(run, of_pairs(truth)) for run in found],
        chosen=[run["rates"] for run in found],
        regret=[regret_of(run, truth) for run in found],
        best=list(best),
        best_top1=round(100 * truth[best], 2),
        std_over_seeds=round(100 * statistics.stdev(complete[best].values()), 2),
        points=points(found, {rates: truth[rates] for rates in listed}),
        sets_in_interval=[len(run["interval"]) for run in found],
        best_in_interval=[list(best) in run["interval"] for run in found],
        cpu_seconds=spent,
        cost=cost_shares(runs, spent),
    )


def points(found: list, truth: dict) -> list:
    "For each set: its accuracy when trained separately, and its held-out accuracy in the ranking, means in percent."
    ranked = {tuple(row["rates"]): [] for row in found[0]["rows"]}
    for run in found:
        for row in run["rows"]:
            ranked[tuple(row["rates"])].append(row["top1"])
    both = [rates for rates in truth if rates in ranked]
    means = {rates: round(100 * statistics.fmean(ranked[rates]), 2) for rates in both}
    return [dict(rates=list(r), separate=round(100 * truth[r], 2), ranked=means[r]) for r in both]


def cost_shares(runs: list, spent: list) -> dict | None:
    "CPU seconds of a choice, as parts of those of a search: all 15 sets on the same clips, and table 3's 14 on all."
    measured = by_kind(runs, "cost")
    if not measured:
        return None
    found, mean = measured[0], statistics.fmean(spent)
    every = {tuple(row["rates"]): row["step"] for row in found["sets"]}
    same_clips = found["steps"] * sum(every.values()) + sum(row["measured"] for row in found["sets"])
    listed = found["steps_of_table_3"] * sum(every[rates] for rates in table_3("world"))
    return dict(search=round(mean / same_clips, 3), table_3=round(mean / listed, 3))


def jhmdb_summary(runs: list) -> dict | None:
    "The same for the folds: each is compared with the separate trainings of its own fold, and with their mean."
    found, table = by_kind(runs, "jhmdb"), table_3("jhmdb21")
    if not found:
        return None
    mean = {rates: statistics.fmean(v.values()) for rates, v in table.items()}
    own = {run["number"]: {rates: v[run["number"]] for rates, v in table.items()} for run in found}
    best = max(mean, key=mean.get)
    return dict(
        folds=[run["number"] for run in found],
        spearman_mean=[correlation(run, mean) for run in found],
        spearman_own_fold=[correlation(run, own[run["number"]]) for run in found],
        chosen=[run["rates"] for run in found],
        regret=[regret_of(run, mean) for run in found],
        regret_own_fold=[regret_of(run, own[run["number"]]) for run in found],
        best=list(best),
        spread=round(100 * (max(mean.values()) - min(mean.values())), 2),
        std_over_folds=round(100 * statistics.stdev(table[best].values()), 2),
        points=points(found, mean),
        sets_in_interval=[len(run["interval"]) for run in found],
        cpu_seconds=[run["cost"]["cpu_seconds"] for run in found],
    )


def summary_of(runs: list) -> dict:
    "What the runs say."
    return dict(
        world=world_summary(runs, "world"),
        six_candidates=world_summary(runs, NAMES["world_default"]),
        twin=world_summary(runs, "twin"),
        search=world_summary(runs, "search"),
        jhmdb=jhmdb_summary(runs),
        views={run["view"]: dict(chosen=run["rates"], interval=run["interval"]) for run in by_kind(runs, "view")},
    )


def left(kinds) -> list:
    "(kind, number) of the runs that are not there: the first of each kind, then the second, and so on."
    kept = {(run["kind"], run["number"]) for run in read()}
    every = [(number, place, name) for place, name in enumerate(kinds) for number in range(KINDS[name][1])]
    return [(name, number) for number, _, name in sorted(every) if (NAMES.get(name, name), number) not in kept]


def run_all(kinds):
    "Do what is left."
    for name, number in left(kinds):
        if (name, number) in left(kinds):  # no other process has done it meanwhile
            keep(KINDS[name][0](number))
    while missing(read()):
        keep(run_separate(0))


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("run", "summary"))
    ask.add_argument("kinds", nargs="*", help=", ".join(KINDS))
    a = ask.parse_args()
    torch.set_num_threads(1)
    if a.what == "run":
        run_all(a.kinds or KINDS)
    else:
        with locked(FILE):
            write(read())
        print(json.dumps(summary_of(read()), indent=1))


if __name__ == "__main__":
    main()
