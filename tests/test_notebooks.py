"Every notebook's own tests, in one process."
from pathlib import Path
import os, random
import numpy as np, plotly.io, pytest, torch
from nbdev.test import test_nb as run_nb

NBS = Path(__file__).parent.parent / "nbs"
SKIP = [f for f in ("slow", "cuda", "net") if f not in os.environ.get("VIDPRISM_FLAGS", "").split()]


@pytest.mark.parametrize("path", sorted(NBS.glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebook(path, monkeypatch, tmp_path):
    "The notebook runs from top to bottom, and leaves no random state, thread count or file behind."
    monkeypatch.setattr(plotly.io.renderers, "default", "json")
    before = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()
    files = {p for p in NBS.parent.glob("*/*") if ".pytest_cache" not in str(p) and "__pycache__" not in str(p)}
    ok, seconds = run_nb(path, skip_flags=SKIP, basepath=NBS)
    assert ok, f"{path.name} failed; see above"
    assert before == (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()), "a global setting leaked"
    assert files == {p for p in NBS.parent.glob("*/*") if ".pytest_cache" not in str(p) and "__pycache__" not in str(p)}, "files were left in the checkout"
