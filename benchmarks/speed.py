"""One row for each goal of the kit's speed table, both sides measured in turn in one run.

    python benchmarks/speed.py                      # every row, on the best device there is
    python benchmarks/speed.py --rows head,epoch    # some of them; the others keep what is in the file
    python benchmarks/speed.py --tag before         # kept under another name, to be compared with
    python benchmarks/speed.py --profile            # where the time of a head's training step goes
    python benchmarks/speed.py --write              # RESULTS.md from the JSON, nothing measured

The results are JSON beside this file, and RESULTS.md is made from it.
"""

import argparse
import copy
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import torch
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from head_speed import loop_forward, looped, step_by_sample
from head_speed import training_step as forward_and_backward
from mobilenet import SHARED
from pathlib import Path
from torch.utils.flop_counter import FlopCounterMode
from vidprism.encoders.factory import create_encoder
from vidprism.evaluation.cost import training_memory
from vidprism.files import write_json
from vidprism.heads.base import create_head
from vidprism.heads.rgsta import RgSTA
from vidprism.model import VideoModel
from vidprism.training.allocator import kept_memory
from vidprism.training.trainer import (
    LossesOnly,
    TensorClips,
    TrainConfig,
    checkpoint_blocks,
    finetune_encoder,
    fit,
    make_optimizer,
    seeded,
    train_mode,
)

HERE = Path(__file__).parent
FILE = HERE / "speed.json"
B16 = "open_clip:ViT-B-16-quickgelu"  # random weights: speed does not depend on them


def wait(device):
    "Let a GPU finish what it was given."
    if device == "cuda":
        torch.cuda.synchronize()


def side_by_side(functions, device, repeats, warmup=1):
    "Seconds of each function, taken in turn so that a busy machine hits all alike: {name: [median, 10 %, 90 %]}."
    for _ in range(warmup):
        for f in functions.values():
            f()
    times = {k: [] for k in functions}
    for _ in range(repeats):
        for k, f in functions.items():
            wait(device)
            start = time.perf_counter()
            f()
            wait(device)
            times[k].append(time.perf_counter() - start)
    return times


def ratio(times, ours, other):
    """Speed of ours in that of the other, with its quartiles.

    It is the median over rounds of time(other) / time(ours), which a busy machine disturbs least."""
    r = [b / a for a, b in zip(times[ours], times[other])]
    low, mid, high = statistics.quantiles(r, n=4, method="inclusive")
    seconds = {k: statistics.median(v) for k, v in times.items()}
    return dict(ratio=mid, quartiles=[low, high], seconds=seconds, rounds=len(r))


def video_model(head, frames=8, classes=400, encoder=None, **options):
    "ViT-B/16 and a head."
    encoder = encoder or create_encoder(B16)
    labels = [str(i) for i in range(classes)]
    with seeded(0):
        return VideoModel(encoder, create_head(head, encoder.dim, classes, frames, **options), labels)


def inference(device, repeats):
    "VidPrism-B/16 over the encoder alone, and over MoTE-B/16; 8 frames of 224 pixels."
    encoder = create_encoder(B16).to(device).eval()
    prism = video_model("vidprism", encoder=encoder, rates=(2, 4, 8)).to(device).eval()
    mote = video_model("mote", encoder=encoder, layers=4).to(device).eval()
    mote.head = mote.head.for_inference().to(device)
    x = torch.randint(0, 256, (8 if device == "cuda" else 1, 8, 224, 224, 3), dtype=torch.uint8, device=device)
    passes = dict(encoder=lambda: encoder(x), vidprism=lambda: prism(x), mote=lambda: mote(x))
    with torch.inference_mode(), autocast(device):
        times = side_by_side(passes, device, repeats)
    return dict(over_encoder=ratio(times, "vidprism", "encoder"), over_mote=ratio(times, "vidprism", "mote"))


def autocast(device):
    "bf16 on a GPU, float32 on a CPU."
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()


def training_step(device, repeats):
    "A step with the encoder tuned: VidPrism over mean pooling and a linear layer, forward, backward, AdamW."

    def step(name, **options):
        model = finetune_encoder(video_model(name, **options)).to(device)
        train_mode(model)
        batch = 8 if device == "cuda" else 1
        optimizer, run = make_optimizer(model, TrainConfig()), LossesOnly(model)
        x = torch.randint(0, 256, (batch, 8, 224, 224, 3), dtype=torch.uint8, device=device)
        y = torch.arange(batch, device=device)

        def go():
            with autocast(device):
                losses = run(x, y)
            losses["total"].backward()
            optimizer.step()
            optimizer.zero_grad()

        return go

    times = side_by_side(dict(vidprism=step("vidprism", rates=(2, 4, 8)), linear=step("mean")), device, repeats)
    return dict(over_linear=ratio(times, "vidprism", "linear"))


