"Rates chosen by the data: subsets are removed whole, held-out clips are unseen, and nothing depends on chance outside."

import inspect
import itertools
import json
import numpy as np
import pytest
import shutil
import torch
import vidprism.evaluation.rates as rates_module
import vidprism.training.pipeline as pipeline
from dataclasses import replace
from vidprism.cli import main, training_run
from vidprism.errors import ConfigError
from vidprism.evaluation.benchmark import Benchmark, FeatureSplit
from vidprism.evaluation.rates import JointTraining, RateChoice, RateSubset, choose_rates, rate_sets, subset_weights
from vidprism.experiments.samples import write_sources
from vidprism.heads.base import create_head
from vidprism.model import VideoModel
from vidprism.training.pipeline import Recipe, kept_rates, train_clips
from vidprism.training.runs import rerun
from vidprism.training.trainer import TrainConfig

DIM, FRAMES, CLASSES = 8, 16, 3
SHORT = TrainConfig(epochs=2, batch=8)
NARROW = dict(num_heads=2)
RATES = (2, 4, 8, 16)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def side(n=24, seed=1, frames=FRAMES, classes=CLASSES, sources=None):
    names = [f"{seed}-{i}.mp4" for i in range(n)]
    return FeatureSplit(drawn(n, frames, DIM, seed=seed), torch.arange(n) % classes, names, sources or names)


def bench(**options):
    classes = ["a", "b", "c"]
    return Benchmark("tiny", side(**options), side(12, 2, options.get("frames", FRAMES), 1), classes, {})


def stirred(head, seed=0):
    "Every weight moved, so that no gate, position or readout stays at its start."
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in head.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=g))
    return head


def built_alone(whole, chosen, name="vidprism", **options):
    """A head that was built with some rates alone, and has the whole head's weights: copied stage by stage.

    This walks through the modules, and shares nothing with `subset_weights`."""
    every = list(whole.config.rates)
    places = [every.index(rate) for rate in chosen]
    alone = create_head(name, DIM, CLASSES, FRAMES, rates=chosen, **options)
    for part in ("in_proj", "classifier", "projection_head", "contrast", "positions", "frame_scale", "clip_scale"):
        _copy(alone, whole, part)
    for part in ("appearance", "changes", "rise"):
        _copy(alone, whole, part)
    for new, old in zip(alone.pools, (whole.pools[k] for k in places)):
        new.load_state_dict(old.state_dict())
    for new, old in zip(alone.mixture.experts, (whole.mixture.experts[k] for k in places)):
        new.load_state_dict(old.state_dict())
    _copy_interaction(alone.interaction, whole.interaction, places)
    _copy_readout(alone.mixture.readout, whole.mixture.readout, places)
    return alone.train(whole.training)


def _copy(alone, whole, part):
    old = getattr(whole, part, None)
    if old is not None:
        getattr(alone, part).load_state_dict(old.state_dict())


def _copy_interaction(new, old, places):
    for i, j in new.ways:
        I, J = places[i], places[j]
        assert (I, J) in old.ways
        new.gates[new.gate_key(i, j)].load_state_dict(old.gates[old.gate_key(I, J)].state_dict())
        for flows in ("slow2fast", "fast2slow"):
            mine, theirs = getattr(new, flows), getattr(old, flows)
            if new.flow_key(i, j) in mine:
                mine[new.flow_key(i, j)].load_state_dict(theirs[old.flow_key(I, J)].state_dict())


def _copy_readout(new, old, places):
    with torch.no_grad():
        if hasattr(old, "parts"):
            for k, place in enumerate(places):
                new.parts[k].weight.copy_(old.parts[place].weight)
            new.parts[0].bias.copy_(old.parts[0].bias)
            new.out.load_state_dict(old.out.state_dict())
        elif isinstance(getattr(old, "attn", None), torch.nn.ModuleList):
            new.query.copy_(old.query[places])
            for k, place in enumerate(places):
                new.attn[k].load_state_dict(old.attn[place].state_dict())
        else:
            new.load_state_dict(old.state_dict())


