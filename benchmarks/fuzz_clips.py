"""Fuzz the readers: seeded mutations of the shipped clips, each read in a worker that is killed at its limit.

    python benchmarks/fuzz_clips.py --out benchmarks/fuzz_clips.json                   # 2,000 mutations
    python benchmarks/fuzz_clips.py --decoder decord                                   # one reader alone
    python benchmarks/fuzz_clips.py --stability DIR --out benchmarks/decord_get_batch.json
    python benchmarks/fuzz_clips.py --table DIR --out benchmarks/odd_clips.json

The file says what came out, with versions and commit. `--stability` compares decord's get_batch, walks and checked
jumps on every clip of a folder with PyAV's pass instead. `--table` compares the frames of every file of a folder with
PyAV's pass, or keeps what is said of the file.
"""

import argparse
import av
import json
import numpy as np
import platform
import subprocess
import tempfile
import time
import torch
from av.bitstream import BitStreamFilterContext
from collections import Counter
from functools import cache
from pathlib import Path
from vidprism.data.clips import frame_indices, sample_clips
from vidprism.data.decoding import _gather_jumping, _Unsafe, check_reader, first_reader, probe_clip, read_wanted
from vidprism.data.worker import Worker
from vidprism.errors import ClipError
from vidprism.files import write_json

FORMS = ("mp4", "mkv", "avi", "ts")
KINDS = ("cut", "flip", "swap")
VIDEOS = (".avi", ".mp4", ".mkv", ".webm", ".mov")


@cache
def remux(path, form):
    "The same packets in another container."
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"clip.{form}"
        with av.open(str(path)) as a, av.open(str(out), "w") as b:
            s = a.streams.video[0]
            t = b.add_stream_from_template(s)
            plain = BitStreamFilterContext("h264_mp4toannexb", s, t) if form in ("avi", "ts") else None
            for packet in a.demux(s):
                if packet.dts is None:
                    continue
                for x in plain.filter(packet) if plain else [packet]:
                    x.stream = t
                    b.mux(x)
        return out.read_bytes()


def cut(data, rng):
    "Drop the tail, the head, or a piece between."
    a, b = sorted(rng.integers(0, len(data), 2))
    return (data[:b], data[a:], data[:a] + data[b:])[rng.integers(3)]


def flip(data, rng):
    """Change 1 to 64 bytes, anywhere or in the first or last 4,000, where headers lie.

    Sometimes a whole number is changed to an extreme."""
    data, n = bytearray(data), len(data)
    anywhere, first, last = (0, n), (0, min(n, 4000)), (max(0, n - 4000), n)
    low, high = (anywhere, first, last)[rng.integers(3)]
    for at in rng.integers(low, high, 2 ** rng.integers(0, 7)):
        if rng.random() < 0.2:
            data[at : at + 4] = rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]).astype(">u4").tobytes()
        else:
            data[at] = rng.integers(256)
    return bytes(data[:n])


def atoms(data, start=0, end=None):
    "(start, end) of the boxes of an mp4, those inside of others too."
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        size, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size < 8 or at + size > end:
            return
        yield at, at + size
        if name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts"):
            yield from atoms(data, at + 8, at + size)
        at += size


def blocks(data, rng):
    "(start, end) of eight blocks of at most 2,000 bytes."
    starts = rng.integers(0, max(1, len(data) - 2000), 8).tolist()
    return [(start, start + int(rng.integers(1, 2000))) for start in starts]


def swap(data, rng):
    "Exchange two atoms that do not overlap; in another container, two blocks."
    found = list(atoms(data)) if data[4:8] == b"ftyp" else blocks(data, rng)
    for _ in range(50):
        (a, b), (c, d) = sorted(found[i] for i in rng.integers(len(found), size=2))
        if b <= c:
            return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]
    return data[::-1]


