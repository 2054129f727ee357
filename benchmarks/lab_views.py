"""What the lab's experts read: a vector of each clip, from arrays that are computed once and kept in a folder.

`features.pt` is the file of `small_data.py features`."""

import numpy as np
import torch
from functools import cache, partial
from small_data import CELLS
from vidprism.heads.lowdata import STATISTICS, power, time_statistics


@cache
def kept_features(folder):
    "Pooled features [N,T,D], and their motion [N,T,(cells + 1) D]."
    found = torch.load(folder / "features.pt")
    return found["pooled"].float(), found["motion"].float()


def in_blocks(blocks):
    "Blocks [N,d] side by side, [N,sum d]."
    return torch.cat(blocks, -1).numpy().astype(np.float32)


def four_statistics(x):
    "The four time statistics of [N,T,D] after the signed root."
    return in_blocks(time_statistics(x, tuple(STATISTICS), 0.5))


def view_statistics(folder):
    "Four statistics of the pooled features: what the head `statistics` reads."
    return four_statistics(kept_features(folder)[0])


def view_moving(folder):
    "Four statistics of the appearance where something moves."
    return four_statistics(kept_features(folder)[1][..., CELLS**2 * 1280 :])


def view_cells(folder):
    "How far each quadrant strays from its mean, averaged over time."
    return in_blocks(time_statistics(kept_features(folder)[1][..., : CELLS**2 * 1280], ("mean",), 0.5))


def view_extremes(folder):
    "Largest and smallest value of each pooled feature over time, after the signed root."
    x = power(kept_features(folder)[0])
    return in_blocks([x.amax(1), x.amin(1)])


def view_differences(rate, folder):
    "Mean rise and mean fall of each pooled feature over a rate's frames, after the signed root."
    x = power(kept_features(folder)[0])
    steps = x[:, rate:] - x[:, :-rate]
    return in_blocks([steps.relu().mean(1), (-steps).relu().mean(1)])


def view_colours(kind, shift, folder):
    "Four statistics of what the encoder makes of three frames as colours: see `lab_colours.py`."
    return four_statistics(torch.from_numpy(np.load(folder / f"{kind}_{shift}.npy")))


def read_cells(folder, rate):
    "Histograms of flow and edges in cells of 4 pixels, [N,T - rate,14,14,33] float16: see `lab_flow.py`."
    return np.load(folder / f"cells56_{rate}.npy", mmap_mode="r")


def layout(cells):
    "Means of rooted histograms over time: of the picture, its 2x2 and 4x4 parts; and how they stray over time."
    x = torch.from_numpy(np.asarray(cells, np.float32)).clamp_min(0).sqrt()
    maps = x.permute(0, 3, 1, 2)
    parts = [torch.nn.functional.adaptive_avg_pool2d(maps, n).flatten(1) for n in (1, 2, 4)]
    half = len(x) // 2
    drift = parts[1][half:].mean(0) - parts[1][:half].mean(0)
    return torch.cat([*[p.mean(0) for p in parts], parts[1].std(0), drift])