FORMS = [
    dict(preset="paper"),
    dict(preset="released"),
    dict(preset="released", threshold=0.5, interaction="slow2fast"),
    dict(interaction="fast2slow", positions="learned", width=4, num_heads=2),
    dict(interaction="none", positions="sinusoidal", keep=2),
    dict(combination="avg", aggregation="max"),
    dict(combination="linear", aggregation="hard"),
    dict(combination="mlp", aggregation="avg"),
    dict(combination="local", threshold=0.0),
]


# The law


@pytest.mark.parametrize("options", FORMS, ids=str)
def test_a_subset_is_a_head_that_was_built_with_it(options):
    "Logits, losses and gates of each of the fifteen sets equal those of a head built with these rates alone."
    whole, x, y = stirred(create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES, **options)), drawn(6, 16, 8), None
    y = torch.arange(6) % CLASSES
    for chosen in rate_sets(RATES):
        alone, part = built_alone(whole, chosen, **options), RateSubset(whole, chosen)
        mine, theirs = part(x, y), alone(x, y)
        assert (mine.logits - theirs.logits).abs().max() < 1e-6
        assert torch.equal(mine.trace.exchange.open, theirs.trace.exchange.open)
        assert all(torch.allclose(mine.losses[name], theirs.losses[name], atol=1e-6) for name in theirs.losses)
        assert all(torch.equal(t, alone.state_dict()[name]) for name, t in subset_weights(whole, chosen).items())


@pytest.mark.parametrize("chosen", [(8, 2), (16, 4, 2), (3, 5)], ids=str)
def test_rates_in_any_order_and_of_any_ratio(chosen):
    "The whole head's rates need not ascend or divide each other."
    options = dict(num_heads=2)
    whole = stirred(create_head("vidprism", DIM, CLASSES, FRAMES, rates=(16, 3, 8, 5, 2, 4), **options)).eval()
    x, alone = drawn(4, 16, 8), built_alone(whole, RateSubset(whole, chosen).rates, **options)
    assert (RateSubset(whole, chosen)(x).logits - alone(x).logits).abs().max() < 1e-6


def test_low_data_head():
    "The head for few clips has the same law; its scales are those of the whole head."
    whole = stirred(create_head("vidprism_lowdata", DIM, CLASSES, FRAMES, rates=RATES, width=4))
    whole(drawn(9, 16, 8))  # the scales learn
    whole.eval()
    for chosen in rate_sets(RATES):
        alone = built_alone(whole, chosen, "vidprism_lowdata", width=4)
        assert (RateSubset(whole, chosen)(drawn(4, 16, 8)).logits - alone(drawn(4, 16, 8)).logits).abs().max() < 1e-6


@pytest.mark.parametrize("options", [{}, dict(contrastive_weight=0.01)], ids=str)
def test_with_text(options):
    "A subset knows the text that the whole head was given."
    text = drawn(CLASSES, DIM, seed=4)
    whole = stirred(create_head("vidprism", DIM, CLASSES, FRAMES, text, rates=RATES, **options)).eval()
    alone = create_head("vidprism", DIM, CLASSES, FRAMES, text, rates=(2, 8), **options).eval()
    alone.load_state_dict(subset_weights(whole, (2, 8)))
    x, y = drawn(4, 16, 8), torch.tensor([0, 1, 2, 0])
    mine, theirs = RateSubset(whole, (2, 8))(x, y), alone(x, y)
    assert (mine.logits - theirs.logits).abs().max() < 1e-5
    assert torch.allclose(mine.losses["total"], theirs.losses["total"], atol=1e-5)


def test_what_is_removed_gets_no_gradient():
    "The removed experts, pools, gates and flows take no part in the backward pass either."
    whole = stirred(create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES))
    RateSubset(whole, (2, 8))(drawn(4, 16, 8), torch.tensor([0, 1, 2, 0])).losses["total"].backward()
    moved = {name for name, p in whole.named_parameters() if p.grad is not None}
    for name in moved:
        assert not name.startswith(("pools.1.", "pools.3.", "mixture.experts.1.", "mixture.experts.3.")), name
        assert not any(f"{i}->{j}" in name for i, j in itertools.permutations(range(4), 2) if {i, j} != {0, 2}), name
    assert {"pools.0.metric_proj.weight", "mixture.experts.2.ln_1.weight", "classifier.weight"} <= moved
    assert {name for name in moved if "gates" in name} == {f"interaction.gates.2.{n}" for n in _gate_names()}


