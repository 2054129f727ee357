"The parts of a run's record, against values worked by hand."

import contextlib
import json
import pytest
import torch
from dataclasses import asdict
from safetensors.torch import save_file
from torch import nn
from types import SimpleNamespace
from vidprism.data.cliplist import ClipList
from vidprism.errors import ConfigError
from vidprism.heads.base import create_head
from vidprism.training import runs
from vidprism.training.pipeline import Recipe
from vidprism.training.runs import RunComparison, Source
from vidprism.training.trainer import TrainConfig


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    "One process, whatever started the tests."
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)


class Steps:
    "Clips that note what is asked of them."

    def __init__(self):
        self.asked = []

    def repaired(self, folder):
        self.asked.append(("repaired", folder))
        return self

    def without(self, file):
        self.asked.append(("without", file))
        return self


def test_source_reads_its_clips(monkeypatch):
    "Its own arguments; replaced files first, then those that are left out."
    asked = []
    monkeypatch.setattr(runs, "find_clips", lambda *given: asked.append(given) or Steps())
    assert Source("d").read().asked == [] and asked == [("d", None, None, 1, None)]
    full = Source("d", "csv", "r", 2, "q.json", "fixed", "l.csv")
    assert full.read().asked == [("repaired", "fixed"), ("without", "q.json")]
    assert asked[1] == ("d", "csv", "r", 2, "l.csv")


def test_source_with_absolute_paths(tmp_path, monkeypatch):
    "Paths that exist; others stay as they are given."
    monkeypatch.chdir(tmp_path)
    names = ("data", "root", "quarantine", "repaired", "listing")
    for name in names:
        (tmp_path / name).mkdir()
    given = dict(zip(names, names))
    assert Source(**given, official=3, format="csv").resolved() == Source(
        **{name: str(tmp_path / name) for name in names}, official=3, format="csv"
    )
    missing = Source("gone", root="data", listing="")
    assert missing.resolved() == missing._replace(root=str(tmp_path / "data"))


CLIPS = dict(items=["a", "b"], labels=[0, 1], parts=["train", "test"], classes=["x", "y"])


def listed(**changes):
    return SimpleNamespace(**(CLIPS | changes))


@pytest.mark.parametrize("name", CLIPS)
def test_hash_of_a_list(name):
    "Every column counts, and so does its order."
    found = runs._hash_of_list(listed())
    assert len(found) == 64 and found == runs._hash_of_list(listed())
    assert found != runs._hash_of_list(listed(**{name: CLIPS[name][::-1]}))


def test_hash_of_files(tmp_path):
    "Contents in the order of the clips, not names."
    for name, text in zip("abc", ("1", "2", "1")):
        (tmp_path / name).write_text(text)

    def of(names):
        return runs._hash_of_files(SimpleNamespace(paths=[tmp_path / name for name in names]))

    assert of("ab") == of("cb") != of("ba")


@pytest.mark.parametrize("size,rank,processes,first", [
    (None, None, 1, True),
    ("2", "0", 2, True),
    ("3", "1", 3, False),
])  # fmt: skip
def test_processes(size, rank, processes, first, monkeypatch):
    "What a launcher says."
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
        monkeypatch.setenv("RANK", rank)
    assert (runs._processes(), runs._is_first()) == (processes, first)


def test_settings_of_a_run(monkeypatch):
    "Adapters are left out where there are none; files of features are hashed; workers may come from the recipe."
    monkeypatch.setattr(runs, "fingerprint", lambda encoder: f"print of {encoder}")
    monkeypatch.setattr(runs, "_hash_of_files", lambda clips: "files")
    monkeypatch.setattr(runs, "holds_features", lambda clips: clips.parts == "features")
    training = TrainConfig(epochs=3, workers=4)
    recipe = Recipe(training=training)
    found = runs.run_settings(Source("nowhere"), listed(), recipe, "mini")
    assert found["source"] == Source("nowhere")._asdict() and found["training"] == asdict(training)
    assert (found["workers"], found["processes"]) == (4, 1)
    assert found["inputs"] == dict(clips=runs._hash_of_list(listed()), encoder="print of mini")
    without = {"training", "adapters", "adapter_options"}
    assert set(found["recipe"]) == set(vars(recipe)) - without and found["recipe"]["head"] == recipe.head
    adapted = runs.run_settings(Source("nowhere"), listed(parts="features"), Recipe(adapters="st_adapter"), "mini", 2)
    assert set(adapted["recipe"]) == set(vars(recipe)) - {"training"}
    assert adapted["workers"] == 2 and adapted["inputs"]["features"] == "files"


