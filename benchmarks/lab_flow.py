"""Optical flow at a rate, as histograms in cells: what the lab's flow experts read.

    python benchmarks/lab_flow.py FOLDER RATE ...    # FOLDER/cells56_RATE.npy for the 650 clips

Frames are the 16 of each clip that the encoder sees, as it prepares them, in grey at 56 pixels a side. Flow between
frames `rate` apart is that of Lucas and Kanade, coarse to fine; the camera's shift, its median, is taken away.
A cell of 4x4 pixels holds 33 numbers: flow in 8 directions, the part at rest, the slopes of both components of flow in
8 directions each (motion boundaries), and edges in 8 directions. It is resumable."""

import argparse
import math
import numpy as np
import sys
import torch
import torch.nn.functional as F
from pathlib import Path
from vidprism.data.clips import read_clip

sys.path.insert(0, str(Path(__file__).parent))
from mobilenet import make
from small_data import FRAMES, listed

GREY = (0.299, 0.587, 0.114)
CELL, DIRECTIONS, REST = 4, 8, 0.25  # pixels, bins, pixels a step below which a place is at rest


def box(x, p):
    "Means over windows of 2 p + 1 pixels a side, [...,H,W]; the border is repeated."
    height, width = x.shape[-2:]
    x = F.pad(x, (p, p, p, p), mode="replicate")
    across = sum(x[..., i : i + width] for i in range(2 * p + 1))
    return sum(across[..., i : i + height, :] for i in range(2 * p + 1)) / (2 * p + 1) ** 2


def smooth(x, p=2):
    "A box twice."
    return box(box(x, p), p)


def slopes(x):
    "Central differences of [...,C,H,W] along x and along y."
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return (p[..., 1:-1, 2:] - p[..., 1:-1, :-2]) / 2, (p[..., 2:, 1:-1] - p[..., :-2, 1:-1]) / 2


def warp(x, flow):
    "Each pixel of [P,1,H,W] from where the flow [P,2,H,W] leads."
    height, width = x.shape[-2:]
    ys, xs = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    across = (xs + flow[:, 0]) * 2 / (width - 1) - 1
    down = (ys + flow[:, 1]) * 2 / (height - 1) - 1
    return F.grid_sample(x, torch.stack([across, down], -1), padding_mode="border", align_corners=True)


def refine(flow, first, second, steps, floor=1e-4):
    "Flow after some steps of Lucas and Kanade at one size; each moves a pixel by 1 at most."
    across, down = slopes(first)
    xx, xy, yy = smooth(torch.cat([across * across, across * down, down * down], 1)).split(1, 1)
    xx, yy = xx + floor, yy + floor
    for _ in range(steps):
        change = warp(second, flow) - first
        x, y = smooth(torch.cat([across * change, down * change], 1)).split(1, 1)
        step = torch.cat([xy * y - yy * x, xy * x - xx * y], 1) / (xx * yy - xy**2)
        flow = flow + step.clamp(-1, 1)
    return smooth(flow, 1)


def find_flow(first, second, levels=3, steps=2):
    "Flow [P,2,H,W] in pixels, x first, from pictures [P,1,H,W] of 0 to 1 to others."
    sizes = [(first, second)]
    for _ in range(levels - 1):
        sizes.append(tuple(F.avg_pool2d(x, 2) for x in sizes[-1]))
    flow = torch.zeros(len(first), 2, *sizes[-1][0].shape[-2:])
    for first, second in reversed(sizes):
        if flow.shape[-2:] != first.shape[-2:]:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
        flow = refine(flow, first, second, steps)
    return flow


def in_directions(x, y):
    "Lengths of vectors [P,H,W], shared between the two nearest of 8 directions: [P,8,H,W]."
    length = (x * x + y * y).sqrt()
    turn = torch.atan2(y, x) * (DIRECTIONS / (2 * math.pi)) + DIRECTIONS / 2
    below = turn.floor()
    upper = (turn - below) * length
    lower = length - upper
    below = below.long() % DIRECTIONS
    found = torch.zeros(len(x), DIRECTIONS, *x.shape[1:])
    found.scatter_add_(1, below[:, None], lower[:, None])
    return found.scatter_add_(1, ((below + 1) % DIRECTIONS)[:, None], upper[:, None])


def cells_of(grey, rate):
    "Histograms [T - rate,h,w,33] of grey frames [T,1,H,W]."
    flow = find_flow(grey[:-rate], grey[rate:])
    flow = flow - flow.flatten(2).median(-1).values[..., None, None]
    x, y = flow[:, 0], flow[:, 1]
    rest = (flow.norm(dim=1, keepdim=True) < REST).float()
    edges = in_directions(*slopes(grey[:-rate, 0]))
    maps = [in_directions(x, y), rest, in_directions(*slopes(x)), in_directions(*slopes(y)), edges]
    return F.avg_pool2d(torch.cat(maps, 1), CELL).permute(0, 2, 3, 1)


def grey_frames(path, encoder):
    "The frames of a clip as the encoder prepares them, in grey, a quarter of the size: [T,1,H,W], 0 to 1."
    mean, deviation = (torch.tensor(v)[:, None, None] for v in (encoder.how.mean, encoder.how.std))
    x = encoder.prepare(read_clip(path, FRAMES).frames) * deviation + mean
    grey = (x * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    return F.avg_pool2d(grey, 4)


def open_array(file, dtype, shape):
    "The file's array, made where it is missing."
    if file.exists():
        return np.lib.format.open_memmap(file, "r+")
    return np.lib.format.open_memmap(file, "w+", dtype, shape)


def fill(arrays, read, describe):
    "Fill arrays, by their settings, for every clip that they lack, with `describe(read(path), setting)`."
    root, items, _, _ = listed()
    with torch.inference_mode():
        for i, item in enumerate(items):
            left = [setting for setting in arrays if not arrays[setting][i].any()]
            if left:
                seen = read(root / item)
            for setting in left:
                arrays[setting][i] = describe(seen, setting)


def write_cells(folder, rates):
    "Fill FOLDER/cells56_RATE.npy for every clip that it lacks."
    encoder, clips, side = make(), len(listed()[1]), 224 // 4 // CELL
    shapes = {rate: (clips, FRAMES - rate, side, side, 4 * DIRECTIONS + 1) for rate in rates}
    arrays = {rate: open_array(folder / f"cells56_{rate}.npy", "float16", shape) for rate, shape in shapes.items()}
    fill(arrays, lambda path: grey_frames(path, encoder), lambda grey, rate: cells_of(grey, rate).half().numpy())


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path)
    ask.add_argument("rates", type=int, nargs="+")
    a = ask.parse_args()
    torch.set_num_threads(1)
    write_cells(a.folder, a.rates)


if __name__ == "__main__":
    main()
