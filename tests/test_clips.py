"Real clips against a plain sequential decode by PyAV; odd files; bad input. Skips by name where the shared clips are missing."
from pathlib import Path
import os
import numpy as np, pytest, torch
from vidprism.clips import (ClipError, ConfigError, clip_info, frame_indices, read_clip, read_frames, read_views, sample_clips, view_indices)

av = pytest.importorskip("av")
ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VIDPRISM_SHARED", ROOT.parent / "shared"))
ORDINARY = ["applying_eye_makeup.avi", "archery.avi", "arm_wrestling.mp4", "basketball.mp4", "bears.mp4", "cleaning_pool.mp4",
            "flipping_pancake.mkv", "weightlifting.mp4"]
READABLE = {"bogus_fps_1000.mkv": 30, "odd_size_161x121.webm": 30, "one_frame.mp4": 1, "rotated_90.mov": 3, "unordered_pts.mov": 4,
            "variable_rate_7_frames.mp4": 7}
REFUSED = {"animated.gif": "GIF", "audio_only.mp4": "no video stream", "av1.mp4": "av01", "corrupted.mp4": "damaged"}


def shared(*parts):
    "A shared file, or skip by its name."
    path = SHARED.joinpath(*parts)
    if not path.exists(): pytest.skip(f"{'/'.join(parts)} is not here")
    return path


def in_order(path):
    "All frames upright, and their times, by PyAV, in order."
    with av.open(str(path)) as f:
        got = [(np.rot90(x.to_ndarray(format="rgb24"), x.rotation // 90), x.time) for x in f.decode(video=0)]
    return torch.from_numpy(np.stack([g[0] for g in got])), [g[1] for g in got]


def off(a, b):
    "Largest of the frames' mean differences, in grey levels."
    assert a.shape == b.shape and a.dtype == b.dtype == torch.uint8
    return (a.short() - b.short()).abs().float().mean((1, 2, 3)).max().item()


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary(name):
    "Every way of asking gives the frames of a sequential decode; times agree where the container has them."
    path = shared("clips", "ordinary", name)
    truth, times = in_order(path)
    for options in (dict(), dict(frames=16), dict(frames=8), dict(seed=1), dict(frames=12, sampling="dense", stride=4, seed=2)):
        clip = read_clip(path, **options)
        assert clip.total == len(truth) and clip.decoder == "decord" and clip.path == path
        assert clip.indices.tolist() == frame_indices(len(truth), **options).tolist()
        assert off(clip.frames, truth[clip.indices]) < 2
        assert clip.times.dtype == torch.float64 and (clip.times.diff() > 0).all()
        slack = .05 if name.endswith("avi") else 1e-4                   # an AVI holds no times: one frame either way
        assert np.abs([times[i] - times[0] for i in clip.indices] - clip.times.numpy()).max() < slack
    asked = torch.cat([torch.randint(len(truth), (10,), generator=torch.Generator().manual_seed(3)), torch.tensor([len(truth) - 1, 0, 0])])
    assert off(read_frames(path, asked), truth[asked]) < 2              # unsorted, repeated, first and last
    for bad in (-1, len(truth)):
        with pytest.raises(ClipError, match="frames 0 to"): read_frames(path, [0, bad])


def test_every_frame_of_bears():
    "An edit list hides the file's first 18 frames: all 56 that are shown, and no more."
    path = shared("clips", "ordinary", "bears.mp4")
    assert clip_info(path).total == 56
    assert off(read_frames(path, range(56)), in_order(path)[0]) < 2


def test_jhmdb():
    "Every 13th of the 650: mpeg4 in AVI."
    paths = sorted(shared("jhmdb21").glob("*/*.avi"))[::13]
    assert len(paths) == 50
    for path in paths:
        truth, _ = in_order(path)
        clip = read_clip(path, 32, seed=0)
        assert clip.total == len(truth) and off(clip.frames, truth[clip.indices]) < 2, path.name


@pytest.mark.parametrize("name", READABLE)
def test_odd_readable(name):
    "Odd, and still the right frames, upright."
    path = shared("clips", "odd", name)
    truth, times = in_order(path)
    clip = read_clip(path, 9)
    assert clip.total == len(truth) == READABLE[name] and off(clip.frames, truth[clip.indices]) < 2
    assert np.abs([times[i] - times[0] for i in clip.indices] - clip.times.numpy()).max() < 1e-4


def test_rate_is_counted():
    "A container that claims 1000 frames a second is not believed."
    assert abs(clip_info(shared("clips", "odd", "bogus_fps_1000.mkv")).fps - 30) < .1


def test_4k():
    "An upright 4K picture, and views of it that are small."
    path = shared("clips", "odd", "portrait_4k.mp4")
    assert clip_info(path)[0::3] == (18, 3840) and clip_info(path).width == 2160
    assert off(read_frames(path, [17, 3]), in_order(path)[0][[17, 3]]) < 2
    assert read_views(path, 4, 2, 3, 64).shape == (6, 4, 64, 64, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_odd_refused(name):
    "One clear sentence."
    with pytest.raises(ClipError, match=REFUSED[name]) as e: read_clip(shared("clips", "odd", name))
    assert "\n" not in str(e.value) and len(str(e.value)) < 400 and str(e.value).endswith(".")


def test_cut_short(tmp_path):
    "The first half of a real file: refused, or only frames that are right."
    for name in ("basketball.mp4", "flipping_pancake.mkv"):
        data = shared("clips", "ordinary", name).read_bytes()
        path = tmp_path / name; path.write_bytes(data[:len(data) // 2])
        try: clip = read_clip(path, 8)
        except ClipError: continue
        assert off(clip.frames, in_order(path)[0][clip.indices]) < 2


def test_bad_input(tmp_path):
    "Each said in one sentence, by type and from the outside."
    (tmp_path / "empty.mp4").touch(); (tmp_path / "text.mp4").write_text("words\n" * 100)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    for name, says in {"none.mp4": "does not exist", "": "is a folder", "empty.mp4": "is empty", "text.mp4": "is text", "noise.mp4": "not a video"}.items():
        for read in (read_clip, clip_info, read_views, lambda p: read_frames(p, [0])):
            with pytest.raises(ClipError, match=says) as e: read(tmp_path / name)
            assert "\n" not in str(e.value)
    for bad in (dict(frames=0), dict(frames=-3), dict(sampling="random"), dict(stride=0)):
        with pytest.raises(ConfigError): read_clip(tmp_path / "none.mp4", **bad)


def test_samples():
    "The shipped clips open, and a string is as good as a Path."
    for path in sample_clips():
        clip = read_clip(str(path), 4)
        assert clip.frames.shape[0] == 4 and clip.total == clip_info(path).total > 1


def test_views():
    assert sorted(view_indices(300, 8, 4).flatten().tolist()) == frame_indices(300, 32).tolist()
