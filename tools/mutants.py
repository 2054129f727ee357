"""Mutation testing: change one operator, number or keyword of a module, and see whether its tests notice.

    python tools/mutants.py heads/rgsta heads/dbi    # these modules; none named: all
    python tools/mutants.py --share 0.3 --seed 1     # a random share of the mutants
    python tools/mutants.py --again heads/rgsta      # only the survivors of the last run, after tests were added
    python tools/mutants.py --show heads/rgsta       # the survivors of the last run
    python tools/mutants.py --baseline heads/rgsta   # the unchanged module, with the seconds of each cell

The mutants are cosmic-ray's. Each runs in a fork of one process that has imported what lies below the module already:
the child executes the changed source as the module, then the notebook's test cells, then the tests in `MORE`, and
stops at the first failure. Left out, since they change nothing that a test could see, or nothing at all:

- what does not compile;
- what compiles to the same bytecode as the module, or as a mutant before it;
- annotations: each `|` of a type alone gives eleven mutants, and all of them fail at the import;
- the parts of an f-string inside `raise` and `warnings.warn`: the wording of a message.

A mutant that uses three times the CPU seconds of the unchanged module, and two more, counts as killed by time.
Cells that need more than `LONGEST` CPU seconds are not run, so that a mutant that only they would kill survives here.
Mutants in `benchmarks/mutants_equivalent.json` behave as the module does, each for the reason that is given there; one
that is killed, or that there is not, must not be listed. Results are kept in `benchmarks/mutants.json`.
"""

import argparse
import ast
import contextlib
import functools
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools"), str(ROOT / "tests")]
import cells  # noqa: E402

RESULTS = ROOT / "benchmarks" / "mutants.json"
EQUIVALENT = ROOT / "benchmarks" / "mutants_equivalent.json"
FOLDERS = ("heads", "training")
SEED = 0
LONGEST = 5.0  # CPU seconds of a cell
SLOW = 0.5  # CPU seconds from which a cell is run after the others, where they pass without it
SAMPLES = {"training/trainer": 0.3, "training/pipeline": 0.3, "training/runs": 0.3}  # share of the mutants; else all
SHORT = ("-m", "not long")
MORE = {  # module -> arguments of pytest for tests beside the notebook
    "training/watch": [("tests/test_watch_parts.py", *SHORT), ("tests/test_watch.py", *SHORT)],
    "training/trainer": [("tests/test_trainer_parts.py", *SHORT), ("tests/test_trainer_loop.py", *SHORT)],
    "training/runs": [("tests/test_runs_parts.py", *SHORT), ("tests/test_attack_training.py", *SHORT)],
    "training/pipeline": [("tests/test_pipeline_parts.py", *SHORT), ("tests/test_attack_training.py", *SHORT)],
}
MEMORY = 6 << 30  # bytes that a mutant may take beside what its parent has
PASSED, FAILED = 0, 1


class Mutant(NamedTuple):
    "One change of a module."

    where: str  # the top-level statement
    line: str  # as it is
    mutant: str  # as it is changed
    operator: str  # cosmic-ray's name
    at: int  # line number
    source: str  # the changed module

    @property
    def key(self) -> tuple:
        return self.where, self.line, self.mutant


def source_path(name: str) -> Path:
    return ROOT / "vidprism" / f"{name}.py"


def digest(name: str) -> str:
    return hashlib.sha256(source_path(name).read_bytes()).hexdigest()[:16]


# The mutants of a module.


def left_out_spans(tree) -> list:
    "(kind, start, end) of annotations and of the f-strings of messages, as (line, column)."
    spans = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            spans += [("annotation", a.annotation) for a in ast.walk(node.args) if getattr(a, "annotation", None)]
            spans += [("annotation", node.returns)] if node.returns else []
        elif isinstance(node, ast.AnnAssign):
            spans.append(("annotation", node.annotation))
        elif isinstance(node, ast.Raise) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn"):
            spans += [("message", part) for part in ast.walk(node) if isinstance(part, ast.JoinedStr)]
    return [(kind, (n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for kind, n in spans]


def meaning(code) -> tuple:
    "What a code object does, without the places in the text."
    constants = [meaning(c) if isinstance(c, types.CodeType) else (type(c).__name__, repr(c)) for c in code.co_consts]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_flags, code.co_argcount, code.co_kwonlyargcount
    return code.co_code, getattr(code, "co_exceptiontable", b""), tuple(constants), names


def statements(source: str) -> list:
    "(name, first line, last line) of every top-level statement, decorators included."
    found = []
    for node in ast.parse(source).body:
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(d.lineno for d in decorators)])
        receiver = [a for a in getattr(getattr(node, "args", None), "args", [])[:1] if decorators and a.annotation]
        owner = [ast.unparse(a.annotation) for a in receiver if a.arg == "self"]
        found.append((".".join([*owner, getattr(node, "name", "")]) or "module", first, node.end_lineno))
    return found


