"RESULTS.md from speed.json (and gpu.json, where there is one): every number in it is read from those files."

from pathlib import Path
from typing import NamedTuple
from vidprism.files import write_text

HERE = Path(__file__).parent


class Goal(NamedTuple):
    "A number of a row, and what it should reach; `None` where the device has no goal."

    row: str
    key: str  # of what the row found
    what: str
    on_gpu: float | None
    on_cpu: float | None  # two cores


GOALS = [
    Goal("inference", "over_encoder", "VidPrism-B/16, 8x224, inference over the encoder alone", 0.97, 0.97),
    Goal("inference", "over_mote", "the same over MoTE-B/16", 0.99, 0.99),
    Goal(
        row="training_step",
        key="over_linear",
        what="training step, encoder tuned, over the encoder with a linear layer",
        on_gpu=0.95,
        on_cpu=0.95,
    ),
    Goal(
        row="encoder",
        key="over_open_clip",
        what="the encoder as the kit runs it over open_clip's plain call, float32",
        on_gpu=1.0,
        on_cpu=1.0,
    ),
    Goal("encoder", "bf16_over_products", "the same in bf16 over its matrix products by themselves", 0.9, None),
    Goal("head", "over_loop", "head, forward and backward, over a loop over samples", 10.0, 1.8),
    Goal("head", "rgsta_over_loop", "RgSTA alone, forward and backward, over its loop", None, 4.0),
    Goal(
        row="loading",
        key="over_decord",
        what="frames decoded, augmented and batched, 2 workers, over decord's bare loop in 2 threads",
        on_gpu=0.85,
        on_cpu=0.85,
    ),
]
TIMES = [
    Goal("cached", "seconds_30_epochs", "30 epochs on features of 650 clips x 16 frames x 1280", None, 40.0),
    Goal("epoch", "seconds_epoch", "an epoch on features of 10,000 clips x 32 frames x 512", 5.0, 60.0),
]


def side_of(kept, device, tag="now"):
    "The rows of a device and a run: {name: its record}; empty where there is none."
    return kept.get(device, {}).get(tag, {})


def found_in(side, row):
    "What a row of a side found; empty where it has not run."
    return side.get(row, {}).get("found", {})


def line(*cells):
    "A row of a Markdown table."
    return f"| {' | '.join(str(c) for c in cells)} |"


def header(*names):
    "The first two lines of a Markdown table."
    return [line(*names), "|" + "---|" * len(names)]


def cell(side, row, key, goal):
    "A measured ratio with its quartiles, and whether the goal is met."
    found = found_in(side, row)
    if "failed" in found:
        return f"failed: {found['failed']}"
    if key not in found:
        return "not measured"
    ratio, rounds = found[key]["ratio"], found[key]["rounds"]
    low, high = found[key]["quartiles"]
    verdict = ""
    if goal is not None:
        verdict = ", met" if ratio >= goal else ", **missed**"
    return f"{ratio:.2f} ({low:.2f} to {high:.2f}, {rounds} rounds){verdict}"


def at_least(goal):
    "A goal for a ratio, in words."
    return "" if goal is None else f">= {goal:g}"


def ratios(kept):
    "The table of ratios."
    rows = header("what", "goal, GPU", "GPU", "goal, CPU", "CPU, two cores", "CPU, before")
    gpu, cpu, old = side_of(kept, "cuda"), side_of(kept, "cpu"), side_of(kept, "cpu", "before")
    for g in GOALS:
        on_gpu = cell(gpu, g.row, g.key, g.on_gpu)
        on_cpu = "a GPU row" if g.on_cpu is None else cell(cpu, g.row, g.key, g.on_cpu)
        before = cell(old, g.row, g.key, None) if g.row in old else ""
        rows.append(line(g.what, at_least(g.on_gpu), on_gpu, at_least(g.on_cpu), on_cpu, before))
    return rows


def time_of(side, row, name, key):
    "A measured time of a head in a row, or None."
    return found_in(side, row).get(name, {}).get(key)


def in_seconds(number, missing="not measured"):
    "A time in words."
    return missing if number is None else f"{number:.1f}"


def time_row(goal, name, gpu, cpu, old):
    "A line of the table of times: a head on three sides."
    row, key = goal.row, goal.key
    shown = {"no": "vidprism, float32", "bf16": "vidprism, bf16"}.get(name, name)
    took = time_of(cpu, row, name, key)
    verdict = ", met" if took is not None and took <= goal.on_cpu else ", **missed**"
    used = time_of(cpu, row, name, "processor_seconds")
    least = None if used is None else used / cpu[row]["about"]["threads"]
    alone = time_of(cpu, "products", name, key) if row == "cached" else None
    before = in_seconds(time_of(old, row, name, key)) if row in old else ""
    return line(
        goal.what,
        shown,
        "" if goal.on_gpu is None else f"<= {goal.on_gpu:g}",
        in_seconds(time_of(gpu, row, name, key)),
        f"<= {goal.on_cpu:g}",
        in_seconds(took) + verdict,
        in_seconds(least, ""),
        in_seconds(alone, ""),
        before,
    )


