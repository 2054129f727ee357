"Attacks on studies and results: processes that race, are killed, or find files that are broken."

import errno
import json
import os
import pytest
import shutil
import signal
import subprocess
import sys
import time
import torch
from pathlib import Path
from real import ROOT, hear_interrupts
from test_tables import processes_of, toy
from vidprism.data.clips import sample_clips
from vidprism.errors import ConfigError, WriteError
from vidprism.evaluation.budget import Assumed, Measured, Size, measure_machine, plan
from vidprism.evaluation.cost import measure_cost, paper_costs
from vidprism.evaluation.protocols import close_set, few_shot, grid_search
from vidprism.experiments import samples
from vidprism.experiments.claims import draw_claims, statistics_claims
from vidprism.experiments.studies import (
    Metric,
    Trial,
    cell_file,
    keep_run,
    kept_runs,
    open_study,
    run_cells,
    runs_left,
    values,
)
from vidprism.experiments.tables import VIDPRISM_TABLES, draw_table
from vidprism.model import sample_model

posix = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")

# A run that takes some milliseconds, and writes down that it was done.
FAST = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import os, random, time
import test_tables as t, vidprism.experiments.studies as s

folder = sys.argv[1]


def run_cell(study, cell, run):
    time.sleep(random.uniform(0, 0.02))
    with open(folder + ".log", "a") as log:
        log.write(f"{{cell.options['alpha']}} {{run}}\\n")
    return dict(run=run, seed=0, top1=0.5, top5=1.0, probes={{}})


s.run_cell = run_cell
study = t.toy(folder, runs=4)
cells = [s.Trial("vidprism", dict(alpha=a / 1000)) for a in range(50)]
"""
# Runs that train; a script, so that workers can be started.
SLOW = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import test_tables as t, vidprism.experiments.studies as s

if __name__ == "__main__":
    study = t.toy(sys.argv[1], runs=4)
    cells = [s.Trial("vidprism", dict(rates=(2, 4), num_heads=2, alpha=a / 1000)) for a in range(600)]
    s.run_cells(study, cells, workers=int(sys.argv[2]), progress=False)
"""


def cells_of(count=50):
    return [Trial("vidprism", dict(alpha=a / 1000)) for a in range(count)]


def start(script, *args, **options):
    "A Python process that runs a text."
    return subprocess.Popen([sys.executable, "-c", script, *map(str, args)], cwd=ROOT, **options)


def rows_of(study, cells):
    "All rows that are kept."
    return [row for cell in cells for row in kept_runs(study, cell).values()]


def words_of(process) -> str:
    "What a process said until its end; one that does not end takes its group with it."
    try:
        return process.communicate(timeout=240)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def wait_for(condition, seconds=120):
    "Wait until something is so."
    for _ in range(10 * seconds):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it never came")


@pytest.mark.long
def test_processes_share_a_folder(tmp_path):
    "Three processes, 200 runs: each run is done once, and each row is there."
    script = (
        FAST
        + "failed = s.run_cells(study, cells, progress=False)\nassert failed == [] and not s.runs_left(study, cells)"
    )
    crowd = [start(script, tmp_path / "kept") for _ in range(3)]
    study = toy(tmp_path / "kept", runs=4)
    while any(process.poll() is None for process in crowd):
        rows_of(study, cells_of())  # a reader finds whole files at any time
        time.sleep(0.05)
    assert [process.returncode for process in crowd] == [0, 0, 0]
    assert len(rows_of(study, cells_of())) == 200
    done = (tmp_path / "kept.log").read_text().splitlines()
    assert len(done) == len(set(done)) == 200
    assert not list((tmp_path / "kept").rglob("*.part*"))


@pytest.mark.long
def test_writers_of_one_file(tmp_path):
    "Four processes add to one trial's file, without claims: no row is lost."
    script = (
        FAST
        + """
for run in range(int(sys.argv[2]), 200, 4):
    s.keep_run(t.toy(folder, folds=0, runs=200), s.Trial("mean"), dict(run=run, top1=0.5))
"""
    )
    crowd = [start(script, tmp_path / "kept", first) for first in range(4)]
    assert [process.wait() for process in crowd] == [0] * 4
    assert sorted(kept_runs(toy(tmp_path / "kept", folds=0, runs=200), Trial("mean"))) == list(range(200))