def mutation(k, seed=0):
    "Mutation k of a seed: (name, bytes); every form and kind in turn, the clip and the damage drawn."
    rng = np.random.default_rng([seed, k])
    form, kind = FORMS[k % 4], KINDS[k // 4 % 3]
    clips = sample_clips()
    path = clips[rng.integers(len(clips))]
    data = path.read_bytes() if form == "mp4" else remux(path, form)
    return f"{k:05}_{kind}.{form}", dict(cut=cut, flip=flip, swap=swap)[kind](data, rng)


def refusal(said, path):
    "One word for what a reader said."
    if "\n" in said or not said.endswith(".") or len(said.replace(str(path), "")) > 300:
        return f"WRONG: not one sentence: {said!r}"
    signs = {"did not finish": "hang", "crashed": "crash", "more memory": "memory"}
    word = next((word for sign, word in signs.items() if sign in said), "refused")
    if "crashed" in said or "finish" in said:
        word += f" ({said.split(': ')[-1]})"
    return word


def is_right(clip, height, width):
    "Whether a clip of eight frames is what it should be."
    return (
        clip.frames.shape == (8, height, width, 3)
        and clip.frames.dtype == torch.uint8
        and clip.total >= 1
        and torch.equal(clip.indices, frame_indices(clip.total, 8))
        and clip.times.shape == (8,)
        and bool(clip.times.isfinite().all())
        # times rise from each frame to a later one
        and torch.equal(clip.times.diff() > 0, clip.indices.diff() > 0)
        and 0 < clip.fps < float("inf")
    )


def judge(worker, path, limit, decoder=None):
    "One word for what came out: read, refused, hang, crash, memory; or what is wrong with it."
    try:
        clip = worker.call("data.clips.read_clip", path, num_frames=8, decoder=decoder, timeout=limit)
        size = worker.call("data.decoding.probe_clip", path, timeout=limit)
    except ClipError as e:
        return refusal(str(e), path)
    except Exception as e:
        return f"WRONG: {type(e).__name__}: {e}"
    h, w = size.size[:: -1 if size.turn[0] else 1]
    if is_right(clip, h, w):
        return f"read by {clip.decoder}"
    shape, times = tuple(clip.frames.shape), clip.times.tolist()
    return f"WRONG: {shape} of {(h, w)}, {clip.total} frames, times {times}, {clip.fps} fps"


def fuzz(ks, seed=0, limit=10.0, decoder=None, memory=4.0, say=None):
    """Judge mutations: {name: word}, and the longest call in seconds.

    What reaches its limit is tried once more with four times that: a busy machine is no hang."""
    words, longest = {}, 0.0
    with tempfile.TemporaryDirectory() as folder, Worker(memory) as worker:
        for k in ks:
            name, data = mutation(k, seed)
            path = Path(folder) / name
            path.write_bytes(data)
            worker.start()
            begin = time.time()
            words[name] = judge(worker, path, limit, decoder).replace(folder, "")
            if words[name].startswith("hang"):
                worker.start()
                begin = time.time()
                words[name] = judge(worker, path, 4 * limit, decoder).replace(folder, "")
            longest = max(longest, time.time() - begin)
            path.unlink()
            if say:
                say(name, words[name])
    return words, longest


def distances(frames, truth):
    "Mean difference of each frame, in grey levels."
    return (frames.short() - truth.short()).abs().float().mean((1, 2, 3))


def far(frames, truth):
    "How many frames lie more than 2 grey levels off."
    return int((distances(frames, truth) > 2).sum())


def plain_pass(path):
    "Every frame, decoded in order by PyAV."
    with av.open(str(path)) as f:
        return torch.from_numpy(np.stack([x.to_ndarray(format="rgb24") for x in f.decode(video=0)]))


def count_walk(got, truth):
    "Every frame by the kit: counts."
    n = len(truth)
    complete = len(got.times) == n
    return {
        "clips": 1,
        "frames": n,
        "counts that differ": not complete,
        f"by {got.decoder}": 1,
        "walked wrong": far(got.frames, truth[got.indices]) if complete else n,
    }


def count_batch(reader, truth, i):
    "decord's get_batch of some frames, asked twice: counts."
    a, b = (torch.from_numpy(reader.get_batch(i.tolist()).asnumpy()) for _ in range(2))
    same = torch.equal(a, b)
    return {"get_batch frames": 8, "get_batch wrong": far(a, truth[i]), "get_batch not the same twice": not same}


def count_jumps(path, truth, i):
    "Some frames by checked jumps: counts."
    try:
        frames = _gather_jumping(probe_clip(path), i, lambda f: f)
    except _Unsafe:
        return {"jumps refused": 1}
    return {"jumped frames": 4, "jumped wrong": far(frames, truth[i])}


def stability(folder):
    "decord's get_batch (sorted and not, each asked twice), its walk and checked jumps, against PyAV's plain pass."
    import decord

    total, rng, seconds = Counter(), np.random.default_rng(0), Counter()

    def timed(what, call, *args):
        "The result of a call, whose time is added to that of its kind."
        begin = time.time()
        result = call(*args)
        seconds[what] += time.time() - begin
        return result

    for path in sorted(p for p in Path(folder).rglob("*.*") if p.suffix in VIDEOS):
        truth = timed("plain pass", plain_pass, path)
        n = len(truth)
        got = timed("every frame by the kit", read_wanted, path, torch.arange)
        total.update(count_walk(got, truth))
        reader = decord.VideoReader(str(path), num_threads=1)
        total.update(count_batch(reader, truth, torch.from_numpy(rng.integers(0, n, 8)).sort()[0]))
        total.update(count_batch(reader, truth, torch.from_numpy(rng.integers(0, n, 8))))
        i = torch.from_numpy(rng.integers(0, n, 4))
        total.update(timed("four frames by checked jumps", count_jumps, path, truth, i))
    return dict(total) | {f"seconds, {k}": round(v, 1) for k, v in seconds.items()}


def upright(frame):
    "A frame of PyAV, turned as its file says, as a tensor."
    return torch.from_numpy(np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90).copy())