def encoder_products(batch, device):
    "A function that does the matrix products of ViT-B/16 on a batch of pictures, in bf16."
    n, d, layers = batch * 197, 768, 12
    shapes = [(n, d, 3 * d), (n, d, d), (n, d, 4 * d), (n, 4 * d, d)]

    def random(rows, columns):
        return torch.randn(rows, columns, device=device, dtype=torch.bfloat16)

    pairs = [(random(a, b), random(b, c)) for a, b, c in shapes]

    def products():
        for _ in range(layers):
            for a, b in pairs:
                a @ b

    return products


def encoder(device, repeats):
    """The encoder as the kit runs it over open_clip's plain call, on ready pictures.

    On a GPU in bf16 also over its matrix products by themselves."""
    e = create_encoder(B16).to(device).eval()
    x = torch.randn(64 if device == "cuda" else 8, 3, 224, 224, device=device)

    def in_bf16():
        with autocast(device):
            e.encode(x)

    with torch.inference_mode():
        passes = dict(ours=lambda: e.encode(x), plain=lambda: e.model.encode_image(x))
        found = dict(over_open_clip=ratio(side_by_side(passes, device, repeats), "ours", "plain"))
        if device == "cuda":
            passes = dict(ours=in_bf16, products=encoder_products(len(x), device))
            found["bf16_over_products"] = ratio(side_by_side(passes, device, repeats), "ours", "products")
    return found


def head(device, repeats):
    "The head and RgSTA alone over the same equations looped over samples: B 32, T 32, D 512, forward and backward."
    with seeded(0):
        ours = create_head("vidprism", 512, 10, 32).to(device)
    loop = looped(ours)
    one = copy.deepcopy(loop)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 32, 512, generator=g).to(device), (torch.arange(32) % 10).to(device)
    steps = dict(
        ours=forward_and_backward(ours, x, y),
        rgsta_looped=forward_and_backward(loop, x, y),
        all_looped=step_by_sample(one, x, y),
    )
    times = side_by_side(steps, device, repeats)
    return dict(
        over_loop=ratio(times, "ours", "all_looped"),
        over_rgsta_looped=ratio(times, "ours", "rgsta_looped"),
        rgsta_over_loop=rgsta_over_loop(x, device, repeats),
    )


def rgsta_over_loop(x, device, repeats):
    "RgSTA alone, forward and backward, over its loop."
    m = RgSTA(512, 4).to(device)

    def both(forward):
        def run():
            m.zero_grad()
            forward().tokens.sum().backward()

        return run

    passes = dict(ours=both(lambda: m(x)), loop=both(lambda: loop_forward(m, x)))
    return ratio(side_by_side(passes, device, repeats), "ours", "loop")


SHAPES = {"B 32, T 32, D 512": (32, 32, 512), "B 64, T 16, D 1280": (64, 16, 1280)}


def training_setup(B, T, D, device):
    "A VidPrism head, features, labels and an optimizer."
    with seeded(0):
        h = create_head("vidprism", D, 21, T).to(device)
    x, y = torch.randn(B, T, D, device=device), torch.arange(B, device=device) % 21
    return h, x, y, make_optimizer(h, TrainConfig())


def convolution(device, repeats):
    "A training step of the head with the library's temporal convolution, and with it as one product."
    import vidprism.heads.dbi as dbi

    product, found = dbi.convolve, {}

    def library(x, conv):
        return conv(x.transpose(1, 2)).transpose(1, 2)

    for title, shape in SHAPES.items():
        h, x, y, optimizer = training_setup(*shape, device)

        def step(convolve):
            def run():
                dbi.convolve = convolve
                try:
                    h(x, y).losses["total"].backward()
                finally:
                    dbi.convolve = product
                optimizer.step()
                optimizer.zero_grad()

            return run

        steps = dict(product=step(product), library=step(library))
        found[title] = ratio(side_by_side(steps, device, repeats), "product", "library")
    return found


