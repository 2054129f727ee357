"The state of the global generators: of the seed and the test's name, alone and in any order."

import numpy as np
import os
import pytest
import random
import shutil
import subprocess
import sys
import torch
from conftest import SEED, generators_kept, seed_generators, session_seed
from pathlib import Path
from reads import GlobalReads


def drawn():
    return random.random(), np.random.rand(), torch.rand(()).item()


@pytest.fixture(scope="module")
def shared():
    return drawn()


def test_state_of_a_test(request):
    "It depends on nothing that ran before."
    seen = drawn()
    seed_generators(request.config.stash[SEED], request.node.nodeid)
    assert seen == drawn()


def test_state_of_a_shared_fixture(request):
    "It depends on the fixture's name, not on the test that asks first; that test's own state stays."
    with generators_kept():
        expected = drawn()
    got = request.getfixturevalue("shared")
    assert drawn() == expected != got
    seed_generators(request.config.stash[SEED], "tests/test_seeds.py::shared")
    assert got == drawn()


def test_states_differ():
    "Another seed or another name is another state of all three generators; the same ones are the same state."
    states = []
    for seed, name in ((1, "a"), (1, "b"), (2, "a"), (1, "a")):
        seed_generators(seed, name)
        states.append(drawn())
    assert states[0] == states[3]
    for numbers in zip(*states[:3]):
        assert len(set(numbers)) == 3


def test_seed_of_the_session(monkeypatch):
    "It is drawn anew, or given; what is no number is refused in a sentence."
    monkeypatch.setenv("VIDPRISM_TEST_SEED", "12")
    assert session_seed() == 12
    monkeypatch.setenv("VIDPRISM_TEST_SEED", "twelve")
    with pytest.raises(pytest.UsageError, match="whole number, not 'twelve'"):
        session_seed()
    monkeypatch.delenv("VIDPRISM_TEST_SEED")
    assert len({session_seed() for _ in range(5)}) == 5


READS = {
    "random": lambda: random.random(),
    "numpy": lambda: np.random.rand(),
    "torch": lambda: torch.rand(()),
    "before a seed": lambda: (torch.rand(()), torch.manual_seed(0)),
    "in a fork of the generators": lambda: in_fork(torch.rand, ()),
    "in a fork before a seed": lambda: in_fork(lambda: (torch.rand(()), torch.manual_seed(0))),
    "after a fork": lambda: (in_fork(torch.manual_seed, 0), torch.rand(())),
    "after the state is given back": lambda: (given_back(), torch.rand(())),
    "in another process": lambda: os.waitpid(os.fork() or os._exit(0), 0),
}
NO_READS = {
    "nothing": lambda: None,
    "a generator of its own": lambda: torch.rand((), generator=torch.Generator().manual_seed(0)),
    "after a seed": lambda: (torch.manual_seed(0), torch.rand(())),
    "in a fork after a seed": lambda: in_fork(lambda: (torch.manual_seed(0), torch.rand(()))),
    "given back": lambda: given_back(),
}


def in_fork(function, *args):
    with torch.random.fork_rng():
        function(*args)


def given_back():
    state = torch.get_rng_state()
    torch.manual_seed(0)
    torch.rand(())
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", [*READS, *NO_READS])
def test_reads_are_seen(name):
    "A number from the given state is a read; one from a generator of its own, or after a seed, is none."
    with generators_kept(), GlobalReads() as reads:
        (READS | NO_READS)[name]()
    assert reads.seen == (name in READS)


TESTS = """
import pytest, torch
@pytest.fixture(scope="module")
def drawn(): return torch.rand(())
def test_reads(): torch.rand(())
def test_fails(): assert torch.rand(()) > 2
def test_by_fixture(drawn): pass
def test_own(): torch.rand((), generator=torch.Generator().manual_seed(0))
"""


@pytest.mark.long
def test_tests_that_read_are_noted(tmp_path):
    "The list has the tests that read, one that fails and one whose fixture reads, and no other."
    (tmp_path / "test_them.py").write_text(TESTS)
    here = Path(__file__).parent
    shutil.copy(here / "conftest.py", tmp_path)
    listed = tmp_path / "reads.txt"
    environment = {**os.environ, "VIDPRISM_READS": str(listed), "PYTHONPATH": str(here)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", "test_them.py"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "1 failed, 3 passed" in run.stdout, run.stdout
    assert sorted(listed.read_text().split()) == [f"test_them.py::test_{n}" for n in ("by_fixture", "fails", "reads")]
