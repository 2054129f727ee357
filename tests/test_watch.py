"Training, watched: nothing changes in what is trained, the record is whole, and what is told elsewhere is the same."

import json
import pytest
import random
import torch
from contextlib import suppress
from torch.utils.data import TensorDataset
from vidprism.errors import ConfigError
from vidprism.heads.base import HEADS, create_head
from vidprism.training.checkpoint import kept_epochs
from vidprism.training.runs import watched_epochs
from vidprism.training.trainer import TensorClips, TrainConfig, fit, seeded
from vidprism.training.watch import Watch, choose_clips, off_diagonal, read_watch, watch_experts, write_watch

EPOCHS = 3
CONFIG = TrainConfig(epochs=EPOCHS, batch=16, lr=3e-3)
DIM, FRAMES, CLASSES = 16, 16, 3
OPTIONS = {"vidprism": dict(rates=(2, 4)), "mote": dict(layers=1)}


def features(n, seed):
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (n,), generator=g)
    return torch.randn(n, FRAMES, DIM, generator=g) + labels[:, None, None], labels


TRAIN, TEST = features(48, 0), features(40, 1)


def new_head(name, **more):
    with seeded(0):
        return create_head(name, DIM, CLASSES, FRAMES, **{**OPTIONS.get(name, {}), **more})


def trained(name, more=(), **how):
    "A fresh head, trained, and its history."
    head = new_head(name, **dict(more))
    return head, fit(head, TensorClips(*TRAIN), config=CONFIG, **how)


def same_weights(a, b):
    one, two = a.state_dict(), b.state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


class Stop(Exception):
    "A run is broken off."


def stop_after(n):
    def check(rows):
        if len(rows) == n:
            raise Stop

    return check


@pytest.mark.parametrize("name", sorted(HEADS))
def test_watching_changes_no_bit(name):
    "Weights, losses and every random state after training are those of a training that nobody watched."
    plain, history = trained(name)
    states = torch.get_rng_state(), random.getstate()
    watched, other = trained(name, watch=True)
    assert same_weights(plain, watched) and history.rows == other.rows
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    epochs = 1 if plain.closed_form else EPOCHS
    assert [entry["epoch"] for entry in other.watched] == [*range(1, epochs + 1)] and history.watched == []


@pytest.mark.parametrize("name", ["vidprism", "mote"])
def test_a_callback_that_draws_numbers_changes_no_bit(name):
    "A panel may draw what it likes."

    def wasteful(record):
        torch.rand(7)
        random.random()

    assert same_weights(trained(name)[0], trained(name, watch=wasteful)[0])


