"RESULTS.md from speed.json (and gpu.json, where there is one): every number in it is read from those files."

from pathlib import Path

HERE = Path(__file__).parent
GOALS = [  # (row, found key, what, goal on a GPU, goal on two CPU cores)
    ("inference", "over_encoder", "VidPrism-B/16, 8x224, inference over the encoder alone", 0.97, 0.97),
    ("inference", "over_mote", "the same over MoTE-B/16", 0.99, 0.99),
    ("training_step", "over_linear", "training step, encoder tuned, over the encoder with a linear layer", 0.95, 0.95),
    ("encoder", "over_open_clip", "the encoder as the kit runs it over open_clip's plain call, float32", 1.0, 1.0),
    ("encoder", "bf16_over_products", "the same in bf16 over its matrix products by themselves", 0.9, None),
    ("head", "over_loop", "head, forward and backward, over a loop over samples", 10.0, 1.8),
    ("head", "rgsta_over_loop", "RgSTA alone, forward and backward, over its loop", None, 4.0),
    (
        "loading",
        "over_decord",
        "frames decoded, augmented and batched, 2 workers, over decord's bare loop in 2 threads",
        0.85,
        0.85,
    ),
]
TIMES = [
    ("cached", "seconds_30_epochs", "30 epochs on features of 650 clips x 16 frames x 1280", None, 40.0),
    ("epoch", "seconds_epoch", "an epoch on features of 10,000 clips x 32 frames x 512", 5.0, 60.0),
]


def cell(side, row, key, goal, form="{:.2f}"):
    "A measured ratio with its quartiles, and whether the goal is met."
    if not side or row not in side:
        return "not measured"
    found = side[row]["found"]
    if "failed" in found:
        return f"failed: {found['failed']}"
    if key not in found:
        return "not measured"
    low, high = found[key]["quartiles"]
    return (
        f"{form.format(found[key]['ratio'])} ({form.format(low)} to {form.format(high)}, {found[key]['rounds']} rounds)"
        + ("" if goal is None else ", met" if found[key]["ratio"] >= goal else ", **missed**")
    )


def ratios(kept):
    rows = ["| what | goal, GPU | GPU | goal, CPU | CPU, two cores | CPU, before |", "|---|---|---|---|---|---|"]
    cpu, old, gpu = (
        kept.get("cpu", {}).get("now", {}),
        kept.get("cpu", {}).get("before", {}),
        kept.get("cuda", {}).get("now", {}),
    )
    say = lambda g: "" if g is None else f">= {g:g}"
    for row, key, what, on_gpu, on_cpu in GOALS:
        rows.append(
            f"| {what} | {say(on_gpu)} | {cell(gpu, row, key, on_gpu)} | {say(on_cpu)} | {cell(cpu, row, key, on_cpu) if on_cpu is not None else 'a GPU row'} | {cell(old, row, key, None) if row in old else ''} |"
        )
    return rows


def times(kept):
    rows = [
        "| what | head, precision | goal, GPU | GPU, s | goal, CPU | CPU, s | of it processor seconds / threads | matrix products alone, s | CPU before, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    sides = [
        kept.get("cuda", {}).get("now", {}),
        kept.get("cpu", {}).get("now", {}),
        kept.get("cpu", {}).get("before", {}),
    ]
    for row, key, what, on_gpu, on_cpu in TIMES:
        names = next((list(s[row]["found"]) for s in (sides[1], sides[0]) if row in s), [])
        for name in names:
            value = lambda s: (
                f"{s[row]['found'][name][key]:.1f}" if row in s and name in s[row]["found"] else "not measured"
            )
            shown = {"no": "vidprism, float32", "bf16": "vidprism, bf16"}.get(name, name)
            verdict = (
                ", met"
                if row in sides[1] and name in sides[1][row]["found"] and sides[1][row]["found"][name][key] <= on_cpu
                else ", **missed**"
            )
            used = (
                sides[1][row]["found"][name].get("processor_seconds")
                if row in sides[1] and name in sides[1][row]["found"]
                else None
            )
            least = "" if used is None else f"{used / sides[1][row]['about']['threads']:.1f}"
            alone = sides[1].get("products", {}).get("found", {}).get(name, {}).get(key) if row == "cached" else None
            rows.append(
                f"| {what} | {shown} | {'' if on_gpu is None else f'<= {on_gpu:g}'} | {value(sides[0])} | <= {on_cpu:g} | {value(sides[1])}{verdict} | {least} | {'' if alone is None else f'{alone:.1f}'} | {value(sides[2]) if row in sides[2] else ''} |"
            )
    return rows