def _gate_names():
    return ("0.weight", "0.bias", "2.weight", "2.bias")


def test_removal_is_not_masking():
    "A masked expert still speaks to the others; without interaction the two are the same."
    for interaction, same in (("both", False), ("none", True)):
        whole = stirred(create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES, interaction=interaction)).eval()
        x = drawn(4, 16, 8)
        masked = whole(x, active_experts=(0, 2)).logits
        assert torch.allclose(RateSubset(whole, (2, 8))(x).logits, masked, atol=1e-5) == same


def test_a_subset_follows_its_head():
    "It reads the weights as they are when it is called: after a step, in another type, in another mode."
    whole = stirred(create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES))
    part = RateSubset(whole, (2, 8))
    before = part(drawn(4, 16, 8)).logits
    whole.double()
    after = part(drawn(4, 16, 8).double()).logits
    assert after.dtype == torch.float64 and torch.allclose(after.float(), before, atol=1e-5)
    with torch.no_grad():
        whole.classifier.bias.add_(1)
    assert torch.allclose(part(drawn(4, 16, 8).double()).logits, after + 1)


# The training


def test_joint_training_has_no_weights_of_its_own():
    whole = create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES)
    joint = JointTraining(whole)
    assert {id(p) for p in joint.parameters()} == {id(p) for p in whole.parameters()}
    assert len(joint.subsets) == 14 and RATES not in [part.rates for part in joint.subsets]


def test_every_subset_is_drawn():
    "In some hundred draws each set comes about as often as any other."
    joint, counts = JointTraining(create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES)), {}

    def note(part):
        def call(features, labels):
            counts[part.rates] = counts.get(part.rates, 0) + 1
            return joint.head(features, labels)

        return call

    joint.subsets = [note(part) for part in joint.subsets]
    for _ in range(280):
        joint(drawn(2, 16, 8), torch.tensor([0, 1]))
    assert len(counts) == 14 and min(counts.values()) > 5 and max(counts.values()) < 45


@pytest.fixture
def watched_fit(monkeypatch):
    "The clips that `fit` was given."
    seen, real = [], rates_module.fit

    def fit(module, train, *args, **options):
        seen.append(train)
        return real(module, train, *args, **options)

    monkeypatch.setattr(rates_module, "fit", fit)
    return seen


def test_ranked_on_clips_that_were_not_trained_on(watched_fit):
    "No source is on both sides, and the two sides are all training clips."
    sources = [f"source {i // 3}" for i in range(24)]
    b = bench(sources=sources)
    choice = choose_rates(b, (2, 4), options=NARROW, config=SHORT)
    (kept,) = watched_fit
    source_of = dict(zip(b.train.items, b.train.sources))
    trained = {source_of[item] for item in kept.items}
    assert choice.held_out["clips"] + len(kept.items) == 24 == choice.held_out["clips"] + choice.held_out["clips_kept"]
    assert choice.held_out["sources"] == 8 - len(trained)


def test_the_test_side_is_never_read():
    "Whatever stands on the test side, the choice is the same to the last bit."
    b = bench()
    worse = replace(b, test=b.test._replace(features=b.test.features * torch.nan))
    first, second = (choose_rates(x, (2, 4), options=NARROW, config=SHORT) for x in (b, worse))
    assert first.rows == second.rows


def test_seeds_decide_and_nothing_else():
    "Another global state changes nothing, and the global state is left as it was; another seed is another choice."
    found = []
    for state in (0, 123):
        torch.manual_seed(state)
        np.random.seed(state)
        before = torch.get_rng_state()
        found.append(choose_rates(bench(), (2, 4, 8), options=NARROW, config=SHORT, seed=3))
        assert torch.equal(before, torch.get_rng_state())
    assert found[0].rows == found[1].rows
    assert choose_rates(bench(), (2, 4, 8), options=NARROW, config=SHORT, seed=4).rows != found[0].rows