@pytest.mark.parametrize("name", ["vidprism", "mote", "bmoe"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_modes_are_put_back(name, accumulate):
    "Training goes on in training mode: with dropout-like draws and accumulated batches the weights are the same."
    config = TrainConfig(epochs=2, batch=8, accumulate=accumulate)
    heads = [new_head(name), new_head(name)]
    for head, watch in zip(heads, (False, TEST)):
        fit(head, TensorClips(*TRAIN), TEST, config, watch=watch)
    assert same_weights(*heads)


def test_columns_are_those_of_the_head():
    columns = {}
    for name in ("vidprism", "bmoe", "mote", "mean", "transformer"):
        columns[name] = set(trained(name, watch=TEST)[1].watched[0]) - {"epoch", "clips", "experts", "top1"}
    assert columns["vidprism"] == {"alone", "cka", "chance", "shares", "balance", "open"}
    assert columns["bmoe"] == columns["vidprism"] - {"open"}
    assert columns["mote"] == {"alone", "cka", "chance"}
    assert columns["mean"] == columns["transformer"] == set()


def test_numbers_are_those_of_the_trained_head():
    "The last entry is what the trained head does; each number by a slow way of its own."
    head, history = trained("vidprism", watch=TEST)
    last = history.watched[-1]
    assert last == dict(epoch=EPOCHS, **watch_experts(head, *TEST))
    x, y = TEST
    with torch.no_grad():
        out = head(x)
        outputs = [stream.mean(1).double() for stream in out.trace.mixture.outputs]
        alone = [head(x, active_experts=[i]).logits.argmax(1).eq(y).double().mean().item() for i in range(2)]
    assert last["alone"] == pytest.approx(alone) and last["clips"] == 40 and last["experts"] == [2, 4]
    a, b = (z - z.mean(0) for z in outputs)
    cka = (a.T @ b).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())
    assert last["cka"][0][1] == pytest.approx(cka.item(), abs=1e-6) == last["cka"][1][0]
    assert sum(last["shares"]) == pytest.approx(1, abs=1e-5)
    assert last["open"][0][0] == 0 and 0 <= last["open"][0][1] <= 1


def test_shares_of_one_expert_alone_are_no_number_of_others():
    "Two experts with the same output are alike; the floor is far below."
    outputs = torch.randn(64, 1, 5, generator=torch.Generator().manual_seed(0)).expand(-1, 2, -1)
    from vidprism.heads.observation import linear_cka
    from vidprism.training.watch import chance_cka

    assert off_diagonal(linear_cka(outputs.double()).tolist()) == pytest.approx(1)
    assert chance_cka(outputs.double()) < 0.3


@pytest.mark.parametrize("name", ["vidprism", "mote", "mean"])
@pytest.mark.parametrize("every", [0, 2])
def test_a_resumed_run_has_the_record_of_an_unbroken_one(name, every, tmp_path):
    _, whole = trained(name, watch=True)
    with suppress(Stop):
        trained(name, watch=True, folder=tmp_path, on_epoch=stop_after(2), every=every)
    head, resumed = trained(name, watch=True, folder=tmp_path, resume=True, every=every)
    assert resumed.watched == whole.watched and len(whole.watched) == EPOCHS
    assert watched_epochs(tmp_path) == whole.watched


def test_a_record_of_other_clips_is_not_continued(tmp_path):
    with suppress(Stop):
        trained("mean", watch=TEST, folder=tmp_path, on_epoch=stop_after(1))
    with pytest.raises(ConfigError, match="watched on other clips"):
        trained("mean", watch=(TEST[0] + 1, TEST[1]), folder=tmp_path, resume=True)
    assert len(trained("mean", folder=tmp_path, resume=True)[1].watched) == 1  # unwatched from here on


def test_a_checkpoint_of_before_the_record_is_resumed(tmp_path):
    "A state without `watched` begins the record where it goes on."
    from vidprism.files import sha256_of, write_json

    with suppress(Stop):
        trained("mean", folder=tmp_path, on_epoch=stop_after(1))
    (step,) = tmp_path.glob("step-*")
    state, mark = (json.loads((step / name).read_text()) for name in ("state.json", "checkpoint.json"))
    del state["watched"], state["watched_clips"]
    write_json(step / "state.json", state)
    mark["files"]["state.json"] = sha256_of(step / "state.json")
    write_json(step / "checkpoint.json", mark)
    history = trained("mean", folder=tmp_path, resume=True, watch=True)[1]
    assert [entry["epoch"] for entry in history.watched] == [2, 3]


def test_nothing_but_json_and_safetensors_is_kept(tmp_path):
    _, history = trained("vidprism", watch=True, folder=tmp_path)
    assert {p.suffix for p in tmp_path.rglob("*") if p.is_file() and p.name[0] != "."} == {".json", ".safetensors"}
    write_watch(tmp_path / "step-00000009", history.watched)
    assert read_watch(tmp_path / "step-00000009") == history.watched


@pytest.mark.parametrize(
    "epochs",
    [
        None,
        [1],
        [dict(epoch=1)],
        [dict(epoch=0, clips=1, experts=[], top1=1)],
        [dict(epoch=1, clips=1, experts=[], top1=1), dict(epoch=1, clips=1, experts=[], top1=1)],
        [dict(epoch=1, clips=1, experts=[2, 4], top1=1, shares=[1])],
        [dict(epoch=1, clips=1, experts=[2, 4], top1=1, cka=[[1, 2], [2, 1]])],
        [dict(epoch=1, clips=1, experts=[2, 4], top1=1, open=[0, 1])],
        [dict(epoch=1, clips=1, experts=[[2]], top1=1)],
        [dict(epoch=1, clips=1, experts=["\ud800"], top1=1)],
        [dict(epoch=1, clips=1, experts=[], top1=True)],
        [dict(epoch=1, clips=1, experts=[2], top1=1, balance="x")],
    ],
)
def test_a_record_of_strangers_is_refused_in_a_sentence(epochs, tmp_path):
    (tmp_path / "watch.json").write_text(json.dumps(dict(format="vidprism watch", version=1, epochs=epochs)))
    with pytest.raises(ConfigError, match="watch.json"):
        read_watch(tmp_path)


@pytest.mark.parametrize(
    "watch, sentence",
    [
        ((TEST[0], TEST[1][:3]), "40 clips and 3 labels"),
        ((TEST[0],), "two tensors"),
        (("a", "b"), "two tensors"),
        (3, "watch must be"),
    ],
)
def test_what_cannot_be_watched_is_refused_before_training(watch, sentence):
    with pytest.raises(ConfigError, match=sentence):
        trained("mean", watch=watch)


def test_chosen_clips_do_not_depend_on_global_generators():
    data = TensorDataset(*features(400, 3))
    first = choose_clips(data, 20)
    torch.rand(5)
    assert choose_clips(data, 20).digest == first.digest and len(first.labels) == 20
    assert trained("mean", watch=Watch(count=7))[1].watched[0]["clips"] == 7


def test_an_expert_that_does_not_vary_is_null_in_json():
    "A dead expert's CKA is no number; the record stays strict JSON."
    head = new_head("bmoe").eval()
    with torch.no_grad():
        for p in head.parameters():
            p.zero_()
    found = watch_experts(head, *TEST)
    assert any(value is None for row in found["cka"] for value in row)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("keep, left", [(1, [3]), (2, [2, 3]), ("all", [1, 2, 3])])
def test_as_many_checkpoints_stay_as_were_asked_for(keep, left, tmp_path):
    trained("mean", folder=tmp_path, keep=keep)
    assert list(kept_epochs(tmp_path)) == left


def test_checkpoints_that_would_fill_the_disk_are_refused(tmp_path, monkeypatch):
    from vidprism.training import trainer

    monkeypatch.setattr(trainer, "_MOST_KEPT", 1000)
    with pytest.raises(ConfigError, match="keep='all' would keep up to 3 checkpoints of .* keep fewer"):
        trained("mean", folder=tmp_path, keep="all")
    assert not list(tmp_path.glob("step-*"))
    with pytest.raises(ConfigError, match="folder of the checkpoints"):
        trained("mean", keep="all")
    for wrong in ("some", 0, -1):
        with pytest.raises(ConfigError, match="keep"):
            trained("mean", folder=tmp_path, keep=wrong)


# trackers ------------------------------------------------------------------------------------------------------------


def scalars_in(folder):
    "What TensorBoard reads: tag -> {step: value}."
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in events.Tags()["scalars"]}


