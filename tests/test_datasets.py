"""Draws and folds of real clips; every form of list, its oddities included; audit and repair.

A test skips by name where the shared clips are missing."""

import pytest
import random
from real import shared
from vidprism.data.splits import Fold, grouped_folds, k_shot, read_list, repeat_to, save_list, source_of
from vidprism.errors import ConfigError


def jhmdb():
    "Paths and labels of the 650."
    rows = [line.rsplit(" ", 1) for line in shared("jhmdb21", "clips.txt").read_text().splitlines()]
    return [p for p, _ in rows], [int(l) for _, l in rows]


def test_draws_of_jhmdb(tmp_path):
    "K of each class, whatever the order; kept as names and found again."
    items, labels = jhmdb()
    drawn = k_shot(labels, 4, 0, items)
    assert len(set(drawn)) == 84
    assert [labels[i] for i in drawn] == [c for c in range(21) for _ in range(4)]
    order = list(range(650))
    random.Random(0).shuffle(order)
    shuffled = [items[o] for o in order]
    again = k_shot([labels[o] for o in order], 4, 0, shuffled)
    assert [shuffled[i] for i in again] == [items[i] for i in drawn]
    assert set(drawn) > set(k_shot(labels, 2, 0, items)) and k_shot(labels, 4, 1, items) != drawn
    assert len(repeat_to(drawn, 650)) == 650 and set(repeat_to(drawn, 650)) == set(drawn)
    save_list(tmp_path / "shots.json", drawn, items, k=4, seed=0)
    found = read_list(tmp_path / "shots.json", shuffled)
    assert [shuffled[i] for i in found] == [items[i] for i in drawn]
    fewest = min(labels.count(c) for c in range(21))
    assert len(k_shot(labels, fewest, 0, items)) == 21 * fewest
    with pytest.raises(ConfigError, match=f"has {fewest} clips; {fewest + 1} were requested"):
        k_shot(labels, fewest + 1, 0, items)


def test_sources_of_jhmdb():
    "242 sources; no source on two sides, every clip tested once, and every class in every fold."
    items, labels = jhmdb()
    sources = [source_of(p) for p in items]
    assert len(set(sources)) == 242
    folds = grouped_folds(labels, sources, 5, 0)
    assert sorted(i for f in folds for i in f.test) == list(range(650))
    assert isinstance(folds[0], Fold)
    for f in folds:
        assert not {sources[i] for i in f.train} & {sources[i] for i in f.test}
        assert {labels[i] for i in f.train} == set(range(21))
        assert sorted(f.train + f.test) == list(range(650))
