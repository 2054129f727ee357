"""Long attacks on the kit, and the numbers that they gave.

    python benchmarks/soak.py kills benchmarks/soak.json     # kill -9 at 20 random moments, each kind of training
    python benchmarks/soak.py loader                         # 200,000 batches of a training loader with 2 processes
    python benchmarks/soak.py reads                          # 3,000 readings by all readers, options drawn
    python benchmarks/soak.py files                          # 2,000 damaged files, read in one worker
    python benchmarks/soak.py inspector                      # the inspector in a browser, an hour of random actions

`kills` trains heads and tuned encoders, with 0 and 2 loading processes, on 1 and 2 training processes. Each training is
killed at random moments and resumed until it ends; its weights are compared with those of an unbroken one. A checkpoint
is written after each step, so that many kills hit a write.

The others measure resident memory and open file handles. `loader` and `reads` warm up with a twentieth of their size,
and then hold their memory within 5 % and leave no handle open. `files` lets no foreign error through. `inspector` holds
the memory of kernel and page within 20 % of its level after ten minutes (a sixth of a shorter time), without an error
in the console. Playwright enables the debugger's domain `Network`, which logs what a page loads in the page's own
memory (70 MB for 500 pictures of 45 kB; nothing without the domain), so a relay leaves this command out.

Each writes an entry of its name, with `passed`, and exits with 1 if its bound is broken.
"""

import argparse
import asyncio
import av
import decord
import gc
import io
import itertools
import json
import numpy as np
import os
import platform
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import torch
import traceback
import warnings
import zipfile
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from queue import Queue
from safetensors.torch import load_file, save_file
from threading import Thread
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler, websocket_connect

sys.path.insert(0, str(Path(__file__).parent.parent))
from vidprism.data.augment import Augment  # noqa: E402
from vidprism.data.cliplist import ClipList  # noqa: E402
from vidprism.data.clips import (  # noqa: E402  # noqa: E402
    frame_indices,
    read_clip,
    read_clip_safely,
    read_frames,
    read_views,
    sample_clips,
    view_indices,
)
from vidprism.data.dataset import ClipDataset  # noqa: E402
from vidprism.data.worker import Worker  # noqa: E402
from vidprism.encoders.factory import create_encoder  # noqa: E402
from vidprism.errors import VidPrismError  # noqa: E402
from vidprism.files import locked, write_json  # noqa: E402
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


try:
    import psutil
except ImportError:  # Linux tells the same in files
    psutil = None


def resident(pid: int) -> float:
    "Resident memory of a process, MB."
    if psutil:
        return psutil.Process(pid).memory_info().rss / 1e6
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def handles(pid: int) -> int:
    "Open file handles of a process, the fewest of five looks: a process at work opens and closes some."
    found = []
    for _ in range(5):
        time.sleep(0.05)
        found.append(psutil.Process(pid).num_fds() if psutil else len(os.listdir(f"/proc/{pid}/fd")))
    return min(found)


def driven(step, warm: int, count: int, pids) -> dict:
    "Call `step`, first to warm up, then `count` times; memory and handles of some processes on 21 occasions."
    for _ in range(warm):
        step()
    memory, held = [], []
    moments = {round(count * k / 20) for k in range(21)}
    for k in range(count + 1):
        if k:
            step()
        if k in moments:
            gc.collect()  # files that only a cycle of objects holds are no leak
            memory.append([round(resident(pid), 1) for pid in pids()])
            held.append([handles(pid) for pid in pids()])
    found = dict(memory_mb=[round(sum(row), 1) for row in memory], handles=[sum(row) for row in held])
    return {**found, "each_first_mb": memory[0], "each_last_mb": memory[-1], **growth(found)}


def growth(found: dict, bound: float = 0.05) -> dict:
    "What memory and handles are after all, against the level after the warm-up, and whether that is within bounds."
    memory, held = found["memory_mb"], found["handles"]
    grown, left = memory[-1] / memory[0] - 1, held[-1] - held[0]
    return dict(memory_grown=round(grown, 4), handles_left=left, passed=grown <= bound and left <= 0)


def keep(path, name: str, entry: dict) -> int:
    "Put an entry into the file of numbers, and say it; the exit code."
    path = Path(path)
    with locked(path):
        found = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, {**found, name: {**versions(), **entry}})
    print(json.dumps({name: entry}), flush=True)
    return int(not entry["passed"])