def test_tensorboard_has_the_values_of_the_record(tmp_path):
    head, history = trained("vidprism", watch=TEST, trackers=["tensorboard"], logs=tmp_path / "logs")
    found = scalars_in(tmp_path / "logs" / "vidprism")
    assert found["total"] == pytest.approx({row["epoch"]: row["total"] for row in history.rows})
    for tag, value in (
        ("watch/share/rate 2", lambda e: e["shares"][0]),
        ("watch/alone/rate 4", lambda e: e["alone"][1]),
        ("watch/cka/rate 2, rate 4", lambda e: e["cka"][0][1]),
        ("watch/open/rate 4 to rate 2", lambda e: e["open"][1][0]),
        ("watch/balance", lambda e: e["balance"]),
    ):
        assert found[tag] == pytest.approx({e["epoch"]: value(e) for e in history.watched}, abs=1e-6), tag
    assert same_weights(head, trained("vidprism")[0])


def test_tensorboard_of_a_resumed_run_has_each_epoch_once(tmp_path):
    logs = tmp_path / "logs"
    how = dict(watch=TEST, trackers=["tensorboard"], logs=logs, folder=tmp_path / "steps")
    with suppress(Stop):
        trained("mean", on_epoch=stop_after(2), **how)
    _, history = trained("mean", resume=True, **how)
    found = scalars_in(logs / "vidprism")
    assert found["watch/top1"] == pytest.approx({e["epoch"]: e["top1"] for e in history.watched})