def test_order_of_candidates_does_not_matter():
    found = [choose_rates(bench(), order, options=NARROW, config=SHORT).rows for order in ((2, 8, 4), [8, 4, 2])]
    assert found[0] == found[1]


def test_a_rate_that_sees_the_class_is_chosen():
    """Classes that differ by the order of neighbouring frames alone: means of windows of 2 or more cannot tell them.

    Every choice must have the rate 1, which alone sees single frames."""
    g, n = torch.Generator().manual_seed(0), 160
    labels = torch.arange(n) % 2
    x = torch.randn(n, 8, DIM, generator=g) * 0.1
    sign = (1 - 2 * labels).float()[:, None]
    x[:, 0::2, 0] += 2 * sign
    x[:, 1::2, 0] -= 2 * sign
    names = [str(i) for i in range(n)]
    train = FeatureSplit(x, labels, names, names)
    b = Benchmark("order", train, train, ["first", "second"], {})
    options = dict(aggregation="avg", positions="learned", num_heads=2)
    choice = choose_rates(b, (1, 2, 4), options=options, config=TrainConfig(epochs=12, batch=16, lr=3e-3))
    accuracy = {row["rates"]: row["top1"] for row in choice.rows}
    assert 1 in choice.rates and accuracy[choice.rates] > 0.9
    assert all(accuracy[rates] < 0.75 for rates in ((2,), (4,), (2, 4)))
    assert all(1 in rates for rates in choice.interval)


# The result


def test_table_and_interval():
    choice = choose_rates(bench(), (2, 4, 8), options=NARROW, config=SHORT)
    table = choice.table
    assert list(table.columns) == ["rates", "top1", "loss", "low", "high", "share"] and len(table) == 7
    assert tuple(table["rates"][0]) == choice.rates
    assert (table["top1"].diff().dropna() <= 1e-9).all()
    assert ((table["low"] <= table["top1"] + 1e-9) & (table["top1"] <= table["high"] + 1e-9)).all()
    assert abs(table["share"].sum() - 1) < 1e-9
    held = sum(row["share"] for row in choice.rows if row["rates"] in choice.interval)
    assert held >= 0.95 - 1e-9
    assert choice.cost["steps"] == 2 * 3 and choice.cost["sets"] == 7
    assert json.loads(json.dumps(choice.record)) == choice.record


def test_interval_by_hand():
    rows = [dict(rates=(r,), top1=0.5, share=share) for r, share in ((1, 0.5), (2, 0.04), (4, 0.46))]
    assert RateChoice((1,), rows, (1, 2, 4), {}, {}).interval == [(1,), (4,)]


def test_sizes():
    "Only sets of the sizes that are asked for are ranked."
    choice = choose_rates(bench(), (2, 4, 8), options=NARROW, config=SHORT, sizes=[2])
    assert {row["rates"] for row in choice.rows} == {(2, 4), (2, 8), (4, 8)}


def test_one_candidate():
    assert choose_rates(bench(), 4, options=NARROW, config=SHORT).rates == (4,)


def test_default_candidates_fit_the_clips():
    assert choose_rates(bench(frames=3), options=NARROW, config=SHORT).candidates == (1, 2)


# Bad input


