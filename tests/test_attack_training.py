"Attacks on training: kills, torn and hostile checkpoints, numbers that are not finite, full disks, interrupts."

import ast
import itertools
import json
import math
import numpy as np
import os
import pickle
import pytest
import random
import shutil
import signal
import subprocess
import sys
import time
import torch
import warnings
from pathlib import Path
from real import ROOT, hear_interrupts
from safetensors.torch import load_file
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from types import SimpleNamespace
from vidprism.errors import ConfigError, WriteError
from vidprism.experiments.samples import write_sources
from vidprism.heads.base import create_head
from vidprism.training.checkpoint import find_checkpoint, read_checkpoint
from vidprism.training.trainer import NotFiniteError, TensorClips, TrainConfig, fit, make_optimizer, rate_at, seeded

MOTE = dict(layers=2, experts=3, num_heads=2)  # it draws experts at each step
CONFIG = TrainConfig(epochs=3, batch=12, lr=3e-3)
FINAL = "step-00000012"


def task(count=45):
    "Features and labels that a head can learn, always the same."
    g = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    return torch.randn(count, 8, 8, generator=g) + y[:, None, None] * torch.linspace(-1, 1, 8)[None, :, None], y


def new_head(name="mote", **options):
    with seeded(0):
        return create_head(name, 8, 3, 8, **(options or MOTE))


def weights_of(module):
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


class Stop(Exception):
    pass


def stop_after(epochs):
    def check(rows):
        if len(rows) == epochs:
            raise Stop

    return check


@pytest.fixture(scope="module")
def whole():
    "The weights of an unbroken run."
    head = new_head()
    fit(head, TensorClips(*task()), config=CONFIG)
    return weights_of(head)


@pytest.fixture
def broken(tmp_path):
    "A folder with the checkpoints of a run that stopped after two of three epochs."
    folder = tmp_path / "checkpoints"
    with pytest.raises(Stop):
        fit(new_head(), TensorClips(*task()), config=CONFIG, folder=folder, on_epoch=stop_after(2))
    return folder


def resumed(folder, head=None, **changes):
    head = head or new_head()
    fit(head, TensorClips(*task()), config=CONFIG, folder=folder, resume=True, **changes)
    return weights_of(head)


# a run that nobody disturbs


def plain_loop(head, x, y, config):
    "The steps of a training, written out."
    steps = config.epochs * math.ceil(len(y) / config.batch)
    with seeded(config.seed):
        optimizer = make_optimizer(head, config)
        schedule = LambdaLR(optimizer, lambda step: rate_at(min(step, steps), steps, config.warmup))
        for epoch in range(config.epochs):
            torch.empty((), dtype=torch.int64).random_()  # the seed that a loader draws
            order = torch.randperm(len(y), generator=torch.Generator().manual_seed(config.seed * 100003 + epoch))
            for places in order.split(config.batch):
                head.train()
                head(x[places], y[places]).losses["total"].backward()
                nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
    return weights_of(head)


@pytest.mark.parametrize("options", [dict(name="mote", **MOTE), dict(name="vidprism", rates=(2, 4))])
def test_an_unbroken_run_is_the_plain_loop_to_the_last_bit(tmp_path, options):
    "Checkpoints, skipped steps and the rest change no bit of a run that needs none of them."
    plain = plain_loop(new_head(**options), *task(), CONFIG)
    for folder in (None, tmp_path / "each_epoch", tmp_path / "each_step"):
        head = new_head(**options)
        fit(head, TensorClips(*task()), config=CONFIG, folder=folder, every=int(folder is tmp_path / "each_step"))
        assert torch.equal(weights_of(head), plain)


# a checkpoint is data


class Payload:
    "A pickle that makes a file when it is read."

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


PLANTED = [
    "custom_checkpoint_0.pkl",
    "step-00000008/custom_checkpoint_0.pkl",
    "step-00000008/optimizer.bin",
    "step-00000004/random_states_0.pkl",
    "step-00000008/model.safetensors.pkl",
    "step-00000008/.hidden",
    "step-00000008/process-1.pt",
    "state/custom_checkpoint_0.pkl",
    "step-8/model.bin",
]


