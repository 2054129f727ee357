"""The papers' tables, re-run; every run is kept in benchmarks/tables, and a run that is there is not done again.

    python benchmarks/tables.py world          # VidPrism's and MoTE's tables on the embedded world (`make tables`)
    python benchmarks/tables.py real           # VidPrism's on real clips with a frozen encoder (`make tables-real`)
    python benchmarks/tables.py world --only table_3 mote_table_1
    python benchmarks/tables.py real --data my_clips/ --encoder open_clip:ViT-B-16-quickgelu/openai --width 0

Stop it at any time; started again, it goes on."""

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from vidprism.errors import VidPrismError
from vidprism.experiments.mote_tables import MOTE_TABLES
from vidprism.experiments.studies import clips_study, run_cells, runs_left, world_study
from vidprism.experiments.tables import VIDPRISM_TABLES
from vidprism.training.trainer import TrainConfig

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from mobilenet import SHARED


def world(folder=HERE / "tables"):
    "[(study, its tables)]: rendered motions, and the same against text."
    motions = world_study(folder=folder / "world")
    few = TrainConfig(epochs=20)
    against_text = world_study(text=True, train=720, training=few, runs=3, folder=folder / "world_text")
    mote_tables = {f"mote_{k}": v for k, v in MOTE_TABLES.items()}
    return [(motions, VIDPRISM_TABLES), (against_text, mote_tables)]


def real(data=None, encoder=None, width=256, frames=16, folder=HERE / "tables"):
    "[(study, its tables)]: clips in folds by source; no text."
    data = data or SHARED / "jhmdb21" / "clips.txt"
    encoder = encoder or f"own:{HERE / 'mobilenet.py'}:make"
    study = clips_study(data, encoder, num_frames=frames, width=width, progress=True)
    tables = {k: v for k, v in VIDPRISM_TABLES.items() if k != "table_11"}
    return [(replace(study, folder=folder / study.name), tables)]


def run_tables(a):
    "Do what is left of the tables that were asked for; messages of the runs that failed."
    failed = []
    for study, tables in world() if a.what == "world" else real(a.data, a.encoder, a.width, a.frames):
        chosen = {k: v for k, v in tables.items() if not a.only or k in a.only}
        cells = [c for make in chosen.values() for c in make(study).cells]
        print(f"{study.name}: {len(chosen)} tables, {len(runs_left(study, cells))} runs are left", flush=True)
        failed += run_cells(study, cells, a.workers)
    return failed


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("world", "real"))
    ask.add_argument("--only", nargs="+", help="names of tables")
    ask.add_argument("--workers", type=int, default=os.cpu_count())
    ask.add_argument("--data")
    ask.add_argument("--encoder")
    ask.add_argument("--width", type=int, default=256, help="directions of the features that are kept; 0: all")
    ask.add_argument("--frames", type=int, default=16)
    a = ask.parse_args()
    start = time.perf_counter()
    try:
        failed = run_tables(a)
    except KeyboardInterrupt as stopped:
        print(stopped or "Stopped.", file=sys.stderr)
        sys.exit(130)
    except VidPrismError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    print(*failed, f"{(time.perf_counter() - start) / 60:.1f} minutes, {len(failed)} runs failed", sep="\n")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
