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
            row = row.index_put((rest,), m.delta * (unit[rest] @ unit[kept] / m.tau).softmax(0))
        tokens.append(row @ x)
        rows.append(row)
        kepts.append(kept)
        sim = torch.zeros(m.rate, m.rate)
        sim[: end - start, : end - start] = unit[start:end] @ unit[start:end].T
        sims.append(sim)
    return Merge(torch.stack(tokens), torch.stack(rows), scores, predicted, torch.stack(kepts), torch.stack(sims))


def loop_forward(m, x):
    "RgSTA on a batch, one sample at a time."
    return Merge(*(torch.stack(parts) for parts in zip(*(sample_merge(m, clip) for clip in x))))


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
    print(
        f"B {a.batch}, T {a.frames}, D {a.dim}, float32, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    for rate in (2, 4, 8, 16):
        m = RgSTA(a.dim, rate)
        assert torch.allclose(m(x).tokens, loop_forward(m, x).tokens, atol=1e-4)
        with torch.no_grad():
            t = medians(dict(ours=lambda: m(x), loop=lambda: loop_forward(m, x)), a.repeats)
        print(
            f"RgSTA rate {rate:2d} forward: ours {t['ours'] * 1e3:7.2f} ms, loop {t['loop'] * 1e3:7.2f} ms, ratio {t['loop'] / t['ours']:.1f}"
        )
    head = create_head("vidprism", a.dim, 10, a.frames)
    loop = copy.deepcopy(head)
    loop.pools = torch.nn.ModuleList(LoopRgSTA(p) for p in loop.pools)
    one = copy.deepcopy(loop)

    def step(h):
        def run():
            h.zero_grad()
            h(x, y).losses["total"].backward()

        return run

    def each():
        one.zero_grad()
        for i in range(a.batch):
            (one(x[i : i + 1], y[i : i + 1]).losses["total"] / a.batch).backward()

    t = medians(dict(ours=step(head), loop=step(loop), each=each), max(a.repeats // 3, 3))
    print(
        f"head forward and backward: ours {t['ours'] * 1e3:.1f} ms; RgSTA looped {t['loop'] * 1e3:.1f} ms, ratio {t['loop'] / t['ours']:.1f}; "
        f"every stage sample by sample {t['each'] * 1e3:.1f} ms, ratio {t['each'] / t['ours']:.1f}"
    )


if __name__ == "__main__":
    main()
