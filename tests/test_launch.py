"""`vidprism features` and `vidprism train` on two processes, as `accelerate launch` and torchrun start them."""

import json
import os
import pytest
import shutil
import subprocess
import sys
import time
import torch
from real import ROOT
from safetensors.torch import load_file
from vidprism.data.clips import sample_clips

pytestmark = pytest.mark.long

# `accelerate launch --cpu --num_processes 2` starts one process (without mpirun); this starts two, on the CPU
ACCELERATE = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no"
ACCELERATE = [*ACCELERATE.split(), "--dynamo_backend", "no", "--main_process_port", "0", "-m", "vidprism"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--redirects", "3"]
TORCHRUN += ["--log-dir", "logs", "-m", "vidprism"]
TENTH_OF_A_STEP = 1e-4  # float32 and AdamW, whose steps are 1e-3 whatever the size of the gradient; 2.5e-5 was measured
ENCODER = '''
import os
import torch
from torch import nn
from vidprism.encoders.base import Preprocess
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError

RANK = os.environ.get("RANK", "0")


class Means(nn.Module):
    "The mean colour of each frame; each call is noted."

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.calls = 0

    def forward(self, x):
        if len(x) > 1:
            self.calls += 1
            with open("calls.txt", "a") as file:
                file.write(f"{RANK} {len(x)}\\n")
        if os.environ.get("TROUBLE") == RANK and self.calls == 2:
            if os.environ["KIND"] == "kill":
                os.kill(os.getpid(), 9)
            raise ConfigError("The encoder is out of order.")
        return x.mean((2, 3)) * self.scale


def make():
    return create_encoder(Means(), how=Preprocess(32, (0.5,) * 3, (0.25,) * 3))
'''


@pytest.fixture
def place(tmp_path):
    "Eleven clips of two classes, and an encoder that notes each call."
    for i, clip in enumerate(sample_clips()[:11]):
        (tmp_path / "clips" / f"c{i % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "clips" / f"c{i % 2}" / f"s{i // 2}_{i}.mp4")
    (tmp_path / "enc.py").write_text(ENCODER)
    return tmp_path


def run(place, launcher, line, **more):
    "A command on one process (launcher None) or two."
    words = [sys.executable, *(launcher or ["-m", "vidprism"]), *line.split()]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", **more}
    return subprocess.run(words, cwd=place, env=env, capture_output=True, text=True, timeout=300)


def calls(place):
    "How often each process encoded a clip."
    ranks = [row.split()[0] for row in (place / "calls.txt").read_text().splitlines()]
    (place / "calls.txt").unlink()
    return [ranks.count("0"), ranks.count("1")]


FEATURES = "features clips --encoder own:enc.py:make --num-frames 4"


@pytest.mark.parametrize("more", ["", " --file-format safetensors", " --window 16 --stride 8"])
def test_features_on_two_processes(place, more):
    "Each clip is encoded by one of them, both work, and the files are those of one process to the last bit."
    done = run(place, None, f"{FEATURES} --cache one --export alone{more}")
    assert done.returncode == 0, done.stderr
    alone = calls(place)
    done = run(place, ACCELERATE, f"{FEATURES} --cache two --export both{more}")
    assert done.returncode == 0, done.stderr
    both = calls(place)
    assert alone[1] == 0 and sum(both) == alone[0] and min(both) > 0
    assert done.stdout.count("11 clips exported") == 1 and done.stdout.count("11 clips of 2 classes") == 1
    files = sorted(path.name for path in (place / "alone").iterdir() if path.name[0] != ".")
    assert files == sorted(path.name for path in (place / "both").iterdir() if path.name[0] != ".")
    for name in files:
        assert (place / "alone" / name).read_bytes() == (place / "both" / name).read_bytes(), name
    assert not list((place / "both").glob(".features*"))


SPLIT = "--split source --folds 2 --option rates=1,2 --option num_heads=1 --epochs 3"
MINI = f"train clips --num-frames 4 {SPLIT}"
TRAIN = f"train clips --encoder own:enc.py:make --num-frames 4 {SPLIT}"


def test_training_on_two_processes(place):
    "The weights of one process with the same whole batch up to a tenth of a step; one model, told and written once."
    done = run(place, None, f"{MINI} --batch 4 --cache one --out alone")
    assert done.returncode == 0, done.stderr
    done = run(place, ACCELERATE, f"{MINI} --batch 2 --cache two --out both")
    assert done.returncode == 0, done.stderr
    for once in ("model: both", "11 clips of 2 classes", "top-1"):
        assert done.stdout.count(once) == 1, done.stdout
    a, b = (load_file(place / name / "head.safetensors") for name in ("alone", "both"))
    assert max((a[name] - b[name]).abs().max().item() for name in a) < TENTH_OF_A_STEP
    curves = [json.loads((place / name / "curves.json").read_text()) for name in ("alone", "both")]
    assert all(abs(one["total"] - two["total"]) < 1e-5 for one, two in zip(*curves))
    again = run(place, ACCELERATE, "rerun both --cache two")
    assert again.returncode == 0 and "equal: all weights" in again.stdout, again.stderr


def test_training_on_exported_features_and_shards(place):
    "Both kinds of folders, on two processes."
    done = run(place, None, "features clips --num-frames 4 --cache one --export feats")
    assert done.returncode == 0, done.stderr
    done = run(place, None, "pack clips shards --shard-size 4")
    assert done.returncode == 0, done.stderr
    for data, encoder in (("feats", ""), ("shards", " --encoder mini --num-frames 4")):
        line = f"train {data}{encoder} {SPLIT}"
        for launcher, out, batch in ((None, "one", 4), (ACCELERATE, "two", 2)):
            done = run(place, launcher, f"{line} --batch {batch} --cache one --out {data}_{out}")
            assert done.returncode == 0, done.stderr
        a, b = (load_file(place / f"{data}_{out}" / "head.safetensors") for out in ("one", "two"))
        assert max((a[name] - b[name]).abs().max().item() for name in a) < TENTH_OF_A_STEP


def killed_after_a_checkpoint(place, line, out):
    "Start a training and kill it as soon as its folder has a checkpoint."
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "vidprism", *line.split(), "--out", out]
    process = subprocess.Popen(words, cwd=place, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 240
    while not list((place / out / "checkpoints").glob("step-*")):
        assert process.poll() is None and time.monotonic() < end, "it ended before it was killed"
        time.sleep(0.005)
    process.kill()
    process.wait()


@pytest.mark.parametrize("data,encoder", [("feats", ""), ("shards", " --encoder mini --num-frames 4")])
def test_a_killed_training_on_features_and_shards_is_resumed(place, data, encoder):
    "Bit for bit the weights of an unbroken run."
    made = dict(
        feats="features clips --num-frames 4 --cache one --export feats", shards="pack clips shards --shard-size 4"
    )
    done = run(place, None, made[data])
    assert done.returncode == 0, done.stderr
    line = f"train {data}{encoder} {SPLIT} --batch 4 --cache one --epochs 30"
    done = run(place, None, f"{line} --out whole")
    assert done.returncode == 0, done.stderr
    killed_after_a_checkpoint(place, line, "broken")
    assert not (place / "broken" / "head.safetensors").exists()
    done = run(place, None, f"{line} --out broken --resume")
    assert done.returncode == 0, done.stderr
    whole, broken = (load_file(place / name / "head.safetensors") for name in ("whole", "broken"))
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def said(place):
    "What each process wrote on its error stream."
    return [next((place / "logs").rglob(f"{rank}/stderr.log")).read_text() for rank in (0, 1)]


EXPORT, TRAINED = f"{FEATURES} --export out", f"{TRAIN} --batch 2 --out out"
TROUBLES = dict(  # each command with each kind and each process, each kind with each process
    features_0_kill=(EXPORT, "0", "kill"),
    features_1_error=(EXPORT, "1", "error"),
    train_0_error=(TRAINED, "0", "error"),
    train_1_kill=(TRAINED, "1", "kill"),
)


@pytest.mark.parametrize(("line", "rank", "kind"), TROUBLES.values(), ids=TROUBLES)
def test_an_error_in_one_process_ends_both(place, line, rank, kind):
    "In a bounded time, with a sentence from each that still can speak, and no finished work that is not."
    done = run(place, TORCHRUN, f"{line} --cache cache", TROUBLE=rank, KIND=kind)
    assert done.returncode != 0
    for number, text in enumerate(said(place)):
        assert "Traceback" not in text, text
        sentences = [row for row in text.splitlines() if row.startswith("vidprism:")]
        speaks = kind == "error" or str(number) != rank
        assert len(sentences) <= int(speaks)
        if str(number) == rank and speaks:
            assert "out of order" in sentences[0]
    assert not (place / "out" / "config.json").exists()
    again = run(place, ACCELERATE, f"{line} --cache cache" + (" --overwrite" if "train" in line else ""))
    assert again.returncode == 0, again.stderr


def test_wrong_options_end_both(place):
    "What all processes refuse is no long wait, and leaves nothing."
    for line in (f"{FEATURES} --export out --window 4", f"{TRAIN} --option rats=2 --out out", "train none --out out"):
        shutil.rmtree(place / "logs", ignore_errors=True)
        done = run(place, TORCHRUN, line)
        assert done.returncode != 0 and not (place / "out").exists()
        texts = said(place)
        assert any("vidprism:" in text for text in texts) and not any("Traceback" in text for text in texts)


def test_the_environment_of_no_launcher_is_a_sentence(place):
    for rank, size in (("2", "2"), ("x", "2"), ("-1", "2"), ("0", "zzz")):
        done = run(place, None, "features clips", RANK=rank, WORLD_SIZE=size)
        assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
