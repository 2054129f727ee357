"The parts of the trainer, against numbers worked by hand."

import math
import pytest
import shutil
import torch
from accelerate import Accelerator
from collections import namedtuple
from dataclasses import asdict
from torch import nn
from types import SimpleNamespace
from vidprism.errors import ConfigError
from vidprism.heads.base import create_head
from vidprism.training import trainer
from vidprism.training.trainer import TensorClips, TrainConfig, make_optimizer, seeded

DEFAULTS = dict(
    epochs=40,
    batch=64,
    lr=1e-3,
    weight_decay=0.05,
    decay_all=False,
    warmup=0.1,
    clip_norm=1.0,
    accumulate=1,
    precision="no",
    seed=0,
    encoder_lr=0.07,
    checkpointing=False,
    workers=0,
)


def test_default_config():
    "The documented defaults."
    assert asdict(TrainConfig()) == DEFAULTS


def permutation(seed):
    "PyTorch's permutation of nine."
    return torch.randperm(9, generator=torch.Generator().manual_seed(seed)).tolist()


@pytest.mark.parametrize("seed,epoch", [(0, 0), (0, 1), (0, 2), (3, 0), (3, 1), (3, 5)])
def test_order_of_an_epoch(seed, epoch):
    "The permutation of 100003 seed + epoch; a new order is at epoch 0."
    order = trainer._EpochOrder(9, seed)
    assert list(order) == permutation(seed * 100003) and len(order) == 9
    order.set_epoch(epoch)
    assert list(order) == permutation(seed * 100003 + epoch)


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
@pytest.mark.parametrize("process,processes", [(0, 1), (0, 2), (1, 2)])
def test_skipped_batches(skip, process, processes):
    "The epoch after a skip has the batches that are left; the one after that has all."
    batches = trainer._SharedBatches(range(11), 4 // processes, process, processes)
    whole = list(batches)
    batches.skip = skip
    assert list(batches) == whole[skip:] and list(batches) == whole
    assert len(batches) == 3 and batches.whole_size == 4


def test_progress_begins_at_zero():
    "Nothing is counted before the first step."
    new = trainer._Progress()
    assert (new.batches, new.step, new.skipped, new.in_a_row) == (0, 0, 0, 0)
    assert (new.rows, new.watched, new.totals, new.suspects, new.restore) == ([], [], {}, [], None)


def kept_progress(**changes):
    "The progress of a checkpoint after two of five epochs."
    state = dict(rows=[dict(epoch=1), dict(epoch=2)], batches=3, step=19, totals={}, skipped=0, in_a_row=0, suspects=[])
    return {**state, **changes}


def test_progress_of_a_checkpoint():
    "As it was saved; as many rows as epochs are possible, more are not."
    state = kept_progress()
    for epochs in (2, 5):
        found = trainer._progress_of(state, epochs, "ck")
        assert (found.rows, found.batches, found.step) == (state["rows"], 3, 19)
    wrong = [(state, 1), (state, 0)]
    wrong += [(kept_progress(**{name: -1}), 5) for name in ("batches", "step", "skipped", "in_a_row")]
    wrong += [(kept_progress(rows={}), 5), (kept_progress(suspects="a"), 5), (kept_progress(rows=[1]), 5)]
    for bad, epochs in wrong:
        with pytest.raises(ConfigError, match="ck has an impossible progress"):
            trainer._progress_of(bad, epochs, "ck")


def test_sums():
    "A name that is new begins at zero."
    sums = dict(a=1.5)
    trainer._add_to(sums, dict(a=2.0, b=0.25))
    assert sums == dict(a=3.5, b=0.25)


@pytest.mark.parametrize("count,said", [(1, "0"), (5, "0, 1, 2, 3, 4"), (6, "0, 1, 2, 3, 4 and 1 others")])
def test_first_names(count, said):
    assert trainer._first_names([str(k) for k in range(count)]) == said
    assert trainer._first_names(list("abcdefgh"), 2) == "a, b and 6 others"


@pytest.mark.parametrize("places,names", [([0, 2], ["a", "c"]), ([3, 5, 7], ["a", "c", "b"])])
def test_names_of_places(places, names):
    "A place may carry the epoch: places 3 to 5 are the second epoch of three clips."
    assert trainer._names_of(SimpleNamespace(items=list("abc")), places) == names
    assert trainer._names_of([], [4]) == ["clip 4 of the epoch"]


def test_places_of_batches():
    "Those that the sampler took; without it, counted on from those before."
    batch = torch.zeros(3, 2), torch.zeros(3)
    own = SimpleNamespace(batch_sampler=object())
    assert trainer._places_of(own, batch, 0) == [0, 1, 2]
    assert trainer._places_of(own, batch, 7) == [7, 8, 9]
    shared = trainer._SharedBatches(range(10, 14), 3)
    assert list(shared) == [[10, 11, 12], [13]]
    loader = SimpleNamespace(batch_sampler=shared)
    assert [trainer._places_of(loader, batch, 0) for _ in range(2)] == [[10, 11, 12], [13]]


LARGEST = torch.finfo(torch.float32).max
OVERFLOWS = [  # weight, rate, decay, whether lr * 1000 + |weight| |1 - lr * decay| reaches the largest float32
    (1.0, 1e-3, 0.05, False),
    (LARGEST, 1e-3, 0.0, False),  # AdamW's step is at most a few times lr
    (LARGEST, 1e-3, 0.05, False),
    (1.0, 1e20, 0.0, False),
    (1.0, 1e35, 0.0, False),
    (1.0, 1e36, 0.0, True),
    (LARGEST / 1.5, 1.0, 3.0, True),  # the weight doubles, and its sign changes
    (LARGEST / 3, 1.0, 3.0, False),
    (LARGEST / 1.5, 1.0, 2.0, False),  # |1 - 2| = 1
    (LARGEST, 1e20, 1e-20, False),  # the decay takes the weight away: 1 - 1 = 0
    (LARGEST, 1e20, 0.0, True),
]


@pytest.mark.parametrize("weight,lr,decay,expected", OVERFLOWS)
def test_overflow_of_a_step(weight, lr, decay, expected):
    "Before a step, from weight, rate and decay."
    small, large = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.tensor([0.5, -weight]))
    groups = [dict(params=[small]), dict(params=[large, small.detach().clone().requires_grad_()])]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.0)
    optimizer.param_groups[1].update(lr=lr, weight_decay=decay)
    assert trainer._could_overflow(optimizer) is expected