def test_circumstances():
    "Versions of what decides numbers, and of nothing that is missing."
    found = runs._circumstances()
    assert set(found) == {"versions", "commit", "threads", "device"}
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu" or torch.cuda.is_available()
    versions = found["versions"]
    assert {"python", "vidprism", "torch", "numpy", "av"} <= set(versions)
    assert set(versions) <= {"python", *runs._PACKAGES, *runs._READERS} and None not in versions.values()


def write(folder, name=runs.UNFINISHED, **state):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(dict(format="vidprism run", version=1, **state)))
    return folder


def test_only_the_kits_own_record_is_read(tmp_path):
    assert runs._read(tmp_path / "none.json") is None
    (tmp_path / "other.json").write_text(json.dumps(dict(format="another")))
    assert runs._read(tmp_path / "other.json") is None
    assert runs._read(write(tmp_path, command=["train"]) / runs.UNFINISHED)["command"] == ["train"]


def test_step_reached(tmp_path, monkeypatch):
    "That of the newest checkpoint; 0 without one, or if none can be read."
    assert runs._step_reached(tmp_path) == 0
    asked = []

    def find(folder, warn):
        asked.append((folder, warn))
        return tmp_path / "step-00000120"

    monkeypatch.setattr(runs, "find_checkpoint", find)
    assert runs._step_reached(tmp_path) == 120 and asked == [(tmp_path / "checkpoints", False)]

    def broken(folder, warn):
        raise ConfigError("torn")

    monkeypatch.setattr(runs, "find_checkpoint", broken)
    assert runs._step_reached(tmp_path) == 0


def test_command_of_a_run():
    "Without what was said of resuming before, and quoted for a shell."
    assert runs._command_of({}, "--resume") == "vidprism train --resume"
    words = ["train", "my clips", "--resume", "--out", "m", "--overwrite"]
    assert runs._command_of(dict(command=words), "--resume") == "vidprism train 'my clips' --out m --resume"


def test_folder_of_a_run(tmp_path):
    "New, empty, finished or overwritten ones pass; others are refused with the reason."
    new, empty, done, begun, foreign = (tmp_path / name for name in ("new", "empty", "done", "begun", "foreign"))
    empty.mkdir()
    write(done, runs.RUN)
    write(begun, command=["train", "c"])
    foreign.mkdir()
    (foreign / "photo.jpg").write_text("")
    for folder in (new, empty, done):
        runs.check_run_folder(folder)
    for folder in (begun, foreign, done):
        runs.check_run_folder(folder, overwrite=True)
    runs.check_run_folder(begun, resume=True)
    reasons = [
        (begun, {}, "reached step 0: `vidprism train c --resume` continues"),
        (foreign, {}, "other files"),
        (new, dict(resume=True), "holds no unfinished run"),
        (done, dict(resume=True), "holds no unfinished run"),
        (begun, dict(resume=True, overwrite=True), "give one of them"),
    ]
    for folder, how, why in reasons:
        with pytest.raises(ConfigError, match=why):
            runs.check_run_folder(folder, **how)


