"ST-Adapter and AIM: saved models, damaged ones, training end to end, threads, old settings."

import importlib.util
import json
import pytest
import shutil
import torch
import vidprism as vp
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import fields
from open_clip.transformer import VisionTransformer
from real import ROOT
from safetensors.torch import load_file, save_file
from vidprism.encoders.adapters import ADAPTERS, AdaptedEncoder
from vidprism.encoders.base import Preprocess, weights_hash
from vidprism.encoders.cache import fingerprint
from vidprism.errors import ConfigError
from vidprism.heads.base import create_head
from vidprism.model_config import _ADAPTERS, check_config
from vidprism.training.pipeline import Recipe, train_clips
from vidprism.training.trainer import TrainConfig, make_optimizer

HOW = Preprocess(32, (0.5,) * 3, (0.5,) * 3)


def tiny():
    "A small ViT of open_clip as an encoder, always the same."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return vp.create_encoder(VisionTransformer(32, 8, 24, 2, 2, 2.0, output_dim=16), how=HOW)


def learned(encoder: AdaptedEncoder, seed: int = 1) -> AdaptedEncoder:
    "The encoder, its adapters as if they had been trained."
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in encoder.adapters.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
    return encoder


def frames(clips: int = 2, count: int = 4, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (clips, count, 32, 32, 3), dtype=torch.uint8, generator=generator)


def model_of(encoder, num_frames: int = 4):
    head = create_head("mean", encoder.dim, 3, num_frames)
    return vp.VideoModel(encoder, head, ["a", "b", "c"]).eval()


@pytest.mark.parametrize("kind", ADAPTERS)
def test_saved_with_a_model(kind, tmp_path):
    "Config and weights of the adapters, not those of the frozen encoder; the same features after loading."
    model = model_of(learned(vp.add_adapters(tiny(), kind, dict(width=5))))
    model.save_pretrained(tmp_path / "m")
    names = {"config.json", "head.safetensors", "adapters.safetensors"}
    assert {p.name for p in (tmp_path / "m").iterdir()} - {"encoder.safetensors"} == names
    assert set(load_file(tmp_path / "m" / "adapters.safetensors")) == set(model.encoder.adapters.state_dict())
    again = vp.VideoModel.from_pretrained(tmp_path / "m", encoder=tiny())
    with torch.no_grad():
        assert torch.equal(again.encoder(frames()).pooled, model.encoder(frames()).pooled)
        assert torch.equal(again.encoder.encoder(frames()).pooled, tiny()(frames()).pooled)
    assert fingerprint(again.encoder) == fingerprint(model.encoder)
    again.save_pretrained(tmp_path / "n")
    assert (tmp_path / "n" / "adapters.safetensors").read_bytes() == (
        tmp_path / "m" / "adapters.safetensors"
    ).read_bytes()


def test_the_shipped_encoder_stays_a_name(tmp_path):
    model = model_of(learned(vp.add_adapters(vp.create_encoder("mini"), "st_adapter", dict(width=4))))
    model.save_pretrained(tmp_path / "m")
    assert {p.name for p in (tmp_path / "m").iterdir()} == {"config.json", "head.safetensors", "adapters.safetensors"}
    clip = vp.sample_clips()[0]
    again = vp.VideoModel.from_pretrained(tmp_path / "m")
    assert again.predict(clip) == model.predict(clip)
    assert torch.equal(again.features(clip), model.features(clip))
    assert not torch.equal(again.features(clip), vp.create_encoder("mini")(model.open_clip(clip).frames[None]).pooled)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "m"
    model_of(learned(vp.add_adapters(vp.create_encoder("mini"), "st_adapter", dict(width=4)))).save_pretrained(folder)
    return folder


