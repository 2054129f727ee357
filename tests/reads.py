"Which tests read the global random generators. The others cannot depend on the seed of the test run."

import numpy as np
import os
import pytest
import random
import torch
from contextlib import contextmanager
from pathlib import Path
from torch.utils._python_dispatch import is_in_torch_dispatch_mode


def as_bytes(state: torch.Tensor) -> bytes | None:
    "A state of PyTorch's generator; None in a dispatch mode such as FakeTensorMode, where a state has no values."
    return None if is_in_torch_dispatch_mode() else state.numpy().tobytes()


class GlobalReads:
    """Watches the global generators of Python, NumPy and PyTorch while it is entered.

    `seen` is True if a number was drawn from the state at entry. Numbers that are drawn after `torch.manual_seed`
    depend on that seed alone and do not count. A fork of the process counts: what the child draws is not seen."""

    def __enter__(self):
        self.seen = False
        self._start = self._given = as_bytes(torch.get_rng_state())  # `_given` is None after `torch.manual_seed`
        self._python, self._numpy = random.getstate(), np.random.get_state()
        self._patches = pytest.MonkeyPatch()
        self._patches.setattr(torch, "manual_seed", self._watched(torch.manual_seed, self._seeded))
        self._patches.setattr(torch, "set_rng_state", self._watched(torch.set_rng_state, self._restored))
        self._patches.setattr(os, "fork", self._watched(os.fork, self._forked))
        self._patches.setattr(torch.random, "fork_rng", self._apart(torch.random.fork_rng))
        return self

    def __exit__(self, *_):
        self._patches.undo()
        self._look()
        numpy_moved = any(not np.array_equal(a, b) for a, b in zip(self._numpy, np.random.get_state()))
        self.seen = self.seen or numpy_moved or self._python != random.getstate()

    def _look(self):
        "Compare PyTorch's state with the one at entry."
        if self._given is not None:
            self.seen = self.seen or as_bytes(torch.get_rng_state()) not in (self._given, None)

    def _watched(self, function, before):
        def call(*args, **kwargs):
            before(*args, **kwargs)
            return function(*args, **kwargs)

        return call

    def _seeded(self, seed):
        self._look()
        self._given = None

    def _restored(self, new_state):
        self._look()
        if as_bytes(new_state) == self._start:
            self._given = self._start

    def _forked(self):
        self.seen = True

    def _apart(self, fork_rng):
        "`torch.random.fork_rng`, which gives the state back at its end: what was drawn inside counts."

        @contextmanager
        def watched(*args, **kwargs):
            outer = self._given
            with fork_rng(*args, **kwargs):
                try:
                    yield
                finally:
                    self._look()
            self._given = outer

        return watched


class ReadsPlugin:
    "Appends to a file the name of each test that reads the global generators, itself or in a fixture."

    def __init__(self, path: Path):
        self.path = path
        self.fixtures = set()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.argname == "random_state":
            return (yield)
        with GlobalReads() as reads:
            result = yield
        if reads.seen:
            self.fixtures.add(fixturedef)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        reads = GlobalReads()
        try:
            with reads:
                return (yield)
        finally:
            used = {d for definitions in item._fixtureinfo.name2fixturedefs.values() for d in definitions}
            if reads.seen or used & self.fixtures:
                with self.path.open("a") as file:
                    file.write(f"{item.nodeid}\n")
