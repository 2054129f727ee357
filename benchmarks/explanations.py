"""How far explanations can be trusted, and how different experts are: measured, written to explanations.json beside this file.

python benchmarks/explanations.py methods          # the saliency methods, on clips of the world (about 25 minutes on one core)
python benchmarks/explanations.py experts          # specialisation: the shipped heads on the world, and, where VIDPRISM_SHARED points to real clips, heads trained on those (15 minutes)
"""

import argparse
import json
import os
import statistics
import time
import torch
from pathlib import Path
from vidprism.data.clips import sample_clips
from vidprism.data.synthetic import world_clips
from vidprism.interpret.attribution import frame_drops, frame_parts, rank_correlation
from vidprism.interpret.explanation import explain
from vidprism.interpret.faithfulness import (
    curves,
    frame_score,
    judge_methods,
    likeness,
    pointing,
    random_areas,
    scramble,
)
from vidprism.interpret.saliency import METHODS, flat_frame, keep_pass, kept_saliency, path_gradients
from vidprism.model import sample_model

OUT = Path(__file__).with_suffix(".json")
KINDS = ("vidprism", "bmoe", "mote")


def mean(values):
    "Mean, standard deviation and number."
    values = [float(v) for v in values]
    return dict(mean=statistics.fmean(values), std=statistics.stdev(values) if len(values) > 1 else 0.0, n=len(values))


def write(**parts):
    "Put parts into the results file, the others as they were."
    found = json.loads(OUT.read_text()) if OUT.exists() else {}
    OUT.write_text(json.dumps({**found, **parts}, indent=1) + "\n")


def judge_all_methods(model, start, n):
    "Pointing, deletion and insertion of every method; the controls."
    rows = []
    for i in range(start, start + n):
        w = world_clips(1, split="test", start=i)
        rows.append(judge_methods(model, w.frames[0], w.place[0], w.scene.size[0]))
    table = {
        m: {f: mean(getattr(r[m], f) for r in rows) for f in ("hits", "peak", "deletion", "insertion")}
        for m in (*METHODS, "contrast")
    }
    for m in METHODS:
        table[m]["by_expert"] = [mean(r[m].by_expert[e] for r in rows)["mean"] for e in range(4)]
    for m in (*METHODS, "contrast"):
        table[m] |= dict(
            deletion_wins=mean(r[m].deletion < r["random"][1] for r in rows)["mean"],
            insertion_wins=mean(r[m].insertion > r["random"][2] for r in rows)["mean"],
        )
    for m in METHODS:
        table[m]["signed"] = {f: mean(r[m].signed[k] for r in rows) for k, f in enumerate(("deletion", "insertion"))}
    table["random"] = {f: mean(r["random"][k] for r in rows) for k, f in enumerate(("hits", "deletion", "insertion"))}
    return table