def test_a_tracker_that_is_missing_is_one_sentence(monkeypatch, tmp_path):
    from vidprism.training import trainer

    monkeypatch.setattr(trainer, "get_available_trackers", lambda: [])
    with pytest.raises(ConfigError, match=r"tensorboard is not installed: install vidprism\[tensorboard\]"):
        trained("mean", trackers=["tensorboard"], logs=tmp_path)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="tracker must be"):
        trained("mean", trackers=["paper"], logs=tmp_path)
    with pytest.raises(ConfigError, match="give their folder"):
        trained("mean", trackers=["tensorboard"])


# a run ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    "A folder of features of three classes, made elsewhere."
    import numpy as np

    folder = tmp_path_factory.mktemp("data") / "theirs"
    x, labels = features(36, 5)
    for place, (clip, label) in enumerate(zip(x, labels)):
        (folder / f"class{label}").mkdir(parents=True, exist_ok=True)
        np.save(folder / f"class{label}" / f"film{place}.npy", clip.numpy())
    return folder


def train_words(theirs, out, *more):
    small = ["--option", "rates=2,4", "--option", "num_heads=2", "--epochs", "3", "--batch", "8"]
    return ["train", str(theirs), "--split", "source", "--folds", "3", "--out", str(out), *small, *more]


def run_command(words):
    from vidprism.cli import main

    return main(words) or 0


def weights_in(folder):
    return (folder / "head.safetensors").read_bytes()


def test_the_command_watches_tracks_and_keeps(theirs, tmp_path, capsys):
    "watch.json, TensorBoard's files and all epochs are there; the weights are those of the command without."
    from vidprism.model import VideoModel
    from vidprism.training.runs import checkpoints_by_epoch, model_at_epoch, read_run

    assert run_command(train_words(theirs, tmp_path / "plain")) == 0
    watching = ["--watch", "--track", "tensorboard", "--keep", "all"]
    assert run_command(train_words(theirs, tmp_path / "watched", *watching)) == 0
    plain, watched = tmp_path / "plain", tmp_path / "watched"
    assert weights_in(plain) == weights_in(watched) and not (plain / "watch.json").exists()
    record = read_watch(watched)
    assert [entry["epoch"] for entry in record] == [1, 2, 3] and record == watched_epochs(watched)
    assert record[-1]["top1"] == pytest.approx(read_run(watched)["top1"])  # all test clips are watched
    told = scalars_in(watched / "trackers" / "vidprism")
    assert told["watch/share/rate 2"] == pytest.approx({e["epoch"]: e["shares"][0] for e in record})
    assert list(checkpoints_by_epoch(watched)) == [1, 2, 3]
    last, final = model_at_epoch(watched, 3), VideoModel.from_pretrained(watched)
    assert same_weights(last.head, final.head) and last.labels == final.labels
    assert not same_weights(model_at_epoch(watched, 1).head, final.head)
    with pytest.raises(ConfigError, match=r"no checkpoint of epoch 7 \(kept: 1, 2, 3\)"):
        model_at_epoch(watched, 7)


@pytest.mark.parametrize("keep", ["none", "0", "-1", "1.5", "²"])
def test_the_command_refuses_a_number_of_checkpoints(theirs, tmp_path, capsys, keep):
    assert run_command(train_words(theirs, tmp_path / "out", "--keep", keep)) == 2
    assert "--keep must be a number of checkpoints or all" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_a_tracker(theirs, tmp_path, capsys):
    assert run_command(train_words(theirs, tmp_path / "out", "--track", "paper")) == 2
    assert "tracker must be" in capsys.readouterr().err


