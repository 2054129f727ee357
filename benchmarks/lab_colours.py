"""Three frames as the colours of one picture: what the lab's colour experts read.

    python benchmarks/lab_colours.py FOLDER SHIFT ...    # FOLDER/colours_SHIFT.npy for the 650 clips
    python benchmarks/lab_colours.py FOLDER SHIFT ... --sampled    # FOLDER/sampled_SHIFT.npy

The greys of the video's frames t - SHIFT, t and t + SHIFT are the red, green and blue of a picture, which the frozen
encoder reads: what moves is coloured, what rests is grey. t are the 16 frames of each clip that the encoder sees in
the other experts; at the ends the first or last frame is repeated. With SHIFT 0 every picture is grey. With
`--sampled` SHIFT counts these 16 frames, not the video's: two or three of the video's frames in most clips. It is
resumable."""

import argparse
import sys
import torch
from pathlib import Path
from typing import NamedTuple
from vidprism.data.clips import clip_info, frame_indices, read_frames

sys.path.insert(0, str(Path(__file__).parent))
from lab_flow import fill, open_array
from mobilenet import make
from small_data import FRAMES, listed

DIM = 1280
GREY = (0.299, 0.587, 0.114)


class Greys(NamedTuple):
    "Grey frames [n,S,S], as the encoder prepares them, and the places of the 16 frames among them."

    frames: torch.Tensor
    times: torch.Tensor


def read_greys(path, encoder, sampled):
    "All frames of a video, or the 16 alone."
    total = clip_info(path).total
    times = frame_indices(total, FRAMES)
    wanted = times.tolist() if sampled else range(total)
    prepared = encoder.prepare(read_frames(path, wanted))
    greys = (prepared * torch.tensor(GREY)[:, None, None]).sum(1)
    return Greys(greys, torch.arange(FRAMES) if sampled else times)


def in_colours(greys, shift):
    "Pictures [T,3,S,S]: red is earlier, green is now, blue is later."
    last = len(greys.frames) - 1
    places = [(greys.times + step).clamp(0, last) for step in (-shift, 0, shift)]
    return torch.stack([greys.frames[place] for place in places], 1)


def write_colours(folder, shifts, sampled):
    "Fill the arrays of some shifts for every clip that they lack."
    encoder, shape = make(), (len(listed()[1]), FRAMES, DIM)
    kind = "sampled" if sampled else "colours"
    arrays = {shift: open_array(folder / f"{kind}_{shift}.npy", "float32", shape) for shift in shifts}

    def describe(greys, shift):
        return encoder.encode(in_colours(greys, shift)).pooled.numpy()

    fill(arrays, lambda path: read_greys(path, encoder, sampled), describe)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path)
    ask.add_argument("shifts", type=int, nargs="+")
    ask.add_argument("--sampled", action="store_true")
    a = ask.parse_args()
    torch.set_num_threads(1)
    write_colours(a.folder, a.shifts, a.sampled)


if __name__ == "__main__":
    main()
