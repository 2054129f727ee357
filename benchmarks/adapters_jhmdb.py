"""Does time inside the tower make temporal experts superfluous? ST-Adapter on JHMDB-21's clips.

    python benchmarks/adapters_jhmdb.py maps           # of the 650 clips, before the adapted blocks; minutes
    python benchmarks/adapters_jhmdb.py pilot          # learning rates on the training clips of the first fold
    python benchmarks/adapters_jhmdb.py run [FOLDS]    # the trainings that are not there yet, fold by fold
    python benchmarks/adapters_jhmdb.py table

The tower is MobileNet, frozen, 8 frames of a clip. Adapters stand after its last five blocks, so the maps before these
are computed once, and each pass runs five blocks. Beside them, the heads are trained on the frozen features. AIM needs
self-attention, which the tower does not have. Folds are grouped by source, as for all rows on these clips. Results are
in adapters_jhmdb.json."""

import argparse
import json
import statistics
import sys
import tempfile
import time
import torch
from dataclasses import asdict, replace
from pathlib import Path
from torch import nn
from vidprism.data.clips import read_clip
from vidprism.data.splits import grouped_folds, source_of
from vidprism.encoders.adapters import add_adapters
from vidprism.encoders.base import ModuleEncoder, Preprocess
from vidprism.evaluation.cost import count_parameters
from vidprism.experiments.samples import shuffle_time
from vidprism.files import write_json
from vidprism.heads.base import create_head
from vidprism.training.trainer import TensorClips, TrainConfig, fit, score, seeded

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from mobilenet import make
from small_data import FOLDS, listed

TABLE = HERE / "adapters_jhmdb.json"
FRAMES, FIRST = 8, 17  # frames of a clip; the first of the trained blocks, of 22
FULL = TrainConfig()
SHORT = TrainConfig(epochs=8, batch=8)
# learning rates of the adapters; the head has that of all heads, so that a small rate leaves the frozen tower
RATES = (1e-3, 1e-4)
HEADS = ("mean", "statistics", "vidprism_lowdata")
KINDS = dict(frozen="pooled", st_adapter="maps")  # what each reads
PREDICTED = {
    "frozen": "mean 57, statistics 63 (8 frames, not 16), vidprism_lowdata 63",
    "st_adapter": "mean 61, statistics 64: few clips, and the tower's maps have little motion; vidprism_lowdata 63",
}


class Upper(nn.Module):
    "The blocks of a MobileNet from a place on, and its last convolution: maps [N,C,h,w] to vectors [N,D]."

    def __init__(self, network, first: int):
        super().__init__()
        self.blocks = nn.Sequential(*[block for stage in network.blocks for block in stage][first:])
        self.conv_head, self.bn2 = network.conv_head, network.bn2
        self.global_pool = network.global_pool

    def forward(self, x):
        return self.global_pool(self.bn2(self.conv_head(self.blocks(x))))


class UpperEncoder(ModuleEncoder):
    "An encoder of maps [N,96,14,14] instead of pictures."

    @torch.no_grad()
    def _encode_black(self, grid=False):
        return self.encode(torch.zeros(self.window, 96, 14, 14), grid)


class Joint(nn.Module):
    """An encoder of maps and a head: maps [B,T,C,h,w] to the head's output.

    The encoder is one module deeper than in a `VideoModel`, so that adapters have the encoder's learning rate."""

    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.head = nn.ModuleList([encoder]), head

    def forward(self, maps, labels=None):
        clips, frames = maps.shape[:2]
        maps = maps.flatten(0, 1).float()
        pooled = self.encoder[0].encode(maps, window=frames).pooled
        return self.head(pooled.unflatten(0, (clips, frames)), labels)


def upper():
    "The trained blocks as an encoder, frozen."
    how = Preprocess(224, (0.5,) * 3, (0.5,) * 3)
    return UpperEncoder(Upper(make().model.net, FIRST), how).requires_grad_(False)


@torch.no_grad()
def make_maps(file):
    "The maps [N,T,96,14,14] before the trained blocks, and the frozen features [N,T,1280]."
    root, items, labels, _ = listed()
    encoder, above = make(), upper()
    network = encoder.model.net
    lower = [network.conv_stem, network.bn1, *[block for stage in network.blocks for block in stage][:FIRST]]
    found = []
    for item in items:
        x = encoder.prepare(read_clip(root / item, FRAMES).frames)
        for layer in lower:
            x = layer(x)
        found.append(x.half())
    maps = torch.stack(found)
    pooled = torch.stack([above.encode(x.float()).pooled for x in maps])
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(dict(maps=maps, pooled=pooled, labels=torch.tensor(labels), items=items), file)


