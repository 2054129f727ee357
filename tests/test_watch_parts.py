"The parts of watching, against numbers worked by hand: records and their bounds, chosen clips, accuracies."

import json
import math
import pytest
import torch
from dataclasses import FrozenInstanceError
from torch import nn
from torch.utils.data import Dataset
from vidprism.errors import ConfigError
from vidprism.heads.base import HeadOutput, create_head
from vidprism.training import watch
from vidprism.training.trainer import TensorClips, seeded
from vidprism.training.watch import (
    Watch,
    WatchedClips,
    chance_cka,
    check_record,
    choose_clips,
    off_diagonal,
    read_watch,
    watch_experts,
    watched_scalars,
    write_watch,
)

TABLE = [[1.0, 0.25], [0.75, 0.5]]
ENTRY = dict(epoch=1, clips=3, experts=[2, 4], top1=0.5, alone=[0.1, 0.2], shares=[0.7, 0.3], cka=TABLE, open=TABLE)
ENTRY |= dict(chance=0.125, balance=1.25)


def record_of(**changes):
    return [{**ENTRY, **changes}]


ALLOWED = [
    dict(epoch=10**6),
    dict(clips=1),
    dict(top1=None),
    dict(top1=0),
    dict(top1=1),
    dict(top1=1 + 5e-7),
    dict(top1=-5e-7),
    dict(chance=None),
    dict(cka=[[None, 0.5], [0.5, None]]),
    dict(balance=None),
    dict(balance=0),
    dict(balance=2.01),
    dict(experts=["a" * 200, 10**6]),
    dict(experts=["slow", 1]),
]


@pytest.mark.parametrize("changes", ALLOWED, ids=str)
def test_allowed_entries(changes):
    "At the bounds, up to rounding; a value that is not finite is null."
    assert check_record(record_of(**changes), "r") == record_of(**changes)


REFUSED = [
    dict(epoch=0),
    dict(epoch=1.5),
    dict(clips=0),
    dict(top1=1 + 2e-6),
    dict(top1=-2e-6),
    dict(top1="1"),
    dict(alone=[0.1]),
    dict(alone=[0.1, 0.2, 0.3]),
    dict(alone={}),
    dict(cka=[[1.0, 0.5]]),
    dict(cka=[1.0, 0.5]),
    dict(cka=[[1.0, 0.5], [0.5, 1.5]]),
    dict(cka=[TABLE, TABLE]),
    dict(balance=-0.005),
    dict(balance=2.02),
    dict(experts=[0, 1]),
    dict(experts=[1.5, 2]),
    dict(experts=[10**6 + 1, 2]),
    dict(experts=["a" * 201, 2]),
    dict(experts="ab"),
    dict(experts=[2, None]),
]


@pytest.mark.parametrize("changes", REFUSED, ids=str)
def test_refused_entries(changes):
    "Beyond the bounds; the sentence names the entry, counted from 1."
    with pytest.raises(ConfigError, match="r, entry 1"):
        check_record(record_of(**changes), "r")
    with pytest.raises(ConfigError, match="r, entry 3"):
        check_record([ENTRY, {**ENTRY, "epoch": 2}, {**ENTRY, "epoch": 3, **changes}], "r")


@pytest.mark.parametrize("count,allowed", [(0, True), (999, True), (1000, True), (1001, False)])
def test_number_of_experts(count, allowed):
    record = [dict(epoch=1, clips=1, experts=list(range(1, count + 1)), top1=0.5)]
    if allowed:
        assert check_record(record, "r") == record
    else:
        with pytest.raises(ConfigError, match="experts"):
            check_record(record, "r")


@pytest.mark.parametrize("epochs,at", [((1, 2, 5), 0), ((3, 4), 0), ((1, 1), 2), ((1, 3, 3), 3), ((1, 3, 2), 3)])
def test_epochs_rise(epochs, at):
    "Each epoch is above the one before, not only above the first."
    record = [{**ENTRY, "epoch": epoch} for epoch in epochs]
    if not at:
        assert check_record(record, "r") == record
    else:
        with pytest.raises(ConfigError, match=f"r, entry {at}: epoch {epochs[at - 1]} must be above"):
            check_record(record, "r")