def changes_of(text: str):
    "(operator, start position, function that gives the changed text) for each of cosmic-ray's mutants of a text."
    from cosmic_ray import mutating, plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast(text)))
    for name in plugins.operator_names():
        kind = plugins.get_operator(name)
        if kind.arguments():  # those that put a random number for a variable need to be told which
            continue
        operator = kind()
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(places):
            change = functools.partial(mutating.mutate_code, text, operator, occurrence)
            yield name.rpartition("/")[2], start, change


def differing(old: str, new: str) -> tuple:
    "The first lines in which two texts differ, the rest of each if their lengths do."
    before, after = old.splitlines(), new.splitlines()
    at = next((i for i, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after)))
    gone = len(before) - len(after)
    if gone > 0:
        return at, " ".join(line.strip() for line in before[at : at + gone]), ""
    return at, before[at].strip(), " ".join(line.strip() for line in after[at : at + 1 - gone])


def compiled(text: str):
    "What a text does; None if it does not compile."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return meaning(compile(text, "m", "exec"))
    except (SyntaxError, ValueError):
        return None


def mutants_of(name: str) -> tuple:
    "The mutants of a module, and how many were left out for each reason."
    source = source_path(name).read_text(encoding="utf-8")
    spans = left_out_spans(ast.parse(source))
    found, left_out = [], Counter()
    lines = source.splitlines(keepends=True)
    for where, first, last in statements(source):
        before, text, after = "".join(lines[: first - 1]), "".join(lines[first - 1 : last]), "".join(lines[last:])
        seen = {None, compiled(text)}
        for operator, (row, column), change in changes_of(text):
            place = row + first - 1, column
            kinds = [kind for kind, start, end in spans if start <= place < end]
            if kinds:
                left_out[kinds[0]] += 1
                continue
            changed = change()
            does = compiled(changed)
            if does in seen:
                left_out["does not compile" if does is None else "same bytecode"] += 1
                continue
            seen.add(does)
            at, line, mutant = differing(text, changed)
            found.append(Mutant(where, line, mutant, operator, at + first, before + changed + after))
    return found, dict(left_out)


# Running them.


def install(name: str, source: str):
    "Execute a source as a module of the kit."
    full = f"vidprism.{name.replace('/', '.')}"
    spec = importlib.util.spec_from_file_location(full, source_path(name))
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    exec(compile(source, str(source_path(name)), "exec"), vars(module))
    package, _, leaf = full.rpartition(".")
    setattr(importlib.import_module(package), leaf, module)


def seed_all():
    "One state of the global generators for every mutant."
    import numpy
    import torch

    random.seed(SEED)
    numpy.random.seed(SEED)
    torch.manual_seed(SEED)


def run_pytest(arguments: list):
    "Run tests in this process; a failure is an error."
    import pytest

    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-o", "addopts="]
    if pytest.main([*options, *arguments]) != 0:
        raise AssertionError("a test failed")


@functools.cache
def texts_of(name: str) -> list:
    "The test cells of a module's notebook, read once, so that an edit does not judge half of the mutants."
    return cells.test_cells(name)


def tests_of(name: str, order=None) -> dict:
    "Run the tests of a module; the seconds of each cell."
    cells.settle(name)
    seed_all()
    seconds = cells.run(name, texts_of(name), order)
    os.chdir(ROOT)
    for arguments in MORE.get(name, []):
        run_pytest(arguments)
    return seconds


class Outcome(NamedTuple):
    "How a child ended."

    verdict: str  # "passed", "failed" or "timed out"
    answer: object
    output: str
    cpu: float


def confine(folder: Path, limit: float):
    "A session, a temporary folder and bounds of a child's own."
    os.setsid()
    for name in ("TMPDIR", "VIDPRISM_CACHE"):
        os.environ[name] = str(folder)
    tempfile.tempdir = str(folder)
    log = os.open(folder / "output", os.O_WRONLY | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit) + 1, int(limit) + 2))