WRONG = {
    "kind": dict(kind="lora", config={}),
    "code": dict(kind="own:evil.py:make", config={}),
    "no config": dict(kind="aim"),
    "more": dict(kind="aim", config={}, module="os"),
    "unknown option": dict(kind="st_adapter", config=dict(hidden=3)),
    "other kind's option": dict(kind="st_adapter", config=dict(scale=0.5)),
    "huge": dict(kind="st_adapter", config=dict(width=2**40)),
    "fits no weights": dict(kind="st_adapter", config=dict(width=16384, kernel=[15, 15, 15])),
    "even kernel": dict(kind="st_adapter", config=dict(width=4, kernel=[2, 1, 1])),
    "negative": dict(kind="st_adapter", config=dict(width=-4)),
    "text": dict(kind="st_adapter", config=dict(width="4")),
    "too many layers": dict(kind="st_adapter", config=dict(width=4, layers=99)),
    "no ViT": dict(kind="aim", config={}),
    "a list": ["st_adapter"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_strangers_adapters_are_refused(name, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | dict(adapters=WRONG[name])))
    with pytest.raises(ConfigError) as error:
        vp.VideoModel.from_pretrained(tmp_path / "m")
    assert len(str(error.value)) < 500 and "\n" not in str(error.value)


def test_damaged_files_of_adapters(saved, tmp_path):
    "Missing, cut, another file, not finite: one sentence each, and never a model without its adapters."
    state = load_file(saved / "adapters.safetensors")
    bad = {name: value.clone() for name, value in state.items()}
    next(iter(bad.values())).view(-1)[0] = float("nan")
    for case in ("missing", "cut", "other", "nan"):
        folder = tmp_path / case
        shutil.copytree(saved, folder)
        path, config = folder / "adapters.safetensors", json.loads((folder / "config.json").read_text())
        config.pop("sha256")
        if case == "missing":
            path.unlink()
        elif case == "cut":
            path.write_bytes(path.read_bytes()[:-40])
        elif case == "other":
            save_file({"weight": torch.zeros(3)}, path)
        else:
            save_file(bad, path)
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError):
            vp.VideoModel.from_pretrained(folder)


def test_a_changed_file_is_noticed_by_its_hash(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "m")
    path = tmp_path / "m" / "adapters.safetensors"
    save_file({name: value + 1 for name, value in load_file(path).items()}, path)
    with pytest.raises(ConfigError, match="hash"):
        vp.VideoModel.from_pretrained(tmp_path / "m")


def test_rules_of_saved_settings_are_those_of_the_dataclasses():
    for kind, made in ADAPTERS.items():
        assert set(_ADAPTERS[kind]) == {field.name for field in fields(made)}
    assert "adapters" not in check_config(
        dict(encoder="mini", head="mean", options=dict(dim=4, num_classes=1), labels=["a"], sampling="sparse"), "x"
    )


@pytest.mark.parametrize("kind", ADAPTERS)
def test_caches_do_not_mix(kind, tmp_path):
    "Frozen, at the start, trained and trained otherwise: four keys, and the features that belong to each."
    one, two = (learned(vp.add_adapters(tiny(), kind), seed) for seed in (1, 2))
    start = vp.add_adapters(tiny(), kind)
    encoders = [start.encoder, start, one, two]
    assert len({fingerprint(encoder) for encoder in encoders}) == 4
    clips = [str(path) for path in vp.sample_clips()[:2]]
    kept = {}
    for _ in range(2):
        for number, encoder in enumerate(encoders):
            found = vp.cache_features(clips, encoder, tmp_path, num_frames=4).pooled
            assert torch.equal(found, kept.setdefault(number, found))
    assert torch.equal(kept[0], kept[1]) and not torch.equal(kept[2], kept[3])


def test_threads_read_clips_of_other_lengths():
    "Threads that use one adapted encoder, and its frozen twin, at the same time."
    encoder = learned(vp.add_adapters(tiny(), "aim"))
    clips = {count: frames(2, count) for count in (1, 2, 3, 4, 6, 8)}
    with torch.no_grad():
        alone = {
            (count, on): (encoder if on else encoder.encoder)(x).pooled for count, x in clips.items() for on in (0, 1)
        }

    def ask(case):
        count, on = case
        with torch.no_grad():
            found = (encoder if on else encoder.encoder)(clips[count]).pooled
        return torch.allclose(found, alone[case], atol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, list(alone) * 8))


def test_a_copy_has_adapters_of_its_own():
    encoder = learned(vp.add_adapters(tiny(), "aim"))
    copy = deepcopy(encoder)
    with torch.no_grad():
        before = encoder(frames()).pooled
        learned(copy, 3)
        assert torch.equal(encoder(frames()).pooled, before)
        assert not torch.equal(copy(frames()).pooled, before)
        vp.remove_adapters(copy)
        assert torch.equal(encoder(frames()).pooled, before)