def second_moments(cells):
    "Products of all pairs of rooted histogram bins and places, averaged over the clip; signed roots."
    x = torch.from_numpy(np.asarray(cells, np.float32)).clamp_min(0).sqrt()
    time, height, width, _ = x.shape
    axes = [torch.linspace(-1, 1, n) for n in (time, height, width)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    x = torch.cat([x, 0.5 * places, torch.ones_like(x[..., :1])], -1).flatten(0, 2)
    products = x.T @ x / len(x)
    upper = torch.triu_indices(*products.shape)
    found = products[upper[0], upper[1]]
    return found.sign() * found.abs().sqrt()


def of_each_clip(make, cells):
    "`make` of the cells of every clip, [N,d]."
    return torch.stack([make(clip) for clip in cells]).numpy()


def view_layout(rate, folder):
    "Where in the picture flow goes where, at a rate."
    return of_each_clip(layout, read_cells(folder, rate))


def view_moments(rate, folder):
    "Which flows, edges and places go together, at a rate."
    return of_each_clip(second_moments, read_cells(folder, rate))


def tubes_of(cells, frames, kept=98):
    """The tubes of a clip that move most, each a vector of rooted histograms of length 1: [kept,396].

    A tube is 2x2 cells in space and 3 tokens in time, each the mean of some frames: this is the expert's rate."""
    x = torch.from_numpy(np.asarray(cells, np.float32)).clamp_min(0)
    length = 3 * frames
    starts = range(0, len(x) - length + 1, (length + 1) // 2)
    chunks = torch.stack([x[i : i + length].unflatten(0, (3, frames)).mean(1) for i in starts])
    tubes = chunks.unflatten(2, (7, 2)).unflatten(4, (7, 2)).permute(0, 2, 4, 1, 3, 5, 6).flatten(0, 2).flatten(1, 3)
    fastest = tubes[..., :8].sum((1, 2)).topk(min(kept, len(tubes))).indices
    kinds = tubes[fastest].sqrt().split([9, 8, 8, 8], -1)
    return torch.cat([torch.nn.functional.normalize(kind.flatten(1), dim=-1) for kind in kinds], -1)


def fit_mixture(x, components=16, rounds=12):
    "Weights, means and variances of a mixture of Gaussians with diagonal covariance of [n,d]."
    generator = torch.Generator().manual_seed(0)
    means = x[torch.randperm(len(x), generator=generator)[:components]]
    variances, weights = x.var(0).expand_as(means), x.new_full((components,), 1 / components)
    for _ in range(rounds):
        shares = responsibilities(x, weights, means, variances)
        mass = shares.sum(0)[:, None] + 1e-3
        means = shares.T @ x / mass
        variances = (shares.T @ x.square() / mass - means.square()).clamp_min(1e-2)
        weights = mass[:, 0] / mass.sum()
    return weights, means, variances


def responsibilities(x, weights, means, variances):
    "How much of each row of [n,d] belongs to each component, [n,K]."
    precise = 1 / variances
    distance = x.square() @ precise.T - 2 * x @ (means * precise).T + (means.square() * precise).sum(1)
    return (weights.log() - 0.5 * (distance + variances.log().sum(1))).softmax(1)


def fisher_vector(x, weights, means, variances):
    "Slopes of the log-likelihood of [n,d] by means and variances, signed roots, length 1: [2 K d]."
    shares = responsibilities(x, weights, means, variances)
    mass, deviation = shares.sum(0)[:, None], variances.sqrt()
    first = (shares.T @ x - mass * means) / deviation
    second = (shares.T @ x.square() - 2 * means * (shares.T @ x) + mass * means.square()) / variances - mass
    scale = len(x) * weights.sqrt()[:, None]
    found = torch.cat([first / scale, second / (scale * 2**0.5)]).flatten()
    return torch.nn.functional.normalize(found.sign() * found.abs().sqrt(), dim=0)


@cache
def read_tubes(folder, rate, frames):
    "The tubes of every clip, of flow at a rate and tokens of some frames, a list of [n,396]."
    return [tubes_of(clip, frames) for clip in read_cells(folder, rate)]


def view_tubes(rate, frames, folder, train, width=48):
    "Fisher vectors of tubes; their axes and mixture are those of the training clips' tubes."
    tubes = read_tubes(folder, rate, frames)
    seen = torch.cat([tubes[i][::8] for i in train])
    middle = seen.mean(0)
    values, vectors = torch.linalg.eigh((seen - middle).T @ (seen - middle) / len(seen))
    axes = vectors[:, -width:] / values[-width:].sqrt()
    mixture = fit_mixture((seen - middle) @ axes)
    return torch.stack([fisher_vector((x - middle) @ axes, *mixture) for x in tubes]).numpy()


VIEWS = dict(statistics=view_statistics, moving=view_moving, cells=view_cells, extremes=view_extremes)
for rate in (1, 4, 8):
    VIEWS[f"differences {rate}"] = partial(view_differences, rate)
for shift in (0, 1, 4):
    VIEWS[f"colours {shift}"] = partial(view_colours, "colours", shift)
    VIEWS[f"sampled colours {shift}"] = partial(view_colours, "sampled", shift)
for rate in (1, 2, 4):
    VIEWS[f"layout {rate}"] = partial(view_layout, rate)
    VIEWS[f"moments {rate}"] = partial(view_moments, rate)


@cache
def read_view(folder, name):
    "The vectors of a view, [N,d] float32; computed once and kept in the folder."
    file = folder / "views" / f"{name}.npy"
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        np.save(file, VIEWS[name](folder).astype(np.float32))
    return np.load(file)


# These learn from the training clips.
LEARNED = {f"tubes {rate}": partial(view_tubes, rate, 2) for rate in (1, 4)}
LEARNED |= {"short tubes 1": partial(view_tubes, 1, 1), "long tubes 1": partial(view_tubes, 1, 4)}


def view_for(folder, name, train):
    "The vectors of a view for a training side, [N,d]."
    return LEARNED[name](folder, train) if name in LEARNED else read_view(folder, name)
