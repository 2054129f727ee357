"""Attacks on model folders: code, places outside, sizes, torn and racing writes, numbers that are none.

Each test failed before the rules of `model_config`, `rebuild_encoder` and `written_folder`."""

import contextlib
import json
import os
import pytest
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import torch
import vidprism.model
from pathlib import Path
from safetensors.torch import load_file, save_file
from vidprism import files
from vidprism.data.clips import read_clip, sample_clips, samples_folder
from vidprism.encoders.factory import create_encoder
from vidprism.errors import ConfigError, VidPrismError, WriteError
from vidprism.heads.base import create_head
from vidprism.model import VideoModel, sample_model

CLIP = sample_clips()[0]


def make_model(labels=("catch", "pour"), seed=0, encoder=None, name="mean"):
    "A small model with weights of its own."
    encoder = encoder or create_encoder("mini")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VideoModel(encoder, create_head(name, encoder.dim, len(labels), 4), list(labels)).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    "A saved model."
    place = tmp_path_factory.mktemp("saved") / "model"
    make_model().save_pretrained(place, note="good")
    return place


@pytest.fixture
def folder(saved, tmp_path):
    "A copy of the saved model, to be spoiled."
    return Path(shutil.copytree(saved, tmp_path / "model"))


@pytest.fixture(scope="module")
def saved_with_encoder(tmp_path_factory):
    "A saved model with its encoder's weights, and the state of each file."
    place = tmp_path_factory.mktemp("saved") / "model"
    make_model().save_pretrained(place, note="good", encoder=True)
    return place, {file: load_file(place / f"{file}.safetensors") for file in ("head", "encoder")}


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def refuse(folder, *words):
    "Loading a folder is refused in one sentence that has these words."
    with pytest.raises(ConfigError) as caught:
        VideoModel.from_pretrained(folder)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 700, message
    for word in words:
        assert word in message, message


def change(folder, **entries):
    (folder / "config.json").write_text(json.dumps(config_of(folder) | entries))


# code and places outside


def evil_clip(place, mark):
    "A copy of the mini CLIP whose tokenizer is a stranger's Python, which leaves a mark."
    shutil.copytree(samples_folder() / "mini_clip", place)
    settings = json.loads((place / "open_clip_config.json").read_text())
    settings["model_cfg"]["text_cfg"] |= dict(hf_tokenizer_name="x/y", tokenizer_kwargs=dict(trust_remote_code=True))
    (place / "open_clip_config.json").write_text(json.dumps(settings))
    auto = dict(tokenizer_class="Evil", auto_map=dict(AutoTokenizer=["evil.Evil", None]))
    (place / "tokenizer_config.json").write_text(json.dumps(auto))
    (place / "config.json").write_text(json.dumps(dict(model_type="clip")))
    (place / "evil.py").write_text(f"open({str(mark)!r}, 'w').write('run')\nclass Evil:\n    pass\n")
    return place


def test_a_strangers_tokenizer_is_not_run(tmp_path, folder):
    "The folder of the issue: `local-dir` with trust_remote_code; neither a saved name nor a person's runs it."
    mark = tmp_path / "PWNED"
    evil = evil_clip(folder / "clip", mark)
    change(folder, encoder=f"open_clip:local-dir:{evil}", encoder_weights=None)
    refuse(folder, "its owner's encoder")
    for encoder in (None, f"open_clip:local-dir:{evil}"):
        with pytest.raises(ConfigError):
            VideoModel.from_pretrained(folder, encoder=encoder).predict(CLIP, labels=["a", "b"])
    assert not mark.exists()