def test_an_error_inside_leaves_no_clip_behind():
    encoder = learned(vp.add_adapters(tiny(), "aim"))
    with pytest.raises(RuntimeError):
        encoder.encode(torch.zeros(4, 3, 16, 16), window=4)
    with torch.no_grad():
        assert torch.equal(encoder.encoder(frames()).pooled, tiny()(frames()).pooled)


def test_adapters_learn_at_the_heads_rate():
    model = model_of(vp.add_adapters(tiny(), "aim"))
    vp.finetune_encoder(model)
    assert weights_hash(model.encoder.encoder) == weights_hash(tiny())
    optimizer = make_optimizer(model, TrainConfig(lr=0.5, encoder_lr=0.1))
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    learning = {p for group in optimizer.param_groups for p in group["params"]}
    assert learning == {*model.encoder.adapters.parameters(), *model.head.parameters()}


def a_list(count: int = 8):
    paths = [str(path) for path in vp.sample_clips()[:count]]
    names = [path.rpartition("/")[2] for path in paths]
    labels = [number % 2 for number in range(count)]
    parts = ["train"] * (count - 2) + ["test"] * 2
    return vp.ClipList(items=names, paths=paths, labels=labels, classes=["x", "y"], parts=parts)


def test_trained_end_to_end(tmp_path):
    "The frozen weights stay to the bit; the model that is saved answers as the one that was trained."
    training = TrainConfig(epochs=2, batch=4, lr=0.01, workers=0)
    recipe = Recipe(
        head="mean", num_frames=4, adapters="st_adapter", adapter_options=dict(width=4, layers=2), training=training
    )
    done = train_clips(a_list(), recipe, cache=tmp_path / "cache", folder=tmp_path / "run")
    assert done.result.record["adapters"] == dict(kind="st_adapter", options=dict(width=4, layers=2))
    assert not done.result.record["finetuned_encoder"]
    encoder = done.model.encoder
    assert isinstance(encoder, AdaptedEncoder) and len(encoder.adapters) == 2
    assert weights_hash(encoder.encoder) == weights_hash(vp.create_encoder("mini"))
    assert any(p.abs().max() > 0 for n, p in encoder.adapters.named_parameters() if n.endswith("up.weight"))
    folder = done.save(tmp_path / "model")
    clip = vp.sample_clips()[0]
    assert vp.VideoModel.from_pretrained(folder).predict(clip) == done.model.predict(clip)
    # a second time, from the checkpoint of the first epoch on
    first = tmp_path / "run" / "checkpoints"
    assert any(first.iterdir())


@pytest.mark.parametrize(
    "wrong",
    [
        dict(adapters="lora"),
        dict(adapters="aim", adapter_options=dict(width=-1)),
        dict(adapters="aim", adapter_options=dict(kernel=(3, 1, 1))),
        dict(adapter_options=dict(width=3)),
        dict(adapters="aim", finetune_encoder=True),
        dict(adapters="aim", grid_search=True),
    ],
)
def test_recipes_that_cannot_be(wrong):
    with pytest.raises(ConfigError):
        Recipe(**wrong)


def test_aim_on_a_tower_without_attention_is_a_sentence(tmp_path):
    with pytest.raises(ConfigError, match="self-attention"):
        train_clips(a_list(), Recipe(head="mean", num_frames=4, adapters="aim"), cache=tmp_path / "cache")


def test_the_command_trains_adapters(tmp_path, monkeypatch, capsys):
    "`vidprism train --adapters` to a model that `predict` reads, and a stopped run's settings are kept."
    from vidprism.cli import main
    from vidprism.training.runs import model_at_epoch

    for number, clip in enumerate(vp.sample_clips()[:8]):
        (tmp_path / "clips" / f"c{number % 2}").mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "clips" / f"c{number % 2}")
    monkeypatch.chdir(tmp_path)
    line = (
        "train clips --head mean --split source --folds 2 --num-frames 4 --cache cache --out model --epochs 1 "
        "--batch 4 --adapters st_adapter --adapter-option width=4 --adapter-option kernel=3,1,1 --keep all"
    )
    assert main(line.split()) in (0, None)
    assert "model: model" in capsys.readouterr().out
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["adapters"]["config"]["width"] == 4 and config["encoder"] == "mini"
    assert vp.VideoModel.from_pretrained("model").predict(vp.sample_clips()[0])
    last = vp.VideoModel.from_pretrained("model")
    kept = model_at_epoch("model", 1)  # from the checkpoint of the only epoch
    assert torch.equal(kept.features(vp.sample_clips()[0]), last.features(vp.sample_clips()[0]))
    run = json.loads((tmp_path / "model" / "run.json").read_text())
    assert run["settings"]["recipe"]["adapters"] == "st_adapter"


