"""What the lab's experts read: a vector of each clip, from arrays that are computed once and kept in a folder.

`features.pt` is the file of `small_data.py features`."""

import numpy as np
import torch
from functools import cache
from small_data import CELLS
from vidprism.heads.lowdata import STATISTICS, time_statistics


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


VIEWS = dict(statistics=view_statistics, moving=view_moving, cells=view_cells)


@cache
def read_view(folder, name):
    "The vectors of a view, [N,d] float32."
    return VIEWS[name](folder)
