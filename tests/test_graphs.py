"The other heads of experts compile into one graph, as `heads/vidprism` shows of the preset \"paper\"."

import pytest
import torch
from vidprism.heads.base import create_head
from vidprism.training.trainer import seeded

CASES = [("vidprism", dict(preset="released")), ("vidprism_lowdata", dict(dropout=0.0, channel_dropout=0.0))]
pytestmark = pytest.mark.long


@pytest.mark.parametrize("name,options", CASES, ids=lambda value: str(value))
def test_one_graph(name, options):
    "Forward and backward, with the same logits and gradients; before PyTorch 2.13 in several graphs."
    with seeded(0):
        head = create_head(name, 16, 5, 14, rates=(2, 7), **options)
    x = torch.randn(8, 14, 16, generator=torch.Generator().manual_seed(1))
    found = []
    one_graph = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 13)
    for forward in (head, torch.compile(head, fullgraph=one_graph, backend="aot_eager")):
        head.zero_grad()
        out = forward(x, torch.arange(8) % 5)
        out.losses["total"].backward()
        gradients = [p.grad.clone() for p in head.parameters() if p.grad is not None]
        found.append([out.logits.detach(), *gradients])
    assert len(found[0]) > 10
    assert max(float((a - b).abs().max()) for a, b in zip(*found)) < 1e-4
