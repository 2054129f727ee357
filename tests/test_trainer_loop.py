"The trainer's loop, with an accelerator of two processes that is no more than its arithmetic."

import inspect
import itertools
import json
import math
import pytest
import torch
from contextlib import contextmanager, nullcontext
from dataclasses import FrozenInstanceError
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend
from torch.utils.data import Dataset
from types import SimpleNamespace
from vidprism.errors import ConfigError, VidPrismError
from vidprism.files import WriteError
from vidprism.heads.base import create_head
from vidprism.training import trainer
from vidprism.training.checkpoint import KEPT
from vidprism.training.trainer import TensorClips, TrainConfig, fit, make_optimizer, seeded


class Processes:
    "An accelerator; with two processes, the second one has `others`."

    device = torch.device("cpu")

    def __init__(self, count=1, others=(), main=True):
        self.num_processes, self.process_index, self.is_main_process = count, 0, main
        self.others, self.calls = list(others), []

    def reduce(self, own):
        self.calls.append("reduce")
        return own + self.others.pop(0)

    def pad_across_processes(self, own, pad_index=0):
        self.calls.append("pad")
        width = self.others[0].shape[-1]
        return F.pad(own, (0, width - own.shape[-1]), value=pad_index)

    def gather(self, own):
        self.calls.append("gather")
        return torch.cat([own, self.others.pop(0)])

    def backward(self, loss):
        self.calls.append(("backward", loss.item()))

    @contextmanager
    def no_sync(self, model):
        self.calls.append("no_sync")
        yield

    def log(self, scalars, step):
        self.calls.append((scalars, step))

    def init_trackers(self, *given):
        self.calls.append(given)


def test_count_of_all_processes():
    "One process asks nobody."
    alone = Processes()
    assert trainer._count_everywhere(alone, 3) == 3 and not alone.calls
    assert trainer._count_everywhere(Processes(2, [4]), 3) == 7


def test_numbers_of_all_processes():
    "The filling of the shorter list is left out, 0 is not."
    numbers = [0, 3]
    alone = Processes()
    assert trainer._from_all(alone, numbers) is numbers and not alone.calls
    assert trainer._from_all(Processes(2, [torch.tensor([-1, 0, 7, 9])]), numbers) == [0, 3, 0, 7, 9]


def test_bytes_of_all_processes():
    alone = Processes()
    assert trainer._bytes_of_all(alone, b"ab") == [b"ab"] and not alone.calls
    longer = torch.tensor([[3, 4, 5, 6]], dtype=torch.uint8)
    both = Processes(2, [torch.tensor([4]), longer])
    assert trainer._bytes_of_all(both, bytes([0, 255])) == [bytes([0, 255]), bytes([3, 4, 5, 6])]


def shares(*sizes, places=None):
    "Shares of one process: (own, whole)."
    return [trainer._Share(torch.zeros(own, 2), torch.zeros(own), own, whole, list(range(own))) for own, whole in sizes]


@pytest.mark.parametrize("count", [1, 2])
def test_gradient_of_a_step(count, monkeypatch):
    "Weights by hand: processes * own / clips of the step; gradients are exchanged with the last share alone."
    noted = []

    @contextmanager
    def whole_batch(own, whole):
        noted.append((own, whole))
        yield

    monkeypatch.setattr(trainer, "whole_batch", whole_batch)
    losses = iter([3.0, 5.0])
    accelerator = Processes(count)

    def model(clips, labels):
        return dict(total=torch.tensor(next(losses)), cls=torch.tensor(0.5))

    loop = SimpleNamespace(accelerator=accelerator, model=model)
    sums = trainer._add_gradients(loop, shares((2, 3), (1, 1)))
    assert sums == dict(total=3.0 * 2 + 5.0, cls=0.5 * 3, clips=3)
    given = [("backward", 3.0 * count * 2 / 4), ("backward", 5.0 * count * 1 / 4)]
    assert accelerator.calls == ["no_sync", *given]
    assert noted == ([(2, 3), (1, 1)] if count > 1 else [])


