"The state of the global generators: of the seed and the test's name, alone and in any order."

import numpy as np
import pytest
import random
import torch
from conftest import SEED, generators_kept, seed_generators, session_seed


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