def test_a_run_that_goes_on_is_watched_from_its_folder(theirs, tmp_path):
    "The record, and the model of a kept epoch, are there before the run has ended; a resumed run ends with all of it."
    from vidprism.training.pipeline import Recipe, encoder_for, recipe_for, train_clips
    from vidprism.training.runs import Source, begin_run, checkpoints_by_epoch, model_at_epoch, run_settings, save_run

    source, out = Source(str(theirs)), tmp_path / "run"
    clips = source.read()
    training = TrainConfig(epochs=3, batch=8)
    options = dict(rates=(2, 4), num_heads=2)
    recipe = recipe_for(clips, Recipe(split="source", folds=3, options=options, training=training))
    encoder = encoder_for(clips, recipe.encoder)
    begin_run(out, run_settings(source, clips, recipe, encoder))

    def stop(record):
        if len(record) == 2:
            raise Stop

    with suppress(Stop):
        train_clips(clips, recipe, encoder, folder=out, watch=stop, keep="all")
    assert [entry["epoch"] for entry in watched_epochs(out)] == [1, 2]  # kept before it is shown
    model = model_at_epoch(out, 1)
    assert model.head.config.rates == (2, 4) and list(checkpoints_by_epoch(out)) == [1, 2]
    done = train_clips(clips, recipe, encoder, folder=out, watch=True, keep="all", resume=True)
    save_run(out, done, keep_checkpoints=True)
    assert read_watch(out) == done.history.watched and len(done.history.watched) == 3
    assert same_weights(model_at_epoch(out, 3).head, done.model.head)
    assert same_weights(model_at_epoch(out, 1).head, model.head)


def test_a_torn_checkpoint_is_not_opened(tmp_path):
    from vidprism.training.runs import model_at_epoch

    head, _ = trained("mean", folder=tmp_path, keep="all")
    path = kept_epochs(tmp_path)[2] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConfigError, match="torn"):
        model_at_epoch(tmp_path, 2)
    with pytest.raises(ConfigError, match="give the model"):
        model_at_epoch(tmp_path, 1)


# pictures and the panel ----------------------------------------------------------------------------------------------


def entry(epoch, experts=(2, 4), **columns):
    return dict(epoch=epoch, clips=5, experts=list(experts), top1=0.5, **columns)


@pytest.mark.parametrize("experts", [(2, 4), ("a", "b"), ("<b>x</b>", "$y$"), (8, 8, 2, 16)])
def test_the_figure_stands_for_any_experts(experts):
    "One epoch, nulls, names that plotly would interpret, equal rates."
    from vidprism.viz.style import words
    from vidprism.viz.training import training_figure

    count = len(experts)
    table = [[None] * count for _ in range(count)]
    row = [None] * count
    for epochs in ([1], [1, 2, 7]):
        record = [entry(epoch, experts, cka=table, open=table, alone=row, shares=row, chance=None) for epoch in epochs]
        spec = training_figure.spec(record, at=epochs[-1])
        spec.text()
        assert training_figure(record).to_json() and words(spec)
        assert all("<b>x" not in trace["name"] for trace in spec.data)


def test_one_expert_has_no_pairs():
    from vidprism.viz.training import training_figure

    spec = training_figure.spec([entry(1, [2], cka=[[1.0]], alone=[0.5], shares=[1.0], open=[[0.0]], balance=1.0)])
    assert len(spec.layout["annotations"]) == 1


def test_the_panel_follows_and_never_breaks_a_training(tmp_path):
    "Fed by `fit` and by a folder that appears, grows, is torn and vanishes."
    from vidprism.training.trainer import History
    from vidprism.viz.training_panel import TrainingPanel

    panel = TrainingPanel()
    _, history = trained("vidprism", watch=panel)
    assert panel.record == history.watched and panel.epoch.value == 3 and panel.open_button.disabled
    panel.epoch.value = 2
    panel(history.watched + [dict(history.watched[-1], epoch=4)])
    assert panel.epoch.value == 2  # a slider that somebody moved stays
    missing = TrainingPanel(tmp_path / "later")
    assert "does not exist" in missing.status.value and missing.record == []
    trained("vidprism", watch=True, folder=tmp_path / "later", keep="all")
    assert missing.refresh() == history.watched and list(missing.kept) == [1, 2, 3]
    assert missing.open_epoch(2) is None and "give the model" in missing.status.value
    assert TrainingPanel(History([], 0.0, "cpu")).record == []
    with pytest.raises(ConfigError):
        TrainingPanel(3)