def farthest(path, frames):
    "The largest distance of a frame from PyAV's plain pass, in mean grey levels."
    with av.open(str(path)) as f:
        pairs = zip(f.decode(video=0), frames, strict=True)
        return max((upright(x).short() - y).abs().float().mean().item() for x, y in pairs)


def table(folder):
    """Every file of a folder: who read it, how many frames, and how far the farthest lies from PyAV's plain pass.

    Or the sentence, where it is not read."""
    rows = {}
    for path in sorted(Path(folder).iterdir()):
        try:
            got = read_wanted(path, torch.arange)
        except ClipError as e:
            rows[path.name] = str(e).replace(str(path), path.name)
            continue
        rows[path.name] = dict(
            decoder=got.decoder,
            frames=len(got.times),
            promised=got.probe.promised,
            height=got.frames.shape[1],
            width=got.frames.shape[2],
            fps=got.fps,
            says_fps=round(got.probe.rate, 3),
            codec=got.probe.codec,
            farthest=round(farthest(path, got.frames), 3),
        )
    for name, row in rows.items():
        print(f"{name:28}", row if isinstance(row, str) else "  ".join(f"{k} {v}" for k, v in row.items()))
    return dict(files=rows)


def metadata():
    "What ran: versions, and the commit where there is one."
    command = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    libraries = {k: v for k, v in av.library_versions.items() if k in ("libavcodec", "libavformat")}
    ffmpeg = {k: ".".join(map(str, v)) for k, v in libraries.items()}
    return dict(
        python=platform.python_version(),
        av=av.__version__,
        decord=check_reader("decord") if first_reader() == "decord" else None,
        torch=torch.__version__,
        **ffmpeg,
        commit=commit,
    )


def loud(name, word):
    "Print what is wrong as it comes."
    if word.startswith(("WRONG", "hang", "crash", "memory")):
        print(name, word, flush=True)


def fuzz_report(args):
    "Fuzz, and count what came out."
    ks = range(args.first, args.first + args.count)
    words, longest = fuzz(ks, args.seed, args.limit, args.decoder, say=loud)
    kinds = Counter((name.partition("_")[2], word.split(":")[0]) for name, word in words.items())
    return dict(
        seed=args.seed,
        mutations=len(words),
        limit_s=args.limit,
        outcomes=dict(Counter(word.split(":")[0] for word in words.values())),
        by_kind={" ".join(k): n for k, n in sorted(kinds.items())},
        longest_call_s=round(longest, 2),
    )


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--count", type=int, default=2000)
    p.add_argument("--first", type=int, default=0)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--limit", type=float, default=10.0)
    p.add_argument("--decoder", choices=("decord", "pyav"))
    p.add_argument("--out")
    p.add_argument("--stability", metavar="DIR")
    p.add_argument("--table", metavar="DIR")
    args = p.parse_args()
    torch.set_num_threads(1)
    begin = time.time()
    if args.stability:
        result = stability(args.stability)
    elif args.table:
        result = table(args.table)
    else:
        result = fuzz_report(args)
    result = dict(result, seconds=round(time.time() - begin, 1), **metadata())
    print(json.dumps(result, indent=1))
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
