"""One row for each goal of the kit's speed table, both sides measured in turn in one run; JSON beside this file, and RESULTS.md from it.

python benchmarks/speed.py                      # every row, on the best device there is
python benchmarks/speed.py --rows head,epoch    # some of them; the others keep what is in the file
python benchmarks/speed.py --tag before         # kept under another name, to be compared with
python benchmarks/speed.py --profile            # where the time of a head's training step goes
python benchmarks/speed.py --write              # RESULTS.md from the JSON, nothing measured
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
import time
import torch
from contextlib import nullcontext
from head_speed import LoopRgSTA, loop_forward
from mobilenet import SHARED
from pathlib import Path
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from vidprism.encoders.factory import create_encoder
from vidprism.evaluation.cost import served, training_memory
from vidprism.heads.base import create_head
from vidprism.heads.rgsta import RgSTA
from vidprism.model import VideoModel
from vidprism.training.allocator import kept_memory
from vidprism.training.trainer import (
    LossesOnly,
    TensorClips,
    TrainConfig,
    checkpoint_blocks,
    fit,
    make_optimizer,
    seeded,
    train_mode,
    tune_encoder,
)

HERE = Path(__file__).parent
FILE = HERE / "speed.json"
B16 = "open_clip:ViT-B-16-quickgelu"  # random weights: speed does not depend on them


def wait(device):
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
    "Speed of ours in that of the other: the median over rounds of time(other) / time(ours), which a busy machine disturbs least, with its quartiles."
    r = [b / a for a, b in zip(times[ours], times[other])]
    low, mid, high = statistics.quantiles(r, n=4, method="inclusive")
    return dict(
        ratio=mid, quartiles=[low, high], seconds={k: statistics.median(v) for k, v in times.items()}, rounds=len(r)
    )


def video_model(head, frames=8, classes=400, encoder=None, **options):
    "ViT-B/16 and a head."
    encoder = encoder or create_encoder(B16)
    with seeded(0):
        return VideoModel(
            encoder, create_head(head, encoder.dim, classes, frames, **options), [str(i) for i in range(classes)]
        )


def inference(device, repeats):
    "VidPrism-B/16 over the encoder alone, and over MoTE-B/16; 8 frames of 224 pixels."
    encoder = create_encoder(B16).to(device).eval()
    prism, mote = (
        video_model(n, encoder=encoder, **o).to(device).eval()
        for n, o in (("vidprism", dict(rates=(2, 4, 8))), ("mote", dict(layers=4)))
    )
    mote.head = served(mote.head).to(device)
    x = torch.randint(0, 256, (8 if device == "cuda" else 1, 8, 224, 224, 3), dtype=torch.uint8, device=device)
    with torch.inference_mode(), autocast(device):
        times = side_by_side(
            dict(encoder=lambda: encoder(x), vidprism=lambda: prism(x), mote=lambda: mote(x)), device, repeats
        )
    return dict(over_encoder=ratio(times, "vidprism", "encoder"), over_mote=ratio(times, "vidprism", "mote"))


def autocast(device):
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()


def training_step(device, repeats):
    "A step with the encoder tuned: VidPrism over mean pooling and a linear layer, forward, backward, AdamW."

    def step(name, **options):
        model = tune_encoder(video_model(name, **options)).to(device)
        train_mode(model)
        batch = 8 if device == "cuda" else 1
        optimizer, run = make_optimizer(model, TrainConfig()), LossesOnly(model)
        x, y = (
            torch.randint(0, 256, (batch, 8, 224, 224, 3), dtype=torch.uint8, device=device),
            torch.arange(batch, device=device),
        )

        def go():
            with autocast(device):
                losses = run(x, y)
            losses["total"].backward()
            optimizer.step()
            optimizer.zero_grad()

        return go

    times = side_by_side(dict(vidprism=step("vidprism", rates=(2, 4, 8)), linear=step("mean")), device, repeats)
    return dict(over_linear=ratio(times, "vidprism", "linear"))


def encoder(device, repeats):
    "The encoder as the kit runs it over open_clip's plain call, on ready pictures; on a GPU in bf16 also over its matrix products by themselves."
    e = create_encoder(B16).to(device).eval()
    x = torch.randn(64 if device == "cuda" else 8, 3, 224, 224, device=device)
    with torch.inference_mode():
        found = dict(
            over_open_clip=ratio(
                side_by_side(dict(ours=lambda: e.encode(x), plain=lambda: e.model.encode_image(x)), device, repeats),
                "ours",
                "plain",
            )
        )
        if device == "cuda":
            n, d, L = len(x) * 197, 768, 12
            shapes = [(n, d, 3 * d), (n, d, d), (n, d, 4 * d), (n, 4 * d, d)] * L
            made = [
                (
                    torch.randn(a, b, device=device, dtype=torch.bfloat16),
                    torch.randn(b, c, device=device, dtype=torch.bfloat16),
                )
                for a, b, c in shapes[:4]
            ] * L

            def products():
                for a, b in made:
                    a @ b

            def ours():
                with autocast(device):
                    e.encode(x)

            found["bf16_over_products"] = ratio(
                side_by_side(dict(ours=ours, products=products), device, repeats), "ours", "products"
            )
    return found


def head(device, repeats):
    "The head and RgSTA alone over the same equations looped over samples: B 32, T 32, D 512, forward and backward."
    with seeded(0):
        ours = create_head("vidprism", 512, 10, 32).to(device)
    loop = copy.deepcopy(ours)
    loop.pools = nn.ModuleList(LoopRgSTA(p) for p in loop.pools)
    one = copy.deepcopy(loop)
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, 32, 512, generator=g).to(device), (torch.arange(32) % 10).to(device)

    def step(h):
        def run():
            h.zero_grad()
            h(x, y).losses["total"].backward()

        return run

    def each():
        one.zero_grad()
        for i in range(32):
            (one(x[i : i + 1], y[i : i + 1]).losses["total"] / 32).backward()

    times = side_by_side(dict(ours=step(ours), rgsta_looped=step(loop), all_looped=each), device, repeats)
    m, found = (
        RgSTA(512, 4).to(device),
        dict(over_loop=ratio(times, "ours", "all_looped"), over_rgsta_looped=ratio(times, "ours", "rgsta_looped")),
    )

    def both(f):
        def run():
            m.zero_grad()
            f().tokens.sum().backward()

        return run

    return found | dict(
        rgsta_over_loop=ratio(
            side_by_side(dict(ours=both(lambda: m(x)), loop=both(lambda: loop_forward(m, x))), device, repeats),
            "ours",
            "loop",
        )
    )


def convolution(device, repeats):
    "A training step of the head with the library's temporal convolution, and with it as one product."
    import vidprism.heads.dbi as dbi

    product, library, found = dbi.convolve, lambda x, conv: conv(x.transpose(1, 2)).transpose(1, 2), {}
    for title, (B, T, D) in {"B 32, T 32, D 512": (32, 32, 512), "B 64, T 16, D 1280": (64, 16, 1280)}.items():
        with seeded(0):
            h = create_head("vidprism", D, 21, T).to(device)
        x, y, optimizer = (
            torch.randn(B, T, D, device=device),
            torch.arange(B, device=device) % 21,
            make_optimizer(h, TrainConfig()),
        )

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

        found[title] = ratio(
            side_by_side(dict(product=step(product), library=step(library)), device, repeats), "product", "library"
        )
    return found


def step_seconds(device, active_experts):
    "Seconds of a training step of the head, B 64, T 16, D 1280, in float32 and bf16: the median of five after three."
    found, x, y = {}, torch.randn(64, 16, 1280, device=device), torch.arange(64, device=device) % 21
    with kept_memory() if active_experts else nullcontext():
        for precision in ("float32", "bf16"):
            with seeded(0):
                h = create_head("vidprism", 1280, 21, 16).to(device)
            optimizer, run, times = make_optimizer(h, TrainConfig()), LossesOnly(h), []
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
    "The same step where blocks that are freed stay with the process, and where they don't: in turn, each in a process of its own, as what one keeps the next would find."
    ask = lambda how: json.loads(
        subprocess.run(
            [sys.executable, __file__, "--device", device, "--step", how], capture_output=True, text=True, check=True
        ).stdout.splitlines()[-1]
    )
    rounds = [{how: ask(how) for how in ("kept", "plain")} for _ in range(repeats)]
    return {
        p: ratio({how: [r[how][p] for r in rounds] for how in ("kept", "plain")}, "kept", "plain")
        for p in ("float32", "bf16")
    }


def named_head(name, *shape, **options):
    "A head by the first word of a row's name."
    with seeded(0):
        return create_head(name.split()[0].strip(","), *shape, **options)


def feature_training(clips, frames, dim, classes, name, options, epochs, batch=64, precision="no"):
    "(wall seconds, processor seconds of all threads) of each epoch of `fit`; what comes before the first counts as part of it."
    x, y = torch.randn(clips, frames, dim, generator=torch.Generator().manual_seed(0)), torch.arange(clips) % classes
    h, now = named_head(name, dim, classes, frames, **options), lambda: (time.perf_counter(), time.process_time())
    marks = [now()]
    fit(
        h,
        TensorClips(x, y),
        config=TrainConfig(epochs=epochs, batch=batch, precision=precision),
        on_epoch=lambda rows: marks.append(now()),
    )
    return [(b[0] - a[0], b[1] - a[1]) for a, b in zip(marks, marks[1:])]


WIDE = {
    "transformer 1 layer": dict(layers=1),
    "transformer": dict(layers=6),
    "bmoe": {},
    "mote": dict(layers=4),
    "vidprism": {},
}
SMALL = {
    "mean": {},
    **WIDE,
    "vidprism_lowdata": {},
    **{f"{name}, width {w}": dict(options, width=w) for w in (256, 128) for name, options in WIDE.items()},
}


def cached(device, repeats):
    "Each head on cached features of 650 clips x 16 frames x 1280, 21 classes: seconds of 30 epochs of 11 steps, run whole; on a CPU those of full width are worked out from four steps, a third epoch."
    found = {}
    for precision, (name, options) in itertools.product(("no", "bf16"), SMALL.items()):
        part = device == "cpu" and name in WIDE
        took = feature_training(
            256 if part else 650, 16, 1280, 21, name, options, 3 if part else 30, precision=precision
        )
        wall, processor = [30 * 11 / 4 * t for t in took[-1]] if part else map(sum, zip(*took))
        found[f"{name}, {'float32' if precision == 'no' else precision}"] = dict(
            seconds_30_epochs=wall, processor_seconds=processor
        )
    return found


def products(device, repeats):
    "What the matrix products of 30 epochs on 650 clips x 16 frames x 1280 take by themselves: a step's operations, counted, at the rate of one product of such a shape, 1024 x 1280 by 1280 x 2560."
    found, x, y = {}, torch.randn(64, 16, 1280, device=device), torch.arange(64, device=device) % 21
    for precision, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(1024, 1280, device=device, dtype=dtype), torch.randn(1280, 2560, device=device, dtype=dtype)
        many = lambda: [a @ b for _ in range(20)]
        rate = 20 * 2 * 1024 * 1280 * 2560 / min(side_by_side(dict(many=many), device, max(repeats, 10))["many"])
        for name, options in SMALL.items():
            h = named_head(name, 1280, 21, 16, **options).to(device)
            with FlopCounterMode(display=False) as meter:
                LossesOnly(h)(x, y)["total"].backward()
            found[f"{name}, {precision}"] = dict(
                flop_a_step=meter.get_total_flops(),
                flop_a_second=rate,
                seconds_30_epochs=30 * 650 / 64 * meter.get_total_flops() / rate,
            )
    return found


def epoch(device, repeats):
    "One epoch of the VidPrism head on cached features of 10,000 clips x 32 frames x 512; measured on 2,000 on a CPU, times five."
    clips = 2000 if device == "cpu" else 10000
    took = {p: feature_training(clips, 32, 512, 400, "vidprism", {}, 2, precision=p)[-1] for p in ("no", "bf16")}
    return {
        p: dict(seconds_epoch=10000 / clips * t[0], processor_seconds=10000 / clips * t[1]) for p, t in took.items()
    }


def loading(device, repeats):
    "Frames decoded, cropped and batched a second with two workers over decord's bare loop in two threads: 16 frames of each clip."
    import decord
    from concurrent.futures import ThreadPoolExecutor
    from vidprism.data.augment import Augment
    from vidprism.data.clips import sample_clips
    from vidprism.data.dataset import ClipDataset

    paths = sorted((SHARED / "jhmdb21").rglob("*.avi")) or sample_clips() * 4
    folder = [(str(p), p.parent.name) for p in paths]
    names = sorted({c for _, c in folder})
    import tempfile
    from vidprism.data.cliplist import ClipList

    with tempfile.TemporaryDirectory() as d:
        listed = Path(d) / "clips.txt"
        listed.write_text("".join(f"{p} {names.index(c)}\n" for p, c in folder))
        data = ClipDataset(ClipList.from_any(listed, classes=names), frames=16, size=224, augment=Augment())
        batches = data.loader(batch=8, seed=0, workers=2)  # its workers stay from epoch to epoch, as in training

        def ours():
            for _ in batches:
                pass

        def bare(path):
            r = decord.VideoReader(str(path), num_threads=1)
            n = len(r)
            r.get_batch([int((k + 0.5) * n / 16) for k in range(16)]).asnumpy()

        def decord_loop():
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(bare, paths))

        times = side_by_side(dict(ours=ours, decord=decord_loop), "cpu", max(3, repeats // 2))
    found = ratio(times, "ours", "decord")
    return dict(
        over_decord=found
        | dict(frames_per_second={k: len(paths) * 16 / s for k, s in found["seconds"].items()}, clips=len(paths))
    )


def memory(device, repeats):
    "Memory a training clip (B/16, 8 frames, bf16, tuned) with and without checkpointing, and the largest batch; predicted from shapes."
    model, found = tune_encoder(video_model("vidprism", rates=(2, 4, 8))), {}
    for on in (False, True):
        m = training_memory(model, checkpointing=on)
        found["with checkpointing" if on else "without checkpointing"] = dict(
            fixed_bytes=m.fixed, clip_bytes=m.per_clip, largest_batch={str(g): m.largest_batch(g) for g in (24, 40, 80)}
        )
    return found


def process_memory(what):
    "Bytes: VmRSS, what this process holds; VmHWM, the most it has held."
    return int(next(l for l in open("/proc/self/status") if l.startswith(what)).split()[1]) * 1024


def step_peak(device, batch, on):
    "Most memory of two training steps: allocated by PyTorch on a GPU; on a CPU, how much the process has grown since its imports."
    base = process_memory("VmRSS") if device == "cpu" else 0
    model = tune_encoder(video_model("vidprism", rates=(2, 4, 8))).to(device)
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
    return (torch.cuda.max_memory_allocated() if device == "cuda" else process_memory("VmHWM") - base) - x.numel()


def memory_measured(device, repeats):
    "The most memory of a training step at two batches against its prediction, each in a process of its own; on a CPU every block is mapped by itself, so that what is freed is gone."
    mapped, found = dict(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536", MALLOC_MMAP_MAX_="1000000"), {}
    for on, batches in (
        (False, (8, 24) if device == "cuda" else (2, 6)),
        (True, (8, 24) if device == "cuda" else (8, 16)),
    ):
        ask = lambda b: int(
            subprocess.run(
                [sys.executable, __file__, "--device", device, "--peak", str(b), *["--checkpointing"] * on],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, **mapped},
            ).stdout.split()[-1]
        )
        predicted, peaks = (
            training_memory(tune_encoder(video_model("vidprism", rates=(2, 4, 8))), checkpointing=on),
            {b: ask(b) for b in batches},
        )
        clip = (peaks[batches[1]] - peaks[batches[0]]) / (batches[1] - batches[0])
        told = [
            f"batch {b}: {peak / 1e9:.2f} GB, predicted {predicted.peak(b) / 1e9:.2f} ({predicted.peak(b) / peak - 1:+.0%})"
            for b, peak in peaks.items()
        ]
        found["with checkpointing" if on else "without checkpointing"] = "; ".join(
            [
                *told,
                f"a clip {clip / 1e6:.0f} MB, predicted {predicted.per_clip / 1e6:.0f} ({predicted.per_clip / clip - 1:+.0%})",
            ]
        )
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
    out = {}
    for title, (B, T, D) in {"B 32, T 32, D 512": (32, 32, 512), "B 64, T 16, D 1280": (64, 16, 1280)}.items():
        with seeded(0):
            h = create_head("vidprism", D, 21, T).to(device)
        x, y, optimizer = (
            torch.randn(B, T, D, device=device),
            torch.arange(B, device=device) % 21,
            make_optimizer(h, TrainConfig()),
        )

        def step():
            h(x, y).losses["total"].backward()
            torch.nn.utils.clip_grad_norm_(h.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        step()
        step()
        with torch.profiler.profile(
            activities=[
                torch.profiler.ProfilerActivity.CPU,
                *([torch.profiler.ProfilerActivity.CUDA] if device == "cuda" else []),
            ]
        ) as p:
            for _ in range(3):
                step()
        key = "self_cpu_time_total" if device == "cpu" else "self_cuda_time_total"
        events = sorted(p.key_averages(), key=lambda e: -getattr(e, key.replace("cuda", "device")))
        total = sum(getattr(e, key.replace("cuda", "device")) for e in events)
        out[title] = dict(
            step_ms=total / 3e3,
            top=[[e.key, getattr(e, key.replace("cuda", "device")) / 3e3, e.count // 3] for e in events[:14]],
        )
    return out


def about(device):
    "The machine, versions and commit."
    git = lambda *a: subprocess.run(["git", *a], cwd=HERE, capture_output=True, text=True).stdout.strip()
    flags = (
        next((l for l in open("/proc/cpuinfo") if l.startswith("flags")), "") if Path("/proc/cpuinfo").exists() else ""
    )
    extra = [f for f in ("amx_bf16", "avx512f", "avx2") if f in flags.split()][:2]
    import accelerate
    import open_clip

    return dict(
        device=torch.cuda.get_device_name()
        if device == "cuda"
        else f"CPU, {os.cpu_count()} cores ({', '.join(extra) or platform.machine()})",
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        open_clip=open_clip.__version__,
        accelerate=accelerate.__version__,
        commit=git("rev-parse", "--short", "HEAD"),
        changed=bool(git("status", "--porcelain", "--", "vidprism")),
        time=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    )


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
    side = kept.setdefault(a.device, {}).setdefault(a.tag, {})
    jobs = dict(profile=lambda d, r: profile(d)) if a.profile else {name: ROWS[name] for name in a.rows.split(",")}
    for name, job in jobs.items():
        start = time.perf_counter()
        try:
            found = job(a.device, a.repeats)
        except Exception as e:
            found = dict(failed=f"{type(e).__name__}: {e}"[:300])
        side[name] = dict(found=found, about=about(a.device), took=round(time.perf_counter() - start, 1))
        out.write_text(json.dumps(kept, indent=1) + "\n")
        print(name, json.dumps(found, default=str)[:1500], f"({side[name]['took']} s)", flush=True)


if __name__ == "__main__":
    main()
