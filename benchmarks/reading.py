"""Frames read a second, side by side in one run: the kit against the bare loops of decord, PyAV and torchcodec.

    python benchmarks/reading.py                 # 8 and 32 sparse frames, real clips beside the checkout
    python benchmarks/reading.py --every 13      # each 13th clip, to try it out
    python benchmarks/reading.py --workers 4

The kit reads in N processes (`torch.utils.data.DataLoader` over `read_clip`), as it does in training, and also in N
threads; a bare loop runs in N threads and does what its reader's manual says. All return the same frames. The
competitors take turns, so that a busy machine hits all alike. The result is benchmarks/reading.json: medians of
seconds, and the median over the rounds of time(other) / time(ours). Clips that a bare loop cannot read are left out for
all, and counted."""

import argparse
import av
import numpy as np
import platform
import statistics
import time
import torch
from concurrent.futures import ThreadPoolExecutor
from mobilenet import SHARED
from pathlib import Path
from torch.utils.data import DataLoader, Dataset
from vidprism.data.clips import frame_indices, read_clip, sample_clips
from vidprism.data.decoding import check_reader, reader_fault
from vidprism.errors import ClipError
from vidprism.files import write_json

FILE = Path(__file__).with_name("reading.json")


def by_decord(path, count: int):
    "decord's get_batch."
    import decord

    reader = decord.VideoReader(str(path), num_threads=1)
    return reader.get_batch(frame_indices(len(reader), count).tolist()).asnumpy()


def by_pyav(path, count: int):
    "PyAV's decode, up to the last frame that is wanted; only those are converted."
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        stream.thread_count = 1
        total = stream.frames or sum(1 for packet in file.demux(stream) if packet.size)
        file.seek(0)
        wanted = frame_indices(total, count).tolist()
        kept = {}
        for k, frame in enumerate(file.decode(stream)):
            if k in wanted:
                kept[k] = frame.to_ndarray(format="rgb24")
            if k == wanted[-1]:
                break
    last = max(kept)
    return np.stack([kept[min(k, last)] for k in wanted])


def by_torchcodec(path, count: int):
    "torchcodec's get_frames_at."
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=1)
    return decoder.get_frames_at(frame_indices(decoder.metadata.num_frames, count).tolist()).data


LOOPS = dict(decord=by_decord, pyav=by_pyav, torchcodec=by_torchcodec)
WAYS = dict(ours=None, ours_fast="fast")  # what `read_clip` is told: its default, and what training uses
ALL_WAYS = (*WAYS, "ours_fast_in_threads")


def by_kit(path, count: int):
    "The kit's fast way, for threads of this process."
    return read_clip(path, count, decoder="fast").frames


class Reads(Dataset):
    "The frames of clips."

    def __init__(self, paths, count: int, decoder):
        self.paths = paths
        self.count = count
        self.decoder = decoder

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, place):
        return read_clip(self.paths[place], self.count, decoder=self.decoder).frames


def ours(paths, count: int, decoder, workers: int):
    "A function that reads all clips by the kit, with processes that live on."
    loader = DataLoader(
        Reads(paths, count, decoder), batch_size=None, num_workers=workers, persistent_workers=True, prefetch_factor=4
    )

    def read_all():
        for frames in loader:
            assert len(frames) == count

    return read_all


def bare(paths, count: int, loop, workers: int):
    "A function that reads all clips by a bare loop in threads."

    def read_all():
        with ThreadPoolExecutor(workers) as pool:
            for frames in pool.map(lambda path: loop(path, count), paths):
                assert len(frames) == count

    return read_all


def readable(paths, loops) -> list:
    "The clips that each bare loop and the kit can read."
    found = []
    for path in paths:
        try:
            for loop in loops.values():
                loop(path, 2)
            read_clip(path, 2)
        except (ClipError, OSError, RuntimeError, IndexError, ValueError):
            continue
        found.append(path)
    return found


def rounds(functions, repeats: int) -> dict:
    "Seconds of each function in each round; the first function of a round is another one each time."
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    names = list(functions)
    for k in range(repeats):
        for name in names[k % len(names) :] + names[: k % len(names)]:
            start = time.perf_counter()
            functions[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def over(seconds, one: str, other: str) -> dict:
    "Speed of one in that of another: the median over the rounds, and its quartiles."
    ratios = [b / a for a, b in zip(seconds[one], seconds[other])]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return dict(ratio=middle, quartiles=[low, high])


def measure(paths, count: int, workers: int, repeats: int) -> dict:
    "One row: medians, and each of our ways over each loop and over the fastest."
    loops = {name: loop for name, loop in LOOPS.items() if not reader_fault(name)}
    kept = readable(paths, loops)
    functions = {name: ours(kept, count, decoder, workers) for name, decoder in WAYS.items()}
    functions["ours_fast_in_threads"] = bare(kept, count, by_kit, workers)
    functions |= {name: bare(kept, count, loop, workers) for name, loop in loops.items()}
    seconds = rounds(functions, repeats)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    fastest = min(loops, key=medians.get)
    ratios = {way: {name: over(seconds, way, name) for name in loops} for way in ALL_WAYS}
    row = dict(clips=len(kept), left_out=len(paths) - len(kept), num_frames=count, seconds=medians, fastest=fastest)
    row["over_fastest"] = {way: ratios[way][fastest] for way in ALL_WAYS}
    row["frames_per_second"] = {name: len(kept) * count / value for name, value in medians.items()}
    return row | dict(ratios=ratios)


def parse(words=None):
    "The command line."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="each so manieth of the JHMDB clips")
    parser.add_argument("--out", type=Path, default=FILE)
    return parser.parse_args(words)


def main(words=None):
    "Measure and write."
    args = parse(words)
    jhmdb = sorted((SHARED / "jhmdb21").glob("*/*.avi"))[:: args.every]
    plain = sorted((SHARED / "clips" / "ordinary").glob("*"))
    sets = {name: paths for name, paths in dict(jhmdb=jhmdb, ordinary=plain).items() if paths}
    sets = sets or dict(shipped=sample_clips())
    versions = {name: check_reader(name) for name in LOOPS if not reader_fault(name)}
    missing = {name: reader_fault(name) for name in LOOPS if reader_fault(name)}
    machine = dict(cpus=torch.get_num_threads(), python=platform.python_version(), torch=torch.__version__)
    found = dict(
        workers=args.workers, repeats=args.repeats, readers=versions, missing=missing, machine=machine, rows={}
    )
    for name, paths in sets.items():
        for count in (8, 32):
            row = measure(paths, count, args.workers, args.repeats)
            found["rows"][f"{name}, {count} frames"] = row
            told = {way: round(value["ratio"], 2) for way, value in row["over_fastest"].items()}
            print(f"{name}, {count} frames: over {row['fastest']}, the fastest: {told}", flush=True)
            write_json(args.out, found)


if __name__ == "__main__":
    main()