def versions() -> dict:
    "Versions of what reads and computes."
    python = platform.python_version()
    return dict(python=python, torch=torch.__version__, av=av.__version__, decord=decord.__version__)


@contextmanager
def folder_of(name: str):
    "A temporary folder."
    with tempfile.TemporaryDirectory(prefix=f"soak-{name}-") as folder:
        yield Path(folder)


def small_clip(clip, out: Path, side: int = 32, num_frames: int = 8) -> Path:
    "A small version of a shipped clip, which decodes in a millisecond."
    frames = read_clip(clip, num_frames, short=side).frames[:, :side, :side].contiguous().numpy()
    with av.open(str(out), "w") as file:
        stream = file.add_stream("libx264", rate=25, options=dict(preset="ultrafast"))
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for x in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(x, format="rgb24")))
        file.mux(stream.encode())
    return out


def small_list(folder: Path, copies: int = 4) -> Path:
    "A list of small versions of the shipped clips, several files each: 72 clips of two classes."
    rows = []
    for k, clip in enumerate(sample_clips()):
        first = small_clip(clip, folder / f"{k:02}_0.mp4")
        for copy in range(copies):
            path = folder / f"{k:02}_{copy}.mp4"
            if path != first:
                shutil.copy(first, path)
            rows.append(f"{path} {k % 2}\n")
    (folder / "list.txt").write_text("".join(rows))
    return folder / "list.txt"


def endless(loader, clips: int):
    "Batches of epoch after epoch; each epoch delivers every clip once."
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        delivered = 0
        for frames, labels in loader:
            assert frames.dtype == torch.uint8 and len(frames) == len(labels)
            delivered += len(labels)
            yield
        assert delivered == clips


def loading_processes(loader) -> list:
    "The process numbers of a loader's processes."
    return [process.pid for process in loader._iterator._workers]


def load(data: ClipDataset, batch: int, seed: int, warm: int, count: int) -> dict:
    "Drive a new loader with two processes, and end it."
    loader = data.loader(batch=batch, seed=seed, workers=2)
    batches = endless(loader, len(data))
    return driven(lambda: next(batches), warm, count, lambda: [os.getpid(), *loading_processes(loader)])


