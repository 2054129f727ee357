"""Real clips against a plain sequential decode by PyAV; odd files; bad input; memory; a fuzz.

A test skips by name where the shared clips are missing."""

import av
import numpy as np
import os
import pytest
import subprocess
import sys
import torch
import zlib
from base64 import b64decode
from PIL import Image
from real import HELD, SHARED, load_script, shared
from typing import NamedTuple
from vidprism.data.clips import (
    clip_info,
    frame_indices,
    read_clip,
    read_clip_safely,
    read_frames,
    read_views,
    sample_clips,
    view_indices,
)
from vidprism.data.decoding import _gather_jumping, _spans, _Unsafe, first_reader, probe_clip, read_wanted
from vidprism.data.worker import Worker
from vidprism.errors import ClipError, ConfigError

ORDINARY = [
    "applying_eye_makeup.avi",
    "archery.avi",
    "arm_wrestling.mp4",
    "basketball.mp4",
    "bears.mp4",
    "cleaning_pool.mp4",
    "flipping_pancake.mkv",
    "weightlifting.mp4",
]
READABLE = {
    "animated.gif": 36,
    "av1.mp4": 30,
    "bogus_fps_1000.mkv": 30,
    "odd_size_161x121.webm": 30,
    "one_frame.mp4": 1,
    "rotated_90.mov": 3,
    "unordered_pts.mov": 4,
    "variable_rate_7_frames.mp4": 7,
}
BY_PYAV = ("animated.gif", "av1.mp4")
REFUSED = {"audio_only.mp4": "no video stream", "corrupted.mp4": "damaged: .*28 of 50"}
SLOW = "slow" in os.environ.get("VIDPRISM_FLAGS", "").split()
# Codecs that PyAV reads and does not write: 6 frames of VVC (96x64), and 24 of two-pass VP8 (32x32) with a hidden
# frame among its packets.
VVC = """
eNpjYGCQSSupLMgszs9lYGBiANFAbJRbYGLIwMD8Ljc/v4yBgSEntywjhQEFML8AEh8YGBlACAEYUVWh8x0Y8AImoLm2JUWJ2UB2TEk22E5mLKZ9wNBJ
jL0JcAeopKaUFANpmdSc4hIkHUBzuaB6mbbmpmQmAhkKuSnofjcCYh6G0CNgjm5GSk4RTKYsMyUVWWUYkJ/vkZiXkpMKUsOUkJuZlwZkiJTlgg1FdqZK
CkROJqUoNQ3JUTylRTkKEDaTQnFJUg6QGVBcUpyCUMPoUFaWbIgjKEAed2DwANIeMBW8PollyQo5mUllZal5yVgiQuL/fyB5BmiqM4j7nyE1npFJoAFq
FgNTP9CWWQyVDGvBgg2HWARXMJ69nDdTylXtc8vNiINMnAd4FhxtUWwW5JBU4vWoso2a9Mlzpc5EsUX6gmqLVIJcPCcp+bpFKnIHtD7kvrpSX/WVpGO3
AE9EQyOHgICWgIJCJpDWcWhoFHBw2MTBISQgkMIhyCGg08IhpOC4oFFFoKBZwXUhy4R2gQvTlaf+X3qzfs4EUFIRABKMEzsmAJ3HzdDIwJDIxNHJ/o4D
6G6utMzUHHDQiCSVFEEjXZcXghkkikvACQIWfmzgtAhUCwxnZHEQdkhGqGWDiAlA5bmgNBuU5oDSPMh8GaCZyWhmQs1h0AHKVSHFA0j8PBBLArEUKDGC
9EMx0G3J+QhzWEDytqUpJaBEa5qbCqZBQBE5gQITdVFiQUEOcmRzZEJyAUdaUSow9TIm5aYkloBz3sIOIDWI4xnoOrRoFmewPMLLeGR6QwSflH7bwfn/
HiZL/Bb80QD2zlINIMXHIDqFdaGQCnPL9IbJH76BJZaBJPgZxKYwLpTpc+LocKrg4q5DyIgCZTgb5frCWFimN/yaFzspy9qt8RLCSEEG3imiC4WWMgPt
fbm16/nlAwi9ggx8UwSBeoNYXKY3vJk8a2EsAPGl+ss=
"""
VP8 = """
eNqTcr2/eL5TWyOj03cg/tTI4vS5kcOpqaU8NSnXqb2Ryam1kUkiuCGdkQEEWOcL+s4u2eW7uzt4dYuo58q04DWNCyE8sZB12UDeMd/dPUCeUMjh9OA1
TYxKEK5M8G6gZBNr5xuIOQyRDLQCIFct0Lq+sZnfycG3ocUnsSwt3BFMuXR2OPRBFIEce30d1C1+1xsZi492QPUzzmlkUNo6p7k0L6WjkaGtNSw+LMCi
uZFR+XFzC1NSFMODCRsaFXY1KsxqZArd0BK6s5Ex9F0jA8xfTAwMIK9fKC4+m3ygOxlhavqJGa6L2139nP1dXINc2ruBDkpWyMlMKiuoSD+x0HVxh0to
kGOIp7+fS/tkAwMrMNKzNDOAAAZ5522lLjzPGxkWO7o0MjA0TGBjmMuopcCgwMB6nKO1taO1pUO2ial0l5LxdJkHExsXyPw7+Ib519kDbi7Z/dPfZM6+
u2taWeAMSc03Cy3MWBT+PWXdy3q9L2grb+fURR9/XtTINNoWlbTO8bf25t6Zs57w2/6rUpU5nbaKRSehcEmP2WmztbddOg+FdoXYMc77kT+pTuHlmpqf
v/o/5bdO389ebXuuzzb0H4ufepRr268PsTtNjhyz999e1H9CdX/lccWiW5pNRe05TD+aDzWETL+/0fzWyp2PZZnSft22zRVbZv7t7zRt7aDfyeWfGrSO
8fN2xvdWfSwQmDtn+5m3qik9Tz6bLVt+qoLFx3TfI8O3scaa2u3/Z/zZsuLv3fOvAkUNniX0zL2/VUFhRmQWr/aXL4G7/tk7cOzvk1t04ArXw1c6vA7r
bzO+b3zw//DiKrm8fMc92/beUjm9KO6t4IHFlxoZNBgWMjJwCLzhcGBYybD/AnvRjtvK0/1vf+lQ+LRo4yze/x+uWf3/2f/rP8+HUN/v0muc2vlDDx66
m7KPIfSBwQWdA5CIVQk8A0t5i6eBzLzIyMAl8IbBgkEiQvmFhLioA8PieY0MASBxdrC4nIP+F4bzLg1PHGD6pjYyVDBsBLsFrA8or2IBFl4AEmZHFd7e
yHCC4SMjAy9ImKPr0y2Wvjv8yQvuTH7EFZzOWHvZ3vbfOc6tBrlsTrV/5x9fbvdw49z3S110wOZ9AJnHj2re2kZGCZDrhKGuA7p65dSGvZp2jW7sj7Zz
dqx0CLPbzXCdhb2KQQjsSUYHhGckIjRfSMhdAnuCMQOLa+c3Mk4AuRYszL2BW0Jw9wTmEofjs/wZmPQCZxwAmbcDh3kPsJg3tZGJA7uwAXbhCJAwp8Ab
kQcMiQlA4NzAsHhuI1MDyE5QgEswqIAiRPirgzoDk/gH6wNgXStghkmgGHYBu/APrMLMCliEZzUye4Cs5gELg9MCp0PDsTJpsJeZC2ARhGrSDEyTQEXq
xN39mxsZtncBi+6PTYzlHxqZAUZXAH4=
"""