def module_of(kind, head, classes, seed):
    "What is trained: a head on features, or blocks with a head on maps."
    with seeded(seed):
        made = create_head(head, 1280, classes, FRAMES)
    if kind == "frozen":
        return made
    return Joint(add_adapters(upper(), "st_adapter", seed=seed), made)


def trained(kept, kind, head, rows, rate, seed=0):
    "A module, trained on some clips; `rate` is the tower's learning rate."
    x = kept[KINDS[kind]][rows]
    module = module_of(kind, head, len(listed()[3]), seed)
    config = FULL if kind == "frozen" else replace(SHORT, encoder_lr=rate / SHORT.lr, seed=seed)
    fit(module, TensorClips(x, kept["labels"][rows]), config=config)
    return module.eval()


def measured(kept, kind, head, train, test, rate):
    "One training, on held-out clips as they are and shuffled."
    start = time.process_time()
    module = trained(kept, kind, head, train, rate)
    every, labels = kept[KINDS[kind]], kept["labels"]
    known = score(module, every[train], labels[train], 32).top1
    x, labels = every[test], labels[test]
    shuffled = shuffle_time(x.flatten(2), 0).reshape(x.shape)
    return dict(
        top1=score(module, x, labels, 32).top1,
        shuffled=score(module, shuffled, labels, 32).top1,
        train=known,
        tuned=count_parameters(module, trainable=True),
        cpu_seconds=round(time.process_time() - start),
    )


def folds(kept):
    "Source-grouped folds, the first way of splitting."
    sources = [source_of(Path(item)) for item in kept["items"]]
    return grouped_folds(kept["labels"].tolist(), sources, FOLDS, 0)


def pilot(kept):
    "Each learning rate on a fifth of the first fold's training clips, while the other four train."
    rows = torch.as_tensor(folds(kept)[0].train)
    sources = [source_of(Path(kept["items"][i])) for i in rows.tolist()]
    inner = grouped_folds(kept["labels"][rows].tolist(), sources, FOLDS, 0)[0]
    for rate in RATES:
        record = read()
        if any(r["rate"] == rate for r in record["pilot"]):
            continue
        one = dict(head="mean", rate=rate) | measured(
            kept, "st_adapter", "mean", rows[inner.train], rows[inner.test], rate
        )
        write_json(TABLE, record | settings() | dict(pilot=[*record["pilot"], one]))
        print(one, flush=True)


def best_rate(record):
    "The better rate of the pilot."
    return max(record["pilot"], key=lambda row: row["top1"])["rate"]


def read():
    "The record so far."
    return json.loads(TABLE.read_text()) if TABLE.exists() else dict(pilot=[], rows=[])


def left(count):
    "(fold, kind, head) of the trainings that are not there yet, in order."
    done = [(r["fold"], r["kind"], r["head"]) for r in read()["rows"]]
    wanted = [(k, kind, head) for kind in KINDS for k in range(count) for head in HEADS]
    return [one for one in wanted if one not in done]


def run(kept, count):
    "The trainings of the first folds that are not there yet."
    for k, kind, head in left(count):
        record, fold = read(), folds(kept)[k]
        rate = None if kind == "frozen" else best_rate(record)
        train, test = map(torch.as_tensor, (fold.train, fold.test))
        row = dict(fold=k, kind=kind, head=head, rate=rate) | measured(kept, kind, head, train, test, rate)
        write_json(TABLE, record | settings() | dict(rows=[*record["rows"], row]))
        print(row, flush=True)


def settings():
    "What all rows share."
    return dict(num_frames=FRAMES, first=FIRST, training=asdict(SHORT), rates=RATES, predicted=PREDICTED)


def table(rows):
    "Markdown: means over folds."
    lines = [f"| head | {' | '.join(KINDS)} |", "|---|" + "---|" * len(KINDS)]
    for head in HEADS:
        cells = [[100 * r["top1"] for r in rows if (r["kind"], r["head"]) == (kind, head)] for kind in KINDS]
        told = [f"{statistics.fmean(c):.1f} ({len(c)})" if c else "not run" for c in cells]
        lines.append(f"| {head} | {' | '.join(told)} |")
    return "\n".join(lines)


def main():
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("what", choices=("maps", "pilot", "run", "table"))
    ask.add_argument("folds", type=int, nargs="?", default=FOLDS)
    ask.add_argument("--maps", type=Path, default=Path(tempfile.gettempdir()) / "vidprism_maps.pt")
    a = ask.parse_args()
    torch.set_num_threads(1)
    if a.what == "maps":
        return make_maps(a.maps)
    if a.what == "table":
        return print(table(read()["rows"]))
    kept = torch.load(a.maps, mmap=True)
    if a.what == "pilot":
        return pilot(kept)
    run(kept, a.folds)


if __name__ == "__main__":
    main()