def step_seconds(device, keep_memory):
    "Seconds of a training step of the head, B 64, T 16, D 1280, in float32 and bf16: the median of five after three."
    found, x, y = {}, torch.randn(64, 16, 1280, device=device), torch.arange(64, device=device) % 21
    with kept_memory() if keep_memory else nullcontext():
        for precision in ("float32", "bf16"):
            with seeded(0):
                h = create_head("vidprism", 1280, 21, 16).to(device)
            optimizer, run = make_optimizer(h, TrainConfig()), LossesOnly(h)
            times = []
            for _ in range(8):
                wait(device)
                start = time.perf_counter()
                with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                    run(x, y)["total"].backward()
                optimizer.step()
                optimizer.zero_grad()
                wait(device)
                times.append(time.perf_counter() - start)
            found[precision] = statistics.median(times[3:])
    return found


def kept(device, repeats):
    """The same step where blocks that are freed stay with the process, and where they don't.

    In turn, each in a process of its own, as what one keeps the next would find."""

    def ask(how):
        command = [sys.executable, __file__, "--device", device, "--step", how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout.splitlines()[-1])

    rounds = [{how: ask(how) for how in ("kept", "plain")} for _ in range(repeats)]
    found = {}
    for precision in ("float32", "bf16"):
        times = {how: [r[how][precision] for r in rounds] for how in ("kept", "plain")}
        found[precision] = ratio(times, "kept", "plain")
    return found


def named_head(name, *shape, **options):
    "A head by the first word of a row's name."
    with seeded(0):
        return create_head(name.split()[0].strip(","), *shape, **options)


def feature_training(clips, frames, dim, classes, name, options, epochs, batch=64, precision="no"):
    """(wall seconds, processor seconds of all threads) of each epoch of `fit`.

    What comes before the first epoch counts as part of it."""
    x = torch.randn(clips, frames, dim, generator=torch.Generator().manual_seed(0))
    y = torch.arange(clips) % classes
    h = named_head(name, dim, classes, frames, **options)
    config = TrainConfig(epochs=epochs, batch=batch, precision=precision)
    marks = []

    def mark(rows=None):
        marks.append((time.perf_counter(), time.process_time()))

    mark()
    fit(h, TensorClips(x, y), config=config, on_epoch=mark)
    return [(b[0] - a[0], b[1] - a[1]) for a, b in zip(marks, marks[1:])]


WIDE = {
    "transformer 1 layer": dict(layers=1),
    "transformer": dict(layers=6),
    "bmoe": {},
    "mote": dict(layers=4),
    "vidprism": {},
}
NARROW = {f"{name}, width {w}": dict(options, width=w) for w in (256, 128) for name, options in WIDE.items()}
SMALL = {"mean": {}, **WIDE, "vidprism_lowdata": {}, **NARROW}


def cached(device, repeats):
    """Each head on cached features of 650 clips x 16 frames x 1280, 21 classes: seconds of 30 epochs of 11 steps.

    They are run whole; on a CPU those of full width are worked out from four steps, a third epoch."""
    found = {}
    for precision, (name, options) in itertools.product(("no", "bf16"), SMALL.items()):
        if device == "cpu" and name in WIDE:
            took = feature_training(256, 16, 1280, 21, name, options, 3, precision=precision)
            wall, processor = (30 * 11 / 4 * t for t in took[-1])
        else:
            took = feature_training(650, 16, 1280, 21, name, options, 30, precision=precision)
            wall, processor = map(sum, zip(*took))
        shown = "float32" if precision == "no" else precision
        found[f"{name}, {shown}"] = dict(seconds_30_epochs=wall, processor_seconds=processor)
    return found


def products(device, repeats):
    """What the matrix products of 30 epochs on 650 clips x 16 frames x 1280 take by themselves.

    A step's operations, counted, at the rate of one product of such a shape, 1024 x 1280 by 1280 x 2560."""
    found, x, y = {}, torch.randn(64, 16, 1280, device=device), torch.arange(64, device=device) % 21
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(1024, 1280, device=device, dtype=dtype), torch.randn(1280, 2560, device=device, dtype=dtype)

        def many():
            return [a @ b for _ in range(20)]

        times = side_by_side(dict(many=many), device, max(repeats, 10))["many"]
        rate = 20 * 2 * 1024 * 1280 * 2560 / min(times)
        for name, options in SMALL.items():
            h = named_head(name, 1280, 21, 16, **options).to(device)
            with FlopCounterMode(display=False) as meter:
                LossesOnly(h)(x, y)["total"].backward()
            flop = meter.get_total_flops()
            seconds = 30 * 650 / 64 * flop / rate
            found[f"{name}, {precision}"] = dict(flop_a_step=flop, flop_a_second=rate, seconds_30_epochs=seconds)
    return found


