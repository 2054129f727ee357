"""Long attacks on the kit, and the numbers that they gave.

    python benchmarks/soak.py kills benchmarks/soak.json     # kill -9 at 20 random moments, each kind of training

`kills` trains heads and tuned encoders, with 0 and 2 loading processes, on 1 and 2 training processes. Each training is
killed at random moments and resumed until it ends; its weights are compared with those of an unbroken one. A checkpoint
is written after each step, so that many kills hit a write.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import torch
import traceback
import warnings
from pathlib import Path
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parent.parent))
from vidprism.data.augment import Augment  # noqa: E402
from vidprism.data.cliplist import ClipList  # noqa: E402
from vidprism.data.clips import sample_clips  # noqa: E402
from vidprism.data.dataset import ClipDataset  # noqa: E402
from vidprism.encoders.factory import create_encoder  # noqa: E402
from vidprism.files import write_json  # noqa: E402
from vidprism.heads.base import create_head  # noqa: E402
from vidprism.model import VideoModel  # noqa: E402
from vidprism.training.checkpoint import find_checkpoint  # noqa: E402
from vidprism.training.trainer import TensorClips, TrainConfig, finetune_encoder, fit, seeded  # noqa: E402

VARIANTS = [(kind, workers, processes) for kind in ("head", "encoder") for workers in (0, 2) for processes in (1, 2)]


def head_task(processes: int):
    "MoTE draws experts at each step: a resumed run must draw the same. The last of four batches is short."
    g = torch.Generator().manual_seed(0)
    y = torch.arange(45) % 3
    x = torch.randn(45, 8, 8, generator=g) + y[:, None, None] * torch.linspace(-1, 1, 8)[None, :, None]
    with seeded(0):
        head = create_head("mote", 8, 3, 8, layers=2, experts=3, num_heads=2)
    return head, TensorClips(x, y), (x[:7], y[:7]), dict(epochs=3, batch=12 // processes, lr=3e-3)


def encoder_task(processes: int):
    "The embedded encoder learns with its head on augmented frames of eight shipped clips."
    clips = ClipList.from_any(write_list(), classes=["a", "b"])
    encoder = create_encoder("mini")
    with seeded(0):
        head = create_head("vidprism", encoder.dim, 2, 4, rates=(2, 4))
    model = finetune_encoder(VideoModel(encoder, head, ["a", "b"]))
    data = ClipDataset(clips, num_frames=4, size=encoder.image_size, augment=Augment(), seed=0)
    return model, data, None, dict(epochs=2, batch=4 // processes, lr=1e-3, accumulate=1)


def write_list() -> Path:
    "A list of eight shipped clips, half of each class."
    path = Path(tempfile.gettempdir()) / f"soak-{os.getpid()}.txt"
    path.write_text("".join(f"{clip} {i % 2}\n" for i, clip in enumerate(sample_clips()[:8])))
    return path


def train(kind: str, workers: int, processes: int, folder: Path, out: Path, resume: bool):
    "What a training process does: train to the end, and write the weights in the first process."
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    task = dict(head=head_task, encoder=encoder_task)[kind]
    module, data, test, config = task(processes)
    fit(module, data, test, TrainConfig(**config, workers=workers), folder, resume, every=1)
    if os.environ.get("RANK", "0") == "0":
        save_file({name: x.contiguous() for name, x in module.state_dict().items()}, out)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(variant, folder: Path, out: Path, resume: bool) -> list:
    "Fork the processes of a training; this process has imported everything and started no thread."
    kind, workers, processes = variant
    port, pids = free_port(), []
    for rank in range(processes):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 1
        try:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(os.open(folder.with_name("stderr.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            os.environ.update(ACCELERATE_USE_CPU="true")
            if processes > 1:
                names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=processes, LOCAL_WORLD_SIZE=processes)
                os.environ.update({name: str(value) for name, value in names.items()})
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            train(kind, workers, processes, folder, out, resume)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return pids


def wait(pids: list, seconds: float) -> bool:
    "Whether all processes ended well within some time."
    end, left = time.monotonic() + seconds, set(pids)
    while left and time.monotonic() < end:
        for pid in list(left):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                left.discard(pid)
                if status:
                    raise SystemExit(f"A training process failed with status {status}; its folder is kept.")
        time.sleep(0.002)
    return not left


def kill(pids: list):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)


def unbroken(variant, folder: Path) -> tuple:
    "The weights of a run that nobody disturbs, and its seconds."
    begun = time.monotonic()
    assert wait(start(variant, folder / "ck", folder / "w.safetensors", False), 600)
    return load_file(folder / "w.safetensors"), time.monotonic() - begun


def broken(variant, folder: Path, seconds: float, dice: random.Random, budget: int) -> tuple:
    "The weights of a run that is killed at random moments, up to `budget` times; kills, and kills while writing."
    kills = writing = 0
    while True:
        resume = find_checkpoint(folder / "ck", warn=False) is not None
        pids = start(variant, folder / "ck", folder / "w.safetensors", resume)
        if wait(pids, dice.uniform(0.05, seconds / 2) if kills < budget else 600):
            return load_file(folder / "w.safetensors"), kills, writing
        kill(pids)
        kills += 1
        writing += bool(list((folder / "ck").glob(".*.part*")))


def distance(a: dict, b: dict) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


def kills_of(variant, wanted: int, dice: random.Random) -> dict:
    "Kill trainings of one kind until there were enough kills; every one must end with the unbroken run's weights."
    top = Path(tempfile.mkdtemp())
    (top / "whole").mkdir()
    whole, seconds = unbroken(variant, top / "whole")
    kills = writing = runs = 0
    worst = 0.0
    while kills < wanted:
        folder = top / str(runs)
        folder.mkdir()
        weights, more, while_writing = broken(variant, folder, seconds, dice, wanted - kills)
        worst = max(worst, distance(whole, weights))
        kills, writing, runs = kills + more, writing + while_writing, runs + 1
        shutil.rmtree(folder)
    shutil.rmtree(top)
    kind, workers, processes = variant
    names = dict(kind=kind, workers=workers, processes=processes)
    found = dict(kills=kills, while_writing=writing, runs=runs, seconds=round(seconds, 2), largest_difference=worst)
    return {**names, **found}


def run_kills(arguments) -> int:
    "All kinds of training; the numbers are added to the file after each."
    path = Path(arguments.out)
    rows = json.loads(path.read_text()).get("kills", {}).get("rows", []) if arguments.go_on and path.exists() else []
    for number, variant in list(enumerate(VARIANTS))[len(rows) :]:
        if number not in arguments.only:
            continue
        rows.append(kills_of(variant, arguments.kills, random.Random(arguments.seed * 100 + number)))
        print(rows[-1], flush=True)
        found = json.loads(path.read_text()) if path.exists() else {}
        found["kills"] = dict(torch=torch.__version__, python=platform.python_version(), seed=arguments.seed, rows=rows)
        write_json(path, found)
    return int(any(row["largest_difference"] > (1e-6 if row["processes"] > 1 else 0) for row in rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(required=True)
    word = words.add_parser("kills")
    word.add_argument("out", nargs="?", default=str(Path(__file__).parent / "soak.json"))
    word.add_argument("--kills", type=int, default=20)
    word.add_argument("--seed", type=int, default=0)
    word.add_argument("--only", type=int, nargs="*", default=range(len(VARIANTS)), help="numbers of kinds, from 0")
    word.add_argument("--go-on", action="store_true", help="after the kinds that the file has")
    word.set_defaults(run=run_kills)
    given = parser.parse_args()
    sys.exit(given.run(given))