def judge_layers(model, start, n):
    "GradCAM at each stage of mini."
    net, found = model.encoder.model.visual, {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        hits = []
        for i in range(start, start + n):
            w = world_clips(1, split="test", start=i)
            kept, *_ = keep_pass(model, w.frames[0], layer=getattr(net, name))
            hits.append(
                pointing(
                    kept_saliency(kept, model.encoder.how, (64, 64), "gradcam").sum(0), w.place[0], w.scene.size[0]
                )
                .float()
                .mean()
            )
        found[name] = dict(cells=kept.seen.maps[0].shape[-1], **mean(hits))
    return found


@torch.no_grad()
def judge_frames(model, start, n, steps=16):
    "Frames deleted and inserted by importance, by drop, at random; and how well the two agree."
    rows = {k: [] for k in ("importance", "drops", "random")}
    agree = []
    for i in range(start, start + n):
        features = model.encoder(world_clips(1, split="test", start=i).frames).pooled
        out = model.head(features, inspect=True)
        t, y = out.trace, int(out.logits.argmax())
        orders = dict(
            importance=frame_parts(t.merges, t.mixture.readout, t.mixture.attention)[0].sum(0),
            drops=frame_drops(model.head, features[0], y),
        )
        score = frame_score(model.head, features[0], y)
        for k, v in orders.items():
            rows[k].append(curves(score, v.argsort(descending=True, stable=True), steps).areas)
        rows["random"].append(random_areas(score, features.shape[1], steps, 5))
        agree.append(rank_correlation(orders["importance"], orders["drops"]))
    return dict(
        agreement=mean(agree),
        **{k: dict(deletion=mean(a for a, _ in v), insertion=mean(b for _, b in v)) for k, v in rows.items()},
    )


def judge_weights(model, start, n):
    "Likeness of the maps of the model and of the scrambled model."
    found = {part: {m: [] for m in METHODS} for part in ("head", "encoder")}
    others = {part: scramble(model, part, 1) for part in found}
    for i in range(start, start + n):
        frames = world_clips(1, split="test", start=i).frames[0]
        kept, out, _ = keep_pass(model, frames, pixels=True)
        y = int(out.logits.argmax())
        for part, other in others.items():
            away, *_ = keep_pass(other, frames, y, pixels=True)
            for m in METHODS:
                found[part][m].append(
                    likeness(*(kept_saliency(k, model.encoder.how, (64, 64), m).sum(0) for k in (kept, away)))
                )
    return {part: {m: mean(v) for m, v in row.items()} for part, row in found.items()}


def judge_convergence(model, start, n, steps=(8, 32, 128)):
    "Integrated gradients of the expert heard most: |delta| in parts of the difference that should be met."
    found = {s: [] for s in steps}
    for i in range(start, start + n):
        kept, out, _ = keep_pass(model, world_clips(1, split="test", start=i).frames[0], pixels=True)
        e, x = int(out.trace.mixture.shares[0].argmax()), kept.seen.pixels.detach()
        with torch.no_grad():
            span = float((kept.again(x[None]) - kept.again(flat_frame(x)[None]))[0, e])
        for s in steps:
            found[s].append(abs(path_gradients(kept, e, s)[1] / span))
    return {s: dict(median=statistics.median(v), largest=max(v), n=len(v)) for s, v in found.items()}


def judge_samples(model):
    "Agreement of importance and drop on the shipped clips."
    found = [explain(model, p, method=None) for p in sample_clips()]
    return dict(
        agreement=mean(e.agreement for e in found),
        agreement_with_size=mean(rank_correlation(e.importance, e.drops.abs()) for e in found),
    )


def methods(args):
    "Everything about saliency and frame importance."
    model, begin = sample_model(), time.time()
    parts = dict(
        samples=lambda: judge_samples(model),
        frames=lambda: judge_frames(model, args.start, args.n),
        layers=lambda: judge_layers(model, args.start, args.n),
        methods=lambda: judge_all_methods(model, args.start, args.n),
        weights=lambda: judge_weights(model, args.start, args.few),
        convergence=lambda: judge_convergence(model, args.start, args.few),
    )
    for name in args.parts or parts:
        write(**{name: parts[name]()})
        print(name, f"{time.time() - begin:.0f} s", flush=True)
    write(
        story=dict(
            model="sample_model('vidprism')",
            clips=f"world 0 test {args.start} to {args.start + args.n - 1}; scrambled weights and convergence on the first {args.few}",
            note="the layer and the blur were chosen on clips 0 to 35, which are not among these",
        )
    )


def experts(args):
    "How different the experts are: VidPrism, the homogeneous mixture, MoTE. The shipped heads on the world; heads trained here on real clips."
    from vidprism.evaluation.benchmark import encode_world
    from vidprism.interpret.specialisation import in_short, measure_specialisation

    x, y = encode_world(sample_model().encoder, "test", args.test)
    write(
        world_experts=dict(
            **{name: in_short(measure_specialisation(sample_model(name).head, x, y)) for name in KINDS},
            story=dict(bench="world", test=args.test, heads="shipped, one seed each"),
        )
    )
    shared = os.environ.get("VIDPRISM_SHARED")
    if not shared or args.only_world:
        return print("real clips: skipped", "" if shared else "(VIDPRISM_SHARED is not set)")
    write(real_experts=compare_experts(real_bench(Path(shared), args.cache), args))


def compare_experts(bench, args):
    "Each head trained on a bench (some seeds; of several learning rates the best on held-out training clips), its scores on the test side."
    from vidprism.evaluation.protocols import close_set
    from vidprism.interpret.specialisation import in_short, measure_specialisation
    from vidprism.training.trainer import TrainConfig

    found, x = {}, bench.test.features
    for name in KINDS:
        begin = time.time()
        result = close_set(
            bench,
            name,
            config=TrainConfig(epochs=args.epochs, lr=args.lr[0]),
            seeds=range(args.seeds),
            grid=dict(lr=tuple(args.lr)) if len(args.lr) > 1 else None,
        )
        rows = [in_short(measure_specialisation(h, x, bench.test.labels)) for h in result.heads]
        found[name] = dict(
            lr=result.record["tuning"][0]["chosen"]["lr"] if result.record.get("tuning") else args.lr[0],
            **{k: mean(r[k] for r in rows) for k in rows[0]},
        )
        one = measure_specialisation(result.heads[0], x, bench.test.labels)
        found[name] |= dict(first_seed={k: getattr(one, k).tolist() for k in ("cka", "cosine", "overlap", "peakiness")})
        print(
            bench.name,
            name,
            {k: round(v["mean"], 3) for k, v in found[name].items() if isinstance(v, dict) and "mean" in v},
            f"{time.time() - begin:.0f} s",
            flush=True,
        )
    return dict(
        **found,
        story=dict(
            bench=bench.name,
            train=len(bench.train.labels),
            test=len(bench.test.labels),
            epochs=args.epochs,
            seeds=args.seeds,
            **{k: bench.story.get(k) for k in ("encoder", "frames")},
        ),
    )


def real_bench(shared, cache, frames=8, width=128):
    "JHMDB's 21 classes with a frozen ImageNet encoder; features turned to their first principal components (of the training side), sources kept together."
    import timm
    import torch.nn.functional as F
    from safetensors.torch import load_file
    from vidprism.data.clips import read_clip
    from vidprism.data.splits import grouped_folds
    from vidprism.encoders.base import Features
    from vidprism.encoders.cache import FeatureCache
    from vidprism.evaluation.benchmark import Benchmark, FeatureSplit

    net = timm.create_model("mobilenet_edgetpu_100", pad_type="same", num_classes=1001)
    net.blocks[0][0].bn1.act = torch.nn.Identity()
    net.load_state_dict(
        {
            k: v.float()
            for k, v in load_file(shared / "weights" / "mobilenet_edgetpu_100.imagenet1k.safetensors").items()
        },
        strict=False,
    )
    net.eval()
    lines = [line.rsplit(" ", 1) for line in (shared / "jhmdb21" / "clips.txt").read_text().splitlines()]
    store = FeatureCache(cache) if cache else None

    @torch.no_grad()
    def features(path):
        x = F.interpolate(
            read_clip(path, frames).frames.permute(0, 3, 1, 2).float(), (224, 224), mode="bilinear", antialias=True
        )
        return Features(net.forward_head(net.forward_features((x - 128) / 127), pre_logits=True))

    fetch = lambda name: (
        (
            store.fetch(f"mobilenet_edgetpu {frames} {name}", lambda: features(shared / "jhmdb21" / name))
            if store
            else features(shared / "jhmdb21" / name)
        ).pooled
    )
    x, y = torch.stack([fetch(name) for name, _ in lines]), torch.tensor([int(label) for _, label in lines])
    sources = [name.split("/")[1].split(f"_{name.split('/')[0]}_")[0] for name, _ in lines]
    fold = grouped_folds(y.tolist(), sources, 3, 0)[0]
    middle = x[fold.train].flatten(0, 1).mean(0)
    turn = torch.linalg.svd(x[fold.train].flatten(0, 1) - middle, full_matrices=False).Vh[:width]
    x = (x - middle) @ turn.T
    side = lambda rows: FeatureSplit(
        x[list(rows)], y[list(rows)], [lines[i][0] for i in rows], [sources[i] for i in rows]
    )
    classes = (shared / "jhmdb21" / "classes.txt").read_text().splitlines()
    return Benchmark(
        "jhmdb21",
        side(fold.train),
        side(fold.test),
        classes,
        dict(encoder=f"mobilenet_edgetpu_100, {width} principal components", frames=frames),
    )


if __name__ == "__main__":
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("methods", "experts"))
    p.add_argument("--start", type=int, default=36, help="first clip")
    p.add_argument("--n", type=int, default=36, help="clips")
    p.add_argument(
        "--parts", nargs="+", help="methods: only these (samples, frames, layers, methods, weights, convergence)"
    )
    p.add_argument("--few", type=int, default=8, help="clips for what takes long")
    p.add_argument("--epochs", type=int, default=40, help="of each head")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--lr", type=float, nargs="+", default=[3e-4, 1e-3], help="learning rates to choose from")
    p.add_argument("--test", type=int, default=540, help="experts: clips of the world")
    p.add_argument("--only-world", action="store_true", help="experts: leave the real clips out")
    p.add_argument("--cache", help="a folder for features, to keep them")
    args = p.parse_args()
    torch.set_num_threads(1)
    globals()[args.what](args)