def child(work, folder: Path, limit: float):
    "Do the work in this process, write down its answer, and end."
    code = FAILED
    try:
        confine(folder, limit)
        answer = work()
        (folder / "answer").write_bytes(pickle.dumps(answer))
        code = PASSED
    except BaseException:  # a mutant may raise anything
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait_for(pid: int, seconds: float) -> tuple:
    "Wait for a child; its status, None if its time is over, and what it used."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    _, _, usage = os.wait4(pid, 0)
    return None, usage


def forked(work, limit: float = 600.0) -> Outcome:
    "Run something in a fork of this process, and leave no process or file of it."
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        child(work, folder, limit)
    status, usage = wait_for(pid, 10 * limit + 30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    answer = folder / "answer"
    log = folder / "output"
    output = log.read_text(errors="replace") if log.exists() else ""
    late = status is None or (os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL))
    passed = not late and os.WIFEXITED(status) and os.WEXITSTATUS(status) == PASSED
    verdict = "timed out" if late else "passed" if passed else "failed"
    found = pickle.loads(answer.read_bytes()) if passed else None
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(verdict, found, output, usage.ru_utime + usage.ru_stime)


def lower_modules(name: str) -> list:
    "The kit's modules that import nothing of this one."
    order = [line for line in (ROOT / "nbs" / "order.txt").read_text().split("\n") if line and line[0] != "#"]
    return [f"vidprism.{m.replace('/', '.')}" for m in order[: order.index(name)]]


def warm_up(name: str, loaded: list):
    "Import what the tests need and the mutants do not change; a test imported here would hold the unchanged names."
    lower = set(lower_modules(name))
    tests = {path.stem for path in (ROOT / "tests").glob("*.py")}
    for module in loaded:
        if module in tests or (module.partition(".")[0] == "vidprism" and module not in lower):
            continue
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a child that does not touch the pages of its parent need not copy them


def one_thread():
    "A fork keeps the thread that called it, so that there must be no other."
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)


def unchanged(name: str, order=None) -> tuple:
    "The unchanged module's cells with their seconds, and what is imported at the end."
    install(name, source_path(name).read_text(encoding="utf-8"))
    return tests_of(name, order), sorted(sys.modules)


def settled_order(name: str) -> tuple:
    "The order of cells in which mutants run, the CPU seconds of the unchanged module, and those of each cell."
    texts_of(name)  # here, for the children
    first = forked(lambda: unchanged(name))
    if first.verdict != "passed":
        raise SystemExit(f"{name}: the unchanged module fails.\n{first.output[-3000:]}")
    seconds, loaded = first.answer
    warm_up(name, loaded)
    short = [n for n in seconds if seconds[n] <= SLOW]
    middle = [n for n in seconds if SLOW < seconds[n] <= LONGEST]
    in_turn = [n for n in seconds if seconds[n] <= LONGEST]
    for order in (short + middle, in_turn, list(seconds)):
        again = forked(lambda order=order: unchanged(name, order))
        if again.verdict == "passed":
            return order, again.cpu, seconds
    raise SystemExit(f"{name}: the unchanged module fails the second time.\n{again.output[-3000:]}")


def judge(name: str, mutant: Mutant, order: list, limit: float) -> Outcome:
    "Run the tests against one mutant."

    def work():
        install(name, mutant.source)
        tests_of(name, order)

    return forked(work, limit)


def sample_of(mutants: list, name: str, share: float, seed: int) -> list:
    "A random share of the mutants, in their order."
    if share == 1:
        return mutants
    chosen = random.Random(f"{seed} {name}").sample(range(len(mutants)), round(share * len(mutants)))
    return [mutants[i] for i in sorted(chosen)]


# What is kept.


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(path: Path, content: dict):
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def listed_equivalents(name: str) -> dict:
    "(where, line, mutant) -> why it behaves as the module does."
    entries = read(EQUIVALENT).get(name, [])
    return {(e["where"], e["line"], changed): e["reason"] for e in entries for changed in e["mutants"]}


def described(mutant: Mutant) -> dict:
    return dict(where=mutant.where, line=mutant.line, mutant=mutant.mutant, operator=mutant.operator)