def test_scalars_by_name():
    "Each number under its own name; of CKA each pair once, of gates each direction, none to itself."
    experts = [2, 4, "slow"]
    table = [[0.0, 0.1, 0.2], [0.3, 0.0, 0.5], [0.6, None, 0.0]]
    entry = dict(
        epoch=1, clips=3, experts=experts, top1=0.5, balance=None, alone=[0.1, None, 0.3], cka=table, open=table
    )
    assert watched_scalars(entry) == {
        "watch/top1": 0.5,
        "watch/alone/rate 2": 0.1,
        "watch/alone/slow": 0.3,
        "watch/cka/rate 2, rate 4": 0.1,
        "watch/cka/rate 2, slow": 0.2,
        "watch/cka/rate 4, slow": 0.5,
        "watch/open/rate 2 to rate 4": 0.1,
        "watch/open/rate 2 to slow": 0.2,
        "watch/open/rate 4 to rate 2": 0.3,
        "watch/open/rate 4 to slow": 0.5,
        "watch/open/slow to rate 2": 0.6,
    }
    assert watched_scalars(dict(epoch=1, clips=1, experts=[2, 4], top1=1)) == {"watch/top1": 1.0}


def test_a_record_on_disk(tmp_path):
    "What was written comes back; another format, version or size is refused, and a path that is none."
    write_watch(tmp_path, record_of())
    assert read_watch(tmp_path) == read_watch(str(tmp_path)) == record_of()
    path = tmp_path / "watch.json"
    found = json.loads(path.read_text())
    assert found == dict(format="vidprism watch", version=1, epochs=record_of())
    for wrong in (dict(format="a"), dict(format="z"), dict(format=None), dict(version=0), dict(version=2)):
        path.write_text(json.dumps({**found, **wrong}))
        with pytest.raises(ConfigError, match="is not a record that this version reads"):
            read_watch(tmp_path)
    for size, refused in ((64 << 20, False), ((64 << 20) + 1, True)):
        text = json.dumps(found)
        path.write_text(text + " " * (size - len(text)))
        if refused:
            with pytest.raises(ConfigError, match="watch.json"):
                read_watch(tmp_path)
        else:
            assert read_watch(tmp_path) == record_of()
    with pytest.raises(ConfigError, match="folder"):
        read_watch(5)


class Numbered(Dataset):
    "Clip k is full of k; the epoch that was set is noted."

    def __init__(self, count):
        self.count, self.epochs = count, []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)

    def __len__(self):
        return self.count

    def __getitem__(self, k):
        return torch.full((2, 3), float(k)), k % 2


def test_chosen_clips():
    "PyTorch's permutation with the seed, sorted, of the first epoch."
    data = Numbered(20)
    found = choose_clips(data, 5, seed=3)
    expected = sorted(torch.randperm(20, generator=torch.Generator().manual_seed(3))[:5].tolist())
    assert found.clips[:, 0, 0].tolist() == expected and found.labels.tolist() == [k % 2 for k in expected]
    assert data.epochs == [0]
    assert choose_clips(Numbered(20), 5).labels.equal(choose_clips(Numbered(20), 5, 0).labels)
    with pytest.raises(ConfigError, match="count"):
        choose_clips(data, 0)


@pytest.mark.parametrize("missing", ["__getitem__", "__len__"])
def test_clips_without_numbers(missing):
    "A data set that cannot be read by number, or does not know its size."
    members = dict(__len__=lambda self: 3, __getitem__=lambda self, k: (torch.zeros(2), 0))
    del members[missing]
    data = type("Stream", (), members)()
    with pytest.raises(ConfigError, match="Stream cannot read clips by number"):
        choose_clips.__wrapped__(data, 2)  # the decorator refuses what is no Dataset


@pytest.mark.parametrize("sizes", [(2, 3), (2, 3, 2), (3, 3, 2)])
def test_clips_of_different_shapes(sizes):
    data = [(torch.zeros(size), 0) for size in sizes]
    with pytest.raises(ConfigError, match="different shapes"):
        choose_clips(type("Data", (Dataset,), dict(__len__=lambda s: len(data), __getitem__=lambda s, k: data[k]))(), 9)


def test_given_clips():
    "All clips of a data set, or two tensors that agree."
    assert len(watch._given_clips(Numbered(300)).labels) == 300
    assert len(watch._given_clips(Numbered(1)).labels) == 1
    clips, labels = torch.zeros(4, 2, 3), torch.tensor([0, 1, 1, 0], dtype=torch.int32)
    found = watch._given_clips((clips, labels))
    assert found.clips is clips and found.labels.dtype == torch.int64 and found.labels.tolist() == [0, 1, 1, 0]
    for wrong in ((clips,), (clips, labels, labels), (clips, [0, 1, 1, 0]), ([1], [1])):
        with pytest.raises(ConfigError, match="two tensors"):
            watch._given_clips(wrong)
    large = torch.zeros(300, 1, 1)
    assert len(watch._given_clips((large, torch.zeros(300))).labels) == 300
    for count in (0, 3, 5):
        with pytest.raises(ConfigError, match=f"4 clips and {count} labels"):
            watch._given_clips((clips, torch.zeros(count)))
    with pytest.raises(ConfigError, match="0 clips and 4 labels"):
        watch._given_clips((clips[:0], labels))


