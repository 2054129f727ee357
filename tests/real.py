"""What tests share: the checkout, its modules, and real clips and weights that are not the kit's.

A test that needs one of those skips where it is missing."""

import importlib.util
import os
import pytest
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("VIDPRISM_SHARED", ROOT.parent / "shared"))


def module_order():
    "The modules, such as heads/rgsta, in the order of nbs/order.txt."
    lines = (ROOT / "nbs" / "order.txt").read_text().splitlines()
    return [line for line in lines if line and line[0] != "#"]


def handbook():
    "The handbook as markdown, as README is made."
    sys.path.insert(0, str(ROOT / "tools"))
    return load_script("tools", "readme").make(name="handbook")


def shared(*parts):
    "A shared file, or skip by its name."
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{'/'.join(parts)} is not here")
    return path


def load_script(folder, name):
    "A script of benchmarks/ or tools/ as a module."
    spec = importlib.util.spec_from_file_location(f"{folder}_{name}", ROOT / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# For a script that runs in a process of its own: its peak of memory in MB. ru_maxrss would begin with that of the
# program that started it.
HELD = 'int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024'


def hear_interrupts():
    "Let a child process hear Ctrl-C even where the tests run in the background of a shell, which ignores it."
    signal.signal(signal.SIGINT, signal.SIG_DFL)