def refused(call, *words):
    "One sentence that has these words."
    with pytest.raises(ConfigError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence[-1] in ".?" and len(sentence) < 200
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize(
    "candidates, words",
    [
        ((2, 17), ("17", "16 frames")),
        ((4096,), ("4096", "16 frames")),
        ((), ("at least one",)),
        ([], ("at least one",)),
        ((4, 2, 4), ("differ", "4, 2, 4")),
        ((2, 0), ("candidates",)),
        ((2, -4), ("candidates",)),
        ((2, 4.0), ("candidates", "whole number")),
        ((2, "4"), ("candidates", "whole number")),
        ((True, 2), ("candidates", "whole number")),
        ("auto", ("candidates", "whole number")),
        (tuple(range(1, 10)), ("at most 8",)),
        ((2, float("nan")), ("candidates",)),
    ],
    ids=str,
)
def test_bad_candidates(candidates, words):
    refused(lambda: choose_rates(bench(), candidates, config=SHORT), *words)


@pytest.mark.parametrize("sizes", [[], [0], [3], ["2"], 2], ids=str)
def test_bad_sizes(sizes):
    refused(lambda: choose_rates(bench(), (2, 4), config=SHORT, sizes=sizes), "sizes")


def test_bad_benchmarks():
    "One class, too few sources, no clip, a head without rates, rates among the options."
    refused(lambda: choose_rates(bench(classes=1), (2, 4), config=SHORT), "tiny", "1 class")
    few = bench(sources=["one", "two", "three"] * 8)
    refused(lambda: choose_rates(few, (2, 4), config=SHORT), "3")
    refused(lambda: choose_rates(bench(n=0), (2, 4), config=SHORT))
    refused(lambda: choose_rates(None, (2, 4)), "benchmark")
    refused(lambda: choose_rates(bench(), (2, 4), head="bmoe"), "bmoe", "rates")
    refused(lambda: choose_rates(bench(), (2, 4), head="nobody"), "nobody")
    refused(lambda: choose_rates(bench(), (2, 4), options=dict(rates=(2, 4))), "candidates")
    refused(lambda: choose_rates(bench(), (2, 4), options=dict(heads=3)), "heads")


def test_bad_subsets():
    head = create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES)
    refused(lambda: RateSubset(head, (2, 3)), "3", "2, 4, 8, 16")
    refused(lambda: RateSubset(head, ()), "2, 4, 8, 16")
    refused(lambda: RateSubset(create_head("mean", DIM, CLASSES, FRAMES), (2,)), "mean")
    refused(lambda: JointTraining(create_head("bmoe", DIM, CLASSES, FRAMES)), "bmoe")


# rates="auto"


@pytest.mark.parametrize("name", ["vidprism", "vidprism_lowdata"])
def test_a_head_alone_cannot_choose(name):
    refused(lambda: create_head(name, DIM, CLASSES, FRAMES, rates="auto"), "auto", "choose_rates")


@pytest.fixture
def features(tmp_path):
    "A folder of features: 24 clips of two classes, each a source of its own."
    for i in range(24):
        folder = tmp_path / "features" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        x = drawn(FRAMES, DIM, seed=i) + (i % 2)
        np.save(folder / f"{i}.npy", x.numpy())
    return tmp_path / "features"


AUTO = Recipe(options=dict(rates="auto", num_heads=2), split="source", folds=3, training=SHORT)


def test_a_head_without_such_experts_is_refused_before_clips_are_read(features, monkeypatch):
    monkeypatch.setattr(pipeline, "bench_of", lambda *given, **how: pytest.fail("clips were read"))
    recipe = replace(AUTO, head="vidprism_tubes", options=dict(rates="auto"))
    refused(lambda: train_clips(features, recipe), "vidprism_tubes", "cannot be chosen")


def no_auto(folder):
    "No file of a saved model names the rates auto, but for the settings that were asked for."
    texts = {path.name: path.read_text() for path in folder.rglob("*.json")}
    return all('"auto"' not in text for name, text in texts.items() if name != "run.json")


def test_recipe_chooses_and_the_model_keeps_the_choice(features, tmp_path):
    done = train_clips(features, AUTO, folder=tmp_path / "run")
    record = done.result.record
    rates = tuple(record["chosen_rates"]["rates"])
    assert done.model.head.config.rates == rates == tuple(record["options"]["rates"])
    assert set(rates) <= {1, 2, 4, 8, 16} and record["chosen_rates"]["candidates"] == [1, 2, 4, 8, 16]
    done.save(tmp_path / "model")
    assert no_auto(tmp_path / "model")
    again = VideoModel.from_pretrained(tmp_path / "model")
    assert again.head.config.rates == rates
    assert json.loads((tmp_path / "run" / "rates.json").read_text())["rates"] == list(rates)


def test_the_chosen_rates_are_trained_as_if_they_were_given(features):
    "Choosing leaves no trace in the training that follows."
    chosen = train_clips(features, AUTO).model.head
    given = train_clips(features, AUTO.with_rates(chosen.config.rates)).model.head
    assert all(torch.equal(t, given.state_dict()[name]) for name, t in chosen.state_dict().items())