def test_runs_without_adapters_keep_their_settings():
    "A run that began before there were adapters goes on: its record has no word of them."
    from vidprism.training.runs import Source, run_settings

    clips = a_list()
    settings = run_settings(Source("clips"), clips, Recipe(), vp.create_encoder("mini"))
    assert not {"adapters", "adapter_options"} & settings["recipe"].keys()
    settings = run_settings(Source("clips"), clips, Recipe(adapters="st_adapter"), vp.create_encoder("mini"))
    assert settings["recipe"]["adapters"] == "st_adapter"


@pytest.mark.parametrize("kind", ADAPTERS)
def test_explained_like_any_model(kind):
    "Saliency sees the adapted pass: the same features, and one map a frame, also where a block's attention runs twice."
    from vidprism.interpret.saliency import encode_for_maps

    encoder = learned(vp.add_adapters(tiny(), kind))
    encoder.chunk = 3  # a clip of 5 frames is still read whole
    clip = frames(1, 5)
    layer = encoder.model.transformer.resblocks[-1].ln_1
    seen = encode_for_maps(encoder, clip[0], layer)
    with torch.no_grad():
        assert torch.allclose(seen.pooled, encoder(clip).pooled, atol=1e-5)
    assert sum(len(maps) for maps in seen.maps) == 5 and seen.maps[0].shape[1:] == (24, 4, 4)
    model = vp.VideoModel(
        vp.add_adapters(vp.create_encoder("mini"), "st_adapter"),
        create_head("vidprism", 128, 3, 8, rates=(2, 4)),
        ["a", "b", "c"],
    ).eval()
    found = vp.explain(model, vp.sample_clips()[0])
    assert found.saliency.shape[1] == 8


def test_adapters_are_no_weights_to_mix():
    "Mixing with the original's weights is refused in a sentence; so is a model whose encoder is given adapted."
    model = model_of(learned(vp.add_adapters(tiny(), "aim")))
    with pytest.raises(ConfigError):
        vp.interpolate(model, tiny(), 0.5)


def test_costs_are_measured():
    "Parameters and multiply-adds of a whole adapted model; only adapters and head are trainable."
    model = model_of(vp.add_adapters(vp.create_encoder("mini", text=False), "st_adapter", dict(width=4)))
    frozen = model_of(vp.create_encoder("mini", text=False))
    vp.finetune_encoder(model)
    cost, plain = (vp.measure_cost(m, repeats=0) for m in (model, frozen))
    assert cost.macs > plain.macs and cost.parameters > plain.parameters
    own = sum(p.numel() for part in (model.encoder.adapters, model.head) for p in part.parameters())
    assert cost.trainable == own
    named = {part.name: part for part in cost.parts}
    adapters = named.pop("adapters")
    assert adapters.parameters == adapters.trainable > 0
    assert {part.name: part.parameters for part in plain.parts} == {n: part.parameters for n, part in named.items()}


def test_costs_beside_the_published_figures():
    "The kept record is what is counted now, and lies beside what the papers print."
    spec = importlib.util.spec_from_file_location("bench_adapters", ROOT / "benchmarks" / "adapters.py")
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    kept = json.loads((ROOT / "benchmarks" / "adapters.json").read_text())["costs"]
    for row in kept:
        m, paper = row["measured"], row["paper"]
        if m["num_frames"] == 8:
            assert bench.cost_of(m["kind"], m["tower"], 8, m["config"] or None) == m
        if paper:
            assert abs(m["macs"] / 1e9 / paper["gflops"] - 1) < 0.005
            assert all(abs(m[key] / 1e6 - paper[key]) < 1 for key in ("tuned", "total") if key in paper)
            assert paper["sources"]
    assert sum(row["paper"] is not None for row in kept) == len(bench.QUOTED)