def run_loader(arguments) -> int:
    "A training loader with two processes, epoch after epoch, on small versions of the shipped clips."
    torch.set_num_threads(1)
    count, warm = arguments.iterations, max(arguments.iterations // 20, 200)
    with folder_of("loader") as folder:
        data = ClipDataset(small_list(folder), num_frames=4, size=16, augment=Augment(), seed=arguments.seed)
        load(data, 1, arguments.seed, 10, 10)  # what the first loader of a process opens for good
        before, begun = handles(os.getpid()), time.monotonic()
        found = load(data, 1, arguments.seed, warm, count)
        seconds = time.monotonic() - begun
        found["handles_left_by_loader"] = handles(os.getpid()) - before
        found["replaced"] = len(data.epoch_report().replaced)
    found["passed"] &= found["handles_left_by_loader"] <= 0 and not found["replaced"]
    size = dict(seed=arguments.seed, iterations=count, warm_up=warm, workers=2, seconds=round(seconds, 1))
    return keep(arguments.out, "loader", {**size, **found})


class Reads:
    """Readings of the shipped clips and of a folder of images, by every reader and with options drawn.

    Frames that are not scaled are compared with PyAV's plain pass: 2 grey levels at most, on average."""

    def __init__(self, folder: Path, seed: int, worker: Worker):
        from fuzz_clips import plain_pass
        from PIL import Image

        self.dice, self.worker, self.counts = random.Random(seed), worker, Counter()
        self.truth = {clip: plain_pass(clip) for clip in sample_clips()}
        images = folder / "images"
        images.mkdir()
        first = next(iter(self.truth.values()))
        for k, x in enumerate(first):
            Image.fromarray(x.numpy()).save(images / f"img_{k + 1:05}.png")
        self.truth[images] = first

    def __call__(self):
        "One reading."
        path = self.dice.choice(list(self.truth))
        kind = self.dice.choice(("read_clip", "read_frames", "read_views", "read_clip_safely"))
        decoders = ("images", None) if path.is_dir() else (None, "decord", "pyav", "fast")
        decoder = self.dice.choice(decoders) if "clip" in kind else None
        getattr(self, kind)(path, decoder)
        self.counts[f"{kind} {decoder or 'default'}"] += 1

    def options(self, total: int) -> tuple:
        "Options of `read_clip`, and the frames that they choose."
        num_frames, stride = self.dice.choice((1, 2, 7, 16, 32, 64)), self.dice.randint(1, 4)
        sampling, seed = self.dice.choice(("sparse", "dense")), self.dice.choice((None, self.dice.randrange(1000)))
        options = dict(num_frames=num_frames, sampling=sampling, seed=seed, stride=stride)
        return options, frame_indices(total, **options)

    def check(self, path: Path, frames, indices):
        "Whether these are the frames of a file."
        truth = self.truth[path][indices]
        assert frames.shape == truth.shape and frames.dtype == torch.uint8
        assert (frames.short() - truth.short()).abs().float().mean() <= 2, path

    def read_clip(self, path: Path, decoder, call=read_clip, **more):
        options, indices = self.options(len(self.truth[path]))
        short = self.dice.choice((None, None, 16, 64))
        clip = call(path, decoder=decoder, short=short, **options, **more)
        assert torch.equal(clip.indices, indices) and clip.total == len(self.truth[path])
        if short is None:
            self.check(path, clip.frames, indices)
        else:
            assert min(clip.frames.shape[1:3]) == short and len(clip.frames) == len(indices)

    def read_clip_safely(self, path: Path, decoder):
        "In the worker that all share; one time in 300, in one of its own."
        worker = self.worker if self.dice.random() > 1 / 300 else None
        self.read_clip(path, decoder, read_clip_safely, worker=worker, timeout=120.0)

    def read_frames(self, path: Path, decoder):
        total = len(self.truth[path])
        indices = [self.dice.randrange(total) for _ in range(self.dice.randint(1, 12))]
        self.check(path, read_frames(path, indices), torch.tensor(indices))

    def read_views(self, path: Path, decoder):
        num_frames, clips = self.dice.choice((1, 4, 8)), self.dice.randint(1, 4)
        crops, size = self.dice.choice((1, 3)), self.dice.choice((16, 32, 96))
        views = read_views(path, num_frames, clips, crops, size)
        assert views.shape == (clips * crops, num_frames, size, size, 3)
        assert view_indices(len(self.truth[path]), num_frames, clips).shape == (clips, num_frames)


def run_reads(arguments) -> int:
    "Readings by all readers, in this process and in a worker."
    torch.set_num_threads(1)
    count, warm, begun = arguments.reads, max(arguments.reads // 20, 100), time.monotonic()
    with folder_of("reads") as folder, Worker() as worker:
        worker.start()
        reads = Reads(folder, arguments.seed, worker)
        found = driven(reads, warm, count, lambda: [os.getpid(), worker.process.pid])
    seconds = round(time.monotonic() - begun, 1)
    size = dict(
        seed=arguments.seed, reads=count, warm_up=warm, seconds=seconds, kinds=dict(sorted(reads.counts.items()))
    )
    return keep(arguments.out, "reads", {**size, **found})


FORMS = ("mp4", "mkv", "avi", "ts", "gif", "png", "jpg", "zip", "folder")
HARMS = ("cut", "flip", "swap", "splice")


def pictures(clip, kind: str, num_frames: int = 6) -> list:
    "Some frames of a clip as pictures of a kind: bytes."
    from PIL import Image

    found = []
    for x in read_clip(clip, num_frames, short=64).frames.numpy():
        file = io.BytesIO()
        Image.fromarray(x).save(file, dict(png="PNG", jpg="JPEG", gif="GIF")[kind])
        found.append(file.getvalue())
    return found


def gif(clip) -> bytes:
    "A moving GIF of a clip."
    from PIL import Image

    first, *rest = [Image.fromarray(x) for x in read_clip(clip, 8, short=64).frames.numpy()]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=80)
    return file.getvalue()


def zipped(clip) -> bytes:
    "A zip of numbered pictures."
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, data in enumerate(pictures(clip, "png")):
            archive.writestr(f"img_{k + 1:05}.png", data)
    return file.getvalue()


@cache
def whole(clip, form: str) -> bytes:
    "A clip in a form."
    from fuzz_clips import remux

    if form in ("png", "jpg"):
        return pictures(clip, form, 1)[0]
    makers = dict(mp4=Path.read_bytes, gif=gif, zip=zipped)
    return makers[form](clip) if form in makers else remux(clip, form)


def splice(data: bytes, other: bytes, rng) -> bytes:
    "The head of one file and the tail of another, or a piece of another put in between."
    a, b = sorted(int(at) for at in rng.integers(0, len(data), 2))
    c, d = sorted(int(at) for at in rng.integers(0, len(other), 2))
    return (data[:b] + other[c:], data[:a] + other[c:d] + data[a:], data[:a] + other[c:d] + data[b:])[rng.integers(3)]


def harmed(data: bytes, other: bytes, harm: str, rng) -> bytes:
    "Bytes with damage of a kind."
    import fuzz_clips

    return splice(data, other, rng) if harm == "splice" else getattr(fuzz_clips, harm)(data, rng)


def write_damaged(k: int, seed: int, folder: Path) -> Path:
    "Damaged file k of a seed: every form and harm in turn, clip and damage drawn; the piece comes from any form."
    rng = np.random.default_rng([seed, k])
    form, harm = FORMS[k % len(FORMS)], HARMS[k // len(FORMS) % len(HARMS)]
    clips = sample_clips()
    clip, second = (clips[at] for at in rng.integers(len(clips), size=2))
    other = whole(second, FORMS[rng.integers(len(FORMS) - 1)])
    path = folder / (f"{k:05}_{harm}" if form == "folder" else f"{k:05}_{harm}.{form}")
    if form == "folder":
        write_damaged_folder(path, clip, other, harm, rng)
    else:
        path.write_bytes(harmed(whole(clip, form), other, harm, rng))
    return path


@cache
def numbered(clip, kind: str) -> list:
    return pictures(clip, kind)


def write_damaged_folder(path: Path, clip, other: bytes, harm: str, rng):
    "A folder of numbered pictures: some are damaged, and one may be missing or have another number."
    path.mkdir()
    kind = ("png", "jpg")[rng.integers(2)]
    for k, data in enumerate(numbered(clip, kind)):
        drawn = rng.random()
        if drawn < 0.1:
            continue
        number = k + 1 if drawn < 0.9 else int(rng.choice([0, 10**12, k]))
        damaged = harmed(data, other, harm, rng) if rng.random() < 0.3 else data
        (path / f"img_{number:05}.{kind}").write_bytes(damaged)


def outcome(path: Path, worker: Worker, decoder, limit: float) -> str:
    "One word for what came of a damaged file; WRONG and the reason if it is neither eight frames nor one sentence."
    try:
        clip = read_clip_safely(path, limit, worker, num_frames=8, decoder=decoder)
    except VidPrismError as error:
        return refusal(str(error), path)
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {error}"
    right = clip.frames.shape[::3] == (8, 3) and clip.frames.dtype == torch.uint8 and clip.total >= 1
    times = bool(clip.times.isfinite().all()) and torch.equal(clip.indices, frame_indices(clip.total, 8))
    return f"read by {clip.decoder}" if right and times else f"WRONG: {tuple(clip.frames.shape)}, {clip.times.tolist()}"


def refusal(said: str, path: Path) -> str:
    "One word for a sentence."
    if "\n" in said or not said.endswith(".") or len(said.replace(str(path), "")) > 300:
        return f"WRONG: not one sentence: {said!r}"
    signs = {"did not finish": "hang, worker replaced", "crashed on": "died, worker replaced"}
    return next((word for sign, word in signs.items() if sign in said), "refused in a sentence")


class Files:
    "Damaged files, one after another, each read in the same worker; what came of them is counted."

    def __init__(self, folder: Path, seed: int, worker: Worker, limit: float):
        self.folder, self.seed, self.worker, self.limit = folder, seed, worker, limit
        self.k, self.counts, self.remarkable = 0, Counter(), {}

    def __call__(self):
        "One file. What reaches its limit is tried once more with four times that: a busy machine is no hang."
        path = write_damaged(self.k, self.seed, self.folder)
        rng = np.random.default_rng([self.seed, self.k, 1])
        decoder = (None, "images") if path.is_dir() else (None, None, "fast", "pyav", "decord")
        decoder = decoder[rng.integers(len(decoder))]
        self.worker.start()
        word = outcome(path, self.worker, decoder, self.limit)
        if word.startswith("hang"):
            self.worker.start()
            word = outcome(path, self.worker, decoder, 4 * self.limit)
        self.counts[word.split(":")[0]] += 1
        if word.startswith(("hang", "died", "WRONG")):
            self.remarkable[f"{path.name} {decoder or 'default'}"] = word.replace(str(self.folder), "")
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.k += 1


def run_files(arguments) -> int:
    "Damaged files of several containers, pictures, archives and folders, read with `read_clip_safely` in one worker."
    torch.set_num_threads(1)
    count, begun = arguments.files, time.monotonic()
    with folder_of("files") as folder, Worker(4.0) as worker:
        files = Files(folder, arguments.seed, worker, 10.0)
        warm = max(count // 20, 10)
        found = driven(files, warm, count - warm, lambda: [os.getpid()])
        clip = read_clip_safely(sample_clips()[0], 60.0, worker, num_frames=8)
    found["passed"] &= not any(name.startswith("WRONG") for name in files.counts) and clip.total == 32
    seconds = round(time.monotonic() - begun, 1)
    size = dict(seed=arguments.seed, files=count, warm_up=warm, limit_s=10.0, seconds=seconds)
    outcomes = dict(outcomes=dict(sorted(files.counts.items())), remarkable=files.remarkable)
    return keep(arguments.out, "files", {**size, **outcomes, **found})


KEYS = ("ArrowRight", "ArrowLeft", "PageUp", "PageDown", "Home", "End")
# What the kernel says went wrong, beside any answer: kept on the page.
LISTEN = """() => {
  window.kernelErrors = [];
  jupyterapp.shell.currentWidget.sessionContext.session.kernel.iopubMessage.connect((_, m) => {
    if (m.header.msg_type == 'error' || m.content.name == 'stderr')
      window.kernelErrors.push(m.content.evalue || m.content.text);
  });
}"""


@contextmanager
def running_browser(path: str, folder: Path):
    "A Chromium with an empty page; the address of its debugger."
    from chromium import ARGS

    profile = folder / "profile"
    options = ["--headless", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1366,1000"]
    process = subprocess.Popen([path, *options, *ARGS, "about:blank"], stderr=subprocess.DEVNULL)
    place, end = profile / "DevToolsActivePort", time.monotonic() + 60
    try:
        while not place.exists() or len(place.read_text().split()) < 2:
            assert time.monotonic() < end and process.poll() is None, "Chromium did not start."
            time.sleep(0.1)
        port, name = place.read_text().split()
        yield f"ws://127.0.0.1:{port}{name}"
    finally:
        process.terminate()
        process.wait()


class Relay(WebSocketHandler):
    "A connection between Playwright and a debugger; `Network.enable` is answered here and does not reach the debugger."

    async def open(self):
        address = self.settings["debugger"]
        self.debugger = await websocket_connect(address, on_message_callback=self.answer, max_message_size=1 << 30)

    async def on_message(self, message):
        asked = json.loads(message)
        if asked["method"] == "Network.enable":
            about = {name: asked[name] for name in ("id", "sessionId") if name in asked}
            self.answer(json.dumps({**about, "result": {}}))
        else:
            await self.debugger.write_message(message)

    def answer(self, message):
        if message is not None:
            self.write_message(message)


@contextmanager
def relayed(debugger: str):
    "The address of a relay to a debugger, which runs in a thread."
    loop, ready = asyncio.new_event_loop(), Queue()

    async def serve():
        settings = dict(debugger=debugger, websocket_max_message_size=1 << 30)
        server = HTTPServer(Application([("/", Relay)], **settings))
        (place,) = bind_sockets(0, "127.0.0.1")
        server.add_socket(place)
        ready.put(place.getsockname()[1])

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.run_forever()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{ready.get(timeout=30)}/"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


class Hand:
    "Random actions on the inspector, from a generator of its own."

    def __init__(self, page, seed: int):
        from test_inspector import Inspector, playwright

        self.errors = playwright.Error
        self.page, self.inspector, self.dice = page, Inspector(page), random.Random(seed)
        self.box, self.counts = self.inspector.box, Counter()

    def __call__(self):
        """One action; then a pause as short or as long as a person's.

        What is aimed at may be drawn anew or be gone meanwhile: the action is missed."""
        kind = self.dice.choices(("menu", "slider", "button", "tab", "plot", "text"), (3, 5, 3, 2, 3, 1))[0]
        try:
            getattr(self, kind)()
            self.counts[kind] += 1
        except self.errors as error:
            if not any(sign in str(error) for sign in ("not attached", "waiting for locator")):
                raise
            self.counts["missed"] += 1
        self.page.wait_for_timeout(self.dice.choice((30, 200, 800)))

    def one(self, selector: str):
        "One of the visible elements that a selector finds."
        found = self.box.locator(f"{selector} >> visible=true")
        return found.nth(self.dice.randrange(found.count()))

    def menu(self):
        "Another clip, sampling, number of frames, preset, order ..."
        menu = self.one(".widget-dropdown select")
        menu.select_option(index=self.dice.randrange(menu.locator("option").count()))

    def slider(self):
        self.one(".widget-slider .noUi-handle").press(self.dice.choice(KEYS))

    def button(self):
        "An expert off or on, as trained, recompute."
        self.one(".jupyter-button:not(.widget-toggle-buttons *):not(input + *)").click(timeout=20_000)

    def tab(self):
        self.one(".widget-toggle-buttons button").click(timeout=20_000)

    def text(self):
        "Frames to drop: right and wrong ones."
        field = self.box.get_by_placeholder("3, 5-7")
        field.fill(self.dice.choice(("3, 5-7", "0-9", "", "0-99", "7-3", "frame", "-1", "1,1,1")))
        field.press("Enter")

    def plot(self):
        "Move over a plot and click in it, or click twice."
        place = self.one(".prism .plot")
        place.scroll_into_view_if_needed(timeout=20_000)
        area = place.bounding_box()
        if not area:
            return
        x, y = (area[at] + self.dice.random() * area[side] for at, side in (("x", "width"), ("y", "height")))
        self.page.mouse.move(x, y, steps=3)
        self.page.mouse.click(x, y, click_count=self.dice.choice((1, 1, 2)))

    def rest(self):
        "Bring the inspector to a known state, in which memory is compared; it must answer within three minutes."
        from test_inspector import CLIP, IDLE

        self.page.wait_for_function(IDLE, timeout=180_000)
        self.inspector.box.get_by_role("button", name="as trained").click()
        for label, value in (("sampling", "sparse"), ("frames", "32")):
            self.box.locator(f".widget-dropdown:has(label:text-is('{label}')) select").select_option(value)
        self.box.locator(".widget-toggle-buttons button").first.click()
        if self.inspector.chosen("clip") == CLIP:
            self.inspector.choose("clip", "13_orbit_anticlockwise.mp4")
        self.page.wait_for_timeout(500)
        self.inspector.choose("clip", CLIP)
        self.page.wait_for_function(IDLE, timeout=180_000)


def processes_of(browser) -> tuple:
    "The process numbers of the page and of the kernel: the largest renderer, and the child of JupyterLab."
    session = browser.new_browser_cdp_session()
    about = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    pages = [process["id"] for process in about if process["type"] == "renderer"]
    below = psutil.Process().children(recursive=True)
    kernels = [process.pid for process in below if "ipykernel_launcher" in " ".join(process.cmdline())]
    return max(pages, key=resident), max(kernels, key=resident)


def drive(page, browser, hand: Hand, minutes: float) -> list:
    "Random actions for some minutes; [minute, MB of the page, MB of the kernel] each minute, twelve times at least."
    pids, begun, rows, wait = processes_of(browser), time.monotonic(), [], min(1, minutes / 12)
    collector = page.context.new_cdp_session(page)
    while True:
        now = (time.monotonic() - begun) / 60
        if now >= len(rows) * wait:
            hand.rest()
            collector.send("HeapProfiler.collectGarbage")
            rows.append([round(now, 2), *(round(resident(pid), 1) for pid in pids)])
            print(rows[-1], flush=True)
        if now >= minutes:
            return rows
        hand()


def judged(rows: list, minutes: float, bound: float = 0.2) -> dict:
    "The last level of page and kernel against that after ten minutes, or a sixth of the time if that is shorter."
    early = next(row for row in rows if row[0] >= min(10, minutes / 6))
    grown = {name: round(rows[-1][k] / early[k] - 1, 4) for k, name in ((1, "page_grown"), (2, "kernel_grown"))}
    return dict(level_at_minute=early[0], **grown, passed=max(grown.values()) <= bound)


def open_inspector(page, address: str):
    "Run the inspector's notebook in JupyterLab, and listen to its kernel."
    from test_inspector import run_notebook

    run_notebook(page, address, "02_inspect_clip.ipynb")
    page.evaluate("()=>jupyterapp.commands.execute('application:toggle-left-area')")
    page.wait_for_selector(".vidprism-inspector .prism[data-serial]", timeout=90_000)
    page.evaluate(LISTEN)


def inspect(minutes: float, seed: int, path: str, folder: Path) -> dict:
    "Drive the inspector's notebook; what was measured."
    from test_inspector import ROOT, jupyterlab, playwright

    notebooks, said, wrong = folder / "notebooks", [], []
    notebooks.mkdir()
    shutil.copy(ROOT / "nbs" / "guides" / "02_inspect_clip.ipynb", notebooks)
    with (
        jupyterlab(notebooks) as lab,
        running_browser(path, folder) as debugger,
        relayed(debugger) as address,
        playwright.sync_playwright() as p,
    ):
        browser = p.chromium.connect_over_cdp(address)
        (page,) = browser.contexts[0].pages
        page.set_default_timeout(90_000)
        page.on("console", lambda m: said.append(m.text[:300]) if m.type == "error" else None)
        page.on("pageerror", lambda e: wrong.append(str(e)[:300]))
        open_inspector(page, lab)
        hand = Hand(page, seed)
        rows = drive(page, browser, hand, minutes)
        found = dict(chromium=browser.version, actions=dict(hand.counts), kernel_errors=page.evaluate("kernelErrors"))
        browser.close()
    return {**found, "console_errors": said, "page_errors": wrong, "rows": rows, **judged(rows, minutes)}


def run_inspector(arguments) -> int:
    "The inspector in JupyterLab, in a headless browser, driven at random."
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from chromium import find_chromium

    found = find_chromium()
    if not found.path:
        raise SystemExit(f"no Chromium: {found.why}")
    with folder_of("inspector") as folder:
        entry = inspect(arguments.minutes, arguments.seed, found.path, folder)
    actions = entry["actions"]
    entry["passed"] &= actions.get("missed", 0) <= 0.05 * sum(actions.values())
    for name in ("console_errors", "page_errors", "kernel_errors"):
        entry["passed"] &= not entry[name]
        entry[name] = dict(count=len(entry[name]), first=entry[name][:5])
    entry["columns"] = ["minute", "page_mb", "kernel_mb"]
    return keep(arguments.out, "inspector", {"seed": arguments.seed, "minutes": arguments.minutes, **entry})


def word_of(words, name: str, run):
    "A subcommand, with the options that all have."
    word = words.add_parser(name, help=run.__doc__)
    word.add_argument("out", nargs="?", default=str(Path(__file__).parent / "soak.json"))
    word.add_argument("--seed", type=int, default=0)
    word.set_defaults(run=run)
    return word


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = parser.add_subparsers(required=True)
    word = word_of(words, "kills", run_kills)
    word.add_argument("--kills", type=int, default=20)
    word.add_argument("--only", type=int, nargs="*", default=range(len(VARIANTS)), help="numbers of kinds, from 0")
    word.add_argument("--go-on", action="store_true", help="after the kinds that the file has")
    word_of(words, "loader", run_loader).add_argument("--iterations", type=int, default=200_000)
    word_of(words, "reads", run_reads).add_argument("--reads", type=int, default=3000)
    word_of(words, "files", run_files).add_argument("--files", type=int, default=2000)
    word_of(words, "inspector", run_inspector).add_argument("--minutes", type=float, default=60.0)
    given = parser.parse_args()
    sys.exit(given.run(given))
