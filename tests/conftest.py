"""What tests share: the state of the global random generators, a time limit, and a browser.

The browser is looked for once, when the first test that needs it runs."""

import hashlib
import numpy as np
import os
import pytest
import random
import secrets
import time
import torch
from chromium import ARGS, find_chromium
from contextlib import contextmanager
from pathlib import Path
from reads import ReadsPlugin

SEED = pytest.StashKey[int]()
OVER = "not run: the time is over"


def session_seed() -> int:
    "The seed of this session: VIDPRISM_TEST_SEED, or a new one."
    given = os.environ.get("VIDPRISM_TEST_SEED", "")
    if not given:
        return secrets.randbelow(2**32)
    if not given.isdecimal():
        raise pytest.UsageError(f"VIDPRISM_TEST_SEED must be a whole number, not {given!r}.")
    return int(given)


def seed_generators(seed: int, name: str):
    "Set the global generators of Python, NumPy and PyTorch to a state that depends on the seed and the name alone."
    state = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:4], "big")
    random.seed(state)
    np.random.seed(state)
    torch.manual_seed(state)


@contextmanager
def generators_kept():
    "Give the global generators back as they were."
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def seed_line(config) -> str:
    return f"random state: VIDPRISM_TEST_SEED={config.stash[SEED]} repeats it"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    "Settle the seed of the states and of the tests' order; processes that share the tests share the seed."
    given = getattr(config, "workerinput", {}).get("vidprism_seed")
    config.stash[SEED] = session_seed() if given is None else given
    config.option.randomly_seed = config.stash[SEED]
    config.option.randomly_reset_seed = False  # `random_state` below sets the generators
    seed_generators(config.stash[SEED], "collection")
    if "VIDPRISM_READS" in os.environ:
        config.pluginmanager.register(ReadsPlugin(Path(os.environ["VIDPRISM_READS"])))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node):
    "Give a process of pytest-xdist the session's seed."
    node.workerinput["vidprism_seed"] = node.config.stash[SEED]


def pytest_itemcollected(item):
    "A test in a browser is long."
    if "chromium_path" in item.fixturenames:
        item.add_marker("long")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    "Skip the tests whose turn comes after VIDPRISM_END, in seconds since 1970; without it, all run."
    if time.time() > float(os.environ.get("VIDPRISM_END", "inf")):
        pytest.skip(OVER)


def pytest_report_header(config):
    return seed_line(config)


def pytest_terminal_summary(terminalreporter, config):
    "`-q` hides the header, so the seed is printed here, too; and the tests for which there was no time."
    if config.get_verbosity() < 0:
        terminalreporter.write_line(seed_line(config))
    late = [report for report in terminalreporter.getreports("skipped") if OVER in str(report.longrepr)]
    if late:
        terminalreporter.write_line(f"{len(late)} tests {OVER}")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    "A fixture that tests share gets a state of its own: it does not matter which test asks for it first."
    if fixturedef.scope == "function":
        return (yield)
    with generators_kept():
        seed_generators(request.config.stash[SEED], f"{fixturedef.baseid}::{fixturedef.argname}")
        return (yield)


@pytest.fixture(autouse=True)
def random_state(request):
    "Each test starts from a state that depends on the session's seed and on the test's name alone."
    seed_generators(request.config.stash[SEED], request.node.nodeid)


@pytest.fixture(scope="session")
def chromium_path():
    "Where a Chromium is; where none can be had, the test skips and says why."
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = find_chromium()
    if found.path is None:
        pytest.skip(f"no Chromium: {found.why}")
    return found.path


@pytest.fixture(scope="module")
def chromium(chromium_path):
    "A browser without a window."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path, args=ARGS)
        yield browser
        browser.close()