def test_fewer_runs_lose_none(tmp_path):
    "A study of two runs adds to a file of four: all stay."
    for run in (3, 2, 1):
        keep_run(toy(tmp_path, runs=4), Trial("mean"), dict(run=run, top1=0.5))
    keep_run(toy(tmp_path, runs=2), Trial("mean"), dict(run=0, top1=0.5))
    assert sorted(kept_runs(toy(tmp_path, runs=4), Trial("mean"))) == [0, 1, 2, 3]


@pytest.mark.long
def test_a_killed_process_frees_its_claims(tmp_path):
    "One process is killed in the middle of a run; another one, which waits for that run, does it."
    stuck = "import os\nwait = s._row_or_message\n"
    stuck += "def stop(*job):\n    open(folder + '.stuck', 'w').close()\n    time.sleep(600)\n"
    stuck += "s._row_or_message = stop\ns.run_cells(study, cells[:3], progress=False)\n"
    first = start(FAST + stuck, tmp_path / "kept")
    wait_for((tmp_path / "kept.stuck").exists)
    second = start(FAST + "s.run_cells(study, cells[:3], progress=False)", tmp_path / "kept")
    study = toy(tmp_path / "kept", runs=4)
    wait_for(lambda: (tmp_path / "kept" / "study.json").exists() and len(rows_of(study, cells_of(3))) == 11)
    time.sleep(1)
    assert second.poll() is None and len(rows_of(study, cells_of(3))) == 11
    first.kill()
    first.wait()
    assert second.wait(60) == 0 and len(rows_of(study, cells_of(3))) == 12
    done = (tmp_path / "kept.log").read_text().splitlines()
    assert len(done) == len(set(done)) == 12


@pytest.mark.long
@posix
@pytest.mark.parametrize("workers", (0, 2))
@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM), ids=("ctrl-c", "sigterm"))
def test_stopped_in_a_sentence(tmp_path, number, workers):
    "The whole group gets the signal, as in a terminal: one sentence, no worker, no torn file."
    script, kept = tmp_path / "run.py", tmp_path / "kept"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(kept), str(workers)]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    wait_for(lambda: list(kept.glob("*-*.json")))
    os.killpg(process.pid, number)
    words = words_of(process)
    assert words.count("Stopped: finished runs are kept") == 1
    assert "Process Spawn" not in words and "leaked" not in words
    if number == signal.SIGTERM:
        assert process.returncode == 143 and len(words.strip().splitlines()) == 1
    wait_for(lambda: processes_of(process.pid) == [], 20)
    study = open_study(kept)
    for file in kept.glob("*-*.json"):
        assert json.loads(file.read_text())["runs"]
    assert study.runs == 4 and not list(kept.rglob("*.part*"))


@posix
def test_the_command_stops_in_a_sentence():
    "Ctrl-C in `benchmarks/tables.py`: nothing but a sentence is said."
    import runpy

    module = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))

    def stopped(*_):
        raise KeyboardInterrupt("Stopped: kept.")

    main = module["main"]
    main.__globals__["world"] = stopped
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tables.py", "world"])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 130