def epoch(device, repeats):
    """One epoch of the VidPrism head on cached features of 10,000 clips x 32 frames x 512.

    On a CPU measured on 2,000, times five."""
    clips = 2000 if device == "cpu" else 10000
    found = {}
    for precision in ("no", "bf16"):
        wall, processor = feature_training(clips, 32, 512, 400, "vidprism", {}, 2, precision=precision)[-1]
        found[precision] = dict(seconds_epoch=10000 / clips * wall, processor_seconds=10000 / clips * processor)
    return found


def training_batches(paths, folder):
    "Batches of 16 frames of each clip, by two workers that stay from epoch to epoch, as in training."
    from vidprism.data.augment import Augment
    from vidprism.data.cliplist import ClipList
    from vidprism.data.dataset import ClipDataset

    names = sorted({p.parent.name for p in paths})
    listed = Path(folder) / "clips.txt"
    listed.write_text("".join(f"{p} {names.index(p.parent.name)}\n" for p in paths))
    clips = ClipList.from_any(listed, classes=names)
    data = ClipDataset(clips, num_frames=16, size=224, augment=Augment())
    return data.loader(batch=8, seed=0, workers=2)


def decord_frames(path):
    "16 frames of a clip by decord, and no more."
    import decord

    r = decord.VideoReader(str(path), num_threads=1)
    n = len(r)
    return r.get_batch([int((k + 0.5) * n / 16) for k in range(16)]).asnumpy()


