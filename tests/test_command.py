"The `vidprism` command as a stranger runs it: answers, pages, and one sentence where something is wrong."

import json
import os
import pytest
import shlex
import shutil
import subprocess
import sys
import wave
from vidprism.cli import main
from vidprism.data.clips import sample_clips

COMMAND = [sys.executable, "-c", "import sys; from vidprism.cli import main; sys.exit(main())"]


def run(*argv, cwd=None):
    return subprocess.run([*COMMAND, *map(str, argv)], capture_output=True, text=True, cwd=cwd, timeout=120)


def test_show_from_another_folder(tmp_path):
    "It runs anywhere, says the answer and the shares, and writes the page."
    done = run("show", sample_clips()[0], "--out", "deep/prism.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("%") >= 9 and "share of each expert" in done.stdout
    page = (tmp_path / "deep" / "prism.html").read_text()
    assert "Kept and merged" in page and "plotly" in page


@pytest.fixture
def bad(tmp_path):
    "Files and folders that are no clips."
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    with wave.open(str(tmp_path / "sound.wav"), "wb") as w:
        w.setnchannels(1)
        w.setsampwidth(2)
        w.setframerate(8000)
        w.writeframes(b"\0\0" * 8000)
    return tmp_path


@pytest.mark.parametrize(
    "argv",
    [
        ["none.mp4"],
        ["empty.mp4"],
        ["text.mp4"],
        ["sound.wav"],
        ["."],
        ["--num-frames", "0"],
        ["--num-frames", "-3"],
        ["--model", "none"],
        ["--model", "."],
    ],
    ids=" ".join,
)
def test_bad_input(bad, argv, monkeypatch, capfd):
    "One sentence on stderr, nothing on stdout, no traceback, exit code 2, no page."
    monkeypatch.chdir(bad)
    assert main(["show", *argv, "--out", "page.html"]) == 2
    out, said = capfd.readouterr()
    assert len(said.strip().splitlines()) == 1 and "Traceback" not in said
    assert not out and not (bad / "page.html").exists()


def test_a_missing_file_is_refused_before_pytorch_is_imported(tmp_path):
    "In a new process, by each word that opens a clip."
    for word in ("show", "predict", "localise", "inspect"):
        code = "import sys; from vidprism.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code, word, "none.mp4"], capture_output=True, text=True, cwd=tmp_path
        )
        assert done.stdout.split() == ["2", "False"], done.stderr
        assert done.stderr.strip() == "vidprism: none.mp4 does not exist."


@pytest.mark.long
def test_two_processes_train_one_model(tmp_path):
    "As `accelerate launch` and torchrun start it: told once, kept once, and the tuned model is there."
    for i, clip in enumerate(sample_clips()[:8]):
        (tmp_path / "clips" / f"c{i % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "clips" / f"c{i % 2}")
    launch = shlex.split("-m torch.distributed.run --standalone --nproc_per_node 2 -m vidprism train clips")
    data = shlex.split("--split source --folds 2 --num-frames 8 --cache cache --out model --workers 1")
    training = shlex.split("--option rates=2,4 --epochs 1 --batch 2 --precision bf16 --finetune-encoder")
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, *data, *training]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=240, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    for once in ("model: model", "8 clips of 2 classes", "top-1"):
        assert done.stdout.count(once) == 1, done.stdout
    record = json.loads((tmp_path / "model" / "result.json").read_text())
    assert record["finetuned_encoder"] and record["training"]["precision"] == "bf16"
    answer = run("predict", sample_clips()[0], "--model", "model", cwd=tmp_path)
    assert answer.returncode == 0 and "c0" in answer.stdout, answer.stderr
