"""Three frames as the colours of one picture: what the lab's colour experts read.

    python benchmarks/lab_colours.py FOLDER SHIFT ...    # FOLDER/colours_SHIFT.npy for the 650 clips

The greys of the video's frames t - SHIFT, t and t + SHIFT are the red, green and blue of a picture, which the frozen
encoder reads: what moves is coloured, what rests is grey. t are the 16 frames of each clip that the encoder sees in
the other experts; at the ends the first or last frame is repeated. With SHIFT 0 every picture is grey. It is
resumable."""

import argparse
import numpy as np
import sys
import torch
from pathlib import Path
from vidprism.data.clips import clip_info, frame_indices, read_frames

sys.path.insert(0, str(Path(__file__).parent))
from lab_flow import GREY
from mobilenet import make
from small_data import FRAMES, listed

DIM = 1280


def all_greys(path, encoder):
    "All frames of a video in grey, as the encoder prepares them: [total,S,S]."
    total = clip_info(path).total
    prepared = encoder.prepare(read_frames(path, range(total)))
    return (prepared * torch.tensor(GREY)[:, None, None]).sum(1)


def in_colours(greys, times, shift):
    "Pictures [T,3,S,S] from greys [total,S,S]: red is earlier, green is now, blue is later."
    last = len(greys) - 1
    places = [(times + step).clamp(0, last) for step in (-shift, 0, shift)]
    return torch.stack([greys[place] for place in places], 1)


def open_features(file, clips):
    "The file's array, made where it is missing."
    if file.exists():
        return np.lib.format.open_memmap(file, "r+")
    return np.lib.format.open_memmap(file, "w+", "float32", (clips, FRAMES, DIM))


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path)
    ask.add_argument("shifts", type=int, nargs="+")
    a = ask.parse_args()
    torch.set_num_threads(1)
    root, items, _, _ = listed()
    encoder = make()
    arrays = {shift: open_features(a.folder / f"colours_{shift}.npy", len(items)) for shift in a.shifts}
    with torch.inference_mode():
        for i, item in enumerate(items):
            left = [shift for shift in a.shifts if not arrays[shift][i].any()]
            if left:
                greys = all_greys(root / item, encoder)
                times = frame_indices(len(greys), FRAMES)
            for shift in left:
                arrays[shift][i] = encoder.encode(in_colours(greys, times, shift)).pooled.numpy()


if __name__ == "__main__":
    main()
