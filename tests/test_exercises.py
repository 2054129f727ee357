"The guides of the course: their cells run, and then the folded answers of their exercises, in a fresh process."

import json
import os
import pytest
import re
import subprocess
import sys
from real import ROOT
from test_notebooks import COURSE, NBS, tracked_places

FOLDED = re.compile(r"<details><summary>Answer</summary>\n\n(.*?)\n\n</details>", re.S)
CODE = re.compile(r"^```python\n(.*?)^```$", re.S | re.M)

RUN = """
import json, sys
import plotly.io
from execnb.shell import CaptureShell

plotly.io.renderers.default = "json"
shell = CaptureShell(sys.argv[1])
for source in json.load(sys.stdin):
    shell.run(source)
    if shell.exc:
        raise SystemExit(f"{shell.exc!r} in\\n{source}")
"""


def cells_of(path):
    "(kind, source) of each cell."
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def answers_of(path):
    "The folded answers of a guide's exercises."
    return FOLDED.findall(cells_of(path)[-1][1])


def test_the_course():
    "Eight guides at most, numbered from 1."
    assert [path.name[:3] for path in COURSE] == [f"{k:02d}_" for k in range(1, len(COURSE) + 1)]
    assert len(COURSE) <= 8


@pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)
def test_a_guide_begins_with_a_picture_and_ends_with_exercises(path):
    "A title and a sentence, a picture, a box; at the end two or three exercises, each with a folded answer."
    cells = cells_of(path)
    raw = json.loads(path.read_text(encoding="utf-8"))["cells"]
    box = next(k for k, (kind, source) in enumerate(cells) if "**You will have learned:**" in source)
    assert all(f"**{word}:**" in cells[box][1] for word in ("Time", "You need", "You will have learned"))
    assert [kind for kind, _ in cells[1:box]] == ["code"] * (box - 1)
    assert len(cells[0][1].split()) < 50
    assert any("image/png" in o.get("data", {}) for c in raw[:box] for o in c.get("outputs", []))
    kind, last = cells[-1]
    exercises = re.findall(r"^\d\. ", last, re.M)
    assert kind == "markdown" and last.startswith("## Exercises") and len(exercises) in (2, 3)
    assert len(answers_of(path)) == len(exercises) and any(CODE.search(answer) for answer in answers_of(path))


@pytest.mark.long
@pytest.mark.parametrize("path", COURSE, ids=lambda p: p.stem)
def test_answers_run(path):
    "The guide runs, then the code of each answer, with quick settings; no file is left in the checkout."
    files = tracked_places()
    sources = [source for kind, source in cells_of(path) if kind == "code" and "%pip" not in source]
    code = [block for answer in answers_of(path) for block in CODE.findall(answer)]
    env = os.environ | dict(VIDPRISM_QUICK="1", HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", RUN, str(NBS)]
    done = subprocess.run(command, input=json.dumps(sources + code), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert files == tracked_places(), "files were left in the checkout"