def share_killed(result: dict) -> float:
    "The share of mutants that were killed, of those that are not equivalent."
    return result["killed"] / max(1, result["mutants"] - len(result["equivalent"]))


def compared(result: dict, survivors: list, listed: dict) -> dict:
    "The survivors, parted into equivalent ones and others."
    equivalent = [dict(described(m), reason=listed[m.key]) for m in survivors if m.key in listed]
    others = [described(m) for m in survivors if m.key not in listed]
    return dict(result, equivalent=equivalent, survived=others)


def report(name: str, result: dict):
    "One line about a module."
    print(
        f"{name}: {result['mutants']} mutants of {result['of']}, {result['killed']} killed "
        f"({result['timed_out']} by time), {len(result['equivalent'])} equivalent, {len(result['survived'])} survived: "
        f"{share_killed(result):.1%} in {result['seconds']:.0f} s",
        flush=True,
    )


def test_module(name: str, again: bool, share: float, seed: int) -> dict:
    "Run the mutants of a module, or only the last survivors."
    one_thread()
    start = time.monotonic()
    before = read(RESULTS).get(name)
    if again and (not before or before["source"] != digest(name)):
        raise SystemExit(f"{name} has changed since its mutants ran: run all of them.")
    if again:
        share, seed = before.get("share", share), before["seed"]
    found, left_out = mutants_of(name)
    mutants = sample_of(found, name, share, seed)
    alive = [(m["where"], m["line"], m["mutant"]) for m in before["survived"] + before["equivalent"]] if again else []
    running = [m for m in mutants if m.key in alive] if again else mutants
    order, cpu, seconds = settled_order(name)
    verdicts = Counter()
    survivors = []
    for number, mutant in enumerate(running, 1):
        outcome = judge(name, mutant, order, 3 * cpu + 2)
        verdicts[outcome.verdict] += 1
        if outcome.verdict == "passed":
            survivors.append(mutant)
        if number % 50 == 0:
            print(f"{name}: {number} of {len(running)}, {dict(verdicts)}, {time.monotonic() - start:.0f} s", flush=True)
    listed = listed_equivalents(name)
    wrong = sorted(listed.keys() - {m.key for m in survivors}) if share == 1 else []
    for key in wrong:
        print(f"{name}: listed as equivalent, but killed or not there: {key}", flush=True)
    timed_out = verdicts["timed out"] + (before["timed_out"] if again else 0)
    result = dict(
        mutants=len(mutants),
        of=len(found),
        killed=len(mutants) - len(survivors),
        timed_out=timed_out,
        left_out=left_out,
        seed=seed,
        share=share,
        source=digest(name),
        cells_not_run=len(seconds) - len(order),
        seconds=round(time.monotonic() - start, 1) + (before["seconds"] if again else 0),
    )
    result = compared(result, survivors, listed)
    write(RESULTS, {**read(RESULTS), name: result})
    report(name, result)
    return result


def show(name: str):
    "Print the survivors of the last run."
    for m in read(RESULTS).get(name, {}).get("survived", []):
        print(f"{m['where']}  [{m['operator']}]\n  - {m['line']}\n  + {m['mutant']}")


def all_modules() -> list:
    "The modules of `FOLDERS`, in the order of the kit."
    order = (ROOT / "nbs" / "order.txt").read_text().split("\n")
    return [m for m in order if m.partition("/")[0] in FOLDERS]


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*")
    for flag in ("again", "show", "baseline"):
        parser.add_argument(f"--{flag}", action="store_true")
    parser.add_argument("--share", type=float, help="share of the mutants, drawn at random; default: `SAMPLES`, else 1")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sample")
    return parser.parse_args()


def main():
    chosen = options()
    names = chosen.modules or all_modules()
    if chosen.show:
        for name in names:
            show(name)
    elif chosen.baseline:
        one_thread()
        for name in names:
            order, cpu, seconds = settled_order(name)
            print(f"{name}: {cpu:.2f} s, order {order}, cells { ({n: round(s, 2) for n, s in seconds.items()}) }")
    elif len(names) == 1:
        share = SAMPLES.get(names[0], 1) if chosen.share is None else chosen.share
        test_module(names[0], chosen.again, share, chosen.seed)
    else:
        for name in names:  # a process of its own for each: what one has imported is not there for the next
            given = [a for a in sys.argv[1:] if a not in chosen.modules]
            subprocess.run([sys.executable, __file__, *given, name], check=True)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