def in_order(path, only=None):
    "All frames upright (or those of some numbers), and the times of all, by PyAV, in order."
    frames, times = [], []
    with av.open(str(path)) as f:
        for k, x in enumerate(f.decode(f.streams.best("video"))):
            times.append(x.time)
            if only is None or k in only:
                frames.append(np.rot90(x.to_ndarray(format="rgb24"), x.rotation // 90))
    return torch.from_numpy(np.stack(frames)), times


def late(clip, times):
    "Largest difference, in seconds, of a clip's times from those of a sequential decode."
    return np.abs([times[i] - times[0] for i in clip.indices] - clip.times.numpy()).max()


def off(a, b):
    "Largest of the frames' mean differences, in grey levels."
    assert a.shape == b.shape and a.dtype == b.dtype == torch.uint8
    return (a.short() - b.short()).abs().float().mean((1, 2, 3)).max().item()


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary(name):
    "Every way of asking gives the frames of a sequential decode; times agree where the container has them."
    path = shared("clips", "ordinary", name)
    truth, times = in_order(path)
    for options in (
        dict(),
        dict(num_frames=16),
        dict(num_frames=8),
        dict(seed=1),
        dict(num_frames=12, sampling="dense", stride=4, seed=2),
    ):
        clip = read_clip(path, **options)
        assert clip.total == len(truth) and clip.decoder == first_reader() and clip.path == path
        assert clip.indices.tolist() == frame_indices(len(truth), **options).tolist()
        assert off(clip.frames, truth[clip.indices]) < 2
        assert clip.times.dtype == torch.float64 and (clip.times.diff() > 0).all()
        slack = 0.05 if name.endswith("avi") else 1e-4  # an AVI holds no times: one frame either way
        assert late(clip, times) < slack
    drawn = torch.randint(len(truth), (10,), generator=torch.Generator().manual_seed(3))
    asked = torch.cat([drawn, torch.tensor([len(truth) - 1, 0, 0])])
    assert off(read_frames(path, asked), truth[asked]) < 2  # unsorted, repeated, first and last
    for bad in (-1, len(truth)):
        with pytest.raises(ClipError, match="frames 0 to"):
            read_frames(path, [0, bad])


def test_every_frame_of_bears():
    "An edit list hides the file's first 18 frames: all 56 that are shown, and no more."
    path = shared("clips", "ordinary", "bears.mp4")
    assert clip_info(path).total == 56
    assert off(read_frames(path, range(56)), in_order(path)[0]) < 2


def jumped(path, truth, frames):
    "Frames got by checked jumps, each held against the truth; the number refused."
    refused = 0
    for i in frames:
        try:
            got = _gather_jumping(probe_clip(path), torch.tensor([i]), lambda f: f)
            assert off(got, truth[[i]]) < 2, f"{path.name} frame {i}"
        except _Unsafe:
            refused += 1
    return refused


@pytest.mark.parametrize("name", ORDINARY)
def test_jumps(name):
    "A checked jump gives the frame of a sequential decode, or says that it cannot."
    path = shared("clips", "ordinary", name)
    truth, _ = in_order(path)
    n = len(truth)
    refused = 3 if name == "applying_eye_makeup.avi" else 0  # its stamps tell nothing
    assert jumped(path, truth, (0, n // 3, n // 2, n - 1)) == refused
    got = read_wanted(path, lambda n: torch.tensor([n - 1, n // 2]), whole=10)  # as if it were long
    assert off(got.frames, truth[got.indices]) < 2 and len(got.times) == n


def test_jhmdb():
    "Every 13th of the 650, or with the slow flag all: mpeg4 in AVI. Their headers promise more frames than there are."
    paths = sorted(shared("jhmdb21").glob("*/*.avi"))[:: 1 if SLOW else 13]
    assert len(paths) == (650 if SLOW else 50)
    for path in paths:
        truth, times = in_order(path)
        clip = read_clip(path, 32, seed=0)
        assert clip.total == len(truth) and off(clip.frames, truth[clip.indices]) < 2, path.name
        assert late(clip, times) < 1e-4
        assert jumped(path, truth, (len(truth) - 1, len(truth) // 2)) == 0


@pytest.mark.parametrize("name", READABLE)
def test_odd_readable(name):
    "Odd, and still the right frames, upright."
    path = shared("clips", "odd", name)
    truth, times = in_order(path)
    clip = read_clip(path, 9)
    assert clip.total == len(truth) == READABLE[name]
    assert off(clip.frames, truth[clip.indices]) < 2
    assert clip.decoder == ("pyav" if name in BY_PYAV else first_reader())
    assert off(read_clip(path, 9, decoder="pyav").frames, truth[clip.indices]) == 0  # rotation by both readers
    assert late(clip, times) < 1e-4


def test_every_odd_file_has_its_test():
    names = {p.name for p in shared("clips", "odd").iterdir()}
    assert names == {*READABLE, *REFUSED, "portrait_4k.mp4"}


def test_rate_is_counted():
    "A container that claims 1000 frames a second is not believed."
    assert abs(clip_info(shared("clips", "odd", "bogus_fps_1000.mkv")).fps - 30) < 0.1


@pytest.mark.long
def test_4k():
    "An upright 4K picture, and views of it that are small."
    path = shared("clips", "odd", "portrait_4k.mp4")
    info = clip_info(path)
    assert (info.total, info.height, info.width) == (18, 3840, 2160)
    assert off(read_frames(path, [17, 3]), in_order(path, (3, 17))[0].flip(0)) < 2
    assert read_views(path, 4, 2, 3, 64).shape == (6, 4, 64, 64, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_odd_refused(name):
    "One clear sentence."
    with pytest.raises(ClipError, match=REFUSED[name]) as e:
        read_clip(shared("clips", "odd", name))
    assert "\n" not in str(e.value)
    assert len(str(e.value)) < 400
    assert str(e.value).endswith(".")


def test_cut_short(tmp_path):
    "The first half of a real file: refused, or only frames that are right."
    for name in ("basketball.mp4", "flipping_pancake.mkv"):
        data = shared("clips", "ordinary", name).read_bytes()
        path = tmp_path / name
        path.write_bytes(data[: len(data) // 2])
        try:
            clip = read_clip(path, 8)
        except ClipError:
            continue
        assert off(clip.frames, in_order(path)[0][clip.indices]) < 2


def test_bad_input(tmp_path):
    "Each said in one sentence, by type and from the outside."
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("words\n" * 100)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    for name, says in {
        "none.mp4": "does not exist",
        "": "is a folder",
        "empty.mp4": "is empty",
        "text.mp4": "is text",
        "noise.mp4": "not a video",
    }.items():
        for read in (read_clip, clip_info, read_views, lambda p: read_frames(p, [0])):
            with pytest.raises(ClipError, match=says) as e:
                read(tmp_path / name)
            assert "\n" not in str(e.value)
    for bad in (dict(num_frames=0), dict(num_frames=-3), dict(sampling="random"), dict(stride=0)):
        with pytest.raises(ConfigError):
            read_clip(tmp_path / "none.mp4", **bad)


def held(data, name, tmp_path):
    "One of the small files above, written out."
    path = tmp_path / name
    path.write_bytes(zlib.decompress(b64decode(data)))
    return path


def test_vvc(tmp_path):
    "decord cannot open VVC; PyAV reads it."
    path = held(VVC, "vvc.mp4", tmp_path)
    truth, _ = in_order(path)
    clip = read_clip(path, 6)
    assert (clip.decoder, clip.total, clip_info(path).codec) == ("pyav", 6, "vvc")
    assert off(clip.frames, truth) == 0
    refusal, says = (ClipError, "no frame") if first_reader() == "decord" else (ConfigError, "does not load")
    with pytest.raises(refusal, match=says):
        read_clip(path, decoder="decord")


def test_hidden_frame_of_vp8(tmp_path):
    "decord lists 25 frames where 24 are shown: counted, right, and at the right times."
    path = held(VP8, "vp8.webm", tmp_path)
    truth, times = in_order(path)
    clip = read_clip(path, 24)
    assert probe_clip(path).count == 25
    assert clip.total == len(truth) == 24
    assert off(clip.frames, truth[clip.indices]) == 0
    assert np.abs(clip.times.numpy() - times).max() < 1e-6


def new_stream(file, codec, width, height, **options):
    "A stream of pictures at 25 a second."
    stream = file.add_stream(codec, rate=25, **options)
    stream.width = width
    stream.height = height
    stream.pix_fmt = "yuv420p"
    return stream


def picture(array):
    "A frame of RGB bytes [H,W,3]."
    return av.VideoFrame.from_ndarray(array, format="rgb24")


def write(path, frames=20, codec="libx264", size=(64, 48), **options):
    "Moving noise."
    rng = np.random.default_rng(0)
    block = np.ones((size[1] // 4, size[0] // 4, 1))
    with av.open(str(path), "w", **options) as f:
        s = new_stream(f, codec, *size)
        s.options = {"preset": "ultrafast"} if codec == "libx264" else {}
        for _ in range(frames):
            noise = np.kron(rng.integers(0, 256, (4, 4, 3)), block)
            f.mux(s.encode(picture(noise.astype(np.uint8))))
        f.mux(s.encode())


class Pipe:
    "A file that cannot be rewound: what is written to it has no length in its header."

    def __init__(self):
        self.data = bytearray()

    def write(self, b):
        self.data += b
        return len(b)


@pytest.mark.parametrize(
    "form,codec",
    [
        ("matroska", "libx264"),
        ("webm", "libvpx-vp9"),
        ("webm", "libvpx"),
        ("flv", "libx264"),
        ("mpegts", "libx264"),
        ("h264", "libx264"),
        ("m4v", "mpeg4"),
    ],
)
def test_no_duration(form, codec, tmp_path):
    "Files written to a pipe, and raw ones: every frame, in order."
    pipe = Pipe()
    path = tmp_path / "clip"
    with av.open(pipe, "w", format=form) as f:
        s = new_stream(f, codec, 96, 64)
        for k in range(20):
            f.mux(s.encode(picture(np.full((64, 96, 3), 12 * k, np.uint8))))
        f.mux(s.encode())
    path.write_bytes(pipe.data)
    truth, _ = in_order(path)
    clip = read_clip(path, 20)
    assert clip.total == len(truth) == 20 and off(clip.frames, truth) < 2
    assert (clip.frames.float().mean((1, 2, 3)).diff() > 4).all()
    assert abs(clip.fps - 25) < 0.1


def shown(frame):
    "The number that a frame of `hour` shows in twelve bars."
    return int((np.asarray(frame)[32, 4::8, 0] > 128) @ (1 << np.arange(12)))


def bars(number):
    "A picture of a number below 4,096 in twelve bars."
    bits = number >> np.arange(12) & 1
    row = np.repeat(bits * 255, 8).astype(np.uint8)
    return picture(np.ascontiguousarray(np.broadcast_to(row[None, :, None], (64, 96, 3))))


def write_pool(path, parts, each):
    "Parts of `each` frames, encoded so that each starts with the only key frame of its own."
    keys = {"x264-params": f"keyint={each}:min-keyint={each}:scenecut=0"}
    options = dict(preset="veryfast", g=str(each), bf="2", **keys)
    with av.open(str(path), "w") as f:
        s = new_stream(f, "libx264", 96, 64, options=options)
        for k in range(parts * each):
            f.mux(s.encode(bars(k)))
        f.mux(s.encode())


class Part(NamedTuple):
    "An encoded frame; its times count from its part's first."

    data: bytes
    pts: int
    dts: int
    key: bool


def read_parts(file, stream):
    "The packets of each part, and how long a part is."
    parts, starts = [], []
    for packet in file.demux(stream):
        if not packet.size:
            continue
        if packet.is_keyframe:
            parts.append([])
            starts.append(packet.pts)
        pts, dts = packet.pts - starts[-1], packet.dts - starts[-1]
        parts[-1].append(Part(bytes(packet), pts, dts, packet.is_keyframe))
    return parts, starts[1] - starts[0]


def hour(path, parts=1800, each=50, pool=60):
    "90,000 frames at 25 a second: 1,800 parts, drawn by seed from 60 encoded ones. The number that each frame shows."
    encoded = path.with_name("pool.mp4")
    write_pool(encoded, pool, each)
    order = np.random.default_rng(0).integers(0, pool, parts)
    with av.open(str(encoded)) as a, av.open(str(path), "w") as b:
        s = a.streams.video[0]
        t = b.add_stream_from_template(s)
        kept, length = read_parts(a, s)
        for place, g in enumerate(order):
            for part in kept[g]:
                packet = av.Packet(part.data)
                packet.stream = t
                packet.time_base = s.time_base
                packet.is_keyframe = part.key
                packet.pts = place * length + part.pts
                packet.dts = place * length + part.dts
                b.mux(packet)
    return torch.from_numpy(np.repeat(order * each, each) + np.tile(np.arange(each), parts))


@pytest.mark.long
def test_an_hour(tmp_path):
    """Frames of an hour by checked jumps: the numbers shown are the ones put there.

    With the slow flag, they are also those of a sequential decode."""
    path = tmp_path / "hour.mp4"
    numbers = hour(path)
    n = len(numbers)
    if SLOW:
        with av.open(str(path)) as f:
            assert [shown(x.to_ndarray(format="rgb24")) for x in f.decode(video=0)] == numbers.tolist()
    for options in (dict(), dict(seed=1), dict(sampling="dense", stride=9, seed=2)):
        clip = read_clip(path, **options)
        assert clip.total == n == 90_000 and clip.decoder == "pyav" and clip.fps == 25
        assert [shown(f) for f in clip.frames] == numbers[clip.indices].tolist()
        assert (clip.times - clip.indices / 25).abs().max() < 1e-3
        decoded = sum(s.stop - s.start for s in _spans(probe_clip(path), clip.indices))
        assert decoded < 0.02 * n  # of the n that a walk decodes
    edges = [n - 1, 0, 49, 50, 51, 45_000, 44_999, n - 50, n - 51]
    assert [shown(f) for f in read_frames(path, edges)] == numbers[edges].tolist()


def test_images(tmp_path):
    """The frames of a shipped clip as a folder of numbered images, as data sets of frames are laid out.

    The same words give the same frames; in a worker, too."""
    source = sample_clips()[0]
    frames = read_frames(source, range(12))
    for k, f in enumerate(frames, 1):
        Image.fromarray(f.numpy()).save(tmp_path / f"img_{k:05}.png")
    clip = read_clip(tmp_path, 6, seed=1)
    assert (clip.decoder, clip.total, clip.fps) == ("images", 12, 25)
    assert torch.equal(clip.frames, frames[clip.indices])
    assert clip.indices.tolist() == frame_indices(12, 6, seed=1).tolist()
    assert clip_info(tmp_path, fps=8).seconds == 1.5 and read_views(tmp_path, 4, 1, 3, 32).shape == (3, 4, 32, 32, 3)
    with Worker() as worker:
        assert torch.equal(read_clip_safely(tmp_path, worker=worker, num_frames=6, seed=1).frames, clip.frames)
        (tmp_path / "img_00003.png").write_bytes(b"no image")
        with pytest.raises(ClipError, match="img_00003.png cannot be decoded"):
            read_clip_safely(tmp_path, worker=worker, num_frames=12)


def peak(code):
    "What a script prints, and the most memory that it held, MB."
    code += f"\nprint({HELD})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [float(x) for x in done.stdout.split()]


@pytest.mark.long
def test_8k(tmp_path):
    "Sixteen 8K pictures wanted small: the decoder's own few pictures are held, not sixteen (1,600 MB)."
    write(tmp_path / "8k.mp4", 16, size=(7680, 4320))
    code = f"""
from vidprism.data.clips import read_clip
print({HELD})
c = read_clip({str(tmp_path / "8k.mp4")!r}, 16, short=256)
print(*c.frames.shape)"""
    start, *shape, end = peak(code)
    assert shape == [16, 256, 455, 3] and end - start < 1200


@pytest.mark.long
def test_500_opens():
    "A long-lived process does not grow by 50 MB."
    names = ("animated.gif", "odd_size_161x121.webm", "rotated_90.mov", "corrupted.mp4", "audio_only.mp4")
    odd = [SHARED / "clips" / "odd" / name for name in names]
    paths = [str(p) for p in sample_clips()] + [str(p) for p in odd if p.exists()]
    code = f"""
import psutil, torch
from vidprism.data.clips import read_clip
from vidprism.errors import ClipError

def rss():
    return psutil.Process().memory_info().rss / 2**20

paths = {paths!r}
for k in range(550):
    if k == 50:
        print(rss())
    try:
        read_clip(paths[k % len(paths)], 8, decoder="pyav" if k % 3 == 0 else None)
    except ClipError:
        pass
print(rss())"""
    before, after, _ = peak(code)
    print(f"500 opens: {after - before:+.1f} MB")
    assert after - before < 50


def test_safely(tmp_path):
    "In a worker: the same clip, the same refusals, and a limit that holds."
    path = sample_clips()[0]
    with Worker() as worker:
        a, b = read_clip_safely(path, worker=worker, num_frames=4), read_clip(path, 4)
        assert torch.equal(a.frames, b.frames) and a.decoder == b.decoder
        first = worker.process.pid
        for other in sample_clips()[1:]:
            assert read_clip_safely(other, worker=worker, num_frames=4).path == other
        assert worker.process.pid == first  # one process for many files
        with pytest.raises(ClipError, match="does not exist"):
            read_clip_safely(tmp_path / "none.mp4", worker=worker)
        with pytest.raises(ConfigError, match="frames must be"):
            read_clip_safely(path, worker=worker, num_frames=0)
        for kind, says in (("hang", "decord did not finish in 1 s"), ("crash", "decord crashed")):
            with pytest.raises(ClipError, match=says):
                worker._call("trouble", "trouble", (path, kind), {}, timeout=1 if kind == "hang" else 60)
        assert read_clip_safely(path, worker=worker, num_frames=4).total == b.total


@pytest.mark.long
def test_fuzz():
    """Mutations 2,000 to 2,059, 15 of each container, and two that once broke a reader.

    None hangs, crashes or gives a wrong shape. benchmarks/fuzz_clips.py runs the first 2,000."""
    bench = load_script("benchmarks", "fuzz_clips")
    words, _ = bench.fuzz([739, 762, *range(2000, 2060)])
    bad = {k: w for k, w in words.items() if not w.startswith(("read", "refused"))}
    readers = {first_reader(), "pyav"}
    assert not bad and len({w for w in words.values()}) == len(readers) + 1  # some read by each reader, some refused


def test_samples():
    "The shipped clips open, and a string is as good as a Path."
    for path in sample_clips():
        clip = read_clip(str(path), 4)
        assert clip.frames.shape[0] == 4 and clip.total == clip_info(path).total > 1


def test_views():
    assert sorted(view_indices(300, 8, 4).flatten().tolist()) == frame_indices(300, 32).tolist()