def test_hidden_deeper_it_is_not_run_either(tmp_path):
    "The word may hide in any object of the settings, and be no boolean."
    for k, (key, value) in enumerate([("vision_cfg", 1), ("text_cfg", "yes"), ("preprocess_cfg", True)]):
        place = evil_clip(tmp_path / str(k), tmp_path / "PWNED")
        settings = json.loads((place / "open_clip_config.json").read_text())
        del settings["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
        where = settings if key == "preprocess_cfg" else settings["model_cfg"]
        where[key]["deep"] = [dict(trust_remote_code=value)]
        (place / "open_clip_config.json").write_text(json.dumps(settings))
        with pytest.raises(ConfigError, match="not allowed"):
            create_encoder(f"open_clip:local-dir:{place}")
    assert not (tmp_path / "PWNED").exists()


def test_a_tokenizer_of_transformers_is_told_to_run_nothing(tmp_path, monkeypatch):
    "Without the word in the settings, transformers is told False and not left to ask."
    seen = []
    monkeypatch.setattr("open_clip.get_tokenizer", lambda name, **options: seen.append(options))
    place = evil_clip(tmp_path / "clip", tmp_path / "PWNED")
    settings = json.loads((place / "open_clip_config.json").read_text())
    del settings["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    (place / "open_clip_config.json").write_text(json.dumps(settings))
    encoder = create_encoder(f"open_clip:local-dir:{place}")
    monkeypatch.setattr(encoder, "_fetch_tokenizer", lambda: None)
    assert encoder.tokenizer is None
    assert seen == [dict(trust_remote_code=False)]


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "open_clip:local-dir:.",
        "open_clip:local-dir:/etc",
        "open_clip:hf-hub:someone/model",
        "open_clip:ViT-B-32/../../weights.pt",
        "open_clip:ViT-B-32//etc/passwd",
        "open_clip:https://example.org/x",
        "open_clip:none",
        "timm:hf-hub:someone/model",
        "timm:local-dir:.",
        "timm:test_vit/./weights.pt",
        "timm:test_vit//etc/passwd",
        "videomae:.",
        "videomae:/etc",
        "videomae:../mae",
        "videomae:https://example.org/x",
        "own:evil.py:make",
        "own:./evil.py:make",
        "flow1:own:evil.py:make",
        "flow1:colours0:motion2:own:evil.py:make",
        "flow1:flow1:flow1:flow1:mini",
        "motion1025:mini",
        "flow" + "1" * 400 + ":mini",
        "module:Evil",
        "mini:../x",
        "mini\n",
        "file:///etc/passwd",
        "",
        ":",
    ],
)
def test_a_saved_name_opens_nothing_outside(saved, saved_with_encoder, name, copied, monkeypatch, tmp_path):
    "With and without weights beside the config, from a working folder that has what the name asks for."
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(saved_with_encoder[0] if copied else saved, tmp_path / "model"))
    change(folder, encoder=name)
    refuse(folder)


def test_a_folder_in_the_way_of_a_hubs_model_is_not_opened(folder, tmp_path, monkeypatch):
    "owner/name stands for the hub; a folder of that name in the working folder is a trap."
    pytest.importorskip("transformers", reason="transformers (the extra videomae) is not installed")
    (tmp_path / "owner" / "name").mkdir(parents=True)
    (tmp_path / "owner" / "name" / "model.safetensors").write_bytes(b"trap")
    monkeypatch.chdir(tmp_path)
    change(folder, encoder="videomae:owner/name")
    refuse(folder, "no file outside its folder")


@pytest.mark.parametrize(
    "options",
    [
        dict(tokenizer_kwargs=dict(trust_remote_code=True)),
        dict(trust_remote_code=True),
        dict(cache_dir="x"),
        dict(bare=True),
        dict(how=1),
        dict(name="own:evil.py:make"),
        dict(size=10**9),
        dict(size="x"),
        dict(text="no"),
        dict(config=5),
        5,
        None,
        [],
    ],
)
def test_options_of_the_encoder(folder, options):
    "Unknown keys and wrong types are refused."
    change(folder, encoder_options=options)
    refuse(folder)


def test_no_place_of_this_machine_is_saved(tmp_path):
    "An encoder of a local file: its weights go along, its folders do not, and without them it loads."
    import timm

    save_file(timm.create_model("test_vit").state_dict(), tmp_path / "mine.safetensors")
    encoder = create_encoder(f"timm:test_vit/{tmp_path}/mine.safetensors")
    model = make_model(encoder=encoder)
    model.save_pretrained(tmp_path / "m")
    answer = model.predict(CLIP)
    (tmp_path / "mine.safetensors").unlink()
    assert str(tmp_path) not in (tmp_path / "m" / "config.json").read_text()
    again = VideoModel.from_pretrained(tmp_path / "m")
    assert again.predict(CLIP) == answer
    assert again.encoder.name == encoder.name == "timm:test_vit/mine.safetensors"