@pytest.mark.parametrize("name", PLANTED)
def test_what_is_no_part_of_a_checkpoint_is_refused_unread(broken, tmp_path, name):
    planted, trap = broken / name, tmp_path / "PWNED"
    planted.parent.mkdir(exist_ok=True)
    planted.write_bytes(pickle.dumps(Payload(trap)))
    with pytest.raises(ConfigError, match="not read|nothing in it is read|nothing is read") as refused:
        resumed(broken)
    assert len(str(refused.value).splitlines()) == 1
    assert not trap.exists()


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_part_that_is_no_plain_file_is_refused(broken, tmp_path, kind):
    "A pipe would wait for ever, and a link reads what lies elsewhere."
    part = broken / "step-00000008" / "model.safetensors"
    content = tmp_path / "elsewhere"
    shutil.move(part, content)
    dict(link=lambda: part.symlink_to(content), fifo=lambda: os.mkfifo(part), folder=part.mkdir)[kind]()
    with pytest.raises(ConfigError, match="model.safetensors, which is not part"):
        resumed(broken)


def test_an_old_checkpoint_is_refused_with_what_to_do(tmp_path):
    "The layout of version 0.1.0: accelerate's state, with a pickle of the scheduler, and story.json."
    folder, trap = tmp_path / "old", tmp_path / "PWNED"
    (folder / "state").mkdir(parents=True)
    for name in ("custom_checkpoint_0.pkl", "optimizer.bin", "random_states_0.pkl"):
        (folder / "state" / name).write_bytes(pickle.dumps(Payload(trap)))
    story = dict(config=vars(CONFIG), labels=None, rows=[])
    (folder / "story.json").write_text(json.dumps(story))
    with pytest.raises(ConfigError, match="older version.*train again into a new folder"):
        resumed(folder)
    assert not trap.exists()


@pytest.mark.parametrize("module", ["checkpoint", "trainer", "runs", "pipeline"])
def test_nothing_on_the_way_reads_a_pickle(module):
    "No torch.load, no pickle, no accelerate load_state in the code of training."
    tree = ast.parse((ROOT / "vidprism" / "training" / f"{module}.py").read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names
    }
    assert not {"torch.load", "accelerator.load_state", "accelerator.save_state", "torch.save"} & calls
    assert not {"pickle", "cloudpickle", "joblib", "dill"} & names


def test_a_checkpoint_has_only_plain_files(broken):
    names = {path.name for step in broken.glob("step-*") for path in step.iterdir()}
    tensors = {"model.safetensors", "optimizer.safetensors", "process-0.safetensors"}
    assert names == {"checkpoint.json", "state.json"} | tensors
    state = read_checkpoint(broken).state
    assert state["config"]["lr"] == CONFIG.lr and state["processes"] == 1
    assert state["schedule"]["step"] == 8
    assert json.loads((broken / "step-00000008" / "checkpoint.json").read_text())["version"] == 1


def rewritten(checkpoint, **changes):
    "Change the state of a checkpoint and its hash, as one who knows the format could."
    import hashlib

    state = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps({**state, **changes}))
    mark = json.loads((checkpoint / "checkpoint.json").read_text())
    mark["files"]["state.json"] = hashlib.sha256((checkpoint / "state.json").read_bytes()).hexdigest()
    (checkpoint / "checkpoint.json").write_text(json.dumps(mark))


FORGED = [
    dict(rows=5),
    dict(rows=[1, 2]),
    dict(rows=[{}] * 9),
    dict(batches=-1),
    dict(step="x"),
    dict(skipped=True),
    dict(suspects=None),
    dict(config=None),
    dict(config=[]),
    dict(processes=2),
    dict(clips="0"),
    dict(labels=["a"]),
]


@pytest.mark.parametrize("changes", FORGED, ids=str)
def test_a_forged_state_is_one_sentence(broken, changes):
    rewritten(broken / "step-00000008", **changes)
    with pytest.raises(ConfigError) as refused:
        resumed(broken)
    assert len(str(refused.value).splitlines()) == 1


def test_another_version_or_model_is_refused(broken):
    with pytest.raises(ConfigError, match="do not fit|does not fit"):
        fit(new_head(layers=1, experts=3, num_heads=2), TensorClips(*task()), None, CONFIG, broken, resume=True)
    mark = broken / "step-00000008" / "checkpoint.json"
    mark.write_text(mark.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ConfigError, match="format 2; this version of the kit reads 1"):
        resumed(broken)


