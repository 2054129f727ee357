"""Does time inside the tower make temporal experts superfluous? ST-Adapter and AIM on the world, and what they cost.

    python benchmarks/adapters.py FOLDER benchmarks/adapters.json 3    # seeds; 0: write the record of what is there

FOLDER keeps the small ViT and each run's row: a cut run goes on where it stopped. The ViT learns from the shipped
CLIP's image tower (its features of the world's pictures are the target), since AIM needs self-attention."""

import json
import sys
import time
import torch
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from open_clip.transformer import VisionTransformer
from pathlib import Path
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from vidprism.data.synthetic import world_clips, world_pictures
from vidprism.encoders.adapters import ADAPTERS, add_adapters
from vidprism.encoders.base import ModuleEncoder, Preprocess, preprocess
from vidprism.encoders.factory import create_encoder
from vidprism.evaluation.cost import PAPER_TOWERS, VisualTower, count_macs, count_parameters
from vidprism.experiments.samples import shuffle_time
from vidprism.files import write_json, written
from vidprism.heads.base import create_head
from vidprism.model import VideoModel
from vidprism.training.trainer import TensorClips, TrainConfig, fit, rate_at, score, seeded

PICTURES, EPOCHS, BATCH, LR = 4_096, 10, 64, 2e-3


def small_vit(seed: int = 0) -> VisionTransformer:
    "An untrained ViT for pictures of 64 pixels: patches of 16, 3 layers, width 96."
    with seeded(seed):
        return VisionTransformer(
            image_size=64, patch_size=16, width=96, layers=3, heads=3, mlp_ratio=4.0, output_dim=128
        )


@torch.no_grad()
def targets(encoder, split: str, count: int) -> tuple:
    "Prepared pictures [N,3,64,64] of the world, and the shipped CLIP's features of them [N,128]."
    pictures, features = [], []
    for start in range(0, count, 256):
        shown, _ = world_pictures(min(256, count - start), 0, split, start=start)
        x = preprocess(shown, encoder.how)
        pictures.append(x)
        features.append(encoder.encode(x).pooled)
    return torch.cat(pictures), torch.cat(features)


def likeness(vit, x, y) -> float:
    "Mean cosine between the ViT's features and their targets."
    with torch.no_grad():
        return F.cosine_similarity(vit.eval()(x), y).mean().item()