def loading(device, repeats):
    """Frames decoded, cropped and batched a second with two workers over decord's bare loop in two threads.

    16 frames of each clip."""
    from vidprism.data.clips import sample_clips

    paths = sorted((SHARED / "jhmdb21").rglob("*.avi")) or sample_clips() * 4
    with tempfile.TemporaryDirectory() as folder:
        batches = training_batches(paths, folder)

        def ours():
            for _ in batches:
                pass

        def decord_loop():
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(decord_frames, paths))

        times = side_by_side(dict(ours=ours, decord=decord_loop), "cpu", max(3, repeats // 2))
    found = ratio(times, "ours", "decord")
    rates = {k: len(paths) * 16 / s for k, s in found["seconds"].items()}
    return dict(over_decord=found | dict(frames_per_second=rates, clips=len(paths)))


CHECKPOINTING = {True: "with checkpointing", False: "without checkpointing"}


def memory(device, repeats):
    """Memory a training clip (B/16, 8 frames, bf16, tuned) with and without checkpointing, and the largest batch.

    Predicted from shapes."""
    model, found = finetune_encoder(video_model("vidprism", rates=(2, 4, 8))), {}
    for on in (False, True):
        m = training_memory(model, checkpointing=on)
        largest = {str(gigabytes): m.largest_batch(gigabytes) for gigabytes in (24, 40, 80)}
        found[CHECKPOINTING[on]] = dict(fixed_bytes=m.fixed, clip_bytes=m.per_clip, largest_batch=largest)
    return found


def process_memory(what):
    "Bytes: VmRSS, what this process holds; VmHWM, the most it has held."
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(what))
    return int(line.split()[1]) * 1024


def step_peak(device, batch, on):
    """Most memory of two training steps.

    On a GPU what PyTorch allocated; on a CPU, how much the process has grown since its imports."""
    base = process_memory("VmRSS") if device == "cpu" else 0
    model = finetune_encoder(video_model("vidprism", rates=(2, 4, 8))).to(device)
    train_mode(model)
    checkpoint_blocks(model, on)
    optimizer = make_optimizer(model, TrainConfig())
    x, y = torch.zeros(batch, 8, 224, 224, 3, dtype=torch.uint8, device=device), torch.arange(batch, device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(2):
        with torch.autocast(device, torch.bfloat16):
            loss = model(x, y).losses["total"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else process_memory("VmHWM") - base
    return peak - x.numel()


# Every block is mapped by itself, so that what is freed is gone.
MAPPED = dict(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536", MALLOC_MMAP_MAX_="1000000")


def ask_peak(device, batch, on):
    "`step_peak` in a process of its own."
    command = [sys.executable, __file__, "--device", device, "--peak", str(batch)]
    if on:
        command.append("--checkpointing")
    env = {**os.environ, **MAPPED}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    return int(done.stdout.split()[-1])


def beside_prediction(measured, predicted, unit, form):
    "A measured number of bytes and its prediction, in words."
    off = predicted / measured - 1
    return f"{measured / unit:{form}}", f"predicted {predicted / unit:{form}} ({off:+.0%})"


def memory_measured(device, repeats):
    """The most memory of a training step at two batches against its prediction, each in a process of its own.

    On a CPU every block is mapped by itself, so that what is freed is gone."""
    plain = (8, 24) if device == "cuda" else (2, 6)
    checkpointed = (8, 24) if device == "cuda" else (8, 16)
    found = {}
    for on, (few, many) in ((False, plain), (True, checkpointed)):
        model = finetune_encoder(video_model("vidprism", rates=(2, 4, 8)))
        predicted = training_memory(model, checkpointing=on)
        peaks = {batch: ask_peak(device, batch, on) for batch in (few, many)}
        reported = []
        for batch, peak in peaks.items():
            measured, prediction = beside_prediction(peak, predicted.peak(batch), 1e9, ".2f")
            reported.append(f"batch {batch}: {measured} GB, {prediction}")
        clip = (peaks[many] - peaks[few]) / (many - few)
        measured, prediction = beside_prediction(clip, predicted.per_clip, 1e6, ".0f")
        reported.append(f"a clip {measured} MB, {prediction}")
        found[CHECKPOINTING[on]] = "; ".join(reported)
    return found


ROWS = dict(
    inference=inference,
    training_step=training_step,
    encoder=encoder,
    head=head,
    convolution=convolution,
    kept=kept,
    cached=cached,
    products=products,
    epoch=epoch,
    loading=loading,
    memory=memory,
    memory_measured=memory_measured,
)


def profile(device):
    "Tables of the operations that take the most time in a training step of the head."
    kinds = torch.profiler.ProfilerActivity
    activities = [kinds.CPU, kinds.CUDA] if device == "cuda" else [kinds.CPU]
    key = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    out = {}
    for title, shape in SHAPES.items():
        h, x, y, optimizer = training_setup(*shape, device)

        def step():
            h(x, y).losses["total"].backward()
            torch.nn.utils.clip_grad_norm_(h.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        step()
        step()
        with torch.profiler.profile(activities=activities) as p:
            for _ in range(3):
                step()
        events = sorted(p.key_averages(), key=lambda e: -getattr(e, key))
        total = sum(getattr(e, key) for e in events)
        top = [[e.key, getattr(e, key) / 3e3, e.count // 3] for e in events[:14]]
        out[title] = dict(step_ms=total / 3e3, top=top)
    return out


def git(*words):
    "What git says in this folder."
    return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True).stdout.strip()


def cpu_name():
    "How many cores, and the instructions that matter, or the kind of machine."
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    extra = [f for f in ("amx_bf16", "avx512f", "avx2") if f in flags][:2]
    return f"CPU, {os.cpu_count()} cores ({', '.join(extra) or platform.machine()})"


def about(device):
    "The machine, versions and commit."
    import accelerate
    import open_clip

    return dict(
        device=torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        open_clip=open_clip.__version__,
        accelerate=accelerate.__version__,
        commit=git("rev-parse", "--short", "HEAD"),
        changed=bool(git("status", "--porcelain", "--", "vidprism")),
        time=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


def run_rows(jobs, a, kept, out):
    "Measure rows, each kept in the file as soon as it is there; one that fails keeps its reason."
    side = kept.setdefault(a.device, {}).setdefault(a.tag, {})
    for name, job in jobs.items():
        start = time.perf_counter()
        try:
            found = job(a.device, a.repeats)
        except Exception as e:
            found = dict(failed=f"{type(e).__name__}: {e}"[:300])
        side[name] = dict(found=found, about=about(a.device), took=round(time.perf_counter() - start, 1))
        write_json(out, kept)
        print(name, json.dumps(found, default=str)[:1500], f"({side[name]['took']} s)", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", default=",".join(ROWS))
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--repeats", type=int, default=7)
    p.add_argument("--tag", default="now")
    p.add_argument("--out", default=str(FILE))
    p.add_argument("--profile", action="store_true")
    p.add_argument("--write", action="store_true")
    p.add_argument("--step", choices=("kept", "plain"), help="seconds of a head's training step, and no more")
    p.add_argument("--peak", type=int, help="bytes of a training step with so many clips, and no more")
    p.add_argument("--checkpointing", action="store_true")
    a = p.parse_args()
    if a.step:
        return print(json.dumps(step_seconds(a.device, a.step == "kept")))
    if a.peak:
        return print(step_peak(a.device, a.peak, a.checkpointing))
    out = Path(a.out)
    kept = json.loads(out.read_text()) if out.exists() else {}
    if a.write:
        from results import write

        return write(kept, HERE / "RESULTS.md")
    if a.profile:
        jobs = dict(profile=lambda device, repeats: profile(device))
    else:
        jobs = {name: ROWS[name] for name in a.rows.split(",")}
    run_rows(jobs, a, kept, out)


if __name__ == "__main__":
    main()
