"Tables and maps of clips: rows are single clips', hostile queries are refused, stops and damaged clips leave the rest."

import functools
import numpy as np
import os
import pytest
import torch
from real import SHARED
from vidprism.data.cliplist import ClipList
from vidprism.data.clips import Clip, read_clip, sample_clips
from vidprism.encoders.base import FrameEncoder, evaluation_mode
from vidprism.encoders.cache import FeatureCache
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError
from vidprism.evaluation.benchmark import FeatureSplit
from vidprism.heads.base import create_head
from vidprism.interpret import clip_maps, clip_tables
from vidprism.interpret.clip_maps import clip_map
from vidprism.interpret.clip_tables import (
    changes_when_reversed,
    changes_when_shuffled,
    changes_without_expert,
    clip_table,
    confident_errors,
    confusions,
    disagreements,
    distance_from_class,
    unusual_usage,
    usage_by_class,
)
from vidprism.interpret.explanation import describe, explain
from vidprism.model import VideoModel
from vidprism.training.trainer import seeded
from vidprism.viz.session import Settings, frame_order

D, T, N = 16, 8, 23
CLASSES = ["run", "walk", "a b", "d'oh"]
KINDS = [
    ("vidprism", {}),
    ("vidprism", dict(preset="released")),
    ("vidprism", dict(combination="mlp", rates=(1, 2))),
    ("vidprism", dict(rates=(4,))),
    ("vidprism_lowdata", {}),
    ("bmoe", dict(experts=3)),
    ("mote", {}),
    ("transformer", {}),
    ("attentive_probe", {}),
    ("linear_probe", {}),
    ("statistics", {}),
    ("mean", {}),
]


@functools.cache
def preprocess():
    "How some encoder takes pictures; none of these encoders runs."
    return create_encoder("mini").how


def model_of(kind, options=None, classes=CLASSES):
    "A model on features, with noise on every weight."
    with seeded(0):
        head = create_head(kind, D, len(classes), T, **(options or {}))
        with torch.no_grad():
            for p in head.parameters():
                p += 0.3 * torch.randn_like(p)
    return VideoModel(FrameEncoder("none", D, preprocess()), head, list(classes))


def split(n=N, seed=0, classes=4, frames=T):
    g = torch.Generator().manual_seed(seed)
    names = [f"clip {i}" for i in range(n)]
    labels = torch.randint(classes, (n,), generator=g)
    return FeatureSplit(torch.randn(n, frames, D, generator=g), labels, names, names)


def table_of(model, side=None, **options):
    return clip_table(model, split() if side is None else side, progress=False, **options)


def as_clip(frames=T):
    zeros = torch.zeros(frames, 4, 4, 3, dtype=torch.uint8)
    at = torch.arange(frames)
    return Clip(zeros, at.double(), None, "none", at, frames, 1.0)


@pytest.mark.parametrize("batch", [1, 5, 256])
@pytest.mark.parametrize("kind, options", KINDS)
def test_rows_are_single_clips(kind, options, batch):
    "Every column, in batches of any size, is what `describe` says of the clip alone."
    model, side = model_of(kind, options), split()
    made = table_of(model, side, batch=batch)
    frame = made.table
    head = model.head
    for i in range(N):
        with evaluation_mode(head):
            d = describe(head, side.features[i : i + 1], as_clip(), model.labels)
        row, label = frame.loc[i], CLASSES[side.labels[i]]
        assert (row["clip"], row.label, row.answer) == (f"clip {i}", label, d.answer[0][0])
        assert row.right == (d.answer[0][0] == label)
        assert row.probability == pytest.approx(d.answer[0][1], abs=1e-5)
        assert row.margin == pytest.approx(d.answer[0][1] - d.answer[1][1], abs=1e-5)
        assert row.label_probability == pytest.approx(dict(d.answer)[label], abs=1e-5)
        assert torch.allclose(made.logits[i], d.logits, atol=1e-5)
        assert ("usage_distance" in frame) == (made.usage is not None) == (d.shares is not None)
        if d.shares is not None:
            assert torch.allclose(made.usage[i], d.shares, atol=1e-5)
            assert np.allclose(row[list(made.experts)].to_numpy(float), d.shares, atol=1e-5)
            assert torch.allclose(made.importance[i], d.importance, atol=1e-5)
            assert row.peak == pytest.approx(float(d.readout.max()), abs=1e-5)
            assert d.importance[int(row.top_frame)] >= d.importance.max() - 1e-5
        elif d.readout_weight is not None:
            assert row.peak == pytest.approx(float(d.readout_weight.max()), abs=1e-5)
            assert d.readout_weight[int(row.peak_frame)] >= d.readout_weight.max() - 1e-5
        assert ("gates_open" in frame) == (d.open is not None)
        if d.open is not None:
            assert row.gates_open == int(d.open.sum())