@pytest.mark.long
@posix
def test_a_lost_worker_is_a_sentence(tmp_path):
    "A worker is killed: one sentence, and the others end."
    script, kept = tmp_path / "run.py", tmp_path / "kept"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(kept), "2"]
    process = subprocess.Popen(
        command, cwd=ROOT, start_new_session=True, stderr=subprocess.PIPE, text=True, preexec_fn=hear_interrupts
    )
    wait_for(lambda: list(kept.glob("*-*.json")))
    workers = [p for p in processes_of(process.pid) if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
    os.kill(int(workers[-1]), signal.SIGKILL)
    words = words_of(process)
    assert "A worker was stopped" in words.splitlines()[-1]
    wait_for(lambda: processes_of(process.pid) == [], 20)


BROKEN = (
    "",
    "null",
    "[]",
    "3",
    "NaN",
    '"text"',
    "{",
    "\udcff\udcfe",
    "[" * 50_000,
    "{}",
    '{"runs": null}',
    '{"runs": {}}',
    '{"runs": [null]}',
    '{"runs": [[]]}',
    '{"runs": [{}]}',
    '{"runs": [{"run": 0}]}',
    '{"runs": [{"run": "0", "top1": 0.5}]}',
    '{"runs": [{"run": -1, "top1": 0.5}]}',
    '{"runs": [{"run": true, "top1": 0.5}]}',
    '{"runs": [{"run": 0.0, "top1": 0.5}]}',
    '{"runs": [{"run": NaN, "top1": 0.5}]}',
    '{"runs": [{"run": 0, "top1": NaN}]}',
    '{"runs": [{"run": 0, "top1": null}]}',
    '{"runs": [{"run": 0, "top1": "0.5"}]}',
    '{"runs": [{"run": 0, "top1": [0.5]}]}',
    '{"runs": [{"run": 0, "top1": 1e999}]}',
    '{"runs": [{"run": 0, "top1": 1.01}]}',
    '{"runs": [{"run": 0, "top1": -0.1}]}',
    '{"runs": [{"run": 0, "top1": ' + "9" * 5000 + "}]}",
    '{"runs": [{"run": 0, "top1": 0.5, "top5": "x"}]}',
    '{"runs": [{"run": 0, "top1": 0.5, "zero": NaN}]}',
    '{"runs": [{"run": 0, "top1": 0.5, "seconds": -1}]}',
    '{"runs": [{"run": 0, "top1": 0.5, "probes": null}]}',
    '{"runs": [{"run": 0, "top1": 0.5, "probes": {"a": null}}]}',
    '{"runs": [{"run": 0, "top1": 0.5, "probes": {"a": {"top1": NaN}}}]}',
)


def one_sentence(call, *names):
    "The call is refused in a sentence that names something."
    with pytest.raises(ConfigError) as found:
        call()
    said = str(found.value)
    assert said.endswith(".") and "\n" not in said and len(said) < 600
    assert all(name in said for name in names), said


@pytest.mark.parametrize("text", BROKEN, ids=range(len(BROKEN)))
def test_broken_results(tmp_path, text):
    "Whoever reads a broken file says which one it is, and leaves it as it was."
    study, cell = toy(tmp_path), Trial("mean")
    for run in (0, 1):
        keep_run(study, cell, dict(run=run, top1=0.5, top5=1.0))
    file = cell_file(study, cell)
    raw = text.encode(errors="surrogateescape")
    file.write_bytes(raw)
    readers = (
        lambda: kept_runs(study, cell),
        lambda: values(study, Metric(cell)),
        lambda: runs_left(study, [cell]),
        lambda: run_cells(study, [cell], progress=False),
        lambda: draw_table(VIDPRISM_TABLES["table_1"](study), study),
        lambda: keep_run(study, cell, dict(run=0, top1=0.5)),
    )
    for read in readers:
        one_sentence(read, file.name)
    for name in ("mean", "statistics", "vidprism"):
        cell_file(study, Trial(name)).write_bytes(raw)
    one_sentence(lambda: draw_claims(statistics_claims(study), study), "statistics")
    assert file.read_bytes() == raw


GOOD = dict(
    settings=dict(bench="toy", fingerprint="0"),
    num_frames=8,
    text=False,
    name="toy",
    folds=4,
    runs=2,
    layers=2,
    shots=[2],
)
WRONG = dict(
    settings=(None, [], {}, dict(bench=1, fingerprint="0"), dict(bench="toy"), dict(fingerprint=None)),
    num_frames=(None, 0, -1, 1.5, "8", True, float("nan")),
    text=(None, 1, "yes"),
    name=(None, 3, []),
    folds=(None, -1, 1, "4", float("nan")),
    runs=(None, 0, 5, 1.0, float("inf")),
    layers=(None, 0, "two", {}),
    shots=(None, 2, "2", [None], [-1], [1.5], {}),
)
WRONG_PAIRS = [(key, value) for key, wrong in WRONG.items() for value in wrong]


@pytest.mark.parametrize(("key", "value"), WRONG_PAIRS, ids=[f"{key}-{i}" for i, (key, _) in enumerate(WRONG_PAIRS)])
def test_broken_study(tmp_path, key, value):
    "A study.json with one wrong value is refused; without the value, too."
    file = tmp_path / "study.json"
    file.write_text(json.dumps(GOOD))
    assert open_study(tmp_path).shots == (2,)
    file.write_text(json.dumps(GOOD | {key: value}))
    one_sentence(lambda: open_study(tmp_path))
    file.write_text(json.dumps({k: v for k, v in GOOD.items() if k != key}))
    one_sentence(lambda: open_study(tmp_path), "study.json", key)


@pytest.mark.parametrize("text", BROKEN[:9], ids=range(9))
def test_no_study(tmp_path, text):
    (tmp_path / "study.json").write_bytes(text.encode(errors="surrogateescape"))
    one_sentence(lambda: open_study(tmp_path), "study.json")


def test_a_folder_of_clips_is_no_place_for_results(tmp_path):
    "The clips' own folder, a file, a folder that may not be written: refused, and nothing is added."
    (tmp_path / "walk").mkdir()
    (tmp_path / "walk" / "a.mp4").write_bytes(b"clip")
    before = sorted(tmp_path.rglob("*"))
    one_sentence(lambda: run_cells(toy(tmp_path), [Trial("mean")], progress=False), str(tmp_path))
    one_sentence(lambda: keep_run(toy(tmp_path), Trial("mean"), dict(run=0, top1=0.5)), str(tmp_path))
    one_sentence(lambda: run_cells(toy(tmp_path / "walk" / "a.mp4"), [Trial("mean")], progress=False), "a.mp4")
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "walk" / "a.mp4").read_bytes() == b"clip"


