"Every notebook's own tests, in one process. The guides of the course run in `test_exercises`, with their answers."

import execnb.nbio
import os
import plotly.io
import pytest
import secrets
import torch
from nbdev.test import test_nb as run_nb
from pathlib import Path
from vidprism.heads.base import HEADS

NBS = Path(__file__).parent.parent / "nbs"
COURSE = sorted((NBS / "guides").glob("[0-9]*.ipynb"))
SKIP = [f for f in ("slow", "cuda", "net") if f not in os.environ.get("VIDPRISM_FLAGS", "").split()]


def tracked_places():
    "Files and folders of the checkout, but for caches, hidden ones, and pictures of other tests."
    folders = [d for d in NBS.parent.iterdir() if d.is_dir() and d.name[0] != "."]
    places = [p for d in folders for p in d.iterdir()]
    return {p for p in places if p.name[0] != "." and p.name not in ("__pycache__", "artefacts")}


def global_settings():
    "PyTorch's settings that a notebook must leave as they were."
    return torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()


def notebooks():
    "Every notebook outside the course. Those that export a module are marked `library`, the others `long`."
    every = {p for p in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    for path in sorted(every.difference(COURSE)):
        exports = "#| default_exp" in path.read_text()
        name = path.relative_to(NBS).with_suffix("").as_posix()
        yield pytest.param(path, id=name, marks=pytest.mark.library if exports else pytest.mark.long)


@pytest.mark.parametrize("path", notebooks())
def test_notebook(path, monkeypatch, tmp_path):
    "The notebook runs from top to bottom, and leaves no thread count or file behind."
    monkeypatch.setattr(plotly.io.renderers, "default", "json")
    monkeypatch.setenv("VIDPRISM_QUICK", "1")
    # cells' names: not from the global generator; older versions of execnb draw none
    monkeypatch.setattr(execnb.nbio, "rtoken_hex", secrets.token_hex, raising=False)
    monkeypatch.setattr(HEADS, "classes", dict(HEADS))  # the heads that a notebook registers go with it
    before = global_settings()
    files = tracked_places()
    ok, seconds = run_nb(path, skip_flags=SKIP, basepath=NBS)
    assert ok, f"{path.name} failed; see above"
    assert before == global_settings(), "a global setting leaked"
    assert files == tracked_places(), "files were left in the checkout"
