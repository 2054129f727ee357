"""Each long attack of benchmarks/soak.py at a tiny size, and that it notices what it is there for."""

import json
import mmap
import os
import pytest
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from real import ROOT, load_script

SCRIPT = ROOT / "benchmarks" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    "The script as a module."
    before = list(sys.path)
    module = load_script("benchmarks", "soak")
    sys.path[:] = before
    return module


def entry_of(folder, name, *options):
    "The exit code of a subcommand, and the entry that it kept beside an older one."
    out = folder / "soak.json"
    out.write_text(json.dumps({"kills": {"rows": [1]}}))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    command = [sys.executable, str(SCRIPT), name, str(out), *options]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert out.exists() and name in (found := json.loads(out.read_text())), done.stderr[-2000:]
    assert found["kills"] == {"rows": [1]}
    assert {"python", "torch", "av", "decord", "seed", "passed"} <= found[name].keys()
    assert done.returncode == (not found[name]["passed"])
    return found[name]


@pytest.mark.long
def test_loader(tmp_path):
    found = entry_of(tmp_path, "loader", "--iterations", "40", "--seed", "3")
    assert found["iterations"] == 40 and found["handles_left"] == found["handles_left_by_loader"] == 0
    assert found["passed"] and len(found["memory_mb"]) == 21 and len(found["each_last_mb"]) == 3


@pytest.mark.long
def test_reads(tmp_path):
    found = entry_of(tmp_path, "reads", "--reads", "40", "--seed", "3")
    assert sum(found["kinds"].values()) == 140  # seven readings of warm-up do not open every reader


@pytest.mark.long
def test_files(tmp_path):
    found = entry_of(tmp_path, "files", "--files", "36", "--seed", "3")
    assert found["passed"] and sum(found["outcomes"].values()) == 36
    assert found["outcomes"]["refused in a sentence"] > 0


@pytest.mark.long
def test_inspector(tmp_path, chromium_path):
    found = entry_of(tmp_path, "inspector", "--minutes", "0.3", "--seed", "3")
    assert found["console_errors"]["count"] == found["page_errors"]["count"] == found["kernel_errors"]["count"] == 0
    assert sum(found["actions"].values()) > 0 and len(found["rows"]) >= 2


@pytest.mark.long
def test_a_leak_of_memory_is_noticed(soak):
    held = []

    def leak():
        held.append(mmap.mmap(-1, 8 << 20))  # pages of its own, not those that earlier tests freed
        held[-1].write(b"x" * (8 << 20))

    found = soak.driven(leak, 5, 60, lambda: [os.getpid()])
    assert found["memory_grown"] > 0.05 and not found["passed"]


@pytest.mark.long
def test_a_handle_left_open_is_noticed(soak, tmp_path):
    (tmp_path / "x").touch()
    with ExitStack() as held:
        found = soak.driven(lambda: held.enter_context((tmp_path / "x").open()), 5, 20, lambda: [os.getpid()])
    assert found["handles_left"] == 20 and not found["passed"]


def test_memory_of_the_page_is_judged_from_the_level_after_ten_minutes(soak):
    "Growth before that is no leak; growth of one of the two after it is."
    steady = [[k, 100 + 10 * min(k, 10), 300] for k in range(61)]
    assert soak.judged(steady, 60)["passed"] and soak.judged(steady, 60)["level_at_minute"] == 10
    for column in (1, 2):
        leaking = [[*row] for row in steady]
        leaking[-1][column] *= 1.3
        assert not soak.judged(leaking, 60)["passed"]


def test_a_foreign_error_and_two_lines_are_wrong(soak, monkeypatch):
    def broken(*args, **options):
        raise KeyError("x")

    monkeypatch.setattr(soak, "read_clip_safely", broken)
    assert soak.outcome(Path("a.mp4"), None, None, 1.0).startswith("WRONG: KeyError")
    assert soak.refusal("two\nlines.", Path("a")).startswith("WRONG")
    assert soak.refusal("a: PyAV crashed on it.", Path("a")) == "died, worker replaced"
    assert soak.refusal("a: PyAV did not finish in 10 s and was stopped.", Path("a")) == "hang, worker replaced"


@pytest.mark.parametrize("form", range(9))
def test_damaged_files_repeat(soak, form, tmp_path, monkeypatch):
    "A seed gives the same damaged file again, and another seed another one."
    monkeypatch.syspath_prepend(str(SCRIPT.parent))

    def content(seed, name):
        folder = tmp_path / name
        folder.mkdir()
        path = soak.write_damaged(form, seed, folder)
        return [(p.name, p.read_bytes()) for p in sorted([path, *path.glob("*")]) if p.is_file()]

    assert content(0, "a") == content(0, "b") != content(1, "c")


SIZES = dict(loader=("iterations", 200_000), reads=("reads", 3000), files=("files", 2000), inspector=("minutes", 60))


@pytest.mark.parametrize("name", SIZES)
def test_the_kept_numbers_are_of_a_whole_attack(name):
    "Each entry of soak.json is of the full size and within its bounds."
    entry = json.loads((ROOT / "benchmarks" / "soak.json").read_text())[name]
    what, size = SIZES[name]
    assert entry["passed"] and entry[what] >= size


def test_the_kept_kills_are_all():
    "Twenty kills of each kind of training, each with the unbroken run's weights."
    rows = json.loads((ROOT / "benchmarks" / "soak.json").read_text())["kills"]["rows"]
    assert len({(row["kind"], row["workers"], row["processes"]) for row in rows}) == 8
    assert all(row["kills"] >= 20 and row["largest_difference"] == 0 for row in rows)


@pytest.mark.long
@pytest.mark.parametrize("relay", [True, False])
def test_the_relay_keeps_the_network_unlogged(soak, tmp_path, chromium_path, relay):
    "Through the relay the page works, and the debugger reports no request; without it, each is reported."
    from playwright.sync_api import sync_playwright

    (tmp_path / "page.html").write_text("<h1>Here</h1>")
    with ExitStack() as stack:
        address = stack.enter_context(soak.running_browser(chromium_path, tmp_path))
        if relay:
            address = stack.enter_context(soak.relayed(address))
        browser = stack.enter_context(sync_playwright()).chromium.connect_over_cdp(address)
        page, asked = browser.contexts[0].pages[0], []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        assert page.inner_text("h1") == "Here" and bool(asked) != relay
        browser.close()
