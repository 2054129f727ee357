"RgSTA and the whole head against the same equations looped over samples, in one run. Prints medians; asserts nothing."

import argparse
import copy
import statistics
import time
import torch
import torch.nn.functional as F
from vidprism.heads.base import create_head
from vidprism.heads.rgsta import Merge, RgSTA


def sample_merge(m, x):
    "RgSTA (paper preset, keep 1) on one clip [T,D], window by window."
    metric = m.metric_proj(x)
    predicted = m.score_head(metric).squeeze(-1)
    scores = m.alpha * predicted + (1 - m.alpha) * x.norm(dim=-1)
    unit = F.normalize(metric, dim=-1)
    tokens, rows, kepts, sims = [], [], [], []
    for start in range(0, len(x), m.rate):
        end = min(start + m.rate, len(x))
        kept = start + scores[start:end].argmax()
        rest = torch.tensor([t for t in range(start, end) if t != kept], dtype=torch.long)
        row = torch.zeros(len(x))
        row[kept] = 1
        if len(rest):
            similarity = unit[rest] @ unit[kept]
            row = row.index_put((rest,), m.delta * (similarity / m.tau).softmax(0))
        tokens.append(row @ x)
        rows.append(row)
        kepts.append(kept)
        window = unit[start:end]
        sim = torch.zeros(m.rate, m.rate)
        sim[: end - start, : end - start] = window @ window.T
        sims.append(sim)
    return Merge(torch.stack(tokens), torch.stack(rows), scores, predicted, torch.stack(kepts), torch.stack(sims))


def loop_forward(m, x):
    "RgSTA on a batch, one sample at a time."
    merges = [sample_merge(m, clip) for clip in x]
    return Merge(*(torch.stack(parts) for parts in zip(*merges)))


class LoopRgSTA(torch.nn.Module):
    "The same weights, looped."

    def __init__(self, m):
        super().__init__()
        self.m = m

    def forward(self, x):
        return loop_forward(self.m, x)


def medians(functions, repeats):
    "Median seconds of each, taken in turn so that a busy machine hits all alike."
    for f in functions.values():
        f()
        f()
    times = {k: [] for k in functions}
    for _ in range(repeats):
        for k, f in functions.items():
            start = time.perf_counter()
            f()
            times[k].append(time.perf_counter() - start)
    return {k: statistics.median(v) for k, v in times.items()}


def training_step(head, x, y):
    "A function that does one forward and backward pass of a head."

    def run():
        head.zero_grad()
        head(x, y).losses["total"].backward()

    return run


def step_by_sample(head, x, y):
    "The same, every stage sample by sample."

    def run():
        head.zero_grad()
        for i in range(len(x)):
            (head(x[i : i + 1], y[i : i + 1]).losses["total"] / len(x)).backward()

    return run


def looped(head):
    "A copy of a head whose RgSTA is looped."
    loop = copy.deepcopy(head)
    loop.pools = torch.nn.ModuleList(LoopRgSTA(p) for p in loop.pools)
    return loop


def compare_rgsta(rate, dim, x, repeats):
    "Print how long RgSTA's forward pass takes, and its loop's."
    m = RgSTA(dim, rate)
    assert torch.allclose(m(x).tokens, loop_forward(m, x).tokens, atol=1e-4)
    with torch.no_grad():
        t = medians(dict(ours=lambda: m(x), loop=lambda: loop_forward(m, x)), repeats)
    ours, loop = f"ours {t['ours'] * 1e3:7.2f} ms", f"loop {t['loop'] * 1e3:7.2f} ms"
    print(f"RgSTA rate {rate:2d} forward: {ours}, {loop}, ratio {t['loop'] / t['ours']:.1f}")


def compare_heads(head, x, y, repeats):
    "Print how long a training step of a head takes, with RgSTA looped, and with every stage looped."
    loop = looped(head)
    one = copy.deepcopy(loop)
    steps = dict(ours=training_step(head, x, y), loop=training_step(loop, x, y), each=step_by_sample(one, x, y))
    t = medians(steps, repeats)
    print(
        f"head forward and backward: ours {t['ours'] * 1e3:.1f} ms; "
        f"RgSTA looped {t['loop'] * 1e3:.1f} ms, ratio {t['loop'] / t['ours']:.1f}; "
        f"every stage sample by sample {t['each'] * 1e3:.1f} ms, ratio {t['each'] / t['ours']:.1f}"
    )


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--frames", type=int, default=32)
    p.add_argument("--dim", type=int, default=512)
    p.add_argument("--rate", type=int, default=4)
    p.add_argument("--repeats", type=int, default=15)
    a = p.parse_args()
    torch.manual_seed(0)
    x, y = torch.randn(a.batch, a.frames, a.dim), torch.arange(a.batch) % 10
    shape = f"B {a.batch}, T {a.frames}, D {a.dim}"
    print(f"{shape}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for rate in (2, 4, 8, 16):
        compare_rgsta(rate, a.dim, x, a.repeats)
    compare_heads(create_head("vidprism", a.dim, 10, a.frames), x, y, max(a.repeats // 3, 3))


if __name__ == "__main__":
    main()
