"The papers' tables: runs in processes, stopping and going on, and that what is kept is what it says it is."

import hashlib
import json
import pytest
import statistics
import subprocess
import sys
import time
import torch
from pathlib import Path
from real import ROOT
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit
from vidprism.experiments.mote_tables import MOTE_TABLES
from vidprism.experiments.studies import Study, Trial, kept_runs, open_study, run_cell, run_cells, runs_left
from vidprism.experiments.tables import VIDPRISM_TABLES, draw_table
from vidprism.training.trainer import TrainConfig

KEPT = sorted((ROOT / "benchmarks" / "tables").glob("*/*-*.json"))


def toy(folder, **options):
    "Three classes that differ in their course, twelve sources."
    g = torch.Generator().manual_seed(0)
    t, y = torch.linspace(-1, 1, 8), torch.arange(60) % 3
    x = 0.3 * torch.randn(60, 1, 8, generator=g) + 0.1 * torch.randn(60, 8, 8, generator=g)
    x[..., :4] += torch.stack([t, -t, t * 0])[y][..., None]
    side = FeatureSplit(x, y, [f"clip {i}" for i in range(60)], [f"source {i % 12}" for i in range(60)])
    bench = Benchmark("toy", side, side, ["up", "down", "flat"], dict(encoder="none", frames=8))
    few = TrainConfig(epochs=2, lr=1e-2, batch=16)
    settings = dict(folds=4, runs=2, training=few, few=few, folder=folder) | options
    return Study("toy", bench, "0" * 16, **settings)


@pytest.mark.long
def test_processes(tmp_path):
    "Worker processes find what this process finds; a run that can't be done is a sentence, and holds up nothing."
    study, good, bad = toy(tmp_path), Trial("mean"), Trial("mean", dict(layers=3))
    failed = run_cells(study, [bad, good], workers=2, progress=False)
    assert len(failed) == 2 and all("layers" in f for f in failed)
    for run, row in kept_runs(study, good).items():
        assert row["top1"] == pytest.approx(run_cell(study, good, run)["top1"], abs=1e-6)
    assert {run for _, run in runs_left(study, [good, bad])} == {0, 1}
    assert all(c == bad for c, _ in runs_left(study, [good, bad]))


@pytest.mark.long
def test_stopped_and_gone_on(tmp_path):
    "A process that is killed between runs loses none that it had finished."
    study, cells = toy(tmp_path, runs=4), [Trial("mean"), Trial("vidprism", dict(rates=(2, 4), num_heads=2))]
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import os, test_tables as t, vidprism.experiments.studies as s

study = t.toy({str(tmp_path)!r}, runs=4)
keep, kept = s.keep_run, []

def stop(*a):
    keep(*a)
    kept.append(a)
    if len(kept) == 3:
        os._exit(9)

s.keep_run = stop
cells = [s.Trial('mean'), s.Trial('vidprism', dict(rates=(2, 4), num_heads=2))]
s.run_cells(study, cells, workers=0, progress=False)
"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=300).returncode == 9
    assert len(runs_left(study, cells)) == 8 - 3
    before = {p: p.read_text() for p in tmp_path.glob("*-*.json")}
    assert run_cells(study, cells, workers=0, progress=False) == [] and runs_left(study, cells) == []
    for p, text in before.items():
        old, new = json.loads(text)["runs"], json.loads(p.read_text())["runs"]
        assert [r for r in new if r["run"] in {o["run"] for o in old}] == old  # what was there was not done again


@pytest.mark.parametrize("path", KEPT, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_kept(path):
    "A file's name is the hash of what it says it was made with; its mean is that of its runs; no run stands twice."
    record = json.loads(path.read_text())
    runs = record["runs"]
    settings = json.dumps({**record["cell"], **record["study"]}, sort_keys=True)
    assert hashlib.sha256(settings.encode()).hexdigest()[:8] == path.stem[-8:]
    assert record["top1"]["mean"] == pytest.approx(statistics.mean(r["top1"] for r in runs))
    assert len({r["run"] for r in runs}) == len(runs) == record["top1"]["n"]
    assert record["study"] == open_study(path.parent).settings
    assert all(0 <= r["top1"] <= 1 and r["commit"] for r in runs)


@pytest.mark.parametrize("name", sorted({p.parent.name for p in KEPT}))
def test_drawn(name):
    "Every table of a study is drawn from its files, with links that lead there; no file is an orphan of all tables."
    study, linked = open_study(ROOT / "benchmarks" / "tables" / name), set()
    tables = {k: v for k, v in VIDPRISM_TABLES.items() if k != "table_11" or study.has_text}
    if name.endswith("text"):
        tables = MOTE_TABLES
    for make in tables.values():
        text = draw_table(make(study), study, ROOT / "nbs")
        for link in [part.split(")")[0] for part in text.split("](")[1:]]:
            assert (ROOT / "nbs" / link).is_file()
            linked.add((ROOT / "nbs" / link).resolve())
    assert linked == {p.resolve() for p in KEPT if p.parent.name == name}


def processes_of(session):
    "Living processes of a session."
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue  # gone meanwhile
        if its == str(session) and state != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for in /proc")
def test_workers_end_with_their_parent(tmp_path):
    "A parent that is killed leaves no worker behind that goes on training; there is work for many minutes."
    script = tmp_path / "run.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import test_tables as t, vidprism.experiments.studies as s

if __name__ == '__main__':
    study = t.toy({str(tmp_path / "kept")!r}, runs=4)
    cells = [s.Trial('vidprism', dict(rates=(2, 4), num_heads=2, alpha=a / 1000)) for a in range(600)]
    s.run_cells(study, cells, workers=2, progress=False)
""")
    parent = subprocess.Popen([sys.executable, str(script)], cwd=ROOT, start_new_session=True)
    for _ in range(1200):
        if list((tmp_path / "kept").glob("*-*.json")):
            break
        time.sleep(0.1)
    assert len(processes_of(parent.pid)) >= 3
    parent.kill()
    parent.wait()
    for _ in range(600):
        if not processes_of(parent.pid):
            return
        time.sleep(0.1)
    pytest.fail(f"workers went on: {processes_of(parent.pid)}")