@pytest.mark.parametrize(
    "clips,batch,epochs,every,most", [(64, 64, 3, 1, 5), (65, 64, 3, 1, 8), (65, 64, 3, 4, 3), (10, 3, 2, 3, 4)]
)
def test_most_checkpoints(clips, batch, epochs, every, most):
    "One each `every` steps, one at the end and one of a stop; without `every`, one an epoch."
    data, config = TensorClips(torch.zeros(clips, 2), torch.zeros(clips)), TrainConfig(epochs=epochs, batch=batch)
    assert trainer._most_checkpoints(data, config, every) == most
    assert trainer._most_checkpoints(data, config, 0) == epochs


def test_space_of_kept_checkpoints(tmp_path, monkeypatch):
    "All are kept if they fit into half of the free space, and into the kit's own limit."
    head = nn.Linear(10, 10)
    size = trainer.checkpoint_bytes(head)
    Usage = namedtuple("Usage", "total used free")
    for free, limit in ((2 * 7 * size, 10**12), (10**12, 7 * size)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(10**13, 0, free))
        monkeypatch.setattr(trainer, "_MOST_KEPT", limit)
        assert trainer._checkpoints_kept("all", head, tmp_path / "a" / "b", 7) is None
        with pytest.raises(ConfigError, match="up to 8 checkpoints"):
            trainer._checkpoints_kept("all", head, tmp_path / "a" / "b", 8)
    assert trainer._checkpoints_kept(3, head, None, 99) == 3
    with pytest.raises(ConfigError, match="folder"):
        trainer._checkpoints_kept("all", head, None, 1)
    with pytest.raises(ConfigError, match="keep"):
        trainer._checkpoints_kept("most", head, tmp_path, 1)