def test_a_resumed_run_keeps_its_choice(features, tmp_path):
    "What an unfinished run has chosen is not chosen anew; what cannot be read is."
    folder = tmp_path / "run"
    train_clips(features, AUTO, folder=folder)
    (folder / "rates.json").write_text(json.dumps(dict(rates=[16])))
    shutil.rmtree(folder / "checkpoints")
    assert train_clips(features, AUTO, folder=folder, resume=True).model.head.config.rates == (16,)


@pytest.mark.parametrize(
    "kept", ["", "[]", '{"rates": "auto"}', '{"rates": [true]}', '{"rates": [0]}', '{"rates": []}']
)
def test_a_kept_choice_that_is_none_is_made_anew(features, tmp_path, kept):
    (tmp_path / "rates.json").write_text(kept)
    assert kept_rates(tmp_path) is None and kept_rates(None) is None


def test_refused_before_any_clip_is_read(features):
    "A head without rates, in one sentence."
    refused(lambda: train_clips(features, replace(AUTO, head="mean")), "rates")


@pytest.mark.parametrize("text, rates", [("auto", "auto"), ("2,4", (2, 4)), ("8", 8)])
def test_command_line_reads_rates(text, rates):
    from vidprism.cli import ENCODING, RUN, TRAINING

    values = {o.name: o.default for panel in (ENCODING, RUN, TRAINING) for o in panel.options}
    assert training_run(rates=text, **values).options["rates"] == rates


def test_command_line_trains_and_repeats(features, tmp_path, capsys):
    "`vidprism train --rates auto`, and the run done again gives the same rates and weights."
    out = tmp_path / "model"
    words = (
        f"train {features} --rates auto --option num_heads=2 --split source --folds 3 --epochs 2 --batch 8 --out {out}"
    )
    assert main(words.split()) == 0
    capsys.readouterr()
    assert no_auto(out) and not (out / "rates.json").exists()
    config = json.loads((out / "config.json").read_text())
    assert "rates" in json.dumps(config)
    assert rerun(out, tmp_path / "again").equal


def test_command_line_refuses_in_one_line(features, tmp_path, capsys):
    for words in (
        "--rates 2,4 --option rates=2",
        "--rates fast",
        "--rates 2,2",
        "--rates 0",
        "--head mean --rates auto",
    ):
        assert main(["train", str(features), *words.split(), "--out", str(tmp_path / "model")]) == 2
        message = capsys.readouterr().err.strip()
        assert len(message.splitlines()) == 1 and "rates" in message.lower(), message


def test_signature():
    "The names that callers use."
    names = list(inspect.signature(choose_rates).parameters)
    assert names[:2] == ["benchmark", "candidates"]


def test_only_sets_of_these_sizes_are_drawn():
    "Where the choice may have two experts only, no other set is trained beside the whole."
    head = create_head("vidprism", DIM, CLASSES, FRAMES, rates=RATES)
    joint = JointTraining(head, sets=rate_sets(RATES, [2, 4]))
    assert [part.rates for part in joint.subsets] == list(itertools.combinations(RATES, 2))


def test_rates_are_chosen_before_the_encoder_learns(tmp_path):
    "With an encoder that is trained, the choice is made on its features as they are before, and kept."
    write_sources(tmp_path / "clips", ("drift left", "blink"), sources=6, each=1)
    recipe = Recipe(options=dict(rates="auto"), num_frames=4, split="source", folds=3, finetune_encoder=True)
    recipe = replace(recipe, training=TrainConfig(epochs=1, batch=4))
    done = train_clips(tmp_path / "clips", recipe, cache=tmp_path / "cache", folder=tmp_path / "run")
    record = done.result.record
    assert record["chosen_rates"]["candidates"] == [1, 2, 4]
    assert list(done.model.head.config.rates) == record["chosen_rates"]["rates"] == list(record["options"]["rates"])
    assert kept_rates(tmp_path / "run") == record["chosen_rates"]