SETTINGS = dict(
    source=dict(data="d", official=1),
    recipe=dict(head="mean", views=[2, 1]),
    training=dict(lr=0.1, epochs=3),
    workers=0,
    processes=1,
    inputs=dict(clips="aa", encoder="bb"),
)
CHANGES = [
    (dict(source=dict(data="e", official=1)), "another data"),
    (dict(recipe=dict(head="vidprism", views=[2, 1])), "another head"),
    (dict(training=dict(lr=0.2, epochs=3)), "another lr"),
    (dict(workers=2), "another workers"),
    (dict(processes=2), "another processes"),
    (dict(inputs=dict(clips="cc", encoder="bb")), "another content of the clips"),
    (dict(inputs=dict(clips="aa", encoder="cc")), "another content of the encoder"),
    (dict(inputs="aa"), "another content of the clips, content of the encoder"),
    (dict(inputs="aa", workers=1), r"another workers \(1, now 0\)\.$"),
]


@pytest.mark.parametrize("change,why", CHANGES)
def test_resumed_with_other_settings(change, why, tmp_path):
    "Each of them is named; the content of files only where nothing else has changed."
    runs._refuse_other_settings(json.loads(json.dumps(SETTINGS)), SETTINGS, tmp_path)
    with pytest.raises(ConfigError, match=why):
        runs._refuse_other_settings(SETTINGS | change, SETTINGS, tmp_path)


def test_begin_and_abandon(tmp_path, monkeypatch):
    "The record is the first process's; what an earlier training left is removed, what a run needs is not."
    folder = tmp_path / "run"
    monkeypatch.setenv("RANK", "1")
    runs.begin_run(folder, SETTINGS, ["train"])
    assert not folder.exists()
    monkeypatch.setenv("RANK", "0")
    for name in ("checkpoints", runs.TRACKERS, "photos"):
        (folder / name).mkdir(parents=True)
    runs.begin_run(folder, SETTINGS, ("train", "c"))
    state = json.loads((folder / runs.UNFINISHED).read_text())
    assert state["settings"] == SETTINGS and state["command"] == ["train", "c"]
    assert (state["format"], state["version"]) == ("vidprism run", 1) and "versions" in state
    assert sorted(p.name for p in folder.iterdir()) == ["photos", runs.UNFINISHED]
    runs.begin_run(folder, SETTINGS, resume=True)
    with pytest.raises(ConfigError, match="another workers"):
        runs.begin_run(folder, SETTINGS | dict(workers=1), resume=True)
    for kept in ("tuning.json", runs.CHOSEN_RATES):
        (folder / kept).write_text("{}")
        runs.abandon_run(folder)
        assert (folder / runs.UNFINISHED).exists()
        (folder / kept).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_step_reached", lambda folder: 3)
        runs.abandon_run(folder)
        assert (folder / runs.UNFINISHED).exists()
    runs.abandon_run(folder)
    assert [p.name for p in folder.iterdir()] == ["photos"]
    (folder / "photos").rmdir()
    runs.abandon_run(folder)
    assert not folder.exists()
    runs.abandon_run(folder)


class Result:
    record = dict(unreadable=[("a.mp4", "it is damaged")])
    top1 = dict(mean=0.25)

    def __str__(self):
        return "the result"


class Model:
    "A trained model of one file."

    result = Result()
    history = SimpleNamespace(
        rows=[dict(epoch=1, total=0.123456789), dict(epoch=2, total=1e-9, data="two were left out")]
    )

    def write_into(self, folder):
        save_file(dict(w=torch.ones(2)), folder / "model.safetensors")


LOG = """first
left out: a.mp4: it is damaged
epoch 1, total 0.123457
epoch 2, total 1e-09, data two were left out
the result
"""


