"""Readers that are missing, do not load, or are asked for by name: decord kept away, torchcodec, padded rows."""

import av
import json
import numpy as np
import os
import pytest
import subprocess
import sys
import torch
import torch.nn.functional as F
from pathlib import Path
from real import ROOT, shared
from vidprism.data.clips import frame_indices, read_clip, read_clip_safely, sample_clips
from vidprism.data.decoding import first_reader, reader_fault
from vidprism.encoders.base import Features
from vidprism.encoders.cache import FeatureCache, clip_key
from vidprism.errors import ClipError, ConfigError

needs_decord = pytest.mark.skipif(bool(reader_fault("decord")), reason="decord does not load")
needs_torchcodec = pytest.mark.skipif(bool(reader_fault("torchcodec")), reason="torchcodec does not load")
# A program without some packages: its finder comes first, and child processes that it starts get it too.
WITHOUT = """
import sys

class Kept:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Kept())
"""


def without(names, program, tmp_path, **environ):
    "Run a program in which some packages cannot be imported, in its child processes either."
    folder = tmp_path / "kept_away"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(WITHOUT.format(names=set(names)))
    path = os.pathsep.join([str(folder), str(ROOT)])
    env = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", **environ}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=580, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbered(path, total, codec="libx264", size=(96, 64)):
    "A clip whose frames are told apart by their grey."
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for k in range(total):
            grey = np.full((size[1], size[0], 3), 8 * k + 4, np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        file.mux(stream.encode())


FORMS = {"a.mp4": "libx264", "a.mkv": "libx264", "a.avi": "mpeg4", "a.webm": "libvpx-vp9"}
READS = """
import json, sys, vidprism
from vidprism.data.clips import clip_info, read_clip, read_clip_safely, read_views
found = {}
for name in sys.argv[1:] or json.loads(NAMES):
    clip, safe = read_clip(name, 12), read_clip_safely(name, num_frames=12)
    assert (clip.frames == safe.frames).all()
    assert read_views(name, 4, 2, 1, 32).shape == (2, 4, 32, 32, 3)
    found[name] = [clip.decoder, clip_info(name).decoder, clip.frames.float().mean((1, 2, 3)).tolist()]
    if not name.endswith("frames"):
        assert (read_clip(name, 12, decoder="fast").frames == clip.frames).all()
assert "decord" not in sys.modules
print(json.dumps(found))
"""


@pytest.mark.long
def test_everything_is_read_without_decord(tmp_path):
    "mp4, mkv, avi, webm, pictures: the frames and their order, in this process, in a worker, as views, the fast way."
    from PIL import Image

    for name, codec in FORMS.items():
        numbered(tmp_path / name, 24, codec)
    (tmp_path / "frames").mkdir()
    for k in range(24):
        Image.new("RGB", (96, 64), (8 * k + 4,) * 3).save(tmp_path / "frames" / f"{k:03}.png")
    names = [str(tmp_path / name) for name in (*FORMS, "frames")]
    program = f"NAMES = {json.dumps(json.dumps(names))}\n{READS}"
    found = json.loads(without({"decord"}, program, tmp_path).splitlines()[-1])
    truth = (8 * frame_indices(24, 12) + 4).float()
    for name in names:
        decoder, info, greys = found[name]
        assert decoder == info == ("images" if name.endswith("frames") else "pyav")
        assert (torch.tensor(greys) - truth).abs().max() < 4, name


WORKS = """
import contextlib, io, sys, torch
from pathlib import Path
from vidprism import create_encoder, sample_clips, sample_model
from vidprism.cli import main
from vidprism.data.clips import read_clip
from vidprism.errors import ConfigError

clips = sample_clips()[:2]
encoder = create_encoder("mini")
assert encoder(read_clip(clips[0], 4).frames[None]).pooled.shape[:2] == (1, 4)
model = sample_model()
assert all(model.predict(clip)[0][0] for clip in clips)
try:
    read_clip(clips[0], decoder="decord")
except ConfigError as error:
    assert "decord does not load here" in str(error) and "\\n" not in str(error), error
else:
    raise AssertionError("a missing reader is not refused")


def command(*words):
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            code = main(list(words))
        except SystemExit as end:
            code = end.code
    return code or 0, told.getvalue()


Path("clips.txt").write_text("".join(f"{clip} 0\\n" for clip in clips))
code, told = command("features", "clips.txt", "--encoder", "mini", "--cache", "kept")
assert code == 0 and list(Path("kept").glob("*.safetensors")), (code, told)
code, told = command("doctor")
assert code == 0 and "fails" not in told, (code, told)
line = next(line for line in told.splitlines() if " decord " in line)
assert line.startswith("note") and "does not load" in line, line
assert "pyav" in told.lower()
assert "decord" not in sys.modules
print("works")
"""


@pytest.mark.long
def test_the_kit_works_without_decord(tmp_path):
    "An encoder, a model's answer, `vidprism features` and `doctor`; a missing reader is said in a sentence."
    assert without({"decord"}, WORKS, tmp_path).splitlines()[-1] == "works"


BROKEN = '''raise RuntimeError("""Could not load libtorchcodec. Likely causes:
    1. FFmpeg is not properly installed in your environment.
    2. many more lines""")
'''


@pytest.mark.long
def test_a_torchcodec_that_does_not_load(tmp_path):
    "Missing, broken like torchcodec without FFmpeg, too old: one sentence, before the file is opened."
    program = (
        "from vidprism.data.clips import read_clip\nfrom vidprism.errors import ConfigError\n"
        "try:\n    read_clip('there is no such file.mp4', decoder='torchcodec')\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    old = "class VideoDecoder:\n    def __init__(self, source):\n        raise ValueError('no video')\n"
    late = old.replace("ValueError('no video')", "RuntimeError('Could not load libtorchcodec. Likely causes: many')")
    fakes = dict(missing=None, broken=BROKEN, old=old, late=late)
    says = dict(missing="No module named", broken="Could not load", old="older than 0.7", late="Could not load")
    for name, text in fakes.items():
        folder = tmp_path / name
        (folder / "torchcodec").mkdir(parents=True)
        (folder / "torchcodec" / "__init__.py").write_text(text if name == "broken" else "")
        (folder / "torchcodec" / "decoders.py").write_text(text or "")
        (folder / "torchcodec-0.1.dist-info").mkdir()
        (folder / "torchcodec-0.1.dist-info" / "METADATA").write_text("Name: torchcodec\nVersion: 0.1\n")
        put = f"import sys\nsys.path.insert(0, {str(folder)!r})\n" if text else ""
        told = without({"torchcodec"} if text is None else (), put + program, tmp_path)
        assert told.startswith("torchcodec does not load here (") and told.count("\n") == 1, (name, told)
        assert says[name] in told and "ffmpeg" in told and "vidprism[torchcodec]" in told, (name, told)


@needs_decord
@pytest.mark.parametrize("clip", range(3))
def test_padded_rows_of_decord(clip):
    "Any width, and those at which decord counts the padding of a row as channels: the picture that PyAV scales."
    path = sample_clips()[5 * clip]
    for short in (1, 2, 3, 5, 6, 7, 8, 12, 16, 17, 24, 33, 48, 63, 72, 100):
        ours = read_clip(path, 3, short=short, decoder="decord").frames
        theirs = read_clip(path, 3, short=short, decoder="pyav").frames
        assert ours.shape == theirs.shape and ours.is_contiguous()
        # Both scale with FFmpeg's bilinear filter; its versions may round a pixel differently.
        assert (ours.float() - theirs.float()).abs().mean() < 1, short


@needs_decord
@pytest.mark.parametrize("size", [(16, 16), (48, 32), (72, 48), (32, 96), (24, 50)])
def test_narrow_files(size, tmp_path):
    "A file that is itself as narrow: nothing is scaled."
    numbered(tmp_path / "narrow.avi", 6, "mpeg4", size)
    ours = read_clip(tmp_path / "narrow.avi", 6, decoder="decord").frames
    theirs = read_clip(tmp_path / "narrow.avi", 6, decoder="pyav").frames
    assert ours.shape == theirs.shape
    assert (ours.float() - theirs.float()).abs().mean() < 1


def in_order(path):
    "All frames upright, by PyAV, in order."
    with av.open(str(path)) as file:
        pictures = file.decode(file.streams.best("video"))
        return torch.from_numpy(np.stack([np.rot90(x.to_ndarray(format="rgb24"), x.rotation // 90) for x in pictures]))


def off(a, b):
    "Largest of the frames' mean differences, in grey levels."
    assert a.shape == b.shape
    return (a.short() - b.short()).abs().float().mean((1, 2, 3)).max().item()


# torchcodec does not reach the end of a file whose packets' stamps are out of order.
BY_TORCHCODEC = ["archery.avi", "arm_wrestling.mp4", "basketball.mp4", "bears.mp4", "flipping_pancake.mkv"]
ODD_BY_TORCHCODEC = ["animated.gif", "av1.mp4", "bogus_fps_1000.mkv", "odd_size_161x121.webm", "one_frame.mp4"]
ODD_BY_TORCHCODEC += ["rotated_90.mov", "unordered_pts.mov", "variable_rate_7_frames.mp4"]


@needs_torchcodec
@pytest.mark.parametrize("name", [f"ordinary/{n}" for n in BY_TORCHCODEC] + [f"odd/{n}" for n in ODD_BY_TORCHCODEC])
def test_torchcodec_gives_the_true_frames(name):
    "Every way of asking gives the frames of a sequential decode, at their times, upright; scaled ones, too."
    path = shared("clips", *name.split("/"))
    truth = in_order(path)
    for options in (dict(), dict(num_frames=8), dict(seed=1), dict(num_frames=12, sampling="dense", stride=4, seed=2)):
        clip = read_clip(path, decoder="torchcodec", **options)
        other = read_clip(path, decoder="pyav", **options)
        assert (clip.decoder, clip.total, clip.fps) == ("torchcodec", len(truth), other.fps)
        assert off(clip.frames, truth[clip.indices]) < 2
        assert torch.equal(clip.times, other.times)
    for short in (1, 16, 31):  # the antialiased bilinear filter over the true pixels
        small = read_clip(path, 4, short=short, decoder="torchcodec")
        pixels = truth[small.indices].permute(0, 3, 1, 2)
        scaled = F.interpolate(pixels, small.frames.shape[1:3], mode="bilinear", antialias=True)
        assert min(small.frames.shape[1:3]) == min(short, *truth.shape[1:3])
        assert off(small.frames, scaled.permute(0, 2, 3, 1)) < 1
    half = (
        min(truth.shape[1:3]) // 2
    )  # at half the size, it gives what FFmpeg's filter gives of the codec's own colours
    both = [read_clip(path, 4, short=half, decoder=decoder).frames for decoder in ("torchcodec", "pyav")]
    assert off(*both) < 2


@needs_torchcodec
def test_torchcodec_on_jhmdb():
    "Every 13th of the 650."
    for path in sorted(shared("jhmdb21").glob("*/*.avi"))[::13]:
        truth = in_order(path)
        clip = read_clip(path, 32, seed=0, decoder="torchcodec")
        assert clip.total == len(truth) and off(clip.frames, truth[clip.indices]) < 2, path.name


@needs_torchcodec
def test_torchcodec_on_what_it_cannot_read(tmp_path):
    "Damaged, cut short, noise, sound, not reached: one sentence each, here and in a worker; no crash."
    whole = shared("clips", "ordinary", "basketball.mp4").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(shared("clips", "ordinary", "flipping_pancake.mkv").read_bytes()[:200_000])
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50_000))
    (tmp_path / "hurt.mp4").write_bytes(whole[: len(whole) // 2] + bytes(2000) + whole[len(whole) // 2 + 2000 :])
    odd = [shared("clips", "odd", name) for name in ("corrupted.mp4", "audio_only.mp4")]
    for path in (*tmp_path.iterdir(), *odd, shared("clips", "ordinary", "applying_eye_makeup.avi")):
        for read in (read_clip, read_clip_safely):
            try:
                clip = read(path, num_frames=8, decoder="torchcodec")
            except ClipError as error:
                assert "\n" not in str(error) and str(error).endswith(".") and "crash" not in str(error)
                continue
            assert path.name in ("cut.mkv", "hurt.mp4")
            assert off(clip.frames, read_clip(path, 8, decoder="pyav").frames) < 2


def test_readers_by_wrong_names(tmp_path):
    "An unknown reader, and one for another kind of path."
    for decoder in ("opencv", "", "torchcodec "):
        with pytest.raises(ConfigError, match="decoder must be"):
            read_clip(tmp_path / "a.mp4", decoder=decoder)
        with pytest.raises(ConfigError, match="decoder must be"):
            reader_fault(decoder)


def test_the_key_names_the_reader(tmp_path, monkeypatch):
    "Features of another reader are not taken; those of caches that named none are, where decord is the first reader."
    clip = Path(sample_clips()[0])
    assert clip_key(clip, "sparse").endswith(f" by {first_reader()}")
    keys = {}
    for reader in ("decord", "pyav"):
        monkeypatch.setattr("vidprism.encoders.cache.first_reader", lambda reader=reader: reader)
        keys[reader] = clip_key(clip, "sparse")
    assert keys["decord"] != keys["pyav"]
    cache = FeatureCache(tmp_path)
    cache.store(keys["decord"].removesuffix(" by decord"), Features(torch.ones(2, 3), None))
    assert torch.equal(cache.find(keys["decord"]).pooled, torch.ones(2, 3))
    assert cache.path(keys["decord"]).exists() and not cache.path(keys["pyav"]).exists()
    assert cache.find(keys["pyav"]) is None
    cache.store(keys["pyav"], Features(torch.zeros(2, 3), None))
    assert torch.equal(cache.find(keys["decord"]).pooled, torch.ones(2, 3))


def test_settings_are_read_by_all():
    "The marker of decord holds no space; setup.py's split, nbdev's and `packaging` agree on where decord has a wheel."
    from configparser import ConfigParser
    from packaging.requirements import Requirement

    parser = ConfigParser(delimiters=["="])
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    needed = {r.name: r for r in map(Requirement, parser["DEFAULT"]["requirements"].split())}
    marker = needed["decord"].marker
    where = {
        ("linux", "x86_64"): True,
        ("win32", "AMD64"): True,
        ("linux", "aarch64"): False,
        ("darwin", "arm64"): False,
        ("darwin", "x86_64"): False,
        ("win32", "ARM64"): False,
    }
    for (system, machine), there in where.items():
        assert marker.evaluate(dict(sys_platform=system, platform_machine=machine)) == there
    nbdev = pytest.importorskip("nbdev.config")
    assert nbdev.get_config(path=ROOT).requirements.split() == parser["DEFAULT"]["requirements"].split()


def resolver(*words, **environ):
    "Run tools/resolve.py."
    command = [sys.executable, str(ROOT / "tools" / "resolve.py"), *words]
    env = {**os.environ, **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=580)


def test_the_resolver_says_that_there_is_no_network():
    "An index that nobody serves: exit code 2, and a row that says so without the index's address."
    nowhere = dict(PIP_CONFIG_FILE=os.devnull, PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="0")
    nowhere |= dict(PIP_EXTRA_INDEX_URL="", PIP_FIND_LINKS="", PIP_CONSTRAINT="", PIP_TIMEOUT="5", PIP_NO_INDEX="0")
    done = resolver("--anew", "--only", "Linux aarch64 3.11", **nowhere)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot be reached" in done.stdout and "127.0.0.1" not in done.stdout + done.stderr


def test_the_resolver_says_what_does_not_resolve(tmp_path):
    "A folder of wheels as the only index: what is there is chosen by the target's markers, what is not is named."
    wheel(tmp_path, "vidprism_one", ['vidprism-two; sys_platform=="darwin"'])
    wheel(tmp_path, "vidprism_two", [])
    folder = dict(PIP_CONFIG_FILE=os.devnull, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path), PIP_CONSTRAINT="")
    settings = tmp_path / "settings.ini"
    settings.write_text('[DEFAULT]\nrequirements = vidprism-one vidprism-none;sys_platform=="win32"\n')
    given = ("--anew", "--settings", str(settings), "--only")
    counts = {"macOS 14 arm64 3.12": "2 packages", "Linux aarch64 3.12": "1 packages"}
    for row, count in counts.items():
        done = resolver(*given, row, **folder)
        assert done.returncode == 0 and count in done.stdout, done.stdout + done.stderr
    done = resolver(*given, "Windows amd64 3.12", **folder)
    assert done.returncode == 1 and "vidprism-none" in done.stdout, done.stdout + done.stderr
    assert str(tmp_path) not in done.stdout


def wheel(folder, name, needs):
    "An empty wheel that needs others."
    from zipfile import ZipFile

    info = f"{name}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
    metadata += "".join(f"Requires-Dist: {need}\n" for need in needs)
    with ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", metadata)
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
