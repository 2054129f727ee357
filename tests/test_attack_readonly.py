"""Folders that may be read and not written, for a user whom the system holds to that (root without its privileges)."""

import os
import pytest
import shutil
import subprocess
import sys
from pathlib import Path
from vidprism import sample_clips

ROOT = Path(__file__).parent.parent
HELD = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner"]
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or (os.getuid() == 0 and not shutil.which("setpriv")),
    reason="needs Linux, and setpriv where the tests run as root",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    "A data set of two classes and an empty folder, both read-only, and a folder of the user's."
    place = tmp_path_factory.mktemp("place")
    for k, clip in enumerate(sample_clips()):
        folder = place / "data" / ("even", "odd")[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder)
    (place / "closed").mkdir()
    (place / "own").mkdir()
    closed = [place / "closed", place / "data", *(place / "data").iterdir()]
    for folder in closed:
        folder.chmod(0o555)
    yield place
    for folder in closed:
        folder.chmod(0o755)


def run(place: Path, *words) -> subprocess.CompletedProcess:
    "The command, of a user whose permissions count and who has no home."
    held = HELD if os.getuid() == 0 else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place / "own"), "HOME": "/nonexistent"}
    command = [*held, sys.executable, "-m", "vidprism", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=place / "own", timeout=300)


@pytest.mark.long
@pytest.mark.parametrize("word", ["show", "audit", "features", "train"])
def test_closed_output(word, place):
    "Nothing can be written: one sentence, exit code 2, and nothing is left."
    data, closed = place / "data", place / "closed"
    words = {
        "show": (next((data / "odd").iterdir()), "--out", closed / "page.html"),
        "audit": (data, "--out", closed / "report"),
        "features": (data, "--encoder", "mini", "--cache", closed / "cache"),
        "train": (data, "--encoder", "mini", "--out", closed / "model"),
    }
    done = run(place, word, *words[word])
    assert done.returncode == 2, done.stderr
    assert "cannot be written: permission denied." in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(closed.iterdir())


@pytest.mark.long
def test_closed_data(place):
    "A data set in a read-only folder is audited, cached and trained on, and stays as it is."
    data, own = place / "data", place / "own"
    before = sorted(path for path in data.rglob("*"))
    for words in (
        ("audit", data, "--out", own / "report"),
        ("features", data, "--encoder", "mini", "--cache", own / "cache"),
        ("train", data, "--encoder", "mini", "--out", own / "model", "--epochs", 1),
    ):
        done = run(place, *words)
        assert done.returncode == 0, done.stderr
    assert sorted(path for path in data.rglob("*")) == before
    assert (own / "model" / "config.json").is_file()