def loop_of_step(found, clip_norm=1.0):
    "A loop for a step whose loss is `found`."
    head = nn.Linear(2, 1)
    optimizer = make_optimizer(head, TrainConfig(lr=0.1))
    schedule = trainer._make_schedule(optimizer, 10, 0.0)

    def model(clips, labels):
        return dict(total=head(clips).mean() * 0 + found)

    model.modules, model.parameters = head.modules, head.parameters
    accelerator = Processes()
    accelerator.backward = lambda loss: loss.backward()
    accelerator.clip_grad_norm_ = nn.utils.clip_grad_norm_
    config = TrainConfig(clip_norm=clip_norm)
    data = SimpleNamespace(items=["a", "b", "c"])
    store = SimpleNamespace(folder=None)
    return SimpleNamespace(
        accelerator=accelerator,
        module=head,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        config=config,
        data=data,
        store=store,
        progress=trainer._Progress(),
    )


def test_count_of_skipped_steps():
    "One by one; a good step begins anew, and the third in a row stops."
    loop = loop_of_step(math.nan)
    for number in (1, 2):
        trainer._take_step(loop, shares((2, 2)))
        progress = loop.progress
        assert (progress.skipped, progress.in_a_row, progress.step, progress.batches) == (number,) * 4
        assert progress.suspects == ["a", "b"] and progress.totals == {}
        trainer._stop_if_not_finite(loop)
    trainer._take_step(loop, shares((2, 2)))
    with pytest.raises(trainer.NotFiniteError, match="at step 3: 3 steps in a row"):
        trainer._stop_if_not_finite(loop)
    good = loop_of_step(1.5)
    good.progress.in_a_row, good.progress.suspects = 2, ["z"]
    trainer._take_step(good, shares((2, 2), (1, 1)))
    progress = good.progress
    assert (progress.skipped, progress.in_a_row, progress.step, progress.batches) == (0, 0, 1, 2)
    assert progress.suspects == [] and progress.totals == dict(total=4.5, clips=3)


@pytest.mark.parametrize("total,norm,overflows,sound", [
    (1.0, 1.0, False, True),
    (math.nan, 1.0, False, False),
    (1.0, math.inf, False, False),
    (1.0, 1.0, True, False),
])  # fmt: skip
def test_sound_step(total, norm, overflows, sound, monkeypatch):
    "Loss, gradient and weights have to be finite, each of them, in every process."
    monkeypatch.setattr(trainer, "_gradient_norm", lambda loop: torch.tensor(norm))
    monkeypatch.setattr(trainer, "_could_overflow", lambda optimizer: overflows)
    loop = SimpleNamespace(accelerator=Processes(), optimizer=None)
    assert trainer._is_sound(loop, torch.tensor(total)) is sound
    for others in (0, 1):
        loop.accelerator = Processes(2, [others])
        assert trainer._is_sound(loop, torch.tensor(total)) is (sound and not others)


def test_norm_of_all_gradients(monkeypatch):
    "PyTorch's function if it has one; else the same number; without gradients 0."
    monkeypatch.setattr(nn.utils, "get_total_norm", lambda gradients: "PyTorch's", raising=False)
    assert trainer._total_norm([torch.ones(1)]) == "PyTorch's"
    monkeypatch.delattr(nn.utils, "get_total_norm")
    assert trainer._total_norm([torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]).item() == 5.0
    assert trainer._total_norm([]).item() == 0.0


LIMIT = torch.finfo(torch.float32).max / 1000


@pytest.mark.parametrize("lr,expected", [(LIMIT * 0.9995, False), (LIMIT * 1.0005, True)])
def test_rate_near_the_overflow(lr, expected):
    "1000 times the rate is compared, in a group of one parameter."
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3, weight_decay=0.0)
    optimizer.param_groups[0].update(lr=lr)
    assert trainer._could_overflow(optimizer) is expected