def times(kept):
    "The table of seconds."
    gpu, cpu, old = side_of(kept, "cuda"), side_of(kept, "cpu"), side_of(kept, "cpu", "before")
    rows = header(
        "what",
        "head, precision",
        "goal, GPU",
        "GPU, s",
        "goal, CPU",
        "CPU, s",
        "of it processor seconds / threads",
        "matrix products alone, s",
        "CPU before, s",
    )
    for goal in TIMES:
        names = next((found_in(side, goal.row) for side in (cpu, gpu) if goal.row in side), [])
        rows += [time_row(goal, name, gpu, cpu, old) for name in names]
    return rows


def memory(kept):
    "Predicted, and what was measured."
    gpu, cpu = side_of(kept, "cuda"), side_of(kept, "cpu")
    side = next((side for side in (gpu, cpu) if "memory" in side), None)
    if side is None:
        return ["not measured"]
    on_cpu, on_gpu = found_in(cpu, "memory_measured"), found_in(gpu, "memory_measured")
    rows = header(
        "B/16, 8 frames, bf16, tuned",
        "fixed, GB",
        "a training clip, MB",
        "largest batch on 24 GB",
        "40 GB",
        "80 GB",
        "measured on the CPU",
        "measured on a GPU",
    )
    for name, m in found_in(side, "memory").items():
        fixed, clip = f"{m['fixed_bytes'] / 1e9:.2f}", f"{m['clip_bytes'] / 1e6:.0f}"
        seen_on_cpu = on_cpu.get(name, "not measured")
        seen_on_gpu = on_gpu.get(name, "not measured: the prediction is not verified")
        rows.append(line(name, fixed, clip, *m["largest_batch"].values(), seen_on_cpu, seen_on_gpu))
    return rows


def step_rows(kept, row, what, other, ours):
    "A head's training step two ways: `other` and `ours` are (name in the JSON, title)."
    found = found_in(side_of(kept, "cpu"), row)
    rows = header(what, f"{other[1]}, s", f"{ours[1]}, s", "ratio (quartiles)")
    for name, f in found.items():
        low, high = f["quartiles"]
        slow, fast = f["seconds"][other[0]], f["seconds"][ours[0]]
        rows.append(line(name, f"{slow:.3f}", f"{fast:.3f}", f"{f['ratio']:.2f} ({low:.2f} to {high:.2f})"))
    return rows if found else ["not measured"]


def profiles(kept):
    "The operations of a training step that take the most time."
    out = []
    for tag in ("before", "now"):
        record = side_of(kept, "cpu", tag).get("profile")
        if not record:
            continue
        commit = commit_of(record["about"])
        for title, p in record["found"].items():
            out += ["", f"{tag.capitalize()}, {title}: {p['step_ms']:.0f} ms a step (commit {commit})", ""]
            out += header("operation", "ms a step", "calls")
            out += [line(operation, f"{ms:.1f}", calls) for operation, ms, calls in p["top"]]
    return out


def commit_of(origin):
    "The commit of a record, in words."
    return origin["commit"] + (", with changes" if origin["changed"] else "")


def shared_origin(origin):
    "What the records of one line share: machine, PyTorch, open_clip, commit."
    machine = f"{origin['device']}, {origin['threads']} threads, Python {origin['python']}"
    return machine, origin["torch"], origin["open_clip"], commit_of(origin)


def about(kept):
    "The table of origins; rows of one origin share a line."
    rows = header("device", "run", "rows", "machine", "torch", "open_clip", "commit", "time")
    for device, tags in kept.items():
        for tag, side in tags.items():
            groups = {}
            for row, record in side.items():
                groups.setdefault(shared_origin(record["about"]), []).append((row, record["about"]["time"]))
            for origin, members in groups.items():
                names = ", ".join(row for row, _ in members)
                rows.append(line(device, tag, names, *origin, min(time for _, time in members)))
    return rows


def reading_rates(kept):
    "Frames that the loader read a second, before and now."
    rates = []
    for tag in ("before", "now"):
        side = side_of(kept, "cpu", tag)
        if "loading" in side:
            rates.append(found_in(side, "loading")["over_decord"]["frames_per_second"]["ours"])
    return " to ".join(f"{rate:.0f}" for rate in rates) + " frames a second"