@pytest.mark.parametrize("kind", ["transformer", "mote", "attentive_probe"])
def test_importance_of_heads_without_experts(kind):
    "As in `explain`."
    encoder = create_encoder("mini")
    with seeded(0):
        real = VideoModel(encoder, create_head(kind, encoder.dim, 4, 8), CLASSES)
    clip = read_clip(sample_clips()[5], 8)
    e = explain(real.eval(), clip, method=None)
    features = real.features(clip)
    made = clip_table(real, FeatureSplit(features, torch.tensor([0]), ["x"], ["x"]), progress=False)
    assert torch.allclose(made.importance[0], e.importance, atol=1e-5)
    assert made.table.top_frame[0] == int(e.importance.argmax())


def test_heads_whose_clips_decide_for_each_other(monkeypatch):
    "They get one clip at a time, in the views too."
    model, sizes = model_of("vidprism"), []
    monkeypatch.setattr(type(model.head), "batch_independent", property(lambda self: False))
    model.head.register_forward_pre_hook(lambda head, args: sizes.append(len(args[0])))
    changes_when_reversed(table_of(model))
    assert sizes == [1] * (2 * N)


def test_modes_and_gradients_are_left_alone():
    model = model_of("vidprism").train()
    made = table_of(model)
    changes_when_reversed(made)
    assert model.training and model.head.training and not made.logits.requires_grad
    assert torch.equal(made.logits, table_of(model.eval()).logits)


QUERIES = [
    "right and probability > .5",
    "not right | margin < .1",
    "~right & `share_2` > share_4",
    "label in ['run', \"d'oh\"]",
    "label not in ['run'] and label.notna()",
    "label != 'run' and label.notna()",
    "'run' == label",
    "label == 'a b' and not (answer == 'a b' or margin > .5)",
    ".2 < probability <= .5",
    "gates_open % 2 == 0",
    "-margin + 1 - 2 * margin / 3 > .5",
    "clip.str.contains('1')",
    "clip.str.startswith('clip 1') or clip.str.endswith('0')",
    "error.isna() and right.notna()",
    "index >= 20",
    "top_frame == peak_frame",
    "right == True",
    "usage_distance.isna()",
]


@pytest.fixture(scope="module")
def made():
    side = split()
    side.labels[3:6] = -1
    side.features[7, 2, 1] = torch.nan
    return table_of(model_of("vidprism"), side)


@pytest.mark.parametrize("text", QUERIES)
def test_queries_are_those_of_pandas(made, text):
    wanted = made.table.query(text, engine="python")
    found = made.query(text)
    assert found.table.index.tolist() == wanted.index.tolist()
    assert torch.equal(found.logits.nan_to_num(9), made.logits[wanted.index.tolist()].nan_to_num(9))
    assert 0 < len(found) < N or text == QUERIES[-1]


