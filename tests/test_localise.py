"""Attacks on frame scores, segments, long videos and their timeline."""

import av
import fractions
import json
import numpy as np
import pytest
import random
import re
import signal
import subprocess
import sys
import torch
import vidprism as vp
from fastcore.test import test_close as close
from real import shared
from test_page import opened
from vidprism.data import decoding
from vidprism.encoders.feature_files import GivenFeatures
from vidprism.errors import ConfigError, VidPrismError
from vidprism.evaluation.localisation import Segment, find_segments, localisation_map, temporal_iou
from vidprism.heads.base import HEADS, create_head
from vidprism.interpret import long_videos as module
from vidprism.interpret.framewise import split_logits
from vidprism.interpret.long_videos import video_scores
from vidprism.viz.timeline import timeline_page


def generator(seed=None):
    return torch.Generator().manual_seed(random.randrange(2**31) if seed is None else seed)


@pytest.fixture(scope="module")
def model():
    return vp.sample_model()


@pytest.fixture(scope="module")
def pictures():
    "Frames of two shipped clips, [64,128,128,3]."
    clips = [p for p in vp.sample_clips() if "spin" in p.name or "drift_up" in p.name]
    return np.concatenate([vp.read_clip(p, 32).frames.numpy() for p in clips])


def write_video(path, frames, stamps, codec="libx264", keys=16):
    "A video whose frames are shown from the given stamps on, in 1/160 s."
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=16, options=dict(g=str(keys)))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = fractions.Fraction(1, 160)
        for stamp, picture in zip(stamps, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.pts, frame.time_base = int(stamp), fractions.Fraction(1, 160)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def minute(tmp_path_factory, pictures):
    "A minute of 16 frames a second."
    frames = np.concatenate([pictures] * 15)
    return write_video(tmp_path_factory.mktemp("minute") / "minute.mp4", frames, range(0, 9600, 10))


@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_splits_its_logits(name):
    "Scores and bias sum to the logits for each head, on features of any scale, length and offset."
    dim, classes, frames = random.choice([8, 16, 24]), random.choice([2, 5]), random.choice([5, 12, 32])
    head, g = create_head(name, dim, classes, frames).train(), generator()
    with torch.no_grad():
        head(3 + torch.randn(16, frames, dim, generator=g))  # statistics and norms learn
        for p in head.parameters():
            p += 0.2 * torch.randn(p.shape, generator=g)
    for scale, length in ((1.0, frames), (50.0, frames), (1e-3, 1), (1.0, 2)):
        x = scale * torch.randn(3, length, dim, generator=g)
        parts = split_logits(head, x)
        assert parts.frames.shape == (3, length, classes)
        largest = max(1.0, float(parts.frames.detach().abs().max()), float(parts.bias.detach().abs().max()))
        assert (parts.frames.sum(1) + parts.bias - parts.logits).abs().max() / largest < 1e-5
        close(parts.logits, head.eval()(x).logits, 1e-4 * largest)


def test_bias_holds_no_part_of_a_frame():
    "The bias of mean pooling is the classifier's, and that of the statistics does not change with the clip."
    g = generator()
    mean, statistics = create_head("mean", 8, 3, 6), create_head("statistics", 8, 3, 6)
    with torch.no_grad():
        statistics(torch.randn(9, 6, 8, generator=g))
        statistics.classifier.weight.normal_(generator=g)
    x = torch.randn(2, 6, 8, generator=g)
    close(split_logits(mean, x).bias, mean.classifier.bias.expand(2, 3), 1e-6)
    bias = split_logits(statistics, x).bias
    close(bias[0], bias[1], 1e-6)


@pytest.mark.parametrize("name", ["vidprism", "bmoe", "mote", "transformer", "statistics", "mean", "linear_probe"])
def test_shipped_models_split(name):
    found = vp.frame_scores(vp.sample_model(name), random.choice(vp.sample_clips()))
    assert (found.scores.sum(0) + found.bias - found.logits).abs().max() < 1e-5 * max(1, found.scores.abs().max())
    close(found.frame_logits.mean(0), found.logits, 1e-3)


def test_times_are_those_of_the_container(tmp_path, pictures):
    "A frame that is shown for ten seconds stands for ten seconds."
    stamps = [*range(0, 320, 10), *range(1920, 1920 + 320, 10)]  # drift up until 2 s, whose last frame stays to 12 s
    model = vp.sample_model("mean")  # its frame logits depend on the frame alone
    scores = video_scores(model, write_video(tmp_path / "waits.mp4", pictures, stamps), smoothing=0)
    assert abs(float(scores.edges[-1]) - 14.0) < 0.2
    still = (scores.edges[:-1] > 2) & (scores.edges[1:] < 12)
    assert still.sum() > 150
    assert scores.values[still].std(0).max() < 1e-6  # nothing changes in a picture that stands
    assert scores.values[scores.edges[:-1] > 12].std(0).max() > 1e-6


def test_a_frame_is_decoded_and_encoded_once(minute, model, monkeypatch):
    "No seek and no second decoding, though windows overlap by three quarters."
    decoded, encoded, seeks = [], [], []
    original, forward = decoding._picture, model.encoder.forward
    monkeypatch.setattr(decoding, "_picture", lambda frame, *rest: decoded.append(frame.pts) or original(frame, *rest))
    monkeypatch.setattr(model.encoder, "forward", lambda f, grid=False: encoded.append(f.shape[1]) or forward(f, grid))
    monkeypatch.setattr(decoding, "_walk_from_key", lambda *a: seeks.append(a) or iter(()))
    video_scores(model, minute, overlap=0.75)
    assert len(decoded) == len(set(decoded)) == 960
    assert (sum(encoded), max(encoded), seeks) == (960, 64, [])


def test_what_is_held_does_not_grow(minute, model, monkeypatch):
    "Features of a window and of one part are held, however long the video is."
    held, add = [], module.WindowLogits.add

    def watched(self, features):
        add(self, features)
        held.append(len(self.held))

    monkeypatch.setattr(module.WindowLogits, "add", watched)
    video_scores(model, minute)
    assert len(held) == 2
    assert max(held) <= 32


KILLED = """
import os, signal, sys, vidprism as vp
from vidprism.interpret.long_videos import video_scores
def report(what, done, total):
    if done: os.kill(os.getpid(), signal.SIGKILL)
video_scores(vp.sample_model(), sys.argv[1], cache=sys.argv[2], progress=report)
"""


@pytest.mark.long
def test_killed_in_the_middle_it_goes_on(minute, model, tmp_path, monkeypatch):
    done = subprocess.run([sys.executable, "-c", KILLED, minute, tmp_path / "cache"], capture_output=True, timeout=300)
    assert done.returncode == -signal.SIGKILL
    encoded, forward = [], model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda f, grid=False: encoded.append(f.shape[1]) or forward(f, grid))
    again = video_scores(model, minute, cache=tmp_path / "cache")
    assert sum(encoded) == 960 - module.CHUNK
    assert torch.equal(again.values, video_scores(model, minute).values)


