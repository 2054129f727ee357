"Trains heads on as many processes as it is launched on, and saves their weights: the work of test_training.py."

import os
import sys
import torch
from contextlib import nullcontext
from vidprism.data.shards import ShardClips
from vidprism.heads.base import create_head
from vidprism.training import trainer as training
from vidprism.training.trainer import TensorClips, TrainConfig, fit, seeded

PRISM = dict(rates=(2, 4), gate_weight=3.0)
ROUTED = dict(layers=2, experts=3, num_heads=2)
RELEASED = dict(rates=(2, 8), preset="released", threshold=0.8)
UNREGULARISED = dict(ROUTED, regulariser="none", consistency=0.0)
CASES = {  # name: (head, its options, config, clips); a whole batch is 16
    # the last batch is 13: 6 and 7
    "vidprism": ("vidprism", PRISM, {}, 45),
    # one process has none
    "one_clip_in_the_last_batch": ("vidprism", PRISM, {}, 33),
    # a group of two, then one of one
    "accumulated": ("vidprism", PRISM, dict(accumulate=2), 45),
    # gates open by the batch's mean
    "released": ("vidprism", RELEASED, {}, 45),
    "bmoe": ("bmoe", dict(experts=2, gate_weight=3.0), {}, 45),
    "mote": ("mote", ROUTED, {}, 45),
    # experts that no batch of a step drew
    # one clip of one process is not finite: both skip its steps
    "spoilt": ("vidprism", PRISM, dict(spoilt=7), 45),
    "mote_accumulated": ("mote", UNREGULARISED, dict(accumulate=2), 45),
}
LOCAL = "vidprism, each process by itself"
SHARDS = "shards, unequal parts"


def train(kind, options, config, count, processes):
    "The weights after three epochs, as one vector, and the rows; float64, so that rounding is no matter."
    g = torch.Generator().manual_seed(0)
    y = torch.arange(count) % 3
    noise = torch.randn(count, 8, 8, generator=g, dtype=torch.float64)
    config = dict(config)
    spoilt = config.pop("spoilt", None)
    x = noise + y[:, None, None] * torch.linspace(-1, 1, 8)[None, :, None]
    if spoilt is not None:
        x[spoilt] = float("nan")
    with seeded(0):
        head = create_head(kind, 8, 3, 8, **options).double()
    settings = TrainConfig(epochs=3, batch=16 // processes, lr=3e-3, **config)
    history = fit(head, TensorClips(x, y), (x[-7:], y[-7:]), settings)
    return torch.cat([p.detach().flatten() for p in head.parameters()]), history.rows


def train_on_shards(folder):
    "A head on packed files of features; the two processes have 13 and 10 clips."
    data = ShardClips(folder, read=lambda path, *_: torch.load(path))
    with seeded(0):
        head = create_head("vidprism", 8, 3, 8, **PRISM).double()
    history = fit(head, data, config=TrainConfig(epochs=3, batch=3, workers=2))
    return torch.cat([p.detach().flatten() for p in head.parameters()]), history.rows


def run_all(processes, shards=None):
    done = {name: train(*case, processes) for name, case in CASES.items()}
    if processes > 1:
        training.whole_batch = lambda own, whole: nullcontext()
        done[LOCAL] = train(*CASES["vidprism"], processes)
    if shards:
        done[SHARDS] = train_on_shards(shards)
    return done


if __name__ == "__main__":
    out, shards = sys.argv[1:3]
    done = run_all(int(os.environ["WORLD_SIZE"]), shards)
    torch.save(done, f"{out}/{os.environ['RANK']}.pt")