def test_other_options_are_named(broken):
    other = TrainConfig(epochs=3, batch=12, lr=1e-3, weight_decay=0.2)
    with pytest.raises(ConfigError, match=r"another lr \(0.003, now 0.001\), weight_decay \(0.05, now 0.2\)"):
        fit(new_head(), TensorClips(*task()), None, other, broken, resume=True)
    with pytest.raises(ConfigError, match="other clips"):
        fit(new_head(), TensorClips(*task(44)), None, CONFIG, broken, resume=True)
    with pytest.raises(ConfigError, match="another run's checkpoint"):
        fit(new_head(), TensorClips(*task()), None, CONFIG, broken)


# torn checkpoints


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


DAMAGE = dict(flip=flip, cut=cut, empty=lambda path: path.write_bytes(b""), gone=Path.unlink)
PARTS = ["checkpoint.json", "state.json", "model.safetensors", "optimizer.safetensors", "process-0.safetensors"]


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_torn_checkpoint_is_named_and_the_one_before_it_used(broken, whole, name, damage):
    DAMAGE[damage](broken / "step-00000008" / name)
    with pytest.warns(UserWarning, match="step-00000008 .*the one before it is used"):
        found = resumed(broken)
    assert torch.equal(found, whole)


def test_two_torn_checkpoints_are_refused(broken):
    for step in broken.glob("step-*"):
        flip(step / "model.safetensors")
    with warnings.catch_warnings(), pytest.raises(ConfigError, match="no checkpoint in"):
        warnings.simplefilter("ignore")
        resumed(broken)


def test_two_checkpoints_are_kept(tmp_path, whole):
    head = new_head()
    fit(head, TensorClips(*task()), None, CONFIG, tmp_path / "c", every=1)
    assert [path.name for path in sorted((tmp_path / "c").glob("step-*"))] == ["step-00000011", FINAL]
    assert torch.equal(weights_of(head), whole)


# a resumed run


class Noisy(TensorClips):
    "Clips with noise from every global generator."

    def __getitems__(self, indices):
        noise = torch.rand(()) + np.random.rand() + random.random() + random.gauss(0, 1)
        return self.features[indices] + float(noise), self.labels[indices]


def broken_runs():
    "Every so many steps, data and processes of a run; three of the twelve are no long tests."
    short = {(0, TensorClips, 0), (3, Noisy, 0), (1, TensorClips, 2)}
    for case in itertools.product([0, 1, 3, 5], [TensorClips, Noisy], [0, 2]):
        if case[1:] == (Noisy, 2):
            continue  # the generators of loading processes end with them
        yield pytest.param(*case, marks=[] if case in short else [pytest.mark.long])


@pytest.mark.parametrize(("every", "data", "workers"), broken_runs())
def test_a_run_broken_anywhere_ends_the_same(tmp_path, monkeypatch, every, data, workers):
    "Stopped while it writes any of its checkpoints, a run gives the unbroken run's weights and rows."
    from vidprism.training import trainer

    config = TrainConfig(epochs=3, batch=12, lr=3e-3, workers=workers)
    x, y = task()

    def trained(folder, resume=False):
        head = new_head()
        if not resume:
            random.seed(1)
            np.random.seed(1)
        return head, fit(head, data(x, y), (x[:7], y[:7]), config, folder, resume, every=every).rows

    head, rows = trained(None)
    wanted = weights_of(head)
    original, written = trainer.write_checkpoint, []

    def interrupted(*arguments):
        original(*arguments)
        written.append(1)
        if len(written) % 2:
            raise Stop

    monkeypatch.setattr(trainer, "write_checkpoint", interrupted)
    folder = tmp_path / "c"
    for _ in range(30):
        try:
            head, found = trained(folder, find_checkpoint(folder) is not None)
            break
        except Stop:
            continue
    assert len(written) > 1
    assert torch.equal(weights_of(head), wanted)
    assert found == rows


@pytest.mark.long
@pytest.mark.parametrize("only", ["0", "1", "6"])
def test_kill_9_at_random_moments(tmp_path, only):
    "Heads on one and two processes, a tuned encoder with two workers; benchmarks/soak.py kills all kinds 20 times."
    out, seed = tmp_path / "soak.json", str(random.randrange(1000))
    command = [sys.executable, str(ROOT / "benchmarks" / "soak.py"), "kills", str(out), "--kills", "3"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [*command, "--seed", seed, "--only", only], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout
    (row,) = json.loads(out.read_text())["kills"]["rows"]
    assert row["kills"] >= 3 and row["largest_difference"] <= (1e-6 if row["processes"] > 1 else 0)


# numbers that are not finite


class WithStatistics(nn.Module):
    "A classifier behind a batch norm, whose running statistics a NaN would destroy."

    def __init__(self):
        super().__init__()
        with seeded(0):
            self.norm, self.out = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, clips, labels=None):
        logits = self.out(self.norm(clips.mean(1)))
        losses = {} if labels is None else {"total": nn.functional.cross_entropy(logits, labels)}
        return SimpleNamespace(logits=logits, losses=losses)