# a config that is none


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"5",
        b'"x"',
        b"[]",
        b"\xff\xfe{}",
        b"\x00" * 100,
        b"{",
        b"[" * 200_000,
        b'{"a":' * 200_000,
        b'{"encoder": "mini", "encoder": "own:evil.py:make"}',
        b'{"encoder": NaN}',
        b'{"encoder": ' + b"1" * 10_000 + b"}",
        b'{"x": "' + b"x" * (9 << 20) + b'"}',
    ],
    ids=lambda raw: f"{raw[:12]!r}",
)
def test_a_config_that_is_no_config(folder, raw):
    (folder / "config.json").write_bytes(raw)
    refuse(folder, "config.json")


def test_a_config_that_is_no_file(folder):
    "A pipe would be waited for, a folder cannot be read, a device never ends."
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)):
        path = folder / "config.json"
        path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
        make(path)
        refuse(folder, "no config.json")


BENT = [
    ("encoder", 5),
    ("encoder", ["mini"]),
    ("head", 5),
    ("head", "none"),
    ("labels", 5),
    ("labels", "ab"),
    ("labels", []),
    ("labels", [1, 2]),
    ("labels", ["a", None]),
    ("labels", ["a"] * 3),
    ("labels", ["a", "\ud800"]),
    ("sampling", "zzz"),
    ("sampling", None),
    ("sampling", []),
    ("options", 5),
    ("options", []),
    ("preprocess", 5),
    ("preprocess", {"size": 64}),
    ("preprocess", {"size": 1e9, "mean": [0, 0, 0], "std": [1, 1, 1]}),
    ("preprocess", {"size": 64, "mean": [0, 0], "std": [1, 1, 1]}),
    ("preprocess", {"size": 64, "mean": [0, 0, 0], "std": [0, 1, 1]}),
    ("preprocess", {"size": 64, "mean": "abc", "std": [1, 1, 1]}),
    ("preprocess", {"size": 64, "mean": [0, 0, 0], "std": [1, 1, 1], "resize": 10**9}),
    ("preprocess", {"size": 64, "mean": [0, 0, 0], "std": [1, 1, 1], "mode": []}),
    ("preprocess", {"size": 96, "mean": [0, 0, 0], "std": [1, 1, 1]}),
    ("encoder_weights", 5),
    ("encoder_weights", "0" * 16),
    ("metadata", 5),
    ("sha256", 5),
    ("sha256", {}),
    ("sha256", {"head.safetensors": 5}),
    ("sha256", {"head.safetensors": "0" * 64}),
    ("sha256", {"../../x": "0" * 64}),
    ("unknown", 1),
]


@pytest.mark.parametrize("key,value", BENT, ids=str)
def test_an_entry_of_the_config(folder, key, value):
    change(folder, **{key: value})
    refuse(folder)


@pytest.mark.parametrize("key", ["encoder", "head", "options", "labels", "sampling"])
def test_a_missing_entry(folder, key):
    config = config_of(folder)
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    refuse(folder, f"lacks {key}")


SIZES = [
    ("mean", dict(dim=1e9)),
    ("mean", dict(dim=10**9)),
    ("mean", dict(dim=65536)),
    ("mean", dict(num_classes=10**12)),
    ("mean", dict(num_frames=10**9)),
    ("mean", dict(num_frames="8")),
    ("mean", dict(text_scale=True)),
    ("mean", dict(text_scale=None)),
    ("mean", dict(text_scale=[1])),
    ("mean", dict(classifier=5)),
    ("mean", dict(zzz=5)),
    ("transformer", dict(layers=10**9)),
    ("transformer", dict(layers=128, width=65536)),
    ("transformer", dict(width=65536)),
    ("transformer", dict(num_heads=3)),
    ("mote", dict(layers=128, experts=128)),
    ("mote", dict(experts=10**6)),
    ("mote", dict(beta="x")),
    ("vidprism", dict(rates=[2] * 1000)),
    ("vidprism", dict(rates=["2"])),
    ("vidprism", dict(rates=[10**9])),
    ("vidprism", dict(rates=[[2]])),
    ("vidprism", dict(rates=None)),
    ("vidprism", dict(tau="x")),
    ("vidprism", dict(threshold=[1])),
    ("vidprism", dict(positions={})),
    ("vidprism_lowdata", dict(statistics=[5])),
    ("vidprism_lowdata", dict(statistics=5)),
    ("bmoe", dict(experts=-1)),
]


