"Model folders and results that version 0.1.0 wrote are still read."

import json
import pytest
import torch
from pathlib import Path
from vidprism import VideoModel
from vidprism.experiments.studies import Trial, cell_file, kept_runs, open_study

SAVED = Path(__file__).parent / "models_0_1_0"
LOGITS = json.loads((SAVED / "logits.json").read_text())
STUDIES = sorted((SAVED.parent.parent / "benchmarks" / "tables").iterdir())
HEADS = {"preset_small": "vidprism_lowdata", "mote_width_8": "mote", "vidprism_width_8": "vidprism"}


@pytest.mark.parametrize("name", HEADS)
def test_a_saved_model_answers_as_it_did(name):
    "The logits are those that version 0.1.0 computed."
    model = VideoModel.from_pretrained(SAVED / name).eval()
    features = torch.randn(2, 8, model.encoder.dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.head(features).logits
    assert model.head.name == HEADS[name]
    assert torch.allclose(logits, torch.tensor(LOGITS[name]), atol=1e-5)


def old_result(folder):
    "A study's folder with one result in the names of version 0.1.0."
    settings = dict(fingerprint="0", classes=3, frames=8)
    study = dict(settings=settings, frames=8, text=False, name="old", folds=0, runs=1, layers=2, shots=[2])
    probes = {"expert 1": {"keep": [0], "modulate": False}}
    cell = dict(head="vidprism", options={"preset": "small"}, shots=0, stride=1, against="text", probes=probes)
    (folder / "study.json").write_text(json.dumps(study))
    (folder / "vidprism-preset-small-00000000.json").write_text(
        json.dumps(dict(cell=cell, runs=[dict(run=0, top1=0.5)]))
    )


def test_results_are_renamed(tmp_path, monkeypatch):
    "Keys and file name are today's, the number is the same, and a second call changes nothing."
    monkeypatch.syspath_prepend(str(SAVED.parent.parent / "tools"))
    from migrate_results import migrate

    old_result(tmp_path)
    assert migrate(tmp_path) == 1
    trial = Trial("vidprism_lowdata", classifier="text", probes={"expert 1": dict(active_experts=[0], modulate=False)})
    study = open_study(tmp_path)
    assert cell_file(study, trial).is_file()
    assert kept_runs(study, trial)[0]["top1"] == 0.5
    assert study.settings == dict(fingerprint="0", num_classes=3, num_frames=8) and study.num_frames == 8
    assert migrate(tmp_path) == 0


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_kept_results_have_todays_names(folder):
    "Each kept result lies in the file that its settings name, and its counts are num_frames and num_classes."
    study = open_study(folder)
    files = sorted(folder.glob("*-*.json"))
    for file in files:
        record = json.loads(file.read_text())
        assert cell_file(study, Trial(**record["cell"])) == file
        assert {"num_frames", "num_classes"} <= record["study"].keys()
        assert not {"frames", "classes"} & record["study"].keys()
    assert len(files) > 20