def test_which_parameters_decay():
    "Matrices and what has more axes; biases and scalars only with `decay_all`."

    class Parts(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Module()
            for part in (self, self.encoder):
                for axes in range(4):
                    part.register_parameter(f"of{axes}", nn.Parameter(torch.zeros([2] * axes)))

    parts = Parts()

    def groups(**options):
        found = make_optimizer(parts, TrainConfig(lr=0.5, encoder_lr=0.1, weight_decay=0.3, **options)).param_groups
        return [(g["lr"], g["weight_decay"], [p.ndim for p in g["params"]]) for g in found]

    assert groups() == [(0.5, 0.3, [2, 3]), (0.5, 0.0, [0, 1]), (0.05, 0.3, [2, 3]), (0.05, 0.0, [0, 1])]
    assert groups(decay_all=True) == [(0.5, 0.3, [0, 1, 2, 3]), (0.05, 0.3, [0, 1, 2, 3])]


def test_rate_of_a_short_training():
    "Two steps with a rise of .6: the second is .4 of 1.4 on its way down."
    assert math.isclose(trainer.rate_at(0, 2, 0.3), 1 / 1.6)
    assert math.isclose(trainer.rate_at(1, 2, 0.3), 0.5 * (1 + math.cos(math.pi * 0.4 / 1.4)))
    assert trainer.rate_at(2, 2, 1 - 1e-9) == pytest.approx(1.0)


def test_recomputation_of_transformers():
    "Its towers are switched with their own names, and not reentrant."
    told = []
    part = nn.Module()
    part.gradient_checkpointing_enable = told.append
    part.gradient_checkpointing_disable = lambda: told.append("off")
    for on in (True, False):
        trainer._set_checkpointing(part, on)
    assert told == [dict(use_reentrant=False), "off"]
    own = nn.Module()
    own.set_grad_checkpointing = told.append
    trainer._set_checkpointing(own, False)
    assert told[2:] == [False]


def test_score_by_hand():
    "Only the class itself is right, neither one above nor one below."
    head = nn.Module()
    head.forward = lambda x: SimpleNamespace(logits=x)
    logits = torch.tensor([[0.0, 2.0, 1.0]] * 3)
    found = trainer.score(head, logits, torch.tensor([0, 1, 2]))
    assert found.top1 == pytest.approx(1 / 3)
    assert found.loss == pytest.approx(F.cross_entropy(logits, torch.tensor([0, 1, 2])).item())


def test_accuracy_of_a_process_without_clips():
    "It adds nothing to the others' right ones."
    head = create_head("mean", 4, 3, 2).eval()
    clips = TensorClips(torch.zeros(1, 2, 4), torch.zeros(1))
    two = Processes(2, [torch.tensor(1.0)])
    assert trainer._part_of(1, 0, 2) == slice(0, 0)
    assert trainer._top1_shared(two, head, clips, TrainConfig(batch=2)) == 1.0


class Shaped(Dataset):
    "A data set whose clips have a known shape."

    clip_shape = (2, 3)
    labels = torch.zeros(4)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.zeros(2, 3), 0


def test_kind_of_loader():
    "Shared memory is for clips of a known shape in other processes; nothing else is in other processes by default."
    batches = trainer._SharedBatches(range(4), 2)
    plain = TensorClips(torch.zeros(4, 2), torch.zeros(4))
    assert trainer._batches_of(plain, [[0]]).num_workers == 0
    assert isinstance(trainer._batches_of(Shaped(), batches, 1), trainer.SharedBatchLoader)
    for data, of, workers in ((Shaped(), batches, 0), (plain, batches, 1), (Shaped(), [[0]], 1)):
        assert not isinstance(trainer._batches_of(data, of, workers), trainer.SharedBatchLoader)


class Loader:
    "A loader of numbered batches; a new iterator draws a number, as PyTorch's does."

    def __init__(self, persistent, sampler=None, count=5):
        self.persistent_workers, self.batch_sampler, self.count = persistent, sampler, count
        self._iterator = None

    def __iter__(self):
        if self._iterator is None or not self.persistent_workers:
            trainer._draw_of_opening()
        self._iterator = object()
        skip = getattr(self.batch_sampler, "skip", 0)
        return iter([torch.tensor([k]) for k in range(skip, self.count)])


def state_after(work):
    "The next random number after a piece of work."
    with seeded(5):
        work()
        return torch.rand(()).item()


@pytest.mark.parametrize("persistent", [False, True])
def test_draw_of_an_epoch(persistent):
    "Each epoch draws one number, whether the loading processes stay or not."
    once = state_after(trainer._draw_of_opening)
    loader = Loader(persistent)
    for _ in range(3):
        assert state_after(lambda: trainer._open_epoch(loader)) == once


@pytest.mark.parametrize("persistent,own", itertools.product([False, True], [False, True]))
@pytest.mark.parametrize("done", range(6))
def test_reopened_epoch(done, persistent, own):
    "After a resumption: the batches that are left, the last one before, and the random state of the unbroken run."
    sampler = None if own else trainer._SharedBatches(range(5), 1)
    loader = Loader(persistent, sampler)

    def restore():
        torch.manual_seed(9)

    progress = trainer._Progress(batches=done, restore=restore)
    loop = SimpleNamespace(progress=progress, loader=loader)
    with seeded(1):
        opened = trainer._reopen_epoch(loop)
        left = torch.rand(()).item()
    with seeded(9):
        if not done:
            trainer._draw_of_opening()
        unbroken = torch.rand(()).item()
    assert left == unbroken and progress.restore is None
    batches = [int(batch) for batch in itertools.chain(opened.ahead, opened.batches)]
    assert batches == list(range(done, 5))
    assert len(opened.ahead) == (persistent and not done)  # loading processes have begun before the state is restored
    assert opened.last is None if not done else int(opened.last) == done - 1


def test_places_without_a_sampler():
    "As many as the batch has labels."
    assert trainer._places_of(SimpleNamespace(batch_sampler=None), ("clips", torch.zeros(3)), 4) == [4, 5, 6]


def clips_of(count, classes=2):
    x = torch.randn(count, 2, 3, generator=torch.Generator().manual_seed(0))
    return TensorClips(x, torch.arange(count) % classes)


def new_head():
    with seeded(0):
        return create_head("mean", 3, 2, 2)


def test_steps_of_checkpoints(tmp_path):
    "Each second step, and the end; the epochs are numbered from 1."
    config = TrainConfig(epochs=3, batch=4)
    history = fit(new_head(), clips_of(10), None, config, tmp_path / "run", every=2, keep="all")
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    kept = sorted(path.name for path in (tmp_path / "run").glob("step-*"))
    assert kept == [f"step-{step:08}" for step in (2, 4, 6, 8, 9)]
    state = json.loads((tmp_path / "run" / kept[1] / "state.json").read_text())
    assert (state["step"], state["batches"], len(state["rows"])) == (4, 1, 1)


def test_test_clips():
    "Two tensors or a data set with clips."
    x, y = clips_of(3).features, clips_of(3).labels
    assert trainer._test_clips(None) is None and len(trainer._test_clips((x, y))) == 3
    for wrong in ((x,), (x, y, y), (x, [0, 1, 1]), [x, y], "clips", 3):
        with pytest.raises(ConfigError, match="test must be a data set"):
            trainer._test_clips(wrong)

    class Empty(Dataset):
        def __len__(self):
            return 0

    for empty in (Empty(), Dataset()):
        with pytest.raises(ConfigError, match="at least one clip"):
            trainer._test_clips(empty)


@pytest.mark.parametrize("device,axes,bf16,used", [
    ("cpu", 3, True, True),
    ("cpu", 3, False, False),
    ("cpu", 5, True, False),
    ("cpu", 2, True, False),
    ("meta", 3, True, False),
])  # fmt: skip
def test_kernel_of_features_in_bf16(device, axes, bf16, used, monkeypatch):
    "The plain kernel of attention for features on the CPU under bf16, and nowhere else."
    asked = []
    monkeypatch.setattr(trainer, "sdpa_kernel", lambda kind: asked.append(kind) or nullcontext())
    module = nn.Module()
    module.forward = lambda clips, labels: SimpleNamespace(losses=dict(total=1.0))
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        found = trainer.LossesOnly(module)(torch.zeros([1] * axes, device=device), None)
    assert found == dict(total=1.0) and asked == ([SDPBackend.MATH] if used else [])


class Tracker:
    finished = 0

    def finish(self):
        self.finished += 1


@pytest.mark.parametrize("device,freed", [("cpu", 0), ("cuda", 1), ("ane", 1)])
@pytest.mark.parametrize("trackers", [(), ("tensorboard",)])
@pytest.mark.parametrize("processes", [1, 2])
def test_accelerator_of_a_training(device, freed, trackers, processes, monkeypatch):
    "Trackers are closed, a GPU's memory is freed, and the process has no state left, but what several share."
    told = SimpleNamespace(freed=0, options=None, reset=0)

    class Fake:
        def __init__(self, **options):
            told.options = options
            self.device, self.trackers = SimpleNamespace(type=device), [Tracker()]

        def free_memory(self):
            told.freed += 1

    class State:
        num_processes = processes

        @staticmethod
        def _reset_state():
            told.reset += 1

    monkeypatch.setattr(trainer, "Accelerator", Fake)
    monkeypatch.setattr(trainer, "PartialState", State)
    with trainer._accelerator_for(TrainConfig(precision="bf16"), trackers, "logs") as accelerator:
        pass
    assert accelerator.trackers[0].finished == len(trackers)
    assert told.freed == freed and told.reset == (1 if processes == 1 else 0)
    where = {name: told.options.get(name) for name in ("log_with", "project_dir")}
    assert where == (dict(log_with=["tensorboard"], project_dir="logs") if trackers else dict.fromkeys(where))
    assert told.options["mixed_precision"] == "bf16" and told.options["kwargs_handlers"][0].find_unused_parameters


def test_folder_belongs_to_the_main_process(tmp_path):
    "It is made and locked there only; a second training is refused at once."
    with trainer._own_folder(tmp_path / "other", Processes(2, main=False)):
        assert not (tmp_path / "other").exists()
    with trainer._own_folder(None, Processes()):
        pass
    with trainer._own_folder(tmp_path / "run", Processes()):
        assert (tmp_path / "run").is_dir()
        with pytest.raises(ConfigError, match="in use"), trainer._own_folder(tmp_path / "run", Processes()):
            pass


@pytest.mark.parametrize("main", [True, False])
def test_failure_of_a_checkpoint(main, monkeypatch):
    "All processes hear of it before one of them raises."
    monkeypatch.setattr(trainer, "_states_of_all", lambda loop: {})

    def write(loop, processes):
        raise VidPrismError("full")

    monkeypatch.setattr(trainer, "_write", write)
    accelerator = Processes(2, [0 if main else 1], main)
    with pytest.raises(VidPrismError if main else WriteError, match="full" if main else "first process"):
        trainer._save(SimpleNamespace(accelerator=accelerator))
    assert accelerator.calls == ["reduce"]
    if not main:
        trainer._save(SimpleNamespace(accelerator=Processes(2, [0], False)))


def test_values_for_trackers(monkeypatch):
    "An epoch's numbers, and those of its watched record, if it has one."
    monkeypatch.setattr(trainer, "watched_scalars", lambda record: dict(seen=record["mark"]))
    watched = [dict(epoch=1, mark=10), dict(epoch=2, mark=20)]
    row = dict(epoch=2, total=0.5, data="two files were left out")
    for record, more in ((watched, dict(seen=20)), (watched[:1], {}), ([], {})):
        accelerator = Processes()
        progress = trainer._Progress(rows=[dict(epoch=1), row], watched=record)
        trainer._track_epoch(SimpleNamespace(accelerator=accelerator, progress=progress))
        assert accelerator.calls == [(dict(total=0.5, **more), 2)]


@pytest.mark.parametrize("resumed", [0, 5])
def test_trackers_of_a_resumed_run(resumed):
    "A new run tells its config; a resumed one has TensorBoard drop what comes after its checkpoint."
    accelerator = Processes()
    trainer._begin_trackers(accelerator, TrainConfig(epochs=7), resumed)
    name, config, more = accelerator.calls[0]
    assert name == "vidprism" and more == (dict(tensorboard=dict(purge_step=6)) if resumed else {})
    assert config is None if resumed else config["epochs"] == 7


def test_finished_run_is_not_trained(monkeypatch):
    "As many rows as epochs end it, however many."

    def never(*given):
        raise AssertionError

    for name in ("_run_epoch", "_save"):
        monkeypatch.setattr(trainer, name, never)
    progress = trainer._Progress(rows=[{}] * 300)
    store = SimpleNamespace(folder=None, every=3)
    loop = SimpleNamespace(
        progress=progress, store=store, config=TrainConfig(epochs=300), module=new_head(), loader=None
    )
    trainer._run(loop, None, None, None)


def test_time_of_a_training(monkeypatch):
    "From the call to the end."
    clock = iter([2.0, 7.0])
    monkeypatch.setattr(trainer, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    assert fit(new_head(), clips_of(4), config=TrainConfig(epochs=1)).seconds == 5.0


def test_defaults_and_checks_of_fit():
    "The documented defaults; arguments are checked, and a config does not change."
    defaults = {name: p.default for name, p in inspect.signature(fit).parameters.items()}
    given = dict(test=None, config=TrainConfig(), folder=None, resume=False, labels=None, on_epoch=None, every=0)
    given |= dict(watch=False, trackers=(), logs=None, keep=KEPT)
    assert {name: defaults[name] for name in given} == given
    for wrong in (dict(config="fast"), dict(every=-1), dict(keep=0)):
        with pytest.raises(ConfigError):
            fit(new_head(), clips_of(4), **wrong)
    with pytest.raises(FrozenInstanceError):
        TrainConfig().epochs = 3


def test_limits():
    "The documented numbers: three steps in a row, 10 GiB."
    assert (trainer._MOST_SKIPPED, trainer._MOST_KEPT) == (3, 10 * 2**30)