def all_finite(module):
    return all(value.isfinite().all() for value in module.state_dict().values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
@pytest.mark.parametrize("make", [new_head, WithStatistics, lambda: new_head("vidprism", rates=(2, 4))])
@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_one_bad_clip_spoils_its_step_only(value, make, clip_norm):
    x, y = task()
    x[17] = value
    head = make()
    before = weights_of(head)
    rows = fit(head, TensorClips(x, y), None, TrainConfig(epochs=3, batch=12, lr=3e-3, clip_norm=clip_norm)).rows
    assert all_finite(head)
    assert not torch.equal(before, weights_of(head))
    assert all(row["skipped"] in ((0, 1) if value == 3e38 else (1,)) for row in rows)
    assert all(math.isfinite(row["total"]) for row in rows)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_three_bad_steps_name_the_clips_and_keep_the_weights(tmp_path, accumulate):
    x, y = task()
    x[[3, 30]] = math.nan
    names = [f"films/{place}.mp4" for place in range(45)]
    head, config = new_head(), TrainConfig(epochs=9, batch=45, lr=3e-3, accumulate=accumulate)
    with pytest.raises(NotFiniteError, match="check films/(3.mp4, films/30|30.mp4, films/3).mp4") as stopped:
        fit(head, TensorClips(x, y, names), None, config, tmp_path / "c")
    assert sorted(stopped.value.clips) == ["films/3.mp4", "films/30.mp4"]
    assert all_finite(head) and torch.equal(weights_of(head), weights_of(new_head()))
    assert all(value.isfinite().all() for value in read_checkpoint(tmp_path / "c").tensors("model").values())


@pytest.mark.parametrize(
    "settings",
    [dict(lr=1e6), dict(lr=1e30), dict(lr=1e38), dict(lr=1e6, weight_decay=1e6), dict(lr=1e3, clip_norm=0.0)],
    ids=str,
)
@pytest.mark.parametrize("make", [new_head, WithStatistics])
def test_a_huge_learning_rate_leaves_finite_weights(tmp_path, settings, make):
    head = make()
    try:
        fit(head, TensorClips(*task()), None, TrainConfig(**{**dict(epochs=30, batch=12), **settings}), tmp_path / "c")
    except NotFiniteError as error:
        assert len(str(error).splitlines()) == 1
    assert all_finite(head)
    for path in (tmp_path / "c").glob("step-*/model.safetensors"):
        assert all(value.isfinite().all() for value in load_file(path).values())


@pytest.mark.parametrize("name", ["lr", "weight_decay", "clip_norm", "encoder_lr"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_config_of_no_number_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be a finite number"):
        TrainConfig(**{name: value})


def test_steps_that_are_skipped_survive_a_resume(tmp_path):
    "Two bad steps, a stop, and the third after the resume stops the run."
    x, y = task()
    x[5] = math.nan
    config = TrainConfig(epochs=9, batch=45)
    with pytest.raises(Stop):
        fit(new_head(), TensorClips(x, y), None, config, tmp_path / "c", on_epoch=stop_after(2))
    with pytest.raises(NotFiniteError, match="at step 3"):
        fit(new_head(), TensorClips(x, y), None, config, tmp_path / "c", resume=True)


# disks and interrupts


FULL = """
import resource, sys, torch
sys.path.insert(0, sys.argv[2])
from test_attack_training import *
def limited(rows):
    if len(rows) == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    fit(new_head(), TensorClips(*task()), None, CONFIG, sys.argv[1], on_epoch=limited)
except WriteError as error:
    print(error)
"""


@pytest.mark.long
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    folder = tmp_path / "c"
    command = [sys.executable, "-c", FULL, str(folder), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-2000:]
    assert "cannot be written" in done.stdout and len(done.stdout.splitlines()) == 1
    assert sorted(path.name for path in folder.glob("step-*")) == ["step-00000004", "step-00000008"]
    assert not list(folder.glob(".*.part*"))
    assert find_checkpoint(folder).name == "step-00000008"


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        fit(new_head(), TensorClips(*task()), None, CONFIG, tmp_path / "file" / "c")


@pytest.mark.long
def test_two_trainings_do_not_share_a_folder(tmp_path):
    def second(rows):
        with pytest.raises(ConfigError, match="in use by another process"):
            fit(new_head(), TensorClips(*task()), None, CONFIG, tmp_path / "c", resume=True)
        raise Stop

    with pytest.raises(Stop):
        fit(new_head(), TensorClips(*task()), None, CONFIG, tmp_path / "c", on_epoch=second)


def children():
    "Processes that this one started."
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return set(done.stdout.split()[:-1])


def test_an_interrupt_ends_the_workers_at_once(tmp_path):
    "In a notebook the kernel lives on, and keeps the traceback: the loading processes must not live on with it."
    before = children()
    config = TrainConfig(epochs=3, batch=12, workers=2)

    def interrupt(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 2, after step 4; .*step-00000004 is kept") as kept:
        fit(new_head(), TensorClips(*task()), None, config, tmp_path / "c", on_epoch=interrupt)
    assert len(children() - before) <= 1  # `ps` itself
    assert kept.traceback
    head = new_head()
    fit(head, TensorClips(*task()), None, config, tmp_path / "c", resume=True)


# the command

COMMAND = [sys.executable, "-m", "vidprism"]
SPLIT = ["--num-frames", "8", "--split", "source", "--folds", "4", "--option", "rates=2,4", "--batch", "8"]
OPTIONS = [*SPLIT, "--epochs", "16", "--checkpoint-every", "1"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    "A folder with clips, a cache of their features, and a model that was trained without a break."
    top = tmp_path_factory.mktemp("command")
    write_sources(top / "clips")
    done = command(top, "train", "clips", "--out", "whole", *OPTIONS)
    assert done.returncode == 0, done.stderr
    return top


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VIDPRISM_CACHE": "cache"}


def command(top, *words):
    return subprocess.run([*COMMAND, *words], cwd=top, env=environment(), capture_output=True, text=True, timeout=300)


def stopped_by(top, out, number):
    "Start a training, send a signal when it has some checkpoints, and return its exit code and error stream."
    words = [*COMMAND, "train", "clips", "--out", out, *OPTIONS]
    pipes = dict(stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen(words, cwd=top, env=environment(), preexec_fn=hear_interrupts, **pipes) as running:
        end = time.monotonic() + 200
        while not list((top / out).glob("checkpoints/step-*")) and time.monotonic() < end:
            time.sleep(0.01)
        running.send_signal(number)
        _, said = running.communicate(timeout=60)
    return running.returncode, said.decode().strip().splitlines()


@pytest.mark.long
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_command_goes_on(clips, number, code):
    "It ends as the shell expects, prints what is kept, and ends with the same model when it is continued."
    out = f"stopped{code}"
    found, said = stopped_by(clips, out, number)
    assert found == code
    if code > 0:
        assert "keeps step" in said[-1] and f"--out {out}" in said[-1] and "Traceback" not in " ".join(said)
    assert not list((clips / out / "checkpoints").glob(".*.part*")) or code < 0
    done = command(clips, "train", "clips", "--out", out, *OPTIONS, "--resume")
    assert done.returncode == 0, done.stderr
    a, b = (load_file(clips / name / "head.safetensors") for name in ("whole", out))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not (clips / out / "checkpoints").exists() and not (clips / out / "unfinished.json").exists()
    assert {"run.json", "curves.json", "log.txt"} <= {path.name for path in (clips / out).iterdir()}


@pytest.mark.long
def test_an_unfinished_run_is_named(clips):
    "Without `--resume` it is not overwritten, with `--resume` other options are refused."
    stopped_by(clips, "unfinished", signal.SIGKILL)
    again = command(clips, "train", "clips", "--out", "unfinished", *OPTIONS)
    assert again.returncode == 2 and len(again.stderr.strip().splitlines()) == 1
    assert "unfinished run that reached step" in again.stderr and "--resume` continues" in again.stderr
    other = command(clips, "train", "clips", "--out", "unfinished", *OPTIONS, "--lr", "0.01", "--resume")
    assert other.returncode == 2 and "another lr (0.001, now 0.01)" in other.stderr


@pytest.mark.long
def test_a_folder_of_the_users_is_refused_before_any_work(clips, tmp_path):
    "`--out .` beside the user's list and encoder."
    shutil.copytree(clips / "clips", tmp_path / "clips")
    files = {
        name: f"mine: {name}" for name in ("train.csv", "encoder.safetensors", "config.json", "result.json", "run.json")
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = command(tmp_path, "train", "clips", "--out", ".", *OPTIONS)
    assert done.returncode == 2 and "choose a new folder" in done.stderr and not done.stdout
    assert {name: (tmp_path / name).read_text() for name in files} == files
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["clips", *files])
    (tmp_path / "notes.txt").write_text("mine")
    done = command(tmp_path, "train", "clips", "--out", ".", *OPTIONS, "--overwrite")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine" and not (tmp_path / "checkpoints").exists()
    assert json.loads((tmp_path / "run.json").read_text())["format"] == "vidprism run"


@pytest.mark.long
def test_wrong_options_leave_no_folder(clips):
    done = command(clips, "train", "clips", "--out", "wrong", "--option", "rats=2")
    assert done.returncode == 2 and not (clips / "wrong").exists()
    done = command(clips, "train", "clips", "--out", "whole", *OPTIONS, "--resume")
    assert done.returncode == 2 and "no unfinished run" in done.stderr


@pytest.mark.long
def test_rerun_says_equal_or_what_differs(clips):
    done = command(clips, "rerun", "whole")
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert "equal: all weights and measures" in done.stdout
    record = json.loads((clips / "whole" / "run.json").read_text())
    assert record["settings"]["training"]["epochs"] == 16 and record["settings"]["workers"] == 0
    assert {"torch", "python", "numpy"} <= record["versions"].keys() and len(
        record["settings"]["inputs"]["clips"]
    ) == 64
    assert record["command"][:2] == ["train", "clips"]
    shutil.copytree(clips / "whole", clips / "other")
    record["settings"]["training"]["lr"] = 0.01
    (clips / "other" / "run.json").write_text(json.dumps(record))
    done = command(clips, "rerun", "other")
    assert done.returncode == 1 and "tensors differ" in done.stdout and "by up to" in done.stdout


HOSTILE = [
    dict(settings=None),
    dict(settings=5),
    dict(settings={}),
    dict(version=9),
    dict(settings=dict(source=dict(data="clips"), recipe=dict(encoder="own:evil.py:f"), training={}, workers=0)),
    dict(format="x"),
]


@pytest.mark.long
@pytest.mark.parametrize("changes", HOSTILE, ids=str)
def test_a_strangers_run_is_data(clips, tmp_path, changes):
    "A record that is malformed, or names code, is one sentence; nothing runs."
    from vidprism.training.runs import rerun

    (tmp_path / "evil.py").write_text("import os\nos.mkdir('PWNED')\n")
    record = json.loads((clips / "whole" / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, **changes}))
    with pytest.raises(ConfigError) as refused:
        rerun(tmp_path, tmp_path / "out")
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "PWNED").exists() and not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.parametrize("name", ["own:evil.py:f", "flow1:own:evil.py:f", "flow1:open_clip:local-dir:clips"])
def test_a_strangers_run_names_no_code(clips, tmp_path, name, monkeypatch):
    "A whole record with another encoder, which is a file of code or a folder, also behind a wrapper."
    from vidprism.training.runs import rerun

    monkeypatch.chdir(clips)
    (tmp_path / "evil.py").write_text("import os\nos.mkdir('PWNED')\n")
    record = json.loads((clips / "whole" / "run.json").read_text())
    record["settings"]["recipe"]["encoder"] = name.replace("evil.py", str(tmp_path / "evil.py"))
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="would run code"):
        rerun(tmp_path, tmp_path / "out")
    assert not (clips / "PWNED").exists() and not (tmp_path / "out").exists()


@pytest.mark.long
def test_a_run_that_fails_to_be_written_leaves_the_old_model(clips, monkeypatch):
    "The disk is full when the new model is written: the old one is whole, and the unfinished run goes on."
    from vidprism.training import runs

    shutil.copytree(clips / "whole", clips / "full")
    old = {path.name: path.read_bytes() for path in (clips / "full").iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(clips)
    begun = json.loads((clips / "full" / "run.json").read_text())
    runs.begin_run(clips / "full", begun["settings"], begun["command"])
    monkeypatch.setattr(runs.Trained, "write_into", full)
    with pytest.raises(WriteError, match="no space left"):
        runs.save_run(clips / "full", runs.Trained(None, None, None))
    left = {path.name: path.read_bytes() for path in (clips / "full").iterdir() if path.is_file()}
    left.pop("unfinished.json")
    assert left == old
