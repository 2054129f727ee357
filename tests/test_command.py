"The `vidprism` command as a stranger runs it: answers, pages, and one sentence where something is wrong."
import subprocess, sys, wave
import pytest
from vidprism.clips import sample_clips

COMMAND = [sys.executable, "-c", "import sys; from vidprism.cli import main; sys.exit(main())"]


def run(*argv, cwd=None): return subprocess.run([*COMMAND, *map(str, argv)], capture_output=True, text=True, cwd=cwd, timeout=120)


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
    with wave.open(str(tmp_path / "sound.wav"), "wb") as w: w.setnchannels(1); w.setsampwidth(2); w.setframerate(8000); w.writeframes(b"\0\0" * 8000)
    return tmp_path


@pytest.mark.parametrize("argv", [["none.mp4"], ["empty.mp4"], ["text.mp4"], ["sound.wav"], ["."], ["--frames", "0"], ["--frames", "-3"], ["--model", "none"], ["--model", "."]], ids=" ".join)
def test_bad_input(bad, argv):
    "One sentence on stderr, nothing on stdout, no traceback, exit code 2, no page."
    done = run("show", *argv, "--out", "page.html", cwd=bad)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not done.stdout and not (bad / "page.html").exists()