@pytest.mark.parametrize("workers", (-1, -2, 10**9, 1.5, True, None, "2", float("nan")))
def test_workers_in_range(tmp_path, workers):
    one_sentence(lambda: run_cells(toy(tmp_path), [Trial("mean")], workers=workers, progress=False), "workers")


@pytest.mark.parametrize("options", (dict(folds=1), dict(folds=-1), dict(folds=0.5), dict(runs=0), dict(layers=0)))
def test_studies_in_range(tmp_path, options):
    one_sentence(lambda: toy(tmp_path, **options))


@pytest.mark.parametrize("shots", (-1, 1.5, float("nan"), None, "2", True, 10**9 + 0.5))
def test_shots_in_range(shots):
    one_sentence(lambda: Trial(shots=shots), "shots")


@pytest.mark.long
def test_failures_are_collected_alike(tmp_path):
    "This process and worker processes report the same messages, and hold up nothing."
    good, bad = Trial("mean"), Trial("mean", dict(layers=3))
    here = run_cells(toy(tmp_path / "a"), [bad, good], workers=0, progress=False)
    there = run_cells(toy(tmp_path / "b"), [bad, good], workers=2, progress=False)
    assert here == sorted(there) and len(here) == 2
    assert len(kept_runs(toy(tmp_path / "a"), good)) == len(kept_runs(toy(tmp_path / "b"), good)) == 2


def small_measured(**changes):
    "What `measure_machine` writes."
    numbers = dict(read_seconds=0.02, read_low=0.02, read_high=0.02, clip_bytes=1e6, clip_seconds=10.0, jpeg_bytes=1e4)
    return dict(machine="by hand", clips=10, num_frames=8, size=224, **numbers) | changes


WRONG_NUMBERS = (None, "0.02", [], {}, True, float("nan"), float("inf"), 0, -1, -0.5)


