"Every Python block of the README and the handbook runs when it is pasted alone."

import os
import pytest
import re
import shutil
import subprocess
import sys
from real import ROOT, handbook
from test_mote_file import fusion_state, write
from vidprism.data.clips import sample_clips
from vidprism.encoders.factory import create_encoder
from vidprism.experiments.samples import write_sources

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README + handbook(), re.M | re.S)
SMALLER = {  # text of a block -> what the test runs in its place
    '"open_clip:ViT-B-16-quickgelu/openai"': '"mini"',  # tests download no weights
    'world_bench(create_encoder("mini"), train=360, test=180)': 'world_bench(create_encoder("mini"), 36, 18)',
    'result = close_set(bench, "mote", seeds=(0, 1, 2))': (
        'from vidprism import TrainConfig\n'
        'result = close_set(bench, "mote", seeds=(0, 1, 2), config=TrainConfig(epochs=1))'
    ),
    'folder="tables/mine")': 'folder="tables/mine", runs=1)',  # one fold of five
    'run_cells(study, table.cells)': 'run_cells(study, table.cells[:1])',  # one cell of the table
}


def first_line(block):
    return block.strip().splitlines()[0][:60]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "The files that the blocks name: `my_clips`, a folder of class folders, `new.mp4`, and MoTE's with a small CLIP."
    path = tmp_path_factory.mktemp("readme")
    tower = {k: v for k, v in create_encoder("mini").model.state_dict().items() if "visual" in k or "scale" in k}
    write(path / "MoTE_B16.pt", tower, fusion_state(128, 400))
    write_sources(path / "my_clips", ("drift left", "blink"), sources=5, each=1)
    shutil.copy(sample_clips()[0], path / "new.mp4")
    return path


def test_replaced_text_is_in_a_block():
    "A replacement that no block needs is out of date."
    assert len(BLOCKS) >= 12
    for text in SMALLER:
        assert any(text in block for block in BLOCKS), text


def blocks():
    "The blocks, each with the first line as its name."
    for block in BLOCKS:
        yield pytest.param(block, id=first_line(block))


@pytest.mark.long
@pytest.mark.parametrize("block", blocks())
def test_block_runs_alone(block, folder):
    "In a process of its own, with nothing imported before."
    for text, smaller in SMALLER.items():
        block = block.replace(text, smaller)
    env = dict(os.environ, HF_HUB_OFFLINE="1", VIDPRISM_CACHE=str(folder / "cache"))
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