def test_digest():
    "Sixteen digits of shape, labels and content."
    one = WatchedClips(torch.zeros(2, 3), torch.tensor([0, 1]))
    others = [WatchedClips(torch.zeros(3, 2), one.labels), WatchedClips(one.clips, one.labels.flip(0))]
    others.append(WatchedClips(torch.ones(2, 3), one.labels))
    assert len(one.digest) == 16 and len({one.digest, *(other.digest for other in others)}) == 4


def test_options_do_not_change():
    with pytest.raises(FrozenInstanceError):
        Watch().count = 3
    assert (Watch().clips, Watch().count, Watch().seed, Watch().call) == (None, 256, 0, None)


def test_mean_over_pairs():
    "Without the diagonal and null; many experts, whose numbers are not the same object."
    assert off_diagonal([[9, 1], [3, 9]]) == 2.0
    assert off_diagonal([[9, None, 1], [3, 9, None], [None, 5, 9]]) == 3.0
    assert math.isnan(off_diagonal([[1]]))
    many = [[float(i == j) for j in range(300)] for i in range(300)]
    assert off_diagonal(many) == 0.0


def test_floor_of_cka():
    "The mean over four shuffles of the clips of each expert, from seed 0; one expert has none."
    x = torch.randn(9, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    g, found = torch.Generator().manual_seed(0), []
    for _ in range(4):
        mixed = [x[torch.randperm(9, generator=g), i] for i in range(3)]
        mixed = [part - part.mean(0) for part in mixed]
        for a in range(3):
            for b in range(3):
                if a != b:
                    cross, own = (mixed[a].T @ mixed[b]).norm() ** 2, [(m.T @ m).norm() for m in (mixed[a], mixed[b])]
                    found.append(float(cross / (own[0] * own[1])))
    assert abs(chance_cka(x) - sum(found) / len(found)) < 1e-9
    assert chance_cka(x, 1) != chance_cka(x) == chance_cka(x, 0)
    assert math.isnan(chance_cka(x[:, :1]))


class Counting(nn.Module):
    "Notes the sizes of its batches; the answer is the sign of the first number."

    def __init__(self, independent):
        super().__init__()
        self.sizes, self.gradients = [], []
        if independent is not None:
            self.batch_independent = independent

    def forward(self, x):
        self.sizes.append(len(x))
        self.gradients.append(torch.is_grad_enabled())
        first = x[:, 0, 0]
        return HeadOutput(torch.stack([-first, first], 1), first[:, None], {}, None)


@pytest.mark.parametrize(
    "independent,options,sizes", [(None, {}, [64, 6]), (True, dict(batch=50), [50, 20]), (False, {}, [1] * 70)]
)
def test_batches_of_watching(independent, options, sizes):
    "64 clips a batch; one, if clips of a batch affect each other. Without gradients."
    x = torch.randn(70, 2, 3, generator=torch.Generator().manual_seed(1))
    labels = (x[:, 0, 0] > 0).long()
    labels[:7] = 1 - labels[:7]
    module = Counting(independent)
    found = watch_experts(module, x, labels, **options)
    assert found == dict(clips=70, experts=[], top1=0.9)
    assert module.sizes == sizes and not any(module.gradients)
    with pytest.raises(ConfigError, match="batch"):
        watch_experts(module, x, labels, batch=0)


@pytest.mark.parametrize("name", ["vidprism", "mote", "bmoe"])
def test_accuracy_of_each_expert_alone(name):
    "As the head answers with one expert on, clip by clip; a head is asked for its trace with one clip."
    options = dict(vidprism=dict(rates=(2, 4)), mote=dict(experts=3, layers=1, num_heads=2), bmoe={})[name]
    with seeded(0):
        head = create_head(name, 8, 3, 8, **options).eval()
    x = torch.randn(9, 8, 8, generator=torch.Generator().manual_seed(5))
    labels = torch.arange(9) % 3
    found = watch_experts(head, x, labels, batch=4)
    for i in range(head.num_experts):
        with torch.no_grad():
            answers = torch.cat([head(x[k : k + 1], active_experts=[i]).logits.argmax(1) for k in range(9)])
        assert abs(found["alone"][i] - float((answers == labels).double().mean())) < 1e-9
    by_hand = watch._accuracy_alone(head, x, labels, 4)
    assert by_hand == pytest.approx(found["alone"])
    data = TensorClips(x, labels)
    assert watch_experts(head, *choose_clips(data, 9))["alone"] == found["alone"]
