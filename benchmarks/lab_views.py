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


VIEWS = dict(statistics=view_statistics, moving=view_moving, cells=view_cells, extremes=view_extremes)
for rate in (1, 4, 8):
    VIEWS[f"differences {rate}"] = partial(view_differences, rate)
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
