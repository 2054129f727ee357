"Cost and plan: what is written as JSON can be read, and adds up; on real clips where they are at hand."

import json
import pytest
import torch
from dataclasses import replace
from real import SHARED
from vidprism.errors import ConfigError
from vidprism.evaluation.budget import DATASETS, Assumed, Measured, measure_machine, plan, plan_text
from vidprism.evaluation.cost import cost_json, cost_table, measure_cost
from vidprism.model import sample_model

HAND = Measured("by hand", 10, 8, 224, 0.02, 0.02, 0.02, 1e6, 10.0, 1e4)


def test_cost_of_a_model_as_json():
    "Parts add up, views multiply, and the model is left as it was."
    model = sample_model()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    model.head.train()
    c = measure_cost(model, num_frames=8, views=(2, 3), repeats=3, warmup=1, device="cpu")
    out = json.loads(json.dumps(cost_json(c)))
    assert out["parameters"] == sum(p["parameters"] for p in out["parts"]) == sum(p.numel() for p in model.parameters())
    assert out["gflops_all_views"] == pytest.approx(6 * sum(p["macs"] for p in out["parts"]) / 1e9)
    assert out["clips_per_second"] == pytest.approx(out["views_per_second"] / 6)
    assert out["frames_per_second"] == pytest.approx(8 * out["views_per_second"])
    assert out["peak_bytes"] > 4 * out["parameters"]
    assert model.head.training and not model.encoder.training
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert "as the papers count" in cost_table(c) and "6 views" in cost_table(c)


@pytest.mark.parametrize("name", ("k400", "hmdb51"))
@pytest.mark.parametrize("head", ("vidprism", "mote"))
def test_a_plan_adds_up(name, head):
    "Twice the GPUs halve the time that they need and leave GPU-hours as they are; the bottleneck is the slowest stage."
    one, two = (plan(name, gpus=n, head=head, measured=HAND) for n in (4, 8))
    assert two.gpu_hours == pytest.approx(one.gpu_hours)
    assert two.rates["gpus"] == pytest.approx(2 * one.rates["gpus"])
    assert two.rates[two.bottleneck] == min(two.rates.values()) and two.cores_needed >= one.cores_needed
    assert two.wall_hours == pytest.approx(DATASETS[name].train * 40 / two.rates[two.bottleneck] / 3600)
    assert two.bottleneck in plan_text(two)


def test_a_plan_follows_its_assumptions():
    rich = plan(measured=HAND, assumed=Assumed(cores=4096, disk_rate=1e12))
    assert rich.bottleneck == "gpus"
    assert plan(measured=HAND, assumed=Assumed(cores=1)).bottleneck == "cores"
    assert plan(measured=HAND, assumed=Assumed(cores=4096, disk_rate=1e6)).bottleneck == "disk"
    assert plan(measured=replace(HAND, train_clips_per_second=7.0), gpus=3).rates["gpus"] == 21.0
    with pytest.raises(ConfigError, match="hmdb51"):
        plan("kinetics", measured=HAND)


def test_measured_on_real_clips(tmp_path):
    "A measurement's file is a plan's input."
    clips = sorted((SHARED / "clips" / "ordinary").glob("*"))
    if not clips:
        pytest.skip("shared/clips/ordinary is not here")
    found = measure_machine(clips, tmp_path / "machine.json", num_frames=4, size=112)
    assert 2 <= found.clips <= len(clips) and 0 < found.read_low <= found.read_seconds <= found.read_high
    assert plan(measured=tmp_path / "machine.json").rates["cores"] == pytest.approx(16 / (found.read_seconds * 2))