@pytest.mark.parametrize("keep", [False, True])
def test_saved_run(keep, tmp_path):
    "The record becomes run.json with the weights' hash; the log has a line for each clip left out and each epoch."
    folder = tmp_path / "run"
    with pytest.raises(ConfigError, match="no unfinished run"):
        runs.save_run(folder, Model())
    write(folder, settings=SETTINGS)
    for name in ("checkpoints", "photos"):
        (folder / name).mkdir()
        (folder / name / "one").write_text("1")
    for name in ("tuning.json", runs.CHOSEN_RATES, "log.txt"):
        (folder / name).write_text("old")
    assert runs.save_run(folder, Model(), ["first"], keep) == folder
    assert (folder / "log.txt").read_text() == LOG
    left = {"photos", "log.txt", "model.safetensors", runs.RUN} | ({"checkpoints"} if keep else set())
    assert {p.name for p in folder.iterdir()} == left
    record = runs.read_run(folder)
    assert record["weights"] == {"model.safetensors": runs.sha256_of(folder / "model.safetensors")}
    assert record["top1"] == 0.25 and record["settings"] == SETTINGS
    assert runs._log_of(SimpleNamespace(result=Result(), history=None)) == [LOG.split("\n")[1], "the result"]


def test_message_after_a_stop(tmp_path, monkeypatch):
    assert runs.stopped_run(tmp_path) == "stopped before training began; nothing was written."
    write(tmp_path, command=["train", "c"])
    monkeypatch.setattr(runs, "_step_reached", lambda folder: 7)
    assert runs.stopped_run(tmp_path) == f"stopped; {tmp_path} keeps step 7, `vidprism train c --resume` continues."


@pytest.mark.parametrize("weights,metrics", [([], []), (["w"], []), ([], ["m"]), (["w"], ["m"])])
def test_comparison_in_words(weights, metrics):
    found = RunComparison(["torch"], weights, metrics)
    assert found.equal is not bool(weights or metrics)
    last = [*weights, *metrics] or ["equal: all weights and measures, to the last bit"]
    assert str(found).split("\n") == ["changed since: torch", *last]


def test_record_of_a_finished_run(tmp_path):
    "Missing, without settings, or of another version: refused."
    with pytest.raises(ConfigError, match="holds no run.json"):
        runs.read_run(tmp_path)
    write(tmp_path, runs.RUN, settings=[])
    with pytest.raises(ConfigError, match="holds no run.json"):
        runs.read_run(tmp_path)
    for version in (0, 2, None):
        state = dict(format="vidprism run", version=version, settings={})
        (tmp_path / runs.RUN).write_text(json.dumps(state))
        with pytest.raises(ConfigError, match=f"has format {version!r}; this version reads 1"):
            runs.read_run(tmp_path)


def saved_settings(**recipe):
    "Settings as JSON gives them back."
    chosen = {name: value for name, value in vars(Recipe(**recipe)).items() if name != "training"}
    state = dict(SETTINGS, source=Source("d")._asdict(), recipe=chosen, training=asdict(TrainConfig(epochs=2)))
    return json.loads(json.dumps(state | dict(workers=3)))


def test_parts_of_a_run(monkeypatch):
    "Lists are tuples again; code and another number of processes are refused, and so is what is no record."
    given = dict(options=dict(rates=(2, 4)), adapters="st_adapter", adapter_options=dict(kernel=(3, 1, 1)))
    settings = saved_settings(**given)
    source, recipe, workers = runs._parts_of_run("f", None, settings)
    assert source == Source("d") and workers == 3
    assert recipe == Recipe(**given, training=TrainConfig(epochs=2)) and recipe.options["rates"] == (2, 4)
    for name in ("own:evil.py:make", "module:x", "flow1:own:evil.py:make", "open_clip:local-dir:x"):
        coded = settings | dict(recipe=settings["recipe"] | dict(encoder=name))
        with pytest.raises(ConfigError, match="would run code"):
            runs._parts_of_run("f", None, coded)
        assert runs._parts_of_run("f", "mini", coded)[0] == source
    for wrong in (dict(source=3), dict(recipe=dict(frames=3)), dict(training=None), dict(source=dict(path="d"))):
        with pytest.raises(ConfigError, match="is not a training's record"):
            runs._parts_of_run("f", None, settings | wrong)
    lacking = {name: value for name, value in settings.items() if name != "workers"}
    with pytest.raises(ConfigError, match="is not a training's record"):
        runs._parts_of_run("f", None, lacking)
    for size in ("2", "1"):
        monkeypatch.setenv("WORLD_SIZE", size)
        other = 3 - int(size)
        with pytest.raises(ConfigError, match=f"had {other} processes, not {size}"):
            runs._parts_of_run("f", None, settings | dict(processes=other))


