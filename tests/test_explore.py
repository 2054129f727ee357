"The exploration notebooks: light, with pictures, and ready for your own clips."

import json
import os
import pytest
import re
from real import ROOT, shared

NBS = ROOT / "nbs"
TITLES = (
    "01_explore_clip",
    "02_inspect_clip",
    "topics/expert_usage",
    "topics/three_mixtures",
    "topics/experts_saliency",
    "topics/gates",
    "topics/merges",
)
NOTEBOOKS = [NBS / "guides" / f"{title}.ipynb" for title in TITLES]
OWN = re.compile(r"^(path|clips) = (.+?) +# your own.*$", re.M)  # the one line to change


def sources(path):
    return ["".join(c["source"]) for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


def test_all_are_there():
    assert all(p.is_file() for p in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_pictures_without_a_kernel(path):
    "At most 1 MB; static pictures in the outputs; no cell ended in an error."
    outputs = [o for c in json.loads(path.read_text())["cells"] for o in c.get("outputs", [])]
    assert path.stat().st_size <= 1_000_000
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 3
    assert not [o for o in outputs if o["output_type"] == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_one_line_for_your_own(path):
    "One line near the top says where clips of your own go."
    code = [c for c in sources(path) if "%pip" not in c]  # Colab's first cell aside
    assert sum(len(OWN.findall(c)) for c in code) == 1
    assert any(OWN.search(c) for c in code[:2])


SLOW = "slow" in os.environ.get("VIDPRISM_FLAGS", "").split()
WITHOUT_INSPECTOR = [p for p in NOTEBOOKS if p.stem != "02_inspect_clip"]  # the inspector is driven in a browser


@pytest.mark.skipif(not SLOW, reason="set VIDPRISM_FLAGS=slow: each notebook runs anew")
@pytest.mark.parametrize("path", WITHOUT_INSPECTOR, ids=lambda p: p.stem)
def test_runs_on_a_real_clip(path, monkeypatch):
    "That line changed to a real clip, the notebook runs from top to bottom."
    clip = shared("clips", "ordinary", "archery.avi")
    import plotly.io

    monkeypatch.setattr(plotly.io.renderers, "default", "json")
    monkeypatch.setenv("VIDPRISM_QUICK", "1")
    from execnb.shell import CaptureShell

    shell = CaptureShell(NBS)

    def new(match):
        value = f"Path({str(clip)!r})"
        if match[1] == "clips":
            value = f"[{value}]"
        return f"from pathlib import Path; {match[1]} = {value}"

    for cell in sources(path):
        shell.run(OWN.sub(new, cell))
        assert not shell.exc, f"{shell.exc!r} in\n{cell}"