HOSTILE = [
    "@os.system('touch stolen')",
    "@made.table.to_csv('stolen')",
    "clip.to_csv('stolen')",
    "clip.to_pickle('stolen')",
    "clip.str.decode('x')",
    "clip.str.contains('(a+)+$', regex=True)",
    "clip.str.contains",
    "clip.str",
    "clip.str.contains(clip)",
    "clip.str.contains(1)",
    "probability.str.contains('x')",
    "clip.apply(print)",
    "clip.__class__.__mro__",
    "().__class__",
    "__import__('os').system('touch stolen')",
    "open('stolen', 'w')",
    "eval('1')",
    "`__class__`",
    "`clip`.map(exit)",
    "[c for c in clip]",
    "{1: 2}",
    "(lambda: 1)() == 1",
    "(x := 1) == 1",
    "f'{clip}' == 'x'",
    "clip[0] == 'x'",
    "probability ** 9 ** 9 ** 9 > 0",
    "probability << 9999 > 0",
    "clip * 10 ** 9 == 'x'",
    "'x' * 999999999 == clip",
    "'a' + 'b' == clip",
    "probability if right else margin",
    "right and probability",
    "probability > None",
    "probability > b'x'",
    "probability > 1j",
    "probability is 1",
    "1 / 0 > probability",
    "1 < 2",
    "True",
    "right, right",
    "right; right",
    "probability = 1",
    "label in clip",
    "label in 'run'",
    "'run' in label",
    "label in [clip]",
    "label in [[1]]",
    "label < 3",
    "right + 1 > 1",
    "stolen > 1",
    "",
    " ",
    "#",
    "\n",
    "\0",
    "'",
    "`",
    "(" * 999,
    "-" * 999 + "probability > 1",
    "not " * 450 + "right",
    "probability > " + "9" * 1900,
    "a" * 2001,
    "é > 1",
]


@pytest.mark.parametrize("text", ["label != 'run'", "label not in ['run']", "not label == 'run'", "right == False"])
def test_missing_values_are_never_true(made, text):
    "A comparison with a missing value is not true, and neither is its opposite."
    assert not set(made.query(text).table.index) & {3, 4, 5}
    assert len(made.query(text))


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_queries_are_refused(made, text, tmp_path, monkeypatch):
    "In one sentence; nothing is called or written."
    monkeypatch.chdir(tmp_path)
    try:
        found = made.query(text)
        assert text.startswith(("not not", "---", "probability > 9", "#")) and 0 <= len(found) <= N
    except ConfigError as error:
        assert "\n" not in str(error) and 10 < len(str(error)) < 500
    assert not os.listdir(tmp_path)


def test_views_are_slow_loops(made):
    side = split()
    model = model_of("vidprism", dict(rates=(1, 2, 4)))
    made = table_of(model, side, batch=7)
    head = model.head.eval()
    order = frame_order(T, Settings(order="shuffled", seed=11))

    def answers(change=None, active=None):
        x = side.features if change is None else side.features[:, change]
        with torch.no_grad():
            logits = torch.cat([head(row[None], active_experts=active).logits for row in x])
        return logits.argmax(1).tolist(), logits.softmax(1)

    old, p = answers()
    for view, (new, q) in (
        (changes_when_shuffled(made, 11), answers(order)),
        (changes_when_reversed(made), answers(torch.arange(T).flip(0))),
        (changes_without_expert(made, 0), answers(active=[1, 2])),
        (changes_without_expert(made, 2), answers(active=[0, 1])),
    ):
        assert sorted(view.index) == [i for i in range(N) if old[i] != new[i]]
        for i, row in view.iterrows():
            assert row.new_answer == CLASSES[new[i]]
            assert row["drop"] == pytest.approx(float(p[i, old[i]] - q[i, old[i]]), abs=1e-5)
            assert row.new_probability == pytest.approx(float(q[i].max()), abs=1e-5)
        assert view["drop"].is_monotonic_decreasing
    reordered = made.select(list(range(N))[::-1])
    assert sorted(changes_when_reversed(reordered).index) == sorted(changes_when_reversed(made).index)


def test_distances_on_a_slow_loop(made):
    usage, labels = made.usage, made.table.label.fillna("")
    for i in range(N):
        mine = [j for j in range(N) if j != i and labels[j] and labels[j] == labels[i]]
        mine = [j for j in mine if usage[j].isfinite().all()]
        found = made.table.usage_distance[i]
        if not mine or usage[i].isnan().any():
            assert np.isnan(found)
            continue
        a, b = usage[i].double(), usage[mine].double().mean(0)
        slow = sum(float(x * (x / ((x + y) / 2)).log2() + y * (y / ((x + y) / 2)).log2()) / 2 for x, y in zip(a, b))
        assert found == pytest.approx(slow, abs=1e-7)
    ranked = unusual_usage(made)
    assert ranked.usage_distance.is_monotonic_decreasing and ranked.usage_distance.notna().all()