def distil(file: Path) -> dict:
    "Train the ViT on the shipped CLIP's features and keep its weights; what was done."
    teacher = create_encoder("mini", text=False)
    (x, y), held = targets(teacher, "train", PICTURES), targets(teacher, "val", 512)
    vit = small_vit().train()
    optimizer = torch.optim.AdamW(vit.parameters(), lr=LR, weight_decay=0.05)
    steps = EPOCHS * (PICTURES // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate_at, steps=steps, warmup=0.08))
    generator, start = torch.Generator().manual_seed(0), time.perf_counter()
    for epoch in range(EPOCHS):
        order = torch.randperm(PICTURES, generator=generator)
        for rows in order[: PICTURES // BATCH * BATCH].split(BATCH):
            loss = (vit.train()(x[rows]) - y[rows]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds = time.perf_counter() - start
        print(f"epoch {epoch}: loss {loss.item():.4f}, cosine {likeness(vit, *held):.3f}, {seconds:.0f} s", flush=True)
        with written(file) as part:
            save_file(vit.state_dict(), part)
    return dict(pictures=PICTURES, epochs=EPOCHS, cosine=likeness(vit, *held), seconds=round(seconds))


# what adapters cost, in the papers' towers, beside their own figures

SFAR = "Liu et al., Storyboard-guided Alignment for Fine-grained Video Action Recognition (NeurIPS 2025), Kinetics-400"
FINEX = (
    "Hassan et al., FineX: Fine-Grained Action Recognition with Cross-Attentive Latent Sparse Experts, Diving-48; it "
    "prints no number of frames: 32 is the one that AIM's own entry for L/14 on Diving-48 names"
)
ABSTRACT = "ST-Adapter's abstract: a per-task cost of about 8% of the parameters"
# the rivals' figures as their authors or later papers print them; no other figure could be checked in a text at hand
QUOTED = [
    dict(kind="st_adapter", tower="B/16", num_frames=8, share=8, gflops=455 / 3, gflops_as="455 for 3 views")
    | dict(sources=[SFAR, ABSTRACT]),
    dict(kind="aim", tower="B/16", num_frames=8, tuned=11, total=97, gflops=202, gflops_as="202 a view")
    | dict(sources=[SFAR, FINEX]),
    dict(kind="aim", tower="B/16", num_frames=32, tuned=11, total=97, gflops=809, gflops_as="809", sources=[FINEX]),
    dict(kind="aim", tower="L/14", num_frames=32, tuned=38, total=341, gflops=3736, gflops_as="3,736", sources=[FINEX]),
]


class Clip(nn.Module):
    "An encoder that reads one clip of pictures [T,3,S,S], for counting."

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, x):
        return self.encoder.encode(x).pooled


def cost_of(kind: str, tower: str, frames: int, config: dict = None) -> dict:
    "Parameters and multiply-adds of a tower of CLIP for one view; `kind` none: the frozen tower."
    shapes = VisualTower(PAPER_TOWERS[tower])
    x = shapes.frames(frames)
    encoder = ModuleEncoder(shapes.visual, Preprocess(shapes.size, (0.5,) * 3, (0.5,) * 3))
    encoder.requires_grad_(False)
    if kind != "none":
        encoder = add_adapters(encoder, kind, config)
    tuned, total = count_parameters(encoder, trainable=True), count_parameters(encoder)
    return dict(kind=kind, tower=tower, num_frames=frames, config=config or {}, tuned=tuned, total=total) | dict(
        macs=count_macs(Clip(encoder), x)
    )


def costs() -> list:
    "Measured beside quoted, a row for each quoted one, and what has no quoted figure."
    rows = [dict(measured=cost_of("none", "B/16", 8), paper=None)]
    for quoted in QUOTED:
        rows.append(dict(measured=cost_of(quoted["kind"], quoted["tower"], quoted["num_frames"]), paper=quoted))
    for config in (dict(place="both"), dict(kernel=(3, 3, 3))):
        rows.append(dict(measured=cost_of("st_adapter", "B/16", 8, config), paper=None))
    return rows


# adapters or none, under three heads, on the world

MOTIONS = ("drift left", "drift right", "grow", "shrink", "stop then go", "go then stop")
FRAMES, LONG = 8, 60  # frames of a clip; passes of a head on frozen features in the longer column
CLIPS = dict(train=480, val=120, test=240)
RATES = (2e-3, 1e-2)  # learning rates, of which each run takes the best on the clips of val
TRAINING = TrainConfig(epochs=12, batch=8, lr=2e-3, workers=0)
HEADS = dict(mean={}, statistics={}, vidprism=dict(rates=(2, 4, 8)), vidprism_lowdata=dict(rates=(2, 4, 8)))
ENCODERS = ("none", "none, long", "st_adapter", "aim")


def side(split: str, count: int) -> tuple:
    "Frames [N,T,64,64,3] and labels [N] of the six motions, in turn."
    clips = world_clips(count, 0, split, FRAMES, 64, labels=MOTIONS)
    return clips.frames, torch.arange(count) % len(MOTIONS)


def frozen(file: Path) -> ModuleEncoder:
    "The small ViT with its trained weights."
    vit = small_vit()
    vit.load_state_dict(load_file(file))
    mini = create_encoder("mini", text=False)
    return create_encoder(vit, how=mini.how)


def fitted(encoder, kind: str, head: str, seed: int, train: tuple, lr: float):
    "A head that was trained with adapters inside the encoder, or on the frozen features."
    with seeded(seed):
        made = create_head(head, encoder.dim, len(MOTIONS), FRAMES, **HEADS[head])
    if not kind.startswith("none"):
        more = dict(num_positions=FRAMES) if kind == "aim" else {}
        adapted = add_adapters(deepcopy(encoder), kind, more, seed)
        made = VideoModel(adapted, made, MOTIONS)
    epochs = LONG if kind == "none, long" else TRAINING.epochs
    fit(made, TensorClips(*train), config=replace(TRAINING, seed=seed, epochs=epochs, lr=lr))
    return made.eval()


def run(encoder, kind: str, head: str, seed: int, sides: dict) -> dict:
    "Train with each rate, take the best on the clips of val, and measure it on those of test."
    start = time.perf_counter()
    models = {lr: fitted(encoder, kind, head, seed, sides["train"], lr) for lr in RATES}
    held = {lr: score(model, *sides["val"], 30).top1 for lr, model in models.items()}
    lr = max(held, key=held.get)
    model, (x, labels) = models[lr], sides["test"]
    shuffled = shuffle_time(x.flatten(2), seed).reshape(x.shape)
    return dict(
        encoder=kind,
        head=head,
        seed=seed,
        lr=lr,
        top1=score(model, x, labels, 30).top1,
        shuffled=score(model, shuffled, labels, 30).top1,
        train=score(model, *sides["train"], 30).top1,
        tuned=count_parameters(model, trainable=True),
        seconds=round(time.perf_counter() - start, 1),
    )


def rows_of(folder: Path) -> list:
    "The rows of the runs that have ended."
    file = folder / "rows.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def run_all(folder: Path, seeds: int):
    "Run what has no row yet, seed by seed; each row is appended as its run ends."
    rows, file = folder / "rows.jsonl", folder / "vit.safetensors"
    done = {(row["encoder"], row["head"], row["seed"]) for row in rows_of(folder)}
    clips = {split: side(split, count) for split, count in CLIPS.items()}
    encoder = frozen(file)
    with torch.no_grad():
        features = {split: (encoder(x).pooled, labels) for split, (x, labels) in clips.items()}
    for seed, head, kind in product(range(seeds), HEADS, ENCODERS):
        if (kind, head, seed) in done:
            continue
        row = run(encoder, kind, head, seed, features if kind.startswith("none") else clips)
        with rows.open("a") as out:
            out.write(json.dumps(row) + "\n")
        print(row, flush=True)


def collect(folder: Path, out: Path):
    "Write costs, settings and all rows."
    settings = dict(motions=MOTIONS, num_frames=FRAMES, long=LONG, threads=torch.get_num_threads(), heads=HEADS)
    settings["training"] = asdict(TRAINING)
    settings["adapters"] = {kind: asdict(made()) for kind, made in ADAPTERS.items()}
    world = dict(clips=CLIPS, rates=RATES, rows=rows_of(folder))
    vit = json.loads((folder / "vit.json").read_text())
    version = torch.__version__.partition("+")[0]
    write_json(out, dict(torch=version, costs=costs(), vit=vit, settings=settings, world=world))


def main(folder: Path, out: Path, seeds: int = 3):
    "The ViT, the runs that are missing, and the record."
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "vit.json").exists():
        write_json(folder / "vit.json", distil(folder / "vit.safetensors"))
    if seeds:
        run_all(folder, seeds)
    collect(folder, out)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:4]))