@pytest.mark.parametrize("reached", [1, 4, 9])
def test_schedule_set_to_a_step(reached):
    "As if the steps had been taken one by one, now and in the next steps."

    def new():
        optimizer = make_optimizer(create_head("mean", 4, 2, 2), TrainConfig(lr=0.01))
        return optimizer, trainer._make_schedule(optimizer, 10, 0.3)

    def rates(optimizer):
        return [group["lr"] for group in optimizer.param_groups]

    (stepped, one), (jumped, two) = new(), new()
    for _ in range(reached):
        stepped.step()
        one.step()
    trainer._set_schedule(two, reached)
    assert rates(stepped) == rates(jumped) and one.get_last_lr() == two.get_last_lr()
    assert (one.last_epoch, one._step_count) == (two.last_epoch, two._step_count)
    stepped.step()
    one.step()
    jumped.step()
    two.step()
    assert rates(stepped) == rates(jumped)


@pytest.mark.parametrize(
    "name,hint", [("tensorboard", r"install vidprism\[tensorboard\]"), ("wandb", "install its package")]
)
def test_a_tracker_that_is_not_installed(name, hint, monkeypatch):
    "The sentence says what to install."
    monkeypatch.setattr(trainer, "get_available_trackers", list)
    with pytest.raises(ConfigError, match=f"The tracker {name} is not installed: {hint}"):
        trainer._check_trackers([name], None)


def test_accuracy_of_shares():
    "Right ones of all, in batches of four times the training's."
    with seeded(0):
        head = create_head("mean", 4, 3, 2).eval()
    x = torch.randn(23, 2, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        answers = head(x).logits.argmax(1)
    labels = answers.clone()
    labels[:5] = (labels[:5] + 1) % 3
    sizes = []
    head.register_forward_hook(lambda module, given, out: sizes.append(len(given[0])))
    found = trainer._top1_shared(Accelerator(cpu=True), head, TensorClips(x, labels), TrainConfig(batch=2))
    assert math.isclose(found, 18 / 23) and sizes == [8, 8, 7]


SHARED = dict(labels=["a", "b"], config=dict(lr=1.0), processes=1000, clips="f00d")


@pytest.mark.parametrize(
    "other", [dict(labels=["a"]), dict(labels=["c"]), dict(config=dict(lr=2.0)), dict(processes=2)]
)
def test_what_a_resumed_run_shares(other):
    "Equal labels, config, processes and clips pass, equal objects or not; any other is refused."
    equal = dict(labels=["a", "b"], clips="".join(["f0", "0d"]), processes=int("1000"))
    trainer._check_shared({**SHARED, **equal}, SHARED, "ck")
    for wrong in (other, dict(clips="beef"), dict(clips="zzzz"), dict(clips=None)):
        with pytest.raises(ConfigError, match="was trained"):
            trainer._check_shared({**SHARED, **wrong}, SHARED, "ck")


@pytest.mark.parametrize("before,refused", [("aaa", True), ("zzz", True), ("mmm", False), (None, True)])
def test_watched_clips_of_a_resumed_run(before, refused):
    "The record goes on with the same clips only; without a record or clips there is nothing to compare."
    store = SimpleNamespace(watched="".join("mmm"), folder="ck")
    state = dict(watched=[dict()], watched_clips=before)
    if refused:
        with pytest.raises(ConfigError, match="watched on other clips"):
            trainer._check_watched(state, store)
    else:
        trainer._check_watched(state, store)
    trainer._check_watched(dict(state, watched=[]), store)
    trainer._check_watched(state, SimpleNamespace(watched=None, folder="ck"))


def test_message_of_a_stop(tmp_path):
    "Epoch, step and checkpoint, if there is one."
    progress = trainer._Progress(rows=[{}, {}, {}], step=17)
    loop = SimpleNamespace(progress=progress, store=SimpleNamespace(folder=None))
    assert trainer._told(loop) == "Training stopped in epoch 4, after step 17; nothing is kept."
    loop.store.folder = tmp_path
    assert trainer._told(loop) == "Training stopped in epoch 4, after step 17; nothing is kept."
