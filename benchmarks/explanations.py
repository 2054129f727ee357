"""How far explanations can be trusted, and how different experts are: measured, written to explanations.json.

    python benchmarks/explanations.py methods          # the saliency methods, on clips of the world
    python benchmarks/explanations.py faithfulness     # these numbers for the inspector: data_samples/faithfulness.json
    python benchmarks/explanations.py experts          # specialisation of heads
    python benchmarks/explanations.py tubes            # do the places of motion tubes lie on the object?

`methods` takes about 25 minutes on one core, `faithfulness` 15, `experts` 15, `tubes` 3. `experts` measures the shipped
heads on the world, and, where VIDPRISM_SHARED points to real clips, heads trained on those.
"""

import argparse
import os
import statistics
import time
import torch
from captum.attr import LayerAttribution
from pathlib import Path
from vidprism.data.clips import sample_clips, samples_folder
from vidprism.data.synthetic import MOTIONS, world_clips
from vidprism.files import locked, write_json
from vidprism.heads.fisher import MOVING_BINS
from vidprism.interpret.attribution import frame_drops, frame_parts, rank_correlation
from vidprism.interpret.explanation import explain
from vidprism.interpret.faithfulness import (
    curves,
    frame_score,
    judge_methods,
    likeness,
    model_hashes,
    pointing,
    random_areas,
    random_hits,
    scramble,
)
from vidprism.interpret.saliency import METHODS, flat_frame, keep_pass, kept_saliency, path_gradients
from vidprism.model import sample_model
from vidprism.schema import read_json

OUT = Path(__file__).with_suffix(".json")
KINDS = ("vidprism", "bmoe", "mote")


def mean(values):
    "Mean, standard deviation and number."
    values = [float(v) for v in values]
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return dict(mean=statistics.fmean(values), std=std, n=len(values))


def write(**parts):
    "Put parts into the results file, the others as they were."
    with locked(OUT):
        found = read_json(OUT, finite=False) if OUT.exists() else {}
        write_json(OUT, {**found, **parts})


def clips_of_the_world(start, n):
    "Test clips of the world, one at a time."
    return (world_clips(1, split="test", start=i) for i in range(start, start + n))


def means_of(rows, *names):
    "{name: mean} of rows of as many numbers."
    return {name: mean(column) for name, column in zip(names, zip(*rows))}


def judged(rows, method):
    "Pointing, deletion and insertion of a method, and how often it is better than a random order."
    answers = [r[method] for r in rows]
    found = {f: mean(getattr(a, f) for a in answers) for f in ("hits", "peak", "deletion", "insertion")}
    if method in METHODS:
        found["by_expert"] = [mean(a.by_expert[e] for a in answers)["mean"] for e in range(4)]
    random = [r["random"] for r in rows]
    found["deletion_wins"] = mean(a.deletion < by_chance[1] for a, by_chance in zip(answers, random))["mean"]
    found["insertion_wins"] = mean(a.insertion > by_chance[2] for a, by_chance in zip(answers, random))["mean"]
    if method in METHODS:
        found["signed"] = means_of([a.signed for a in answers], "deletion", "insertion")
    return found


def judge_all_methods(model, start, n):
    "Pointing, deletion and insertion of every method; the controls."
    rows = []
    for w in clips_of_the_world(start, n):
        rows.append(judge_methods(model, w.frames[0], w.place[0], w.scene.size[0]))
    table = {method: judged(rows, method) for method in (*METHODS, "contrast")}
    table["random"] = means_of([r["random"] for r in rows], "hits", "deletion", "insertion")
    return table