@pytest.mark.long
def test_broken_and_foreign_features_are_made_anew(minute, model, tmp_path):
    "A damaged file, another window and another encoder do not take the features that are there."
    first = video_scores(model, minute, cache=tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        data = bytearray(file.read_bytes())
        data[-5] ^= 255
        file.write_bytes(data)
    assert torch.equal(video_scores(model, minute, cache=tmp_path).values, first.values)
    other = video_scores(model, minute, window=3.0, cache=tmp_path)
    assert torch.equal(other.values, video_scores(model, minute, window=3.0).values)


def test_other_heads_read_the_same_features(minute, tmp_path, monkeypatch):
    first = vp.sample_model()
    video_scores(first, minute, cache=tmp_path)
    second = vp.sample_model("bmoe")
    monkeypatch.setattr(second.encoder, "forward", None)  # it is not called
    assert video_scores(second, minute, cache=tmp_path).values.shape == (960, 18)


@pytest.mark.parametrize("codec, name", [("mpeg4", "a.avi"), ("libx264", "a.mkv"), ("mpeg2video", "a.ts")])
def test_containers(tmp_path, pictures, model, codec, name):
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 128, "yuv420p"
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        file.mux(stream.encode())
    scores = video_scores(model, tmp_path / name)
    assert abs(float(scores.edges[-1]) - 64 / 25) < 0.1
    assert scores.values.isfinite().all()


@pytest.mark.parametrize("count", [1, 2, 5])
def test_short_videos(tmp_path, pictures, model, count):
    path = write_video(tmp_path / "short.mp4", pictures[:count], range(0, 10 * count, 10))
    assert len(video_scores(model, path).values) == 32
    clip = vp.read_clip(path, count)
    assert len(video_scores(model, clip).values) == count
    assert isinstance(vp.localise(model, path, threshold=0.0, min_length=0), list)


ODD = "animated.gif audio_only.mp4 av1.mp4 bogus_fps_1000.mkv corrupted.mp4 odd_size_161x121.webm one_frame.mp4 "
ODD += "rotated_90.mov unordered_pts.mov variable_rate_7_frames.mp4"


@pytest.mark.parametrize("name", ODD.split())
def test_odd_files(model, name):
    "Each odd file is read, or refused in one sentence."
    path = shared("clips", "odd", name)
    try:
        found = video_scores(model, path)
    except VidPrismError as error:
        assert "\n" not in str(error) and len(str(error)) < 300
        assert name in ("audio_only.mp4", "corrupted.mp4")
        return
    assert name != "audio_only.mp4"
    assert (found.edges.diff() >= 0).all()
    assert found.values.isfinite().all()


BAD = [
    dict(threshold=-0.1),
    dict(threshold=1.1),
    dict(threshold="high"),
    dict(threshold=float("nan")),
    dict(window=0),
    dict(window=float("inf")),
    dict(window=-3.0),
    dict(window=1e-7),
    dict(overlap=2),
    dict(smoothing=-1),
    dict(min_length=float("nan")),
    dict(video="nowhere.mp4"),
    dict(video=7),
    dict(model=None),
    dict(cache=3),
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_bad_input_is_one_sentence(model, bad):
    with pytest.raises(VidPrismError) as error:
        vp.localise(**{**dict(model=model, video=vp.sample_clips()[0]), **bad})
    assert str(error.value).count("\n") == 0


def test_a_folder_without_frames(tmp_path, model):
    for name, content in (("none.mp4", b""), ("text.mp4", b"no video"), ("noise.mp4", bytes(range(256)) * 99)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VidPrismError, match=name):
            vp.localise(model, tmp_path / name)
    with pytest.raises(VidPrismError, match="folder"):
        vp.localise(model, tmp_path)


def test_a_model_of_features_has_nothing_to_read_with(model):
    head = create_head("mean", 4, 2, 3)
    given = vp.VideoModel(GivenFeatures("an encoder", 4), head, ["a", "b"])
    with pytest.raises(ConfigError, match="no encoder"):
        vp.localise(given, vp.sample_clips()[0])


def random_videos(g, count, classes=3):
    "Random segments of a few videos."
    videos = {}
    for k in range(3):
        starts = 20 * torch.rand(count, generator=g)
        ends = starts + 0.1 + 5 * torch.rand(count, generator=g)
        labels = torch.randint(0, classes, (count,), generator=g).tolist()
        scores = torch.rand(count, generator=g).tolist()
        rows = zip(starts.tolist(), ends.tolist(), labels, scores)
        videos[k] = [Segment(a, b, f"class {c}", s) for a, b, c, s in rows]
    return videos


def test_mean_average_precision_has_its_laws():
    g = generator()
    for _ in range(20):
        truth, found = random_videos(g, 4), random_videos(g, 8)
        found = {k: v + [s._replace(score=s.score + 0.123456) for s in truth[k][:2]] for k, v in found.items()}
        before = localisation_map(truth, found).mean
        assert all(0 <= v <= 1 for v in before.values())
        assert before[0.3] >= before[0.5] >= before[0.7]
        shifted = {k: [s._replace(score=s.score**3 + 7) for s in v] for k, v in found.items()}
        assert localisation_map(truth, shifted).mean == before  # only the order of the scores counts
        turned = {k: found[k] for k in reversed(found)}
        assert localisation_map(truth, turned).mean == pytest.approx(before)
        worse = {k: v + [Segment(90, 91, "class 0", -1.0)] for k, v in found.items()}
        assert localisation_map(truth, worse).mean == pytest.approx(before)  # wrong ones at the end cost nothing


def test_segments_cover_what_reaches_the_threshold():
    "Of one threshold: disjoint segments that hold each frame that reaches it, and no other."
    g = generator()
    for _ in range(20):
        values = torch.rand(40, 2, generator=g)
        edges = torch.cat([torch.zeros(1), torch.rand(40, generator=g).cumsum(0)]).double()
        found = find_segments(values, edges, ["a", "b"], 0.6)
        for c, label in enumerate("ab"):
            own = [s for s in found if s.label == label]
            middle = (edges[1:] + edges[:-1]) / 2
            inside = torch.tensor([any(s.start <= t <= s.end for s in own) for t in middle.tolist()])
            assert torch.equal(inside, values[:, c] >= 0.6)
            assert all(temporal_iou(a, b) == 0 for a in own for b in own if a is not b)


EVIL = ['</script><script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "\u2028{{7*7}}${1}", "\udcff"]


def test_names_in_a_page_do_nothing(model, tmp_path):
    clip = vp.sample_clips()[0]
    scores = video_scores(model, clip)
    scores = scores._replace(labels=[*EVIL, *scores.labels[len(EVIL) :]])
    segments = [Segment(0.1 * k, 0.1 * k + 1, label, 0.5) for k, label in enumerate(EVIL)]
    text = timeline_page(scores, segments, tmp_path / "page.html").read_text()
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert "<img src=x" not in text
    data = json.loads(re.search(r'id="timeline">(.*?)</script>', text, re.DOTALL)[1])
    assert {track["name"] for track in data["tracks"]} >= set(EVIL[:3])


@pytest.mark.parametrize("embedded", [0, 1 << 24])
def test_page_plays_and_seeks(chromium, model, minute, tmp_path, embedded):
    scores = video_scores(model, minute)
    segments = [Segment(10.0, 20.0, scores.labels[0], 0.9), Segment(30.0, 31.0, EVIL[1], 0.8)]
    scores = scores._replace(labels=[*scores.labels[:-1], EVIL[1]])
    path = timeline_page(scores, segments, tmp_path / "page.html", embedded=embedded)
    page, asked, wrong = opened(chromium, path, viewport=dict(width=900, height=800))
    page.wait_for_selector(".vidprism-player[data-mode=video]")
    assert not [url for url in asked if not url.startswith(("file:", "blob:"))]
    page.click("tr[data-start='30.0000'] button")
    page.wait_for_function("Math.abs(document.querySelector('video').currentTime - 30) < .2")
    assert page.eval_on_selector_all("tr.now td:nth-child(3)", "cells => cells.map(c => c.textContent)") == [EVIL[1]]
    page.keyboard.press("p")
    page.wait_for_function("Math.abs(document.querySelector('video').currentTime - 10) < .2")
    box = page.query_selector(".bar").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    page.wait_for_function("Math.abs(document.querySelector('video').currentTime - 30) < .5")
    page.keyboard.press(" ")
    page.wait_for_function("!document.querySelector('video').paused")
    assert page.locator("rect.found").count() == 2
    assert wrong == []


def test_page_of_a_file_that_is_gone_keeps_its_tracks(chromium, model, tmp_path):
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(vp.sample_clips()[0].read_bytes())
    scores = video_scores(model, clip)
    path = timeline_page(scores, [Segment(0.5, 1.0, scores.labels[0], 0.9)], tmp_path / "page.html", embedded=0)
    clip.unlink()
    page, _, _ = opened(chromium, path, viewport=dict(width=900, height=800))
    page.wait_for_selector(".vidprism-player[data-mode=asked]")
    page.click("tr[data-start] button")
    assert page.get_attribute(".vidprism-player", "data-place") == "8"
    assert "cannot play" in page.inner_text(".said")
