"Options out of range, and outputs that would replace something: one sentence, exit code 2, no file touched."

import json
import pytest
import shutil
from vidprism.cli import main
from vidprism.data.clips import sample_clips

DATA = "clips.csv"
OUT_OF_RANGE = """
predict CLIP --topk -1
predict CLIP --topk 0
explain CLIP --num-frames 0
explain CLIP --num-frames 1000000000
features DATA --num-frames 1000000000
features DATA --views 0x0
features DATA --views 1000000x1000000
features DATA --views 2
features DATA --workers -2
features DATA --workers 1000000
features DATA --sampling zzz
features DATA --encoder zzz
audit DATA --timeout nan
audit DATA --timeout inf
audit DATA --timeout 0
audit DATA --workers 0
train DATA --seed -1
train DATA --seed 99999999999999999999
train DATA --workers -2
train DATA --epochs 0
train DATA --batch 0
train DATA --accumulate 0
train DATA --lr 0
train DATA --lr nan
train DATA --lr -1
train DATA --weight-decay nan
train DATA --weight-decay -1
train DATA --clip-norm -1
train DATA --clip-norm inf
train DATA --warmup 1.5
train DATA --warmup nan
train DATA --encoder-lr -1
train DATA --precision fp16
train DATA --folds 0
train DATA --fold -1
train DATA --shots -1
train DATA --option dim=64
train DATA --option rates=0
train DATA --option rates
train DATA --option tau=nan
train DATA --head zzz
train DATA --split zzz
train DATA --classifier zzz
train DATA --num-frames nan
train DATA --checkpoint-every -1
cost --precision fp16
cost --num-classes 10000000000
cost --num-classes 0
cost --batch 0
cost --repeats -1
cost --views 0x0
plan --measured junk
plan --gpus 0
plan --gpus nan
plan --epochs 0
plan --cores 0
plan --dataset zzz
pack DATA out --shard-size 0
eval nowhere --views x
"""
LINES = [line for line in OUT_OF_RANGE.strip().splitlines()]


@pytest.fixture
def place(tmp_path, monkeypatch):
    "A folder with two clips and their list."
    monkeypatch.chdir(tmp_path)
    rows = ["path,label"]
    for i, path in enumerate(sample_clips()[:2]):
        shutil.copy(path, tmp_path / f"{i}.mp4")
        rows.append(f"{i}.mp4,class {i}")
    (tmp_path / DATA).write_text("\n".join(rows) + "\n")
    return tmp_path


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def refused(words, capsys):
    "Run the command in this process; the sentence on standard error."
    code = main(words)
    said = capsys.readouterr().err.strip()
    assert code == 2, said
    *bars, sentence = said.splitlines()
    assert sentence.startswith("vidprism: ") and all("/s]" in bar for bar in bars), said
    return sentence


@pytest.mark.parametrize("line", LINES)
def test_out_of_range(line, place, capsys):
    before = content(place)
    refused(line.replace("CLIP", "0.mp4").replace("DATA", DATA).split(), capsys)
    assert content(place) == before


OUTPUTS = """
explain 0.mp4 --out 0.mp4
explain 0.mp4 --out ./0.mp4
explain 0.mp4 --out link.html
explain 0.mp4 --out 1.mp4
explain 0.mp4 --arrays 0.mp4
explain 0.mp4 --arrays clips.csv
cost --out 0.mp4
cost --out clips.csv
plan --measure 0.mp4
plan --measure a.json --measured a.json
train clips.csv --out .
pack clips.csv .
"""


@pytest.mark.parametrize("line", OUTPUTS.strip().splitlines())
def test_output_is_no_input(line, place, capsys):
    (place / "link.html").hardlink_to(place / "0.mp4")
    (place / "a.json").write_text(json.dumps({}))
    before = content(place)
    refused(line.split(), capsys)
    assert content(place) == before