@pytest.mark.parametrize("name,bent", SIZES, ids=str)
def test_sizes_and_types_of_options(tmp_path, name, bent):
    "Refused within little memory and time: the sizes are compared with the file's shapes before anything is built."
    options = dict(rates=(2, 4)) if name == "vidprism" else {}
    head = create_head(name, 128, 2, 4, **options)
    VideoModel(create_encoder("mini"), head, ["a", "b"]).save_pretrained(tmp_path)
    change(tmp_path, options=config_of(tmp_path)["options"] | bent)
    before = resource.getrusage(resource.RUSAGE_SELF)
    refuse(tmp_path)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 300_000  # kilobytes
    assert after.ru_utime - before.ru_utime < 30


# weights that are none


def without_hash(folder):
    "As version 0.1.0 wrote it."
    config = config_of(folder)
    del config["sha256"]
    (folder / "config.json").write_text(json.dumps(config))


def test_a_folder_without_hashes_loads(folder):
    answer = VideoModel.from_pretrained(folder).predict(CLIP)
    without_hash(folder)
    assert VideoModel.from_pretrained(folder).predict(CLIP) == answer


def spoil_state(state, how):
    "A state dict, or what stands for it, with one thing wrong."
    name = next(key for key, value in state.items() if value.ndim > 1 and value.is_floating_point())
    value = state[name]
    changed = {
        "lacks": {key: x for key, x in state.items() if key != name},
        "more": {**state, "more": torch.ones(1)},
        "shape": {**state, name: value[:-1].clone()},
        "flat": {**state, name: value.flatten().clone()},
        "whole": {**state, name: value.long()},
        "bool": {**state, name: value > 0},
        "nan": {**state, name: value.index_fill(0, torch.tensor([0]), float("nan"))},
        "inf": {**state, name: value.index_fill(0, torch.tensor([0]), -float("inf"))},
        "empty": {},
    }
    return changed[how]


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("file", ["head", "encoder"])
@pytest.mark.parametrize("how", ["lacks", "more", "shape", "flat", "whole", "bool", "nan", "inf", "empty"])
def test_a_file_of_other_weights(saved_with_encoder, tmp_path, how, file, hashed):
    place, states = saved_with_encoder
    folder = Path(shutil.copytree(place, tmp_path / "model"))
    save_file(spoil_state(states[file], how), folder / f"{file}.safetensors")
    if not hashed:
        without_hash(folder)
    refuse(folder)


