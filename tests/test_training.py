"Training on several processes: the same weights as on one, in the kit's own loop."

import os
import pytest
import subprocess
import sys
import torch
from pathlib import Path
from torch.utils.data import TensorDataset

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from two_processes import CASES, LOCAL, SHARDS, run_all  # noqa: E402
from vidprism.data.cliplist import ClipList  # noqa: E402
from vidprism.data.clips import sample_clips  # noqa: E402
from vidprism.data.shards import pack  # noqa: E402
from vidprism.encoders.factory import create_encoder  # noqa: E402
from vidprism.heads.base import create_head  # noqa: E402
from vidprism.training import pipeline as workflow  # noqa: E402
from vidprism.training.trainer import TrainConfig, fit  # noqa: E402


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    "Weights and rows of every case: {process count: [of each process]}."
    out = tmp_path_factory.mktemp("two")
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    for i in range(23):
        features = torch.randn(8, 8, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        torch.save(features, out / f"{i}.features")
    pack([(out / f"{i}.features", i % 3) for i in range(23)], out / "shards", shard_size=5)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, str(HERE / "two_processes.py"), str(out), str(out / "shards")]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return {1: [run_all(1)], 2: [torch.load(out / f"{r}.pt") for r in (0, 1)]}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_two_processes_reach_the_weights_of_one(done, name):
    "The whole batch on one process, or halves of it on two: the same weights, and the same losses in the rows."
    (one, rows), both = done[1][0][name], [d[name] for d in done[2]]
    for weights, found in both:
        assert (one - weights).abs().max() < 1e-5, float((one - weights).abs().max())
        assert found[-1]["top1"] == rows[-1]["top1"]
        assert [row["skipped"] for row in found] == [int(name == "spoilt")] * 3
        for key in ("total", "cls"):
            assert found[-1][key] == pytest.approx(rows[-1][key], rel=1e-5)


@pytest.mark.long
def test_the_processes_agree_exactly(done):
    for name in CASES:
        assert torch.equal(done[2][0][name][0], done[2][1][name][0])


@pytest.mark.long
def test_unequal_shards_are_no_deadlock(done):
    "Two processes with two workers each and unequal shards end, in step with each other."
    (a, rows), (b, _) = (d[SHARDS] for d in done[2])
    assert torch.equal(a, b)
    assert len(rows) == 3
    assert rows[0]["cls"] != rows[-1]["cls"]


@pytest.mark.long
def test_balance_of_each_process_alone_is_another_loss(done):
    "The test above can fail: with the batch's mean taken in each process alone the weights are others."
    one, local = done[1][0]["vidprism"][0], done[2][0][LOCAL][0]
    assert (one - local).abs().max() > 1e-5


@pytest.mark.long
def test_training_moved_the_weights(done):
    "And they are not equal because nothing happened."
    for name in CASES:
        _, rows = done[1][0][name]
        assert rows[0]["cls"] != rows[-1]["cls"]


@pytest.mark.parametrize("said, configured, used", [(3, 0, 3), (0, 2, 2), (0, 0, 0)])
def test_readers_reach_the_tuning_of_an_encoder(monkeypatch, tmp_path, said, configured, used):
    "`workers` of the call, else the training config's, is how many processes read frames."

    class Seen(Exception):
        pass

    def seen(model, data, config, **_):
        raise Seen(config.workers)

    monkeypatch.setattr(workflow, "fit", seen)
    listed = tmp_path / "clips.txt"
    listed.write_text("".join(f"{clip} {i % 2}\n" for i, clip in enumerate(sample_clips())))
    encoder, clips = create_encoder("mini"), ClipList.from_any(listed, classes=["even", "odd"])
    run = workflow.Recipe(
        finetune_encoder=True, num_frames=8, options=dict(rates=(2, 4)), training=TrainConfig(workers=configured)
    )
    with pytest.raises(Seen) as found:
        workflow.finetune_clips(workflow.Split(clips, clips, "all"), run, encoder, workers=said)
    assert found.value.args == (used,)


@pytest.mark.parametrize("head", ["mote", "vidprism_lowdata"])
def test_workers_draw_as_the_main_process(head):
    "A head that draws random numbers ends with the same weights for 0, 1 and 2 loading processes."
    x = torch.randn(24, 8, 8, generator=torch.Generator().manual_seed(5))
    clips = TensorDataset(x, torch.arange(24) % 3)

    def weights(workers):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = create_head(head, 8, 3, 8)
        fit(module, clips, config=TrainConfig(epochs=4, batch=8, workers=workers))
        return torch.cat([p.detach().flatten() for p in module.parameters()])

    alone = weights(0)
    for workers in (1, 2):
        assert torch.equal(weights(workers), alone), workers