def judge_layers(model, start, n):
    "GradCAM at each stage of mini."
    net, found = model.encoder.model.visual, {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        hits = []
        for w in clips_of_the_world(start, n):
            kept, *_ = keep_pass(model, w.frames[0], layer=getattr(net, name))
            saliency = kept_saliency(kept, model.encoder.how, (64, 64), "gradcam").sum(0)
            hits.append(pointing(saliency, w.place[0], w.scene.size[0]).float().mean())
        found[name] = dict(cells=kept.seen.maps[0].shape[-1], **mean(hits))
    return found


@torch.no_grad()
def judge_frames(model, start, n, steps=16):
    "Frames deleted and inserted by importance, by drop, at random; and how well the two agree."
    areas = {k: [] for k in ("importance", "drops", "random")}
    agree = []
    for w in clips_of_the_world(start, n):
        features = model.encoder(w.frames).pooled
        out = model.head(features, inspect=True)
        mixture, y = out.trace.mixture, int(out.logits.argmax())
        importance = frame_parts(out.trace.merges, mixture.readout, mixture.attention)[0].sum(0)
        drops = frame_drops(model.head, features[0], y)
        score = frame_score(model.head, features[0], y)
        for name, values in (("importance", importance), ("drops", drops)):
            order = values.argsort(descending=True, stable=True)
            areas[name].append(curves(score, order, steps).areas)
        areas["random"].append(random_areas(score, features.shape[1], steps, 5))
        agree.append(rank_correlation(importance, drops))
    found = {name: means_of(pairs, "deletion", "insertion") for name, pairs in areas.items()}
    return dict(agreement=mean(agree), **found)


def judge_weights(model, start, n):
    "Likeness of the maps of the model and of the scrambled model."
    found = {part: {m: [] for m in METHODS} for part in ("head", "encoder")}
    others = {part: scramble(model, part, 1) for part in found}

    def saliency(kept, method):
        return kept_saliency(kept, model.encoder.how, (64, 64), method).sum(0)

    for w in clips_of_the_world(start, n):
        kept, out, _ = keep_pass(model, w.frames[0], pixels=True)
        y = int(out.logits.argmax())
        for part, other in others.items():
            away, *_ = keep_pass(other, w.frames[0], y, pixels=True)
            for m in METHODS:
                found[part][m].append(likeness(saliency(kept, m), saliency(away, m)))
    return {part: {m: mean(v) for m, v in row.items()} for part, row in found.items()}


def judge_convergence(model, start, n, steps=(8, 32, 128)):
    "Integrated gradients of the expert with the largest readout weight: |delta| in parts of the difference to be met."
    found = {s: [] for s in steps}
    for w in clips_of_the_world(start, n):
        kept, out, _ = keep_pass(model, w.frames[0], pixels=True)
        e, x = int(out.trace.mixture.shares[0].argmax()), kept.seen.pixels.detach()
        with torch.no_grad():
            difference = kept.again(x[None]) - kept.again(flat_frame(x)[None])
        span = float(difference[0, e])
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


def measured_row(judgement):
    "Pointing, deletion and insertion."
    if isinstance(judgement, tuple) and not hasattr(judgement, "hits"):
        return list(judgement)
    return [judgement.hits, judgement.deletion, judgement.insertion]


def faithfulness(args):
    "What the inspector shows beside a saliency method's name, with the model that it was measured with."
    model, rows = sample_model(), {}
    for last, w in enumerate(clips_of_the_world(args.start, args.n), args.start):
        for name, judgement in judge_methods(model, w.frames[0], w.place[0], w.scene.size[0]).items():
            rows.setdefault(name, []).append(measured_row(judgement))
        clips = f"world 0 test {args.start} to {last}"
        write_json(samples_folder() / "faithfulness.json", dict(**model_hashes(model), clips=clips, rows=rows))
        print(clips, flush=True)


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
    clips = f"world 0 test {args.start} to {args.start + args.n - 1}"
    metadata = dict(
        model="sample_model('vidprism')",
        clips=f"{clips}; scrambled weights and convergence on the first {args.few}",
        note="the layer and the blur were chosen on clips 0 to 35, which are not among these",
    )
    write(metadata=metadata)


def experts(args):
    """How different the experts are: VidPrism, the homogeneous mixture, MoTE.

    The shipped heads on the world; heads trained here on real clips."""
    from vidprism.evaluation.benchmark import encode_world
    from vidprism.interpret.specialisation import in_short, measure_specialisation

    x, y = encode_world(sample_model().encoder, "test", args.test)
    found = {name: in_short(measure_specialisation(sample_model(name).head, x, y)) for name in KINDS}
    metadata = dict(bench="world", test=args.test, heads="shipped, one seed each")
    write(world_experts=dict(**found, metadata=metadata))
    shared = os.environ.get("VIDPRISM_SHARED")
    if not shared or args.only_world:
        print("real clips: skipped", "" if shared else "(VIDPRISM_SHARED is not set)")
        return
    write(real_experts=compare_experts(real_bench(Path(shared), args.cache), args))


def tubes_model(train):
    "A head of motion tubes on the world, solved on some training clips."
    from vidprism.encoders.factory import create_encoder
    from vidprism.evaluation.benchmark import encode_world
    from vidprism.heads.base import create_head
    from vidprism.model import VideoModel

    encoder = create_encoder("flow1:colours0:mini")
    x, y = encode_world(encoder, "train", train)
    head = create_head("vidprism_tubes", encoder.dim, len(MOTIONS), x.shape[-2], channels=encoder.channels).eval()
    head.solve(x, y)
    return VideoModel(encoder, head, list(MOTIONS)).eval()


def strongest_flow(model, features):
    "Length of the flow [F,14,14] that the head reads in each cell."
    _, cells = model.head.inputs(features)
    return cells[0, ..., :MOVING_BINS].sum(-1).detach()


def tubes(args):
    "The pointing game of the experts of motion, without the last frame, and of the flow that they read."
    model, rows = tubes_model(args.train), []
    for w in clips_of_the_world(args.start, args.n):
        kept, *_ = keep_pass(model, w.frames[0])
        motion = kept.places[1:].clamp_min(0).sum(0)[:-1]
        flow = strongest_flow(model, kept.seen.pooled)
        place, size = w.place[0][:-1], w.scene.size[0][:-1]
        maps = [LayerAttribution.interpolate(x[:, None], w.frames.shape[2:4], "bilinear")[:, 0] for x in (motion, flow)]
        hits = [pointing(x, place, size).float().mean() for x in maps]
        rows.append((*hits, random_hits(place, size, *w.frames.shape[2:4]).mean()))
    found = means_of(rows, "evidence", "flow", "random")
    clips = f"world 0 test {args.start} to {args.start + args.n - 1}"
    metadata = dict(encoder=model.encoder.name, head=model.head.name, train=args.train, clips=clips)
    write(tubes=dict(**found, metadata=metadata))
    print({name: round(column["mean"], 3) for name, column in found.items()})


def train_and_measure(bench, name, args):
    "Train a head with some seeds, and measure how different the experts of each are."
    from vidprism.evaluation.protocols import close_set
    from vidprism.interpret.specialisation import in_short, measure_specialisation
    from vidprism.training.trainer import TrainConfig

    config = TrainConfig(epochs=args.epochs, lr=args.lr[0])
    grid = dict(lr=tuple(args.lr)) if len(args.lr) > 1 else None
    result = close_set(bench, name, config=config, seeds=range(args.seeds), grid=grid)
    tuning = result.record.get("tuning")
    lr = tuning[0]["chosen"]["lr"] if tuning else args.lr[0]
    measured = [measure_specialisation(h, bench.test.features, bench.test.labels) for h in result.heads]
    rows = [in_short(m) for m in measured]
    means = {k: mean(r[k] for r in rows) for k in rows[0]}
    first = {k: getattr(measured[0], k).tolist() for k in ("cka", "cosine", "overlap", "peakiness")}
    return dict(lr=lr, **means, first_seed=first)


def compare_experts(bench, args):
    """Each head trained on a bench with some seeds, and its scores on the test side.

    Of several learning rates the best on held-out training clips is taken."""
    found = {}
    for name in KINDS:
        begin = time.time()
        found[name] = train_and_measure(bench, name, args)
        shown = {k: round(v["mean"], 3) for k, v in found[name].items() if isinstance(v, dict) and "mean" in v}
        print(bench.name, name, shown, f"{time.time() - begin:.0f} s", flush=True)
    metadata = dict(
        bench=bench.name,
        train=len(bench.train.labels),
        test=len(bench.test.labels),
        epochs=args.epochs,
        seeds=args.seeds,
        encoder=bench.metadata.get("encoder"),
        num_frames=bench.metadata.get("num_frames"),
    )
    return dict(**found, metadata=metadata)


def imagenet_encoder(shared, frames):
    "A function from a clip's path to features of some frames, by MobileNet-EdgeTPU as it was trained on ImageNet."
    import timm
    import torch.nn.functional as F
    from safetensors.torch import load_file
    from vidprism.data.clips import read_clip
    from vidprism.encoders.base import Features

    net = timm.create_model("mobilenet_edgetpu_100", pad_type="same", num_classes=1001)
    net.blocks[0][0].bn1.act = torch.nn.Identity()
    weights = load_file(shared / "weights" / "mobilenet_edgetpu_100.imagenet1k.safetensors")
    net.load_state_dict({k: v.float() for k, v in weights.items()}, strict=False)
    net.eval()

    @torch.no_grad()
    def features(path):
        x = read_clip(path, frames).frames.permute(0, 3, 1, 2).float()
        x = F.interpolate(x, (224, 224), mode="bilinear", antialias=True)
        return Features(net.forward_head(net.forward_features((x - 128) / 127), pre_logits=True))

    return features


def fetch_features(shared, names, cache, frames):
    "Pooled features [N,T,D] of clips of JHMDB; with a cache, from there where they are."
    from vidprism.encoders.cache import FeatureCache

    features, store = imagenet_encoder(shared, frames), FeatureCache(cache) if cache else None

    def fetch(name):
        path = shared / "jhmdb21" / name
        if store is None:
            return features(path).pooled
        return store.fetch(f"mobilenet_edgetpu {frames} {name}", lambda: features(path)).pooled

    return torch.stack([fetch(name) for name in names])


def source_of(name):
    "The film that a clip of JHMDB was cut from: what stands before the class in its file's name."
    label, file = name.split("/")[:2]
    return file.split(f"_{label}_")[0]


def real_bench(shared, cache, frames=8, width=128):
    """JHMDB's 21 classes with a frozen ImageNet encoder, sources kept together.

    Features are turned to their first principal components, those of the training side."""
    from vidprism.data.splits import grouped_folds
    from vidprism.evaluation.benchmark import Benchmark, FeatureSplit

    lines = [line.rsplit(" ", 1) for line in (shared / "jhmdb21" / "clips.txt").read_text().splitlines()]
    names, y = [name for name, _ in lines], torch.tensor([int(label) for _, label in lines])
    x = fetch_features(shared, names, cache, frames)
    sources = [source_of(name) for name in names]
    fold = grouped_folds(y.tolist(), sources, 3, 0)[0]
    train = x[fold.train].flatten(0, 1)
    middle = train.mean(0)
    turn = torch.linalg.svd(train - middle, full_matrices=False).Vh[:width]
    x = (x - middle) @ turn.T

    def side(rows):
        rows = list(rows)
        return FeatureSplit(x[rows], y[rows], [names[i] for i in rows], [sources[i] for i in rows])

    classes = (shared / "jhmdb21" / "classes.txt").read_text().splitlines()
    metadata = dict(encoder=f"mobilenet_edgetpu_100, {width} principal components", num_frames=frames)
    return Benchmark("jhmdb21", side(fold.train), side(fold.test), classes, metadata)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=("methods", "faithfulness", "experts", "tubes"))
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
    p.add_argument("--train", type=int, default=360, help="tubes: training clips of the world")
    p.add_argument("--only-world", action="store_true", help="experts: leave the real clips out")
    p.add_argument("--cache", help="a folder for features, to keep them")
    args = p.parse_args()
    torch.set_num_threads(1)
    dict(methods=methods, faithfulness=faithfulness, experts=experts, tubes=tubes)[args.what](args)


if __name__ == "__main__":
    main()