INTRODUCTION = (
    "Written by `python benchmarks/speed.py --write` from `speed.json`; no number here is typed. The two sides of a "
    "ratio are measured in turn, round by round, in one process; the ratio is the median of the rounds'\n"
    "ratios, with its quartiles. Nothing else ran while the CPU columns were taken; for some of those headed "
    '*before*, other work did. GPU rows say "not measured" until `python benchmarks/gpu.py` has run on one.'
)
ABOUT_TIMES = (
    "The 30 epochs are run whole. On the CPU, those of heads of full width are worked out from a part, four steps, "
    "and so is the epoch on 10,000 clips, from 2,000. Beside the wall time stands the processor time that the "
    "process used, over its two\n"
    "threads. Goals are judged by the wall time. *Matrix products alone* are the operations of the head's steps, "
    "counted, at the rate that one product of such a shape reaches on the same two cores: no program can be faster "
    "that computes this head."
)
ABOUT_MEMORY = (
    "Predicted from shapes alone. On the CPU a step ran in a process of its own, and how much that process grew is "
    "what is held against the prediction."
)
ABOUT_CONVOLUTION = (
    "A profile of a training step showed the temporal convolutions of `heads/dbi` at the top "
    "(`aten::convolution_backward` and `aten::mkldnn_convolution`). As one matrix product over windows they cost a "
    "part of that; side by side, in the same run:"
)
ABOUT_READING = (
    "Reading training clips went from {rates}. What was changed: a kept frame is copied once into its place instead "
    "of being found by a mask; PyAV converts with one converter on one thread instead of making a converter and its\n"
    "threads for each frame; small clips that need no scaling are read by PyAV in one opening, and only the frames "
    "that are kept are converted (decord converts every frame it passes), bit for bit the same pictures; a frame is "
    "cut to its\n"
    "crop as it comes; greys are Pillow's; pictures are mirrored with their channels last; a batch comes from a "
    "loading process in shared memory that is taken once, not in new pages for each batch, and is handed over where "
    "it lies (`data/dataset`). What is left beside decoding\n"
    "are the crop's resize with antialiasing and what the processes do in Python."
)
ABOUT_KEPT = (
    "Large blocks that are freed stay with a loading process, and with training while it lasts "
    "(`training/allocator`): the system then need not clear their pages for each step. In turn, each in a process of "
    "its own:"
)
ABOUT_ADAMW = (
    "AdamW is fused. Heads on features in bf16 on a CPU take attention as plain matrix products: the flash kernel is "
    "slower backward for few tokens (`training/trainer`). What is left is matrix products (`aten::mm`, "
    "`aten::addmm`) and passes over weights (AdamW, the gradient's norm): a head of width 1280 has {weights:.0f} M "
    "weights and does {macs:.2f} G\n"
    "multiply-adds a clip of 16 frames, {operations:.0f} TFLOP in 30 epochs of 650 clips, forward and backward.\n"
    "A head of width 128 (`create_head(..., width=128)`: features are squeezed first) is another, smaller head, met "
    "where it stands in the table; what it makes of few clips stands in `papers/04_small_data`."
)


def weight_of_a_head():
    "The paragraph on what a head of width 1280 must compute."
    from vidprism.evaluation.cost import head_cost, shape_head

    cost = head_cost(shape_head("vidprism", 1280, 21, 16))
    operations = 6 * cost.macs * 650 * 30 / 1e12
    return ABOUT_ADAMW.format(weights=cost.head_parameters / 1e6, macs=cost.macs / 1e9, operations=operations)


def changes(kept):
    "What was changed, and what it brought: paragraphs and tables in turn."
    library = ("library", "with the library's convolution")
    product = ("product", "as one product")
    plain, own = ("plain", "freed blocks given back"), ("kept", "kept")
    return [
        ABOUT_CONVOLUTION,
        "\n".join(step_rows(kept, "convolution", "a head's training step", library, product)),
        ABOUT_READING.format(rates=reading_rates(kept)),
        ABOUT_KEPT,
        "\n".join(step_rows(kept, "kept", "a head's training step, B 64, T 16, D 1280", plain, own)),
        weight_of_a_head(),
    ]


def write(kept, path):
    "The page."
    blocks = ["# Measured speed", INTRODUCTION]
    blocks += ["## Ratios", "\n".join(ratios(kept))]
    blocks += ["## Seconds", ABOUT_TIMES, "\n".join(times(kept))]
    blocks += ["## Memory of training", ABOUT_MEMORY, "\n".join(memory(kept))]
    blocks += ["## What was changed, and what it brought", *changes(kept)]
    blocks += ["## Profiles of a head's training step\n" + "\n".join(profiles(kept))]
    blocks += ["## Where and when", "\n".join(about(kept))]
    write_text(path, "\n\n".join(blocks) + "\n")