def test_one_class_one_clip_no_labels():
    model = model_of("vidprism")
    alone = table_of(model, split(1))
    assert np.isnan(alone.table.usage_distance[0]) and len(changes_when_reversed(alone)) <= 1
    assert distance_from_class(torch.tensor([[0.5, 0.5]] * 4), ["a"] * 4).tolist() == [0.0] * 4
    assert distance_from_class(torch.zeros(0, 2), []).shape == (0,)
    side = split()
    bare = table_of(model, side._replace(labels=torch.full((N,), -1)))
    assert bare.table[["label", "right", "label_probability", "usage_distance"]].isna().all(axis=None)
    assert not len(confident_errors(bare)) and not len(unusual_usage(bare))
    assert usage_by_class(bare).isna().all(axis=None) and not confusions(bare).to_numpy().any()
    single = table_of(model_of("mean", classes=["only"]), split(classes=1))
    assert single.table.margin.isna().all() and (single.table.probability == 1).all() and single.table.right.all()


def test_labels_that_the_model_does_not_know():
    side = split()
    made = table_of(model_of("vidprism"), side, classes=["run", "walk", "juggle", "swim"])
    known = side.labels < 2
    assert (made.table.right.notna().to_numpy() == known.numpy()).all()
    assert (made.table.label_probability.notna().to_numpy() == known.numpy()).all()
    counted = confusions(made)
    assert counted.index.tolist() == [*CLASSES, *[n for n in made.table.label.unique() if n not in CLASSES]]
    assert counted.loc["swim"].sum() == int((side.labels == 3).sum()) and counted.to_numpy().sum() == N
    assert usage_by_class(made).loc["juggle"].sum() == pytest.approx(1, abs=1e-5)
    assert set(confident_errors(made).label) <= {"run", "walk"}


def test_rows_without_an_answer():
    "Features or answers that are not finite are rows with a reason."
    model, side = model_of("bmoe"), split()
    side.features[4] = torch.inf
    side.features[9] = 1e38
    made = table_of(model, side)
    assert made.table.error.dropna().index.tolist() == [4, 9]
    assert made.table.loc[[4, 9]].drop(columns=["clip", "label", "error"]).isna().all(axis=None)
    assert made.logits.isnan().all(1).nonzero().flatten().tolist() == [4, 9]
    assert confusions(made).to_numpy().sum() == N - 2
    assert set(changes_when_reversed(made).index) <= set(range(N)) - {4, 9}
    points = clip_map(made).points
    assert np.flatnonzero(np.isnan(points).any(1)).tolist() == [4, 9]
    empty = table_of(model, side._replace(features=side.features * torch.nan))
    assert list(empty.table) == list(made.table) and empty.table.error.notna().all()
    for view in (changes_when_reversed(empty), changes_when_shuffled(empty), changes_without_expert(empty, 0)):
        assert len(view) == 0 and "drop" in view
    assert np.isnan(clip_map(empty, "usage").points).all()


@pytest.mark.parametrize("kind", ["mote", "transformer", "vidprism", "vidprism_lowdata"])
def test_a_fixed_number_of_frames(kind):
    "More frames than the head has positions for are refused in one sentence, or taken."
    try:
        table_of(model_of(kind), split(frames=2 * T))
    except ConfigError as error:
        assert "frames" in str(error)


@pytest.mark.parametrize(
    "clips, words",
    [
        ([], "at least one clip"),
        (split(0), "at least one clip"),
        ("nowhere", "nowhere"),
        (split()._replace(features=torch.zeros(N, T)), "features must be"),
        (split()._replace(features=torch.zeros(N, T, D, dtype=torch.long)), "features must be"),
        (split()._replace(labels=torch.zeros(3, dtype=torch.long)), "one length"),
        (split()._replace(labels=torch.full((N,), 99)), "99"),
        (split()._replace(features=torch.zeros(N, T, D + 1)), "width"),
        (3, "clips must be"),
        ([1, 2], "clips must be"),
        (None, "clips must be"),
    ],
)
def test_bad_clips_are_one_sentence(clips, words):
    with pytest.raises(ConfigError, match=words):
        table_of(model_of("vidprism"), clips) if clips is not None else clip_table(model_of("mean"), None)