def memory(kept):
    "Predicted, and what a GPU said."
    side = next((kept[d]["now"]["memory"] for d in ("cuda", "cpu") if "memory" in kept.get(d, {}).get("now", {})), None)
    if side is None:
        return ["not measured"]
    seen = lambda device: kept.get(device, {}).get("now", {}).get("memory_measured", {}).get("found", {})
    rows = [
        "| B/16, 8 frames, bf16, tuned | fixed, GB | a training clip, MB | largest batch on 24 GB | 40 GB | 80 GB | measured on the CPU | measured on a GPU |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, m in side["found"].items():
        rows.append(
            f"| {name} | {m['fixed_bytes'] / 1e9:.2f} | {m['clip_bytes'] / 1e6:.0f} | {' | '.join(str(v) for v in m['largest_batch'].values())} | {seen('cpu').get(name, 'not measured')} | {seen('cuda').get(name, 'not measured: the prediction is not verified')} |"
        )
    return rows


def step_rows(kept, row, what, other, ours):
    "A head's training step two ways: `other` and `ours` are (name in the JSON, title)."
    found = kept.get("cpu", {}).get("now", {}).get(row, {}).get("found", {})
    rows = [f"| {what} | {other[1]}, s | {ours[1]}, s | ratio (quartiles) |", "|---|---|---|---|"]
    for name, f in found.items():
        rows.append(
            f"| {name} | {f['seconds'][other[0]]:.3f} | {f['seconds'][ours[0]]:.3f} | {f['ratio']:.2f} ({f['quartiles'][0]:.2f} to {f['quartiles'][1]:.2f}) |"
        )
    return rows if found else ["not measured"]


def profiles(kept):
    out = []
    for tag in ("before", "now"):
        found = kept.get("cpu", {}).get(tag, {}).get("profile")
        if not found:
            continue
        for title, p in found["found"].items():
            out += [
                "",
                f"{tag.capitalize()}, {title}: {p['step_ms']:.0f} ms a step (commit {found['about']['commit']}{', with changes' if found['about']['changed'] else ''})",
                "",
                "| operation | ms a step | calls |",
                "|---|---|---|",
            ]
            out += [f"| {k} | {ms:.1f} | {n} |" for k, ms, n in p["top"]]
    return out


def about(kept):
    rows = [
        "| device | run | rows | machine | torch | open_clip | commit | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for device, tags in kept.items():
        for tag, side in tags.items():
            groups = {}
            for row, v in side.items():
                a = v["about"]
                groups.setdefault(
                    (
                        f"{a['device']}, {a['threads']} threads, Python {a['python']}",
                        a["torch"],
                        a["open_clip"],
                        a["commit"] + (", with changes" if a["changed"] else ""),
                    ),
                    [],
                ).append((row, a["time"]))
            for (machine, torch, clip, commit), found in groups.items():
                rows.append(
                    f"| {device} | {tag} | {', '.join(r for r, _ in found)} | {machine} | {torch} | {clip} | {commit} | {min(t for _, t in found)} |"
                )
    return rows


def write(kept, path):
    "The page."
    from vidprism.evaluation.cost import head_cost, shape_head

    wide = head_cost(shape_head("vidprism", 1280, 21, 16))
    fps = [
        f"{kept['cpu'][tag]['loading']['found']['over_decord']['frames_per_second']['ours']:.0f}"
        for tag in ("before", "now")
        if "loading" in kept.get("cpu", {}).get(tag, {})
    ]
    before_after = " to ".join(fps) + " frames a second"
    text = f"""# Measured speed

Written by `python benchmarks/speed.py --write` from `speed.json`; no number here is typed. The two sides of a ratio are measured in turn, round by round, in one process; the ratio is the median of the rounds'
ratios, with its quartiles. Nothing else ran while the CPU columns were taken; for some of those headed *before*, other work did. GPU rows say "not measured" until `python benchmarks/gpu.py` has run on one.

## Ratios

{chr(10).join(ratios(kept))}

## Seconds

The 30 epochs are run whole. On the CPU, those of heads of full width are worked out from a part, four steps, and so is the epoch on 10,000 clips, from 2,000. Beside the wall time stands the processor time that the process used, over its two
threads. Goals are judged by the wall time. *Matrix products alone* are the operations of the head's steps, counted, at the rate that one product of such a shape reaches on the same two cores: no program can be faster that computes this head.

{chr(10).join(times(kept))}

## Memory of training

Predicted from shapes alone. On the CPU a step ran in a process of its own, and how much that process grew is what is held against the prediction.

{chr(10).join(memory(kept))}

## What was changed, and what it brought

A profile of a training step showed the temporal convolutions of `heads/dbi` at the top (`aten::convolution_backward` and `aten::mkldnn_convolution`). As one matrix product over windows they cost a part of that; side by side, in the same run:

{chr(10).join(step_rows(kept, "convolution", "a head's training step", ("library", "with the library's convolution"), ("product", "as one product")))}

Reading training clips went from {before_after}. What was changed: a kept frame is copied once into its place instead of being found by a mask; PyAV converts with one converter on one thread instead of making a converter and its
threads for each frame; small clips that need no scaling are read by PyAV in one opening, and only the frames that are kept are converted (decord converts every frame it passes), bit for bit the same pictures; a frame is cut to its
crop as it comes; greys are Pillow's; pictures are mirrored with their channels last; a batch comes from a loading process in shared memory that is taken once, not in new pages for each batch, and is handed over where it lies (`data/dataset`). What is left beside decoding
are the crop's resize with antialiasing and what the processes do in Python.

Large blocks that are freed stay with a loading process, and with training while it lasts (`training/allocator`): the system then need not clear their pages for each step. In turn, each in a process of its own:

{chr(10).join(step_rows(kept, "kept", "a head's training step, B 64, T 16, D 1280", ("plain", "freed blocks given back"), ("kept", "kept")))}

AdamW is fused. Heads on features in bf16 on a CPU take attention as plain matrix products: the flash kernel is slower backward for few tokens (`training/trainer`). What is left is matrix products (`aten::mm`, `aten::addmm`) and passes over weights (AdamW, the gradient's norm): a head of width 1280 has {wide.head_parameters / 1e6:.0f} M weights and does {wide.macs / 1e9:.2f} G
multiply-adds a clip of 16 frames, {6 * wide.macs * 650 * 30 / 1e12:.0f} TFLOP in 30 epochs of 650 clips, forward and backward.
A head of width 128 (`create_head(..., width=128)`: features are squeezed first) is another, smaller head, met where it stands in the table; what it makes of few clips stands in `papers/04_small_data`.

## Profiles of a head's training step
{chr(10).join(profiles(kept))}

## Where and when

{chr(10).join(about(kept))}
"""
    Path(path).write_text(text)
