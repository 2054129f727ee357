"""Optical flow at a rate, as histograms in cells: what the lab's flow experts read.

    python benchmarks/lab_flow.py FOLDER RATE ...    # FOLDER/cells56_RATE.npy for the 650 clips

Frames are the 16 of each clip that the encoder sees; the cells are those of `vidprism.encoders.flow`. It is
resumable."""

import argparse
import numpy as np
import sys
import torch
from pathlib import Path
from vidprism.data.clips import read_clip
from vidprism.encoders.flow import FLOW_BINS, FLOW_SIDE, FlowEncoder, flow_cells

sys.path.insert(0, str(Path(__file__).parent))
from mobilenet import make
from small_data import FRAMES, listed


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
    encoder, clips = FlowEncoder(make()), len(listed()[1])
    shapes = {rate: (clips, FRAMES - rate, FLOW_SIDE, FLOW_SIDE, FLOW_BINS) for rate in rates}
    arrays = {rate: open_array(folder / f"cells56_{rate}.npy", "float16", shape) for rate, shape in shapes.items()}

    def read(path):
        return encoder.grey(read_clip(path, FRAMES).frames)

    fill(arrays, read, lambda grey, rate: flow_cells(grey, rate).half().numpy())


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path)
    ask.add_argument("rates", type=int, nargs="+")
    a = ask.parse_args()
    torch.set_num_threads(1)
    write_cells(a.folder, a.rates)


if __name__ == "__main__":
    main()
