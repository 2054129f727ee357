"""Everything that wants a GPU, in one command; results as JSON beside this file (gpu.json, speed.json, machine.json).

    python benchmarks/gpu.py                    # all
    python benchmarks/gpu.py --only tuned       # one of speed, tuned, fps, notebooks
    python benchmarks/gpu.py --quick --cpu      # a rehearsal on the CPU: the shipped encoder and a handful of clips

All are: speed rows (memory against its prediction, too), a tuned encoder on JHMDB, table 8's frames a second, the
training notebooks. A rehearsal writes into another folder. The encoder is CLIP's ViT-B/16 if its weights can be had
(or are named by --encoder); without them its random weights are trained, and the result says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import torch
from mobilenet import SHARED
from pathlib import Path
from vidprism.files import write_json

HERE = Path(__file__).parent


def command(*what, timeout=3600):
    "A command's end: seconds, and its last lines if it failed."
    start = time.perf_counter()
    line = [sys.executable, *map(str, what)]
    try:
        done = subprocess.run(line, cwd=HERE, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return dict(ok=False, seconds=timeout, said="ran out of time")
    ok, seconds = done.returncode == 0, round(time.perf_counter() - start, 1)
    return dict(ok=ok, seconds=seconds, said="" if ok else (done.stderr or done.stdout)[-1500:])


def speed(a):
    "The rows of speed.py, memory against its prediction among them."
    few = ["--rows", "head", "--repeats", "3"] if a.quick else []
    return command("speed.py", "--device", a.device, "--out", a.folder / "speed.json", *few)


def pick_encoder(a):
    "The encoder asked for, else CLIP's, else its random weights."
    from vidprism.encoders.factory import create_encoder
    from vidprism.errors import ConfigError

    names = ["mini"] if a.quick else ["open_clip:ViT-B-16-quickgelu/openai", "open_clip:ViT-B-16-quickgelu"]
    if a.encoder:
        names.insert(0, a.encoder)
    for name in names:
        try:
            return name, create_encoder(name)
        except ConfigError as e:
            print(f"{name} cannot be had: {e}", flush=True)


def read_sides(a):
    "The clips to train on and to test on; in a rehearsal a handful."
    from vidprism.data.cliplist import ClipList

    train, test = ClipList.from_any(Path(a.data)).split_by_source()
    if a.quick:
        train, test = train.select(range(0, len(train), 40)), test.select(range(0, len(test), 20))
    return train, test


def new_model(encoder, classes):
    "The encoder and a VidPrism head, all of which is trained."
    from vidprism.heads.base import create_head
    from vidprism.model import VideoModel
    from vidprism.training.trainer import finetune_encoder, seeded

    with seeded(0):
        head = create_head("vidprism", encoder.dim, len(classes), 8, rates=(2, 4, 8))
        return finetune_encoder(VideoModel(encoder, head, classes))


def fit_timed(model, train, test, quick):
    "Train, and the seconds of a middling epoch."
    from vidprism.training.trainer import TrainConfig, fit

    if quick:
        config = TrainConfig(epochs=1, batch=4, lr=1e-4, precision="bf16", workers=0)
    else:
        config = TrainConfig(epochs=20, batch=16, lr=1e-4, precision="bf16", workers=os.cpu_count() - 1)
    marks = [time.perf_counter()]
    history = fit(model, train, test, config, on_epoch=lambda rows: marks.append(time.perf_counter()))
    took = sorted(b - a for a, b in zip(marks, marks[1:]))
    return history, took[(len(marks) - 1) // 2]


def tuned(a):
    """Encoder and VidPrism head trained on JHMDB's frames, tested on sources that were not trained on.

    Its rate goes into machine.json."""
    from vidprism.data.augment import Augment
    from vidprism.data.dataset import ClipDataset
    from vidprism.evaluation.budget import measure_machine

    home = Path(a.data)
    if not home.is_dir():
        return f"{home.name} is not there: name it by --data or VIDPRISM_SHARED"
    name, encoder = pick_encoder(a)
    size = encoder.image_size
    train, test = read_sides(a)
    train_data = ClipDataset(train, num_frames=8, size=size, augment=Augment(), no_flip=train.directional)
    test_data = ClipDataset(test, num_frames=8, size=size, augment=None, no_flip=test.directional)
    model = new_model(encoder, train.classes)
    history, per_epoch = fit_timed(model, train_data, test_data, a.quick)
    rate = len(train) / per_epoch  # reading and testing included: a lower bound of the GPU's own rate
    if not a.quick:
        gpu = dict(train_clips_per_second=rate)
        measure_machine(train.paths[::5], a.folder / "machine.json", num_frames=8, size=size, gpu=gpu)
    return dict(
        encoder=name,
        train_clips=len(train),
        test_clips=len(test),
        clips_per_second=rate,
        seconds=history.seconds,
        device=history.device,
        top1=history.rows[-1]["top1"],
        rows=history.rows,
    )


def fps(a):
    """Frames a second of the models of VidPrism's table 8: 8 frames, float32, random weights.

    `vidprism.evaluation.cost.paper_costs` reads them."""
    from vidprism.encoders.factory import create_encoder
    from vidprism.evaluation.cost import PAPER_TOWERS, TABLE_8, measure_cost, table_8_head
    from vidprism.heads.base import create_head
    from vidprism.model import VideoModel

    rows, labels = [], [str(i) for i in range(400)]
    effort = dict(batch=1, repeats=2, warmup=0) if a.quick else dict(batch=8, repeats=20, warmup=3)
    for row in [r for r in TABLE_8 if r.tower == "B/16" or not a.quick]:
        encoder = create_encoder(f"open_clip:{PAPER_TOWERS[row.tower]}", bare=True)
        name, options = table_8_head(row.method, row.tower)
        model = VideoModel(encoder, create_head(name, encoder.dim, 400, 8, **options), labels)
        c = measure_cost(model, 8, views=(1, 1), device=a.device, **effort)
        rows.append(
            dict(
                method=row.method,
                tower=row.tower,
                frames_per_second=c.frames_per_second,
                spread_seconds=c.spread,
                batch=c.batch,
                precision=c.precision,
            )
        )
    return rows


def notebooks(a):
    "The training notebooks, run as they stand, copies only."
    found = {}
    paths = sorted((HERE.parent / "nbs" / "guides").rglob("[!.]*.ipynb"))
    run = ["-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--ExecutePreprocessor.timeout=3000"]
    with tempfile.TemporaryDirectory() as d:
        for path in paths[: 1 if a.quick else None]:
            found[path.stem] = command(*run, "--output-dir", d, path)
    return found


STEPS = dict(speed=speed, tuned=tuned, fps=fps, notebooks=notebooks)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=STEPS)
    p.add_argument("--quick", action="store_true")
    p.add_argument("--cpu", action="store_true")
    p.add_argument("--encoder")
    p.add_argument("--data", default=str(SHARED / "jhmdb21"))
    p.add_argument("--folder", type=Path, default=HERE)
    a = p.parse_args()
    a.device = "cpu" if a.cpu else "cuda"
    if not a.cpu and not torch.cuda.is_available():
        sys.exit("There is no GPU here. A rehearsal on the CPU: --quick --cpu --folder FOLDER.")
    if a.cpu and a.folder == HERE:
        sys.exit("A rehearsal writes elsewhere: name a --folder.")
    a.folder.mkdir(parents=True, exist_ok=True)
    out = a.folder / "gpu.json"
    kept = json.loads(out.read_text()) if out.exists() else {}
    for name in [a.only] if a.only else STEPS:
        try:
            found = STEPS[name](a)
        except Exception as e:
            found = dict(ok=False, said=f"{type(e).__name__}: {e}"[:1500])
        kept[name] = dict(
            found=found,
            device=torch.cuda.get_device_name() if a.device == "cuda" else "CPU, a rehearsal",
            torch=torch.__version__,
            time=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        )
        write_json(out, kept)
        print(name, json.dumps(found)[:600], flush=True)
    if a.device == "cuda":
        command("speed.py", "--write")


if __name__ == "__main__":
    main()