def test_views_refuse_what_cannot_be():
    mixture, plain = table_of(model_of("vidprism")), table_of(model_of("mean"))
    for call in (
        lambda: changes_without_expert(mixture, 9),
        lambda: changes_without_expert(plain, 0),
        lambda: changes_without_expert(table_of(model_of("vidprism", dict(rates=(2,)))), 0),
        lambda: unusual_usage(plain),
        lambda: usage_by_class(plain),
        lambda: usage_by_class(mixture, "left"),
        lambda: clip_map(plain, "usage"),
        lambda: clip_map(mixture, method="tsne"),
        lambda: disagreements(mixture, table_of(model_of("mean"), split(3))),
        lambda: mixture.select([N]),
        lambda: mixture.select([-1]),
    ):
        with pytest.raises(ConfigError):
            call()
    apart = disagreements(mixture, plain)
    differ = (mixture.logits.argmax(1) != plain.logits.argmax(1)).nonzero().flatten().tolist()
    assert sorted(apart.index) == differ and apart.both_sure.is_monotonic_decreasing


@pytest.fixture(scope="module")
def real_model():
    encoder = create_encoder("mini")
    with seeded(0):
        head = create_head("vidprism", encoder.dim, 2, 4, rates=(1, 2))
    return VideoModel(encoder, head, ["a", "b"]).eval()


def test_stopped_and_resumed(real_model, tmp_path, monkeypatch):
    "What is encoded stays, the rest says so, and the next call encodes only that."
    paths, calls = sample_clips()[:6], []

    def stop():
        calls.append(1)
        return len(calls) > 4

    first = clip_table(real_model, paths, tmp_path, progress=False, stop=stop)
    assert first.stopped and len(first) == 6 and first.table.error.notna().any()
    assert not real_model.encoder._forward_pre_hooks
    encoded = len([p for p in tmp_path.iterdir() if p.suffix == ".safetensors"])
    assert encoded == 4
    made = []
    hook = real_model.encoder.register_forward_pre_hook(lambda *_: made.append(1))
    second = clip_table(real_model, paths, tmp_path, progress=False)
    hook.remove()
    assert len(made) == 2 and not second.stopped and second.table.error.isna().all()
    assert second.table.top_seconds.notna().all()


def test_ctrl_c_keeps_what_is_done(real_model, tmp_path, monkeypatch):
    "While clips are encoded, and while the head runs."
    paths, seen = sample_clips()[:4], []

    def interrupt(*_):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    hook = real_model.encoder.register_forward_pre_hook(interrupt)
    first = clip_table(real_model, paths, tmp_path, progress=False)
    hook.remove()
    assert first.stopped and sorted(first.table.error.isna()) == [False, False, True, True]
    clip_table(real_model, paths, tmp_path, progress=False)
    seen.clear()
    hook = real_model.head.register_forward_pre_hook(interrupt)
    second = clip_table(real_model, paths, tmp_path, progress=False, batch=1)
    hook.remove()
    assert second.stopped and second.table.error.isna().tolist() == [True, True, False, False]


def test_unreadable_clips_are_rows(real_model, tmp_path):
    "With workers and without; the others are as if they were alone."
    broken, text, gone = tmp_path / "broken.mp4", tmp_path / "text.mp4", tmp_path / "gone.mp4"
    good = sample_clips()[:2]
    broken.write_bytes(good[0].read_bytes()[:2000])
    text.write_text("no video")
    paths = [broken, good[0], text, gone, good[1]]
    alone = clip_table(real_model, good, FeatureCache(tmp_path / "one"), progress=False)
    for workers in (0, 2):
        made = clip_table(real_model, paths, tmp_path / f"cache{workers}", workers, progress=False)
        assert made.table.error.isna().tolist() == [False, True, False, False, True]
        assert all(p.name in made.table.error[i] for i, p in enumerate(paths) if i in (0, 2, 3))
        assert torch.allclose(made.logits[[1, 4]], alone.logits, atol=1e-5)
        assert made.table.top_seconds[[1, 4]].tolist() == alone.table.top_seconds.tolist()
    every = clip_table(real_model, [broken, gone], tmp_path / "cache0", progress=False)
    assert every.table.error.notna().all() and every.logits.shape == (2, 2)