def test_an_epoch_is_kept_before_it_is_shown(tmp_path):
    "A panel that is fed by `fit` can open the epoch that it shows."
    found = []
    trained(
        "mean",
        watch=Watch(TEST, call=lambda record: found.append(list(kept_epochs(tmp_path)))),
        folder=tmp_path,
        keep="all",
    )
    assert found == [[1], [1, 2], [1, 2, 3]]


def test_the_panel_opens_what_it_is_told_to(tmp_path):
    "A hook gets the model of the epoch; what it returns is kept, and shown where it is a widget."
    import ipywidgets
    from vidprism.encoders.factory import create_encoder
    from vidprism.model import VideoModel
    from vidprism.viz.training_panel import TrainingPanel

    head, history = trained("mean", watch=True, folder=tmp_path, keep="all")
    encoder = create_encoder("mini")
    with seeded(0):
        same = create_head("mean", encoder.dim, CLASSES, FRAMES)
    wrong = VideoModel(encoder, same, ["a", "b", "c"])
    panel = TrainingPanel(tmp_path, model=wrong, open=lambda model: ipywidgets.Label("x"))
    assert panel.open_epoch(1) is None and "do not fit" in panel.status.value and panel.place.children == ()


TWO = '''
import os, sys
import torch
import warnings
warnings.filterwarnings("ignore")
from pathlib import Path
from test_watch import CONFIG, TEST, TRAIN, new_head
from vidprism.training.trainer import TensorClips, fit

out, rank = Path(sys.argv[1]), os.environ["RANK"]
torch.set_num_threads(1)
fails = sys.argv[2] == "fails"


def call(record):
    (out / f"called {rank}").write_text(str(len(record)))
    if fails:
        raise RuntimeError("the panel is broken")


from vidprism.training.watch import Watch

head = new_head("vidprism")
how = dict(watch=Watch(TEST, call=call), trackers=["tensorboard"], logs=out / "logs", folder=out / "steps")
try:
    history = fit(head, TensorClips(*TRAIN), TEST, CONFIG, **how)
except Exception as error:
    (out / f"failed {rank}").write_text(repr(error))
else:
    torch.save((head.state_dict(), history.watched), out / f"done {rank}")
'''


def two_processes(folder, word):
    import os
    import subprocess
    import sys
    from pathlib import Path

    here = Path(__file__).parent
    (folder / "two.py").write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    paths = os.pathsep.join([str(here), str(here.parent)])
    more = dict(PYTHONPATH=paths, ACCELERATE_USE_CPU="true", OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    command = [*launch, str(folder / "two.py"), str(folder), word]
    return subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, timeout=300)


@pytest.mark.long
def test_of_two_processes_only_the_first_watches_and_writes(tmp_path):
    done = two_processes(tmp_path, "runs")
    assert done.returncode == 0, done.stderr[-2000:]
    (first, record), (second, nothing) = (torch.load(tmp_path / f"done {rank}") for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [entry["epoch"] for entry in record] == [1, 2, 3] and nothing == []
    assert (tmp_path / "called 0").exists() and not (tmp_path / "called 1").exists()
    assert len(list((tmp_path / "logs" / "vidprism").glob("events.*"))) == 1
    assert set(scalars_in(tmp_path / "logs" / "vidprism")["watch/top1"]) == {1, 2, 3}


@pytest.mark.long
def test_a_failure_in_the_first_process_ends_both(tmp_path):
    done = two_processes(tmp_path, "fails")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the panel is broken" in (tmp_path / "failed 0").read_text()
    assert "first process" in (tmp_path / "failed 1").read_text()