@pytest.mark.parametrize("count,used", [
    (2, 2),
    (1, 1),
    (1024, 1024),
    (1025, None),
    (0, None),
    (-1, None),
    ("2", None),
    (None, None),
])  # fmt: skip
def test_threads_of_a_run(count, used, monkeypatch):
    "The run's number inside, the former one after it, and nothing for what is no number of threads."
    told = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    with contextlib.suppress(KeyError), runs._threads(count):
        told.append("inside")
        raise KeyError
    assert told == [*([] if used is None else [used]), "inside", 5]


def test_changed_circumstances(monkeypatch):
    "Inputs, versions, threads and device, in this order."
    now = dict(versions=dict(torch="2", av="1"), commit="c", threads=1, device="cpu")
    monkeypatch.setattr(runs, "_circumstances", lambda: json.loads(json.dumps(now)))
    record = dict(settings=SETTINGS, **now)
    assert runs._changes(record, SETTINGS) == []
    other = record | dict(versions=dict(torch="1", av="1"), threads=8)
    found = runs._changes(other, SETTINGS | dict(inputs=dict(clips="zz", encoder="bb")))
    assert found == ["the content of the clips", "torch ('1', now '2')", "threads (8, now 1)"]


def test_places_of_checkpoints(tmp_path, monkeypatch):
    "Those of a run's folder, or of `fit`; a watched record that is longest counts."
    assert runs._checkpoints_of(tmp_path) == tmp_path
    (tmp_path / "checkpoints").mkdir()
    assert runs._checkpoints_of(tmp_path) == tmp_path / "checkpoints"
    monkeypatch.setattr(runs, "check_record", lambda record, folder: record)
    states = {1: dict(watched=[1]), 2: dict(watched=[1, 2]), 3: dict()}
    monkeypatch.setattr(runs, "kept_states", lambda folder: states)
    monkeypatch.setattr(runs, "read_watch", lambda folder: "of the file")
    assert runs.watched_epochs(tmp_path) == [1, 2]
    (tmp_path / runs.WATCH_FILE).write_text("")
    assert runs.watched_epochs(tmp_path) == "of the file"
    (tmp_path / runs.UNFINISHED).write_text("")
    assert runs.watched_epochs(tmp_path) == [1, 2]
    states.clear()
    assert runs.watched_epochs(tmp_path) == []
    with pytest.raises(ConfigError, match="does not exist"):
        runs.watched_epochs(tmp_path / "none")
    for read in (runs.watched_epochs, runs.checkpoints_by_epoch):
        with pytest.raises(ConfigError, match="folder"):
            read(3)