def test_a_folder_with_and_without_classes(real_model, tmp_path):
    for name, path in zip("ab", sample_clips()):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / "x.mp4").write_bytes(path.read_bytes())
    made = clip_table(real_model, tmp_path / "set", tmp_path / "cache", progress=False)
    assert made.table.label.tolist() == ["a", "b"] and made.table.right.notna().all()
    flat = clip_table(real_model, sample_clips()[0].parent, tmp_path / "cache", progress=False)
    assert flat.table.label.isna().all() and flat.notes[0].startswith("The clips have no labels")
    one = clip_table(real_model, str(sample_clips()[3]), tmp_path / "cache", progress=False)
    assert len(one) == 1 and one.table.error.isna().all()
    listed = ClipList(["x"] * 2, [sample_clips()[0]] * 2, [0, 1], ["a", "b"], [""] * 2)
    twice = clip_table(real_model, listed, tmp_path / "cache", progress=False)
    assert torch.equal(twice.logits[0], twice.logits[1]) and twice.table.right.sum() == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared clips")
def test_seconds_of_real_clips(real_model, tmp_path):
    "Those of `read_clip`, for containers of many kinds; unreadable ones have a reason."
    paths = [p for p in sorted((SHARED / "clips" / "odd").iterdir()) if p.suffix != ".md" and p.stat().st_size < 3e6]
    made = clip_table(real_model, paths, tmp_path, progress=False)
    assert made.table.error.isna().sum() > 3
    for i in np.flatnonzero(made.table.error.isna()):
        times = real_model.open_clip(paths[i]).times
        assert made.table.top_seconds[i] == pytest.approx(float(times[int(made.table.top_frame[i])]), abs=1e-4)


def test_pca_does_not_depend_on_order_or_seed(made):
    points = clip_map(made).points
    order = list(range(N))[::-1]
    assert np.allclose(clip_map(made.select(order), seed=9).points[::-1], points, atol=1e-6, equal_nan=True)
    assert clip_map(made, "usage").points.shape == (N, 2)


@pytest.mark.parametrize("rows", [[0], [0] * 9, [0, 1], [0] * 4 + [1] * 4, []])
def test_degenerate_maps(made, rows):
    chosen = made.select(rows)
    for method in ("pca", "umap"):
        try:
            found = clip_map(chosen, method=method)
        except ConfigError as error:
            assert method == "umap" and "umap-learn" in str(error)
            continue
        assert found.points.shape == (len(rows), 2) and np.isfinite(found.points).all()
        assert len(set(rows)) > 1 or not found.points.any()


@pytest.mark.long
def test_umap_on_a_sample(made):
    "Fitted on some rows, the others are placed; the same for the same seed, groups stay together."
    pytest.importorskip("umap")
    side = split(60)
    side.features[30:] += 4
    table = table_of(model_of("mean"), side)
    found = clip_map(table, method="umap", seed=3, most=40)
    assert (found.fitted, found.note) == (40, "UMAP of 60 clips, fitted on 40 of them")
    assert np.array_equal(found.points, clip_map(table, method="umap", seed=3, most=40).points)
    near = [np.linalg.norm(found.points - p, axis=1).argsort()[1:6] for p in found.points]
    assert np.mean([(row < 30) == (i < 30) for i, row in enumerate(near)]) > 0.9


def test_umap_is_missing(made, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(ConfigError, match="umap-learn"):
        clip_map(made, method="umap")


def test_many_rows_are_read_a_batch_at_a_time(monkeypatch):
    "20,000 rows: no more than a batch of features is held at once."
    model, most = model_of("vidprism"), []
    side = split(4)
    features = side.features[:1].expand(20_000, -1, -1)  # one row of memory
    big = FeatureSplit(features, torch.arange(20_000) % 4, [str(i) for i in range(20_000)], [""] * 20_000)
    model.head.register_forward_pre_hook(lambda head, args: most.append(len(args[0])))
    made = table_of(model, big, batch=512)
    assert max(most) == 512 and sum(most) == 20_000 and len(made) == 20_000
    assert made.table.usage_distance.max() < 1e-6
    assert len(made.query("index % 2 == 0 and label == 'run'")) == 5000
    assert clip_tables.ClipTable is type(made) and clip_maps.ClipMap is type(clip_map(made))