@pytest.mark.parametrize("text", BROKEN[:10], ids=range(10))
def test_a_plan_of_junk(tmp_path, text):
    "What is no measurement is refused, in one sentence, and so is what is no file."
    file = tmp_path / "measured.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    one_sentence(lambda: plan(measured=file), "measured.json")
    one_sentence(lambda: plan(measured=str(tmp_path)), "no file")
    one_sentence(lambda: plan(measured="junk"), "junk")


@pytest.mark.parametrize("key", small_measured())
@pytest.mark.parametrize("value", WRONG_NUMBERS, ids=map(str, WRONG_NUMBERS))
def test_a_plan_of_wrong_numbers(tmp_path, key, value):
    "Each field of a measurement, wrong or missing."
    file = tmp_path / "measured.json"
    file.write_text(json.dumps(small_measured()))
    assert plan(measured=file).gpu_hours > 0
    if key == "machine" and isinstance(value, str):
        return
    file.write_text(json.dumps(small_measured(**{key: value})))
    one_sentence(lambda: plan(measured=file), "measured.json", key)
    one_sentence(lambda: Measured(**small_measured(**{key: value})), key)
    file.write_text(json.dumps({k: v for k, v in small_measured().items() if k != key}))
    one_sentence(lambda: plan(measured=file), "measured.json", key)
    file.write_text(json.dumps(small_measured(mood=1)))
    one_sentence(lambda: plan(measured=file), "mood")


@pytest.mark.parametrize(
    "assumed",
    [
        dict(utilisation=float("nan")),
        dict(utilisation=0),
        dict(backward=float("nan")),
        dict(bitrate=float("inf")),
        dict(disk_rate=0.0),
        dict(disk_rate=float("nan")),
        dict(feature_bytes=0),
        dict(read_seconds=float("nan")),
        dict(views=(0, 3)),
        dict(views=(4,)),
        dict(views="43"),
        dict(views=(float("nan"), 1)),
    ],
    ids=str,
)
def test_assumptions_in_range(assumed):
    one_sentence(lambda: Assumed(**assumed), *assumed)


@pytest.mark.parametrize(
    "size", [Size(0, 1, 1.0, 2), Size(1, 1, 0.0, 2), Size(1, 1, float("nan"), 2), Size(1, 1, 1, 0)]
)
def test_sizes_in_range(size):
    one_sentence(lambda: plan(size, measured=Measured(**small_measured())), "dataset")


def test_a_measurement_is_no_clip(tmp_path):
    "The result may not replace a clip, by whatever name it is called."
    clips = [Path(shutil.copy(clip, tmp_path)) for clip in sample_clips()[:2]]
    before = [clip.read_bytes() for clip in clips]
    (tmp_path / "link.json").symlink_to(clips[1])
    os.link(clips[0], tmp_path / "twin.json")
    names = (clips[0], f"{tmp_path}/../{tmp_path.name}/{clips[0].name}", tmp_path / "link.json", tmp_path / "twin.json")
    for out in names:
        one_sentence(lambda out=out: measure_machine(clips, out, num_frames=2, size=16), "cannot be the output")
    assert [clip.read_bytes() for clip in clips] == before
    assert measure_machine(clips, tmp_path / "new.json", num_frames=2, size=16).clips == 2
    assert plan(measured=tmp_path / "new.json").rates["cores"] > 0
    one_sentence(lambda: measure_machine(clips[:1], tmp_path / "one.json"), "clips")


GPU = ("", "null", "[]", "NaN", '{"fps": null}', '{"fps": []}', '{"fps": {"found": [null]}}')
GPU += ('{"fps": {"found": [{}], "device": "x"}}', '{"fps": {"found": [{"method": "MoTE", "tower": "L/14"}]}}')
GPU += ('{"fps": {"found": [{"method": [], "tower": {}, "frames_per_second": 1}], "device": "x"}}',)
GPU += ('{"fps": {"found": [{"method": "a", "tower": "b", "frames_per_second": NaN}], "device": "x"}}',)