class Whole(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(2, 2), create_head("mean", 2, 2, 2)


@pytest.mark.parametrize("whole", [True, False])
def test_weights_of_a_checkpoint(whole):
    "The whole model's, or the head's alone; the model is in evaluation mode."
    model, other = Whole(), Whole()
    tensors = (other if whole else other.head).state_dict()
    found = SimpleNamespace(tensors=lambda name: tensors if name == "model" else None, path="ck")
    before = model.encoder.weight.clone()
    assert runs._load_into(model, found) is model and not model.training
    assert all(torch.equal(a, b) for a, b in zip(model.head.parameters(), other.head.parameters()))
    assert torch.equal(model.encoder.weight, other.encoder.weight if whole else before)


def test_model_of_an_epoch(tmp_path, monkeypatch):
    "A finished run has its own; an epoch without a checkpoint names those that are kept."
    kept = {1: tmp_path / "a", 3: tmp_path / "b"}
    monkeypatch.setattr(runs, "kept_epochs", lambda folder: kept)
    monkeypatch.setattr(runs, "checkpoint_at", lambda path: path.name)
    monkeypatch.setattr(runs, "_load_into", lambda model, found: (model, found))
    monkeypatch.setattr(runs, "_unfinished_model", lambda folder, found, encoder: ("unfinished", encoder))
    monkeypatch.setattr(runs.VideoModel, "from_pretrained", lambda folder, encoder: ("saved", encoder))
    with pytest.raises(ConfigError, match=r"no checkpoint of epoch 2 \(kept: 1, 3\)"):
        runs.model_at_epoch(tmp_path, 2)
    assert runs.model_at_epoch(tmp_path, 3, encoder="e") == (("unfinished", "e"), "b")
    write(tmp_path, runs.RUN)
    assert runs.model_at_epoch(tmp_path, 1) == (("saved", None), "a")
    write(tmp_path)
    assert runs.model_at_epoch(tmp_path, 1) == (("unfinished", None), "a")
    kept.clear()
    with pytest.raises(ConfigError, match=r"\(kept: none\)"):
        runs.model_at_epoch(tmp_path, 1)


def test_record_of_an_unfinished_model(tmp_path):
    "Settings and labels are needed."
    for state, labels in ((dict(settings=SETTINGS), None), (dict(settings=3), ["a"]), (dict(), ["a"])):
        write(tmp_path, **state)
        with pytest.raises(ConfigError, match="has no record of its model"):
            runs._unfinished_model(tmp_path, SimpleNamespace(state=dict(labels=labels)), None)


def test_largest_difference():
    "How many tensors differ, and the one that differs most."
    a = dict(u=torch.tensor([1.0, 2.0]), v=torch.tensor([1.0]), w=torch.tensor([3.0]))
    assert runs._largest_difference("f", a, dict(a)) == []
    b = a | dict(u=torch.tensor([1.5, 2.0]), w=torch.tensor([-1.0]))
    assert runs._largest_difference("f", a, b) == ["f: 2 of 3 tensors differ, w by up to 4.00e+00"]
    other = [dict(u=a["u"], v=a["v"]), a | dict(u=torch.zeros(3)), a | dict(x=a["u"])]
    for wrong in other:
        assert runs._largest_difference("f", a, wrong) == ["f has other tensors"]


def folder_of(path, weights, run):
    path.mkdir()
    for name, value in weights.items():
        save_file(dict(w=torch.tensor([value])), path / name)
    (path / "result.json").write_text(json.dumps(dict(runs=[run])))
    return path


def test_compared_runs(tmp_path):
    "All files of weights of both, in order, and the measures that both or one have."
    run = dict(top1=0.5, top5=0.75, seconds=3)
    a = folder_of(tmp_path / "a", {"x.safetensors": 1.0, "y.safetensors": 2.0}, run)
    b = folder_of(tmp_path / "b", {"y.safetensors": 2.5, "z.safetensors": 0.0}, run | dict(top5=0.5, seconds=9))
    assert runs.compare_runs(a, a) == RunComparison([], [], [])
    found = runs.compare_runs(a, b, ("torch",))
    assert found.changed == ["torch"] and found.metrics == ["measured top5 (0.75, now 0.5)"]
    assert [text.split(":")[0] for text in found.weights] == [
        "x.safetensors has other tensors",
        "y.safetensors",
        "z.safetensors has other tensors",
    ]
    for content in ({}, dict(runs=[]), dict(runs=3)):
        (b / "result.json").write_text(json.dumps(content))
        with pytest.raises(ConfigError, match="holds no result.json"):
            runs.compare_runs(a, b)
    (a / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="cannot be read"):
        runs.compare_runs(a, b)


def test_real_lists_have_the_columns(tmp_path):
    "The hash reads a `ClipList` by the names that the other tests use."
    assert set(CLIPS) <= set(dir(ClipList)) | set(ClipList.__dataclass_fields__)