@pytest.mark.parametrize("hashed", [True, False])
def test_a_file_that_is_cut_or_bent(folder, hashed):
    path = folder / "head.safetensors"
    whole = path.read_bytes()
    if not hashed:
        without_hash(folder)
    bad = [whole[:n] for n in (0, 1, 7, 8, 9, 60, len(whole) // 2, len(whole) - 1)]
    bad += [(1 << 62).to_bytes(8, "little") + whole[8:], (90 << 20).to_bytes(8, "little") + bytes(90 << 20)]
    bad += [whole + b"x", whole[:8] + b"\xff" * 20 + whole[28:], b"PK" + whole]
    header = json.dumps(dict(w=dict(dtype="F32", shape=[1 << 40, 1 << 40], data_offsets=[0, 4]))).encode()
    bad += [len(header).to_bytes(8, "little") + header + bytes(4)]
    for data in bad:
        path.write_bytes(data)
        refuse(folder)
    path.unlink()
    os.mkfifo(path)
    refuse(folder)


def test_one_changed_bit_is_seen(folder):
    path = folder / "head.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refuse(folder, "hash", "head.safetensors")


def test_an_encoder_that_the_config_does_not_know(folder):
    "Weights that someone laid beside the config are not taken."
    save_file(create_encoder("mini").state_dict(), folder / "encoder.safetensors")
    refuse(folder, "encoder.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("part", ["head", "encoder", "copied"])
def test_a_model_that_is_not_finite_is_not_saved(tmp_path, part, value):
    "The tensor is named, and the good model in the folder stays."
    model = make_model()
    model.save_pretrained(tmp_path / "m")
    before = {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()}
    target = model.head if part == "head" else model.encoder
    name, weight = list(target.named_parameters())[-1]
    with torch.no_grad():
        weight.view(-1)[0] = value
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        model.save_pretrained(tmp_path / "m", encoder=True if part == "copied" else None)
    assert {p.name: p.read_bytes() for p in (tmp_path / "m").iterdir()} == before


def test_half_precision_that_overflows_is_not_saved(tmp_path):
    model = make_model()
    with torch.no_grad():
        model.head.classifier.bias[0] = 70_000
    model.save_pretrained(tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"half precision.*bias"):
        model.save_pretrained(tmp_path / "half", half=True)
    assert not (tmp_path / "half").exists()


def test_no_answer_is_nan(monkeypatch):
    "Features and logits that are not finite are refused with the clip's name."
    model = make_model()
    with torch.no_grad():
        model.head.classifier.bias[0] = float("nan")
    for clip in (CLIP, read_clip(CLIP, 4)):
        with pytest.raises(ConfigError, match=CLIP.name):
            model.predict(clip)
    model = make_model()
    real = type(model.encoder).encode
    monkeypatch.setattr(
        type(model.encoder), "encode", lambda *args: real(*args)._replace(pooled=real(*args).pooled / 0)
    )
    for ask in (model.predict, model.embed, model.features):
        with pytest.raises(ConfigError, match=CLIP.name):
            ask(CLIP)
    with pytest.raises(ConfigError, match=CLIP.name):
        model.predict(CLIP, labels=["a", "b"])


# written whole


def test_a_foreign_folder_is_refused(tmp_path):
    "A folder of other files, and one whose config.json is another program's; asked to overwrite, both are written."
    other = tmp_path / "notes"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    theirs = tmp_path / "bert"
    theirs.mkdir()
    (theirs / "config.json").write_text('{"model_type": "bert"}')
    model = make_model()
    for place in (other, theirs):
        before = {p.name: p.read_bytes() for p in place.iterdir()}
        with pytest.raises(ConfigError, match="overwrite"):
            model.save_pretrained(place)
        assert {p.name: p.read_bytes() for p in place.iterdir()} == before
        model.save_pretrained(place, overwrite=True)
        assert VideoModel.from_pretrained(place).labels == model.labels
    assert (other / "thesis.txt").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(VidPrismError, match="file"):
        model.save_pretrained(file)


def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch):
    "At each file that is written, the disk may be full: the old model answers as before and nothing is left."
    model, other = make_model(), make_model(("pour", "catch", "run"), 1)
    model.save_pretrained(tmp_path / "m")
    answer = model.predict(CLIP)
    real = vidprism.model.save_file
    for fails_at in (1, 2):
        calls = []

        def full(state, path, **options):
            calls.append(path)
            real(state, path, **options)
            if len(calls) == fails_at:  # noqa: B023
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(vidprism.model, "save_file", full)
        with pytest.raises(WriteError, match="no space left"):
            other.save_pretrained(tmp_path / "m", encoder=True)
        assert VideoModel.from_pretrained(tmp_path / "m").predict(CLIP) == answer
        assert [p.name for p in tmp_path.iterdir()] == ["m"]


LOOP = """import sys
sys.path.insert(0, sys.argv[2])
from test_attack_models import make_model
models = [make_model(("catch", "pour"), 0), make_model(("pour", "catch"), 1)]
print("ready", flush=True)
while True:
    for model in models:
        model.save_pretrained(sys.argv[1])
"""


@contextlib.contextmanager
def writer(place):
    "A process that writes two models in turn into one folder."
    command = [sys.executable, "-c", LOOP, str(place), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def answers():
    "The two models' answers, by their labels."
    models = [make_model(("catch", "pour"), 0), make_model(("pour", "catch"), 1)]
    return [(model.labels, model.predict(CLIP)) for model in models]


@pytest.mark.long
def test_a_reader_beside_a_writer_gets_one_version(tmp_path):
    "Each of 40 loads gives one of the two models, whole."
    right = answers()
    make_model().save_pretrained(tmp_path / "m")
    with writer(tmp_path / "m"):
        for _ in range(40):
            model = VideoModel.from_pretrained(tmp_path / "m")
            assert (model.labels, model.predict(CLIP)) in right


@pytest.mark.long
def test_killed_while_it_saves(tmp_path):
    "After each of 4 kills at other moments, the folder is one of the two models, and the next one can be saved."
    right = answers()
    make_model().save_pretrained(tmp_path / "m")
    for k in range(4):
        with writer(tmp_path / "m") as process:
            time.sleep(0.02 + 0.027 * k)
            process.send_signal(signal.SIGKILL)
            process.wait()
        model = VideoModel.from_pretrained(tmp_path / "m")
        assert (model.labels, model.predict(CLIP)) in right


def test_new_labels_are_never_on_old_weights(tmp_path, monkeypatch):
    "In the current folder files are swapped one by one: whatever stands between is refused, never loaded."
    place = tmp_path / "m"
    make_model().save_pretrained(place)
    monkeypatch.chdir(place)
    real, moved = os.replace, []

    def stop(source, target):
        if Path(target).parent == place.resolve():
            if len(moved) == 1:
                raise KeyboardInterrupt
            moved.append(target)
        real(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        make_model(("pour", "catch"), 1).save_pretrained(".")
    monkeypatch.setattr(os, "replace", real)
    refuse(place, "hash")
    make_model(("pour", "catch"), 1).save_pretrained(".")
    assert VideoModel.from_pretrained(".").labels == ["pour", "catch"]


def in_threads(work, arguments):
    "Call a function in a thread for each argument, and wait for all."
    threads = [threading.Thread(target=work, args=[argument]) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_threads_save_at_once(tmp_path):
    "Two savers of one folder: one of the two models stands there in the end."
    right = answers()
    models = [make_model(("catch", "pour"), 0), make_model(("pour", "catch"), 1)]
    failures = []

    def save(model):
        try:
            for _ in range(10):
                model.save_pretrained(tmp_path / "m")
        except Exception as error:
            failures.append(error)

    in_threads(save, models)
    assert all(isinstance(error, VidPrismError) for error in failures), failures
    model = VideoModel.from_pretrained(tmp_path / "m")
    assert (model.labels, model.predict(CLIP)) in right


@pytest.mark.parametrize("exchange", [True, False])
def test_two_threads_make_a_folder_at_once(exchange, tmp_path, monkeypatch):
    "Two writers of a new folder: one of the two stands there in the end, also where folders cannot be exchanged."
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda a, b: False)
    together, failures = threading.Barrier(2, timeout=60), []

    def write(name):
        for k in range(200):
            together.wait()
            try:
                with files.written_folder(tmp_path / str(k), "made") as part:
                    (part / "made").write_text(name)
            except Exception as error:
                failures.append(error)

    in_threads(write, ("first", "second"))
    assert not failures
    assert {p.name for p in tmp_path.iterdir()} == {str(k) for k in range(200)}
    assert {(p / "made").read_text() for p in tmp_path.iterdir()} <= {"first", "second"}


def test_files_by_umask(tmp_path):
    "A colleague of the group can read what umask 002 allows."
    old = os.umask(0o002)
    try:
        make_model().save_pretrained(tmp_path / "m")
    finally:
        os.umask(old)
    assert {oct(p.stat().st_mode & 0o777) for p in (tmp_path / "m").iterdir()} == {oct(0o664)}


def test_shipped_models_have_no_hash_and_load():
    assert "sha256" not in json.loads((samples_folder() / "heads" / "mean" / "config.json").read_text())
    assert sample_model("mean").predict(CLIP)