@pytest.mark.parametrize("text", GPU, ids=range(len(GPU)))
def test_costs_of_junk(tmp_path, text):
    (tmp_path / "gpu.json").write_text(text)
    one_sentence(lambda: paper_costs(tmp_path / "gpu.json"), "gpu.json")


GRIDS = (dict(nothing=(1,)), dict(lr=()), dict(lr=1e-3), dict(lr="123"), dict(lr=None), dict(lr=(1e-3,), seeds=[1]))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_grids(tmp_path, grid):
    "A grid of unknown fields, or without values, is refused before anything is trained."
    one_sentence(lambda: grid_search(toy(tmp_path).bench, "mean", grid=grid), "grid")
    for protocol in (close_set, few_shot):
        one_sentence(lambda p=protocol: p(toy(tmp_path).bench, "mean", seeds=()), "seeds")


@pytest.fixture
def few_samples(monkeypatch):
    "Rendered clips that are written without an encoder: one byte each."
    monkeypatch.setattr(samples, "_write_mp4", lambda path, frames: Path(path).write_bytes(b"new"))


def test_a_build_deletes_its_own_files_only(tmp_path, few_samples):
    "Clips of an earlier build go; what others put there stays, though the index names it."
    config, folder = samples.BuildConfig(num_frames=2), tmp_path / "clips"
    folder.mkdir()
    (folder / "holiday.mp4").write_bytes(b"mine")
    one_sentence(lambda: samples._build_samples(folder, config), str(folder))
    names = ["97_old_motion.mp4", "holiday.mp4", "../outside.mp4", None, 3]
    (folder / "index.json").write_text(json.dumps([dict(file=name) for name in names]))
    (folder / "97_old_motion.mp4").write_bytes(b"old")
    (tmp_path / "outside.mp4").write_bytes(b"mine")
    (folder / "deep").mkdir()
    (folder / "deep" / "98_also_mine.mp4").write_bytes(b"mine")
    samples._build_samples(folder, config)
    assert not (folder / "97_old_motion.mp4").exists()
    kept = (folder / "holiday.mp4", tmp_path / "outside.mp4", folder / "deep" / "98_also_mine.mp4")
    assert all(path.read_bytes() == b"mine" for path in kept)
    index = json.loads((folder / "index.json").read_text())
    assert len(index) == 18 and all((folder / row["file"]).read_bytes() == b"new" for row in index)


def test_a_build_that_fails_leaves_the_old_one(tmp_path, few_samples, monkeypatch):
    "The clip in the middle cannot be written: the folder is as it was."
    config, folder = samples.BuildConfig(num_frames=2), tmp_path / "clips"
    samples._build_samples(folder, config)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(path, frames):
        if Path(path).name.startswith("07"):
            raise OSError(errno.ENOSPC, "No space left on device")
        Path(path).write_bytes(b"newer")

    monkeypatch.setattr(samples, "_write_mp4", full)
    with pytest.raises(WriteError, match="no space left"):
        samples._build_samples(folder, config)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["clips"]


@pytest.mark.parametrize("text", ("", "null", "[]", "{}", '{"seconds": null}', '{"seconds": {"a": NaN}}'), ids=range(6))
def test_a_build_of_junk(tmp_path, text):
    (tmp_path / "build.json").write_text(text)
    one_sentence(lambda: samples._kept_build(tmp_path), "build.json")
    one_sentence(lambda: samples._kept_build(tmp_path / "none"), "build.json")


def test_merged_once():
    "MoTE is merged once, and the caller's random numbers stay as they are."
    model, merged = sample_model("mote"), []
    kind, merge = type(model.head), type(model.head).for_inference
    state = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "for_inference", lambda head: merged.append(head) or merge(head))
        found = measure_cost(model, repeats=2, warmup=0, device="cpu")
    assert len(merged) == 1 and len(found.seconds) == 2
    assert torch.equal(torch.get_rng_state(), state)
    one_sentence(lambda: measure_cost(model, device="abacus"), "abacus")
