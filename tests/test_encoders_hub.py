"""Models of transformers, and hub ids of open_clip and timm, from a planted cache of the hub: features and attacks."""

import json
import open_clip
import os
import pytest
import shutil
import subprocess
import sys
import timm
import torch
from packaging.version import Version
from real import ROOT, handbook, load_script
from safetensors.torch import load_file, save_file
from vidprism.data.clips import sample_clips
from vidprism.encoders.base import FrameEncoder, Preprocess
from vidprism.encoders.cache import fingerprint
from vidprism.encoders.factory import create_encoder, rebuild_encoder
from vidprism.errors import ConfigError
from vidprism.heads.base import create_head
from vidprism.model import VideoModel

transformers = pytest.importorskip("transformers", reason="transformers (the extra transformers) is not installed")
bench = load_script("benchmarks", "encoders")
KNOWN = [name for name in bench.TINY if bench.is_known(name)]
VIDEO = [name for name in KNOWN if bench.TINY[name].window > 1]
TEXT = [name for name in KNOWN if bench.TINY[name].text]


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    "An empty hub's cache, and no network."
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    # up to 0.25, the function keeps a copy of its own
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


def clips(count=8, size=(40, 52), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (2, count, *size, 3), dtype=torch.uint8, generator=generator)


def edit(path, **changes):
    "Change a JSON file; None takes a key away."
    found = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def refusal(name, **options):
    with pytest.raises(ConfigError) as error:
        create_encoder(name, **options)
    said = str(error.value)
    assert "\n" not in said and len(said) < 700, said
    return said


# features


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("seed,size", [(1, (32, 32)), (2, (61, 47))])
def test_the_librarys_own_forward(name, seed, size, hub):
    "By the very name of the hub; frames of the model's size, and frames that the library's processor resizes."
    found = bench.compare(name, hub, seed, size)
    assert found["largest"] > 0.05
    for key in ("pooled_difference", "grid_difference", "text_difference"):
        assert found.get(key, 0) <= 1e-5, (key, found[key])


@pytest.mark.parametrize("name", KNOWN)
def test_time_is_mixed_in_windows_only(name, hub):
    "A window does not see another; within one, a video model sees the order of frames, an image model does not."
    bench.plant(name, hub)
    e = create_encoder(f"transformers:tiny/{name}")
    x = clips()
    seen = e(x).pooled
    half = 4 // e.span
    assert torch.allclose(e(x[:, :4]).pooled, seen[:, :half], atol=1e-5)
    exchanged = e(x[:, [1, 0, 2, 3, 4, 5, 6, 7]]).pooled
    assert torch.allclose(exchanged[:, half:], seen[:, half:], atol=1e-5)
    moved = (exchanged[:, half - 1] - seen[:, half - 1]).abs().max()  # of a moment whose own frames are the same
    assert moved > 1e-4 if name in VIDEO else moved < 1e-5
    e.chunk = 5  # never part of a window
    assert torch.allclose(e(x).pooled, seen, atol=1e-5)


@pytest.mark.parametrize("name,lengths", [("vjepa2", (2,)), ("videoprism", (1, 2, 3)), ("videomae", (2,))])
def test_shorter_clips(name, lengths, hub):
    "What the library gives for them, where it takes them; other lengths are one sentence."
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    folder = bench.plant(name, hub)
    e = create_encoder(f"transformers:tiny/{name}")
    model = getattr(transformers, bench.TINY[name].model).from_pretrained(folder).eval()
    for length in lengths:
        x = clips(length)
        pooled = e(x).pooled
        assert pooled.shape == (2, length // e.span, e.dim)
        if name == "videomae":
            continue  # the library refuses them; tests of `videomae:` hold the interpolated positions
        options = dict(interpolate_pos_encoding=True) if name == "videoprism" else dict(skip_predictor=True)
        for clip, ours in zip(x, pooled):
            pixels = bench.prepared(folder, clip, length)
            pixels = pixels if pixels.ndim == 5 else pixels[None]
            with torch.no_grad():
                tokens = model(pixel_values_videos=pixels, **options).last_hidden_state
            assert torch.allclose(tokens.reshape(length // e.span, -1, e.dim).mean(1), ours, atol=1e-5)
    for length in (5, 6, 7):
        with pytest.raises(ConfigError, match=f"a multiple of 4.*not {length}"):
            e(clips(length))


@pytest.mark.parametrize("name", [n for n in VIDEO if n not in ("vjepa2", "videoprism", "videomae")])
@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_a_fixed_length(name, length, hub):
    bench.plant(name, hub)
    e = create_encoder(f"transformers:tiny/{name}")
    with pytest.raises(ConfigError, match=f"reads 4 frames at a time: take a multiple of 4, not {length}"):
        e(clips(length))


TASKS = {
    "vjepa2": "VJEPA2ForVideoClassification",
    "videoprism": "VideoPrismForVideoClassification",
    "timesformer": "TimesformerForVideoClassification",
    "vivit": "VivitForVideoClassification",
    "videomae": "VideoMAEForVideoClassification",
    "vit": "ViTForImageClassification",
    "dinov2": "Dinov2ForImageClassification",
}


@pytest.mark.parametrize("name", [name for name in TASKS if name in KNOWN])
def test_a_classifiers_checkpoint(name, hub):
    "Published classifiers hold the same model under a prefix, and a head, which is left."
    folder = bench.plant(name, hub)
    tiny = bench.TINY[name]
    config = transformers.AutoConfig.from_pretrained(folder)
    whole = bench.seeded(lambda: getattr(transformers, TASKS[name])(config), 5)
    body = getattr(whole, whole.base_model_prefix)
    whole.save_pretrained(folder)
    e = create_encoder(f"transformers:tiny/{name}")
    x = clips()
    with torch.no_grad():
        pooled, _ = tiny.refer(body.eval(), bench.prepared(folder, x.flatten(0, 1), tiny.window))
        assert torch.allclose(e(x).pooled.flatten(0, 1), pooled, atol=1e-5)


def test_the_last_norm_of_a_tuned_videomae(hub):
    folder = bench.plant("videomae", hub)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.use_mean_pooling = True
    whole = bench.seeded(lambda: transformers.VideoMAEForVideoClassification(config), 5)
    whole.save_pretrained(folder)
    e = create_encoder("transformers:tiny/videomae")
    x = clips(4)
    with torch.no_grad():
        pixels = bench.prepared(folder, x.flatten(0, 1), 4)
        tokens = whole.videomae(pixel_values=pixels).last_hidden_state
        means = torch.stack([whole.fc_norm(tokens[:, :16].mean(1)), whole.fc_norm(tokens[:, 16:].mean(1))], 1)
    assert torch.allclose(e(x).pooled, means, atol=1e-5)


def test_one_tower_of_two(hub):
    "CLIP's weights with only the image tower asked for, and without text."
    folder = bench.plant("clip", hub)
    both = create_encoder("transformers:tiny/clip")
    edit(folder / "config.json", architectures=["CLIPVisionModelWithProjection"])
    one = create_encoder("transformers:tiny/clip")
    assert one.model.config.model_type == "clip_vision_model" and not one.has_text
    assert torch.allclose(one(clips()).pooled, both(clips()).pooled, atol=1e-6)
    edit(folder / "config.json", architectures=["CLIPModel"])
    blind = create_encoder("transformers:tiny/clip", text=False)
    assert torch.equal(blind(clips()).pooled, both(clips()).pooled)
    with pytest.raises(ConfigError, match="no text tower"):
        blind.encode_text(["cat"])
    assert sum(p.numel() for p in blind.parameters()) < sum(p.numel() for p in both.parameters())


def test_weights_in_several_files(hub):
    folder = bench.plant("clip", hub)
    whole = create_encoder("transformers:tiny/clip")(clips()).pooled
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for part, keys in parts.items():
        save_file({key: state[key] for key in keys}, folder / part)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps(dict(weight_map={key: part for part, keys in parts.items() for key in keys})))
    assert torch.equal(create_encoder("transformers:tiny/clip")(clips()).pooled, whole)
    for part in ("../x.safetensors", "/etc/x.safetensors", "x.bin", 5):
        index.write_text(json.dumps(dict(weight_map={"a": part})))
        assert "weight_map must be" in refusal("transformers:tiny/clip")


@pytest.mark.parametrize("name", TEXT)
def test_text(name, hub):
    bench.plant(name, hub)
    e = create_encoder(f"transformers:tiny/{name}")
    names = ["cat", "dog", "running"]
    found = e.encode_text(names, ["a {}", "a photo of {}"])
    assert found.shape == (3, e.dim) and torch.allclose(found.norm(dim=-1), torch.ones(3), atol=1e-5)
    assert torch.allclose(e.encode_text(names[::-1], ["a photo of {}", "a {}"]), found.flip(0), atol=1e-5)
    assert e.text_scale > 0
    assert len(e.encode_text(["walking " * 50])) == 1


def test_settings_of_the_processor_are_part_of_the_caches_key(hub):
    "`how` cannot say all: two processors with one summary, or another `how`, are told apart."
    folder = bench.plant("clip", hub)
    first = create_encoder("transformers:tiny/clip")
    file = next(folder.glob("*processor*config.json"))
    edit(file, crop_pct=0.5)
    second = create_encoder("transformers:tiny/clip")
    assert first.how == second.how and fingerprint(first) != fingerprint(second)
    mine = create_encoder("transformers:tiny/clip", how=Preprocess(32, (0.5,) * 3, (0.5,) * 3))
    assert mine.processor == "" and not torch.allclose(mine(clips()).pooled, first(clips()).pooled, atol=1e-3)


# saved models


@pytest.mark.parametrize("name", ["clip", "vjepa2", "xclip", "siglip2-naflex"])
@pytest.mark.parametrize("how", ["hub", "tuned", "folder"])
def test_a_saved_model_comes_back(name, how, hub, tmp_path):
    "From its name, or from its folder alone once the weights are its own."
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    folder = bench.plant(name, hub)
    e = create_encoder(f"transformers:{folder}" if how == "folder" else f"transformers:tiny/{name}")
    model = VideoModel(e, create_head("mean", e.dim, 3, 8 // e.span), list("abc")).eval()
    if how == "tuned":
        with torch.no_grad():
            next(e.parameters()).add_(0.1)
    path = sample_clips()[0]
    answer = model.predict(path)
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "encoder.safetensors").exists() == (how != "hub")
    said = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert said["encoder"] == f"transformers:{folder.name if how == 'folder' else 'tiny/' + name}"
    assert str(tmp_path) not in json.dumps(said)
    if how != "hub":
        shutil.rmtree(hub)
    assert VideoModel.from_pretrained(tmp_path / "saved").predict(path) == answer


@pytest.mark.parametrize(
    "name",
    [
        "transformers:.",
        "transformers:..",
        "transformers:/etc",
        "transformers:../tiny",
        "transformers:tiny/../clip",
        "transformers:https://example.org/x",
        "transformers:hf-hub:tiny/clip",
        "transformers:local-dir:x",
        "transformers:a/b/c",
        "transformers:",
        "open_clip:hf-hub:../clip",
        "open_clip:hf-hub:/etc/clip",
        "open_clip:hf-hub:local-dir:x",
        "open_clip:hf-hub:https://example.org/x",
        "open_clip:hf-hub:a/b/c",
        "open_clip:hf-hub:",
        "timm:hf-hub:./x",
        "timm:hf-hub:local-dir:x/y",
        "timm:hf-hub:a/b@main",
        "timm:hf-hub:a/b\n",
    ],
)
@pytest.mark.parametrize("copied", [False, True])
def test_a_saved_name_opens_nothing_outside(name, copied, monkeypatch, tmp_path):
    for trap in ("x", "tiny", "clip"):
        (tmp_path / "cwd" / trap).mkdir(parents=True)
        (tmp_path / "cwd" / trap / "config.json").write_text("trap")
    monkeypatch.chdir(tmp_path / "cwd" / "x")
    monkeypatch.setattr("vidprism.encoders.hub.read_json", lambda path: pytest.fail(str(path)))
    with pytest.raises(ConfigError):
        rebuild_encoder(name, copied=copied)


def test_a_folder_in_the_way_of_a_hubs_model_is_not_opened(hub, tmp_path, monkeypatch):
    "owner/name in a saved model stands for the hub; a folder of that name in the working folder is a trap."
    bench.write_tiny("clip", tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    saved = create_encoder("transformers:owner/name").options
    with pytest.raises(ConfigError, match="no file outside its folder"):
        rebuild_encoder("transformers:owner/name", options=saved)
    again = rebuild_encoder("transformers:owner/name", options=saved, copied=True)
    with pytest.raises(ConfigError, match="is not here"):
        again.encode_text(["cat"])


WRONG = [None, True, -1, 0, 10**9, 1e300, "x", "../x", [], [1], {}, dict(a=1), "a" * 100]


@pytest.mark.parametrize("name", ["clip", "vjepa2", "xclip", "siglip2-naflex", "dinov3"])
def test_settings_of_a_saved_model_that_were_changed(name, hub):
    "Any value in any place: an encoder, or a sentence; nothing else, and no memory."
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    bench.plant(name, hub)
    saved = json.loads(json.dumps(create_encoder(f"transformers:tiny/{name}").options["config"]))

    def places(found, at=()):
        for key, value in found.items():
            yield (*at, key)
            if isinstance(value, dict):
                yield from places(value, (*at, key))

    built = 0
    for number, place in enumerate(places(saved)):
        for wrong in (WRONG[number % len(WRONG)], WRONG[(number * 5 + 3) % len(WRONG)]):
            config = json.loads(json.dumps(saved))
            part = config
            for key in place[:-1]:
                part = part[key]
            part[place[-1]] = wrong
            try:
                with torch.device("meta"):
                    e = rebuild_encoder(f"transformers:tiny/{name}", options=dict(config=config), copied=True)
                assert isinstance(e, FrameEncoder)
                built += 1
            except ConfigError as error:
                assert "\n" not in str(error)
    assert built  # where the value makes no difference


# what may not be


CODE = "from pathlib import Path\nPath({path!r}).write_text('ran')\n"


@pytest.mark.parametrize("name", ["clip", "vjepa2"])
def test_code_of_a_repository_is_not_run(name, hub, tmp_path, monkeypatch):
    "In every place where a repository may name some: config, processor, tokenizer, attention, quantisation."
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    folder = bench.plant(name, hub)
    plain = create_encoder(f"transformers:tiny/{name}")(clips()).pooled
    monkeypatch.setattr("sys.stdin", None)
    (folder / "evil.py").write_text(CODE.format(path=str(tmp_path / "ran")))
    autos = ("AutoConfig", "AutoModel", "AutoImageProcessor", "AutoVideoProcessor", "AutoProcessor", "AutoTokenizer")
    code = dict(auto_map={auto: "evil.Evil" for auto in autos}, trust_remote_code=True)
    more = dict(
        attn_implementation="tiny/evil", _attn_implementation="tiny/evil", quantization_config={"quant_method": "x"}
    )
    for file in folder.glob("*.json"):
        if file.name != "tokenizer.json":
            edit(file, **code)
    edit(folder / "config.json", **more, torch_dtype="float16", custom_pipelines=dict(x=dict(impl="evil.Evil")))
    e = create_encoder(f"transformers:tiny/{name}")
    assert torch.equal(e(clips()).pooled, plain)
    if e.has_text:
        e.encode_text(["cat"])
    assert not (tmp_path / "ran").exists()
    assert "evil" not in json.dumps(e.options)


@pytest.mark.parametrize(
    "file,key", [("config.json", "model_type"), ("preprocessor_config.json", "image_processor_type")]
)
def test_a_class_that_only_the_repository_has(file, key, hub, tmp_path):
    folder = bench.plant("clip", hub)
    (folder / "evil.py").write_text(CODE.format(path=str(tmp_path / "ran")))
    if not (folder / file).exists():
        said = json.loads((folder / "processor_config.json").read_text())
        (folder / file).write_text(json.dumps(said["image_processor"]))
        (folder / "processor_config.json").unlink()
    edit(folder / file, **{key: "Evil", "auto_map": dict(AutoConfig="evil.Evil", AutoImageProcessor="evil.Evil")})
    said = refusal("transformers:tiny/clip")
    assert "Evil" in said or "processor cannot be built" in said
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["TransfoXLTokenizer", "os.system", 5, "Evil", "RagTokenizer"])
def test_a_tokenizer_of_another_kind(kind, hub):
    folder = bench.plant("clip", hub)
    edit(folder / "tokenizer_config.json", tokenizer_class=kind)
    e = create_encoder("transformers:tiny/clip")
    with pytest.raises(ConfigError, match="its tokenizer must be one of"):
        e.encode_text(["cat"])


def test_what_a_repository_lacks(hub, tmp_path):
    "No weights, pickles alone, no processor, no tokenizer: one sentence each, from the cache and from a folder."
    folder = bench.plant("clip", hub)
    for name in ("transformers:tiny/clip", f"transformers:{tmp_path / 'copy'}"):
        shutil.copytree(folder, tmp_path / "copy")
        where = folder if "tiny/clip" in name else tmp_path / "copy"
        state = load_file(where / "model.safetensors")
        (where / "model.safetensors").unlink()
        assert "its model.safetensors (weights)" in refusal(name)
        torch.save(state, where / "pytorch_model.bin")
        assert "only safetensors are read" in refusal(name)
        save_file(state, where / "model.safetensors", dict(format="pt"))
        tokenizer = (where / "tokenizer.json").read_bytes()
        (where / "tokenizer.json").unlink()
        e = create_encoder(name)
        with pytest.raises(ConfigError, match="its tokenizer.json"):
            e.encode_text(["cat"])
        (where / "tokenizer.json").write_bytes(tokenizer)
        kept = {file: file.read_bytes() for file in where.glob("*processor*config.json")}
        for file in kept:
            file.unlink()
        assert "how pictures are prepared" in refusal(name)
        for file, content in kept.items():
            file.write_bytes(content)
        (where / "pytorch_model.bin").unlink()
        shutil.rmtree(tmp_path / "copy")


def test_a_name_that_is_not_here(hub, tmp_path):
    assert "hf download nobody/nothing config.json" in refusal("transformers:nobody/nothing")
    assert "neither a folder nor a model of the hub" in refusal("transformers:nothing")
    assert "neither a folder nor a model of the hub" in refusal("transformers:https://example.org/x")
    (tmp_path / "empty").mkdir()
    assert "its config.json (its settings) is not in" in refusal(f"transformers:{tmp_path / 'empty'}")


@pytest.mark.parametrize("kind", ["llama", "bert", "", None, 5, [], "clip\n", "siglp", "a" * 500])
def test_an_architecture_that_is_not_read(kind, hub):
    folder = bench.plant("clip", hub)
    edit(folder / "config.json", **{"model_type": kind} if kind is not None else {})
    if kind is None:
        edit(folder / "config.json", model_type=None)
    assert "which is not supported; supported: clip, clip_vision_model" in refusal("transformers:tiny/clip")


def test_an_architecture_that_the_library_lacks(hub, monkeypatch):
    bench.plant("clip", hub)
    monkeypatch.delattr(transformers, "CLIPModel", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", _without(transformers, "CLIPModel"))
    said = refusal("transformers:tiny/clip")
    assert "needs CLIPModel, which transformers" in said and "pip install -U" in said


def _without(module, name):
    "A module without one of its names."

    class Less:
        def __getattr__(self, asked):
            if asked == name:
                raise AttributeError(name)
            return getattr(module, asked)

    return Less()


def test_without_transformers(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install 'vidprism[transformers]'" in refusal("transformers:tiny/clip")


@pytest.mark.parametrize("name", [name for name in KNOWN if name not in TEXT])
def test_text_asked_of_a_model_that_has_none(name, hub):
    bench.plant(name, hub)
    e = create_encoder(f"transformers:tiny/{name}")
    assert not e.has_text
    with pytest.raises(ConfigError, match="no text tower"):
        e.encode_text(["cat"])


@pytest.mark.parametrize("name", ["clip", "vjepa2", "vivit"])
def test_weights_that_do_not_fit(name, hub):
    if name not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    folder = bench.plant(name, hub)
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    state = load_file(file)
    key = next(k for k in sorted(state) if k.endswith("weight") and "predictor" not in k and "text" not in k)
    for change, word in (
        ({key: None}, "missing"),
        ({"extra.weight": torch.ones(2)}, "left over: extra.weight"),
        ({key: torch.ones(3)}, "other shapes"),
        ({key: torch.full_like(state[key], float("nan"))}, "NaN"),
    ):
        changed = {k: v for k, v in {**state, **change}.items() if v is not None}
        save_file(changed, file, dict(format="pt"))
        assert word in refusal(f"transformers:tiny/{name}"), word
    file.write_bytes(whole[: len(whole) // 2])
    refusal(f"transformers:tiny/{name}")


@pytest.mark.parametrize("key,value", [("hidden_size", 65536), ("image_size", 2**20), ("intermediate_size", 2**20)])
def test_a_config_that_asks_for_much_memory(key, value, hub):
    folder = bench.plant("clip", hub)
    said = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", vision_config=said["vision_config"] | {key: value})
    assert "numbers, and its weights have" in refusal("transformers:tiny/clip")


def test_a_processor_whose_pictures_are_not_the_models(hub):
    folder = bench.plant("clip", hub)
    file = next(folder.glob("*processor*config.json"))
    nested = "image_processor" in json.loads(file.read_text())
    for change, word in (
        (dict(crop_size=dict(height=24, width=24)), "reads pictures of 32 x 32; its processor gives 24 x 24"),
        (dict(crop_size=dict(height=32, width=24)), "is not square"),
        (dict(size=dict(shortest_edge=10**7)), "size must be"),
        (dict(resample=1), "resample must be 2 or 3"),
        (dict(do_resize=False), "does not resize"),
        (dict(image_std=[0.0, 1.0, 1.0]), "image_std must be"),
    ):
        said = json.loads(file.read_text())
        changed = said | dict(image_processor=said["image_processor"] | change) if nested else said | change
        file.write_text(json.dumps(changed))
        assert word in refusal("transformers:tiny/clip")
        file.write_text(json.dumps(said))


ASK = """import sys, time
import huggingface_hub
from vidprism.errors import ConfigError
from vidprism.encoders.factory import create_encoder
import transformers, vidprism.encoders.hub
transformers.CLIPModel, transformers.AutoImageProcessor, transformers.CONFIG_MAPPING["clip"]
start = time.monotonic()
try:
    create_encoder(sys.argv[1])
except ConfigError as error:
    print(f"{time.monotonic() - start:.1f}")
    print(error)
"""


@pytest.mark.long
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("name", ["transformers:tiny/clip", "open_clip:hf-hub:tiny/clip", "timm:hf-hub:tiny/clip"])
def test_a_hub_that_does_not_answer(name, half, hub, tmp_path):
    "Within 10 seconds, also where the cache has the settings and not the weights."
    import socket

    if half:
        folder = bench.plant("clip", hub)
        for file in folder.iterdir():
            if file.name != "config.json":
                file.unlink()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(50)
        env = {k: v for k, v in os.environ.items() if k.lower() not in ("hf_hub_offline", "http_proxy", "https_proxy")}
        address = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        env |= dict(HF_ENDPOINT=address, HF_HUB_CACHE=str(hub), no_proxy="*")
        done = subprocess.run([sys.executable, "-c", ASK, name], env=env, capture_output=True, text=True, timeout=240)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 2, done.stderr[-500:]
    assert float(lines[0]) < 10, lines
    assert "hf download tiny/clip" in lines[1] or "names no architecture of timm" in lines[1], lines


# open_clip and timm by a name of the hub

TINY_CLIP = dict(
    embed_dim=24,
    vision_cfg=dict(image_size=32, patch_size=8, width=32, layers=2, head_width=16),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1),
)


def repository(hub, name):
    "The folder of an empty repository in the cache."
    folder = hub / f"models--tiny--{name}" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    (folder.parents[1] / "refs").mkdir()
    (folder.parents[1] / "refs" / "main").write_text("0" * 40)
    return folder


@pytest.fixture
def clip_repo(hub):
    "A repository in open_clip's layout."
    folder = repository(hub, "oc")
    settings = dict(model_cfg=TINY_CLIP, preprocess_cfg=dict(mean=[0.4] * 3, std=[0.3] * 3, interpolation="bilinear"))
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    model = bench.seeded(lambda: open_clip.create_model(f"local-dir:{folder}", load_weights=False), 1)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return folder


def test_open_clip_of_the_hub(clip_repo, hub, tmp_path):
    "Features and text of open_clip itself; saved by its name, or with its weights."
    from PIL import Image

    theirs, prepare = open_clip.create_model_from_pretrained(f"local-dir:{clip_repo}")
    theirs.eval()
    e = create_encoder("open_clip:hf-hub:tiny/oc")
    x = clips(2, (32, 32))
    with torch.no_grad():
        pictures = torch.stack([prepare(Image.fromarray(f.numpy())) for f in x[0]])
        assert torch.allclose(e(x).pooled[0], theirs.encode_image(pictures), atol=1e-5)
        tokens = open_clip.get_tokenizer(f"local-dir:{clip_repo}")(["a cat"])
        assert torch.allclose(e.encode_sentences(["a cat"]), theirs.encode_text(tokens), atol=1e-5)
    assert e.name == "open_clip:hf-hub:tiny/oc" and e.how.mean == (0.4,) * 3
    model = VideoModel(e, create_head("mean", 24, 3, 4), list("abc")).eval()
    answer = model.predict(sample_clips()[0])
    model.save_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b", encoder=True)
    for saved in ("a", "b"):
        assert str(tmp_path / "hub") not in (tmp_path / saved / "config.json").read_text()
        assert VideoModel.from_pretrained(tmp_path / saved).predict(sample_clips()[0]) == answer
    assert "does not take quick_gelu" in refusal("open_clip:hf-hub:tiny/oc", quick_gelu=True)
    assert "hf download tiny/none" in refusal("open_clip:hf-hub:tiny/none")


@pytest.mark.parametrize(
    "part,change,word",
    [
        ("text_cfg", dict(hf_tokenizer_name="x/y", tokenizer_kwargs=dict(trust_remote_code=True)), "not allowed"),
        ("text_cfg", dict(hf_tokenizer_name="x/y", tokenizer_kwargs=dict(trust_remote_code="yes")), "not allowed"),
        ("text_cfg", dict(hf_tokenizer_name="x/y", tokenizer_kwargs=dict(code_revision="z")), "code_revision"),
        ("text_cfg", dict(hf_tokenizer_name="x/y", tokenizer_kwargs=dict(_commit_hash="z")), "_commit_hash"),
        ("text_cfg", dict(hf_tokenizer_name="/etc"), "hf_tokenizer_name must be"),
        ("text_cfg", dict(hf_tokenizer_name="../x"), "hf_tokenizer_name must be"),
        ("text_cfg", dict(hf_tokenizer_name="trap"), "hf_tokenizer_name must be"),
        ("text_cfg", dict(hf_model_name="trap"), "hf_model_name must be"),
        ("text_cfg", dict(hf_model_name="https://example.org/x"), "hf_model_name must be"),
        ("vision_cfg", dict(timm_model_name="local-dir:trap"), "timm_model_name must be"),
        ("vision_cfg", dict(timm_model_name="hf-hub:x/y"), "timm_model_name must be"),
        ("vision_cfg", dict(width=1 << 17), "numbers, and its file has"),
    ],
)
def test_an_open_clip_config_that_asks_for_more(part, change, word, clip_repo, tmp_path, monkeypatch):
    (tmp_path / "cwd" / "trap").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "cwd")
    settings = json.loads((clip_repo / "open_clip_config.json").read_text())
    settings["model_cfg"][part].update(change)
    (clip_repo / "open_clip_config.json").write_text(json.dumps(settings))
    assert word in refusal("open_clip:hf-hub:tiny/oc")
    with pytest.raises(ConfigError):
        rebuild_encoder("open_clip:hf-hub:tiny/oc")


def test_a_tokenizer_of_the_hub_for_open_clip(clip_repo, monkeypatch):
    "transformers' tokenizer is read from the repository's own files; without transformers, the extra is named."
    settings = json.loads((clip_repo / "open_clip_config.json").read_text())
    settings["model_cfg"]["text_cfg"].update(hf_tokenizer_name="tiny/oc", tokenizer_kwargs=dict(clean="whitespace"))
    (clip_repo / "open_clip_config.json").write_text(json.dumps(settings))
    bench.write_tokenizer(clip_repo, 16)
    (clip_repo / "evil.py").write_text("raise SystemExit")
    edit(clip_repo / "tokenizer_config.json", auto_map=dict(AutoTokenizer=["evil.Evil", "evil.Evil"]))
    e = create_encoder("open_clip:hf-hub:tiny/oc")
    assert e.tokenizer(["a cat"]).shape == (1, 16)
    assert e.encode_text(["cat", "dog"]).shape == (2, 24)
    blind = create_encoder("open_clip:hf-hub:tiny/oc")
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert blind(clips(2)).pooled.shape == (2, 2, 24)
    with pytest.raises(ConfigError, match=r"pip install 'vidprism\[transformers\]'"):
        blind.encode_text(["cat"])


def test_siglip_2_of_open_clip_on_a_plain_install(monkeypatch):
    "Its pictures need nothing more; its text says which extra it needs."
    monkeypatch.setitem(sys.modules, "transformers", None)
    with torch.device("meta"):
        e = create_encoder("open_clip:ViT-B-32-SigLIP2-256", bare=True)
    assert e.has_text
    with pytest.raises(ConfigError, match=r"tokenizer of transformers.*pip install 'vidprism\[transformers\]'"):
        e.encode_text(["cat"])


@pytest.fixture
def timm_repo(hub):
    "A repository in timm's layout."
    folder = repository(hub, "net")
    model = bench.seeded(lambda: timm.create_model("test_vit", num_classes=7), 1)
    save_file(model.state_dict(), folder / "model.safetensors")
    prepared = dict(input_size=[3, 160, 160], mean=[0.4] * 3, std=[0.3] * 3, interpolation="bilinear", crop_pct=0.9)
    settings = dict(architecture="test_vit", num_classes=7, pretrained_cfg=prepared | dict(classifier="head"))
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_timm_of_the_hub(timm_repo, tmp_path):
    "timm's own vectors by timm's own preprocessing; saved by its name, or with its weights."
    from PIL import Image

    theirs = timm.create_model("test_vit", num_classes=7).eval()
    theirs.load_state_dict(load_file(timm_repo / "model.safetensors"))
    e = create_encoder("timm:hf-hub:tiny/net")
    assert (e.how.size, e.how.resize, e.how.mean, e.how.interpolation) == (160, 177, (0.4,) * 3, "bilinear")
    x = clips(2, (177, 177))
    prepare = timm.data.create_transform(
        (3, 160, 160), interpolation="bilinear", mean=(0.4,) * 3, std=(0.3,) * 3, crop_pct=0.9
    )
    pictures = torch.stack([prepare(Image.fromarray(f.numpy())) for f in x[0]])
    with torch.no_grad():
        vectors = theirs.forward_head(theirs.forward_features(pictures), pre_logits=True)
    assert torch.allclose(e(x).pooled[0], vectors, atol=1e-4)
    model = VideoModel(e, create_head("mean", e.dim, 3, 4), list("abc")).eval()
    answer = model.predict(sample_clips()[0])
    model.save_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b", encoder=True)
    for saved in ("a", "b"):
        assert VideoModel.from_pretrained(tmp_path / saved).predict(sample_clips()[0]) == answer


@pytest.mark.parametrize(
    "change,word",
    [
        (dict(architecture="local-dir:x"), "names no architecture of timm"),
        (dict(architecture="hf-hub:x/y"), "names no architecture of timm"),
        (dict(architecture=5), "names no architecture of timm"),
        (dict(model_args=dict(checkpoint_path="/etc/passwd")), "may not set checkpoint_path"),
        (dict(model_args=dict(pretrained=True)), "may not set pretrained"),
        (dict(model_args=dict(pretrained_cfg=dict(file="/etc/passwd"))), "may not set pretrained_cfg"),
        (dict(model_args=dict(cache_dir="/etc")), "may not set cache_dir"),
        (dict(model_args=dict(embed_dim=10**9)), "model_args.embed_dim must be"),
        (dict(model_args=dict(embed_dim=60000)), "numbers, and its file has"),
        (dict(model_args=dict(block_fn=dict(a=1))), "model_args.block_fn must be"),
        (dict(model_args=dict(no_such=1)), "cannot be built"),
        (dict(pretrained_cfg=dict(input_size=[3, 10**6, 10**6])), "input_size must be"),
        (dict(pretrained_cfg=dict(std=[0, 0, 0])), "std must be"),
        (dict(pretrained_cfg=[]), "pretrained_cfg must be"),
    ],
)
def test_a_timm_config_that_asks_for_more(change, word, timm_repo):
    edit(timm_repo / "config.json", **change)
    assert word in refusal("timm:hf-hub:tiny/net")


def test_a_timm_config_opens_no_file(timm_repo, monkeypatch):
    "A file, an address or a repository in the settings of the weights is left alone."
    plain = create_encoder("timm:hf-hub:tiny/net")(clips(1)).pooled
    settings = json.loads((timm_repo / "config.json").read_text())
    more = dict(file="/etc/passwd", url="http://nowhere.invalid/x", hf_hub_id="x/y", custom_load=True, source="file")
    edit(timm_repo / "config.json", pretrained_cfg=settings["pretrained_cfg"] | more)
    monkeypatch.setattr("socket.socket.connect", lambda *args: pytest.fail("a request"))
    assert torch.equal(create_encoder("timm:hf-hub:tiny/net")(clips(1)).pooled, plain)


# the command


def test_features_and_training_by_command(hub, tmp_path, capsys, monkeypatch):
    "A video model of the hub: features, training, evaluation; a wrong number of frames is one sentence."
    from vidprism.cli import main

    if "vjepa2" not in KNOWN:
        pytest.skip(f"transformers {transformers.__version__} has no V-JEPA 2")
    bench.plant("vjepa2", hub)
    monkeypatch.setenv("VIDPRISM_CACHE", str(tmp_path / "cache"))
    for k, path in enumerate(sample_clips()[:8]):
        (tmp_path / "clips" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / "ab"[k % 2] / path.name).symlink_to(path)
    what = [str(tmp_path / "clips"), "--encoder", "transformers:tiny/vjepa2"]
    assert main(["features", *what, "--num-frames", "8"]) == 0
    assert "8 clips: 0 found, 8 made, 0 unreadable" in capsys.readouterr().out
    options = ["--num-frames", "8", "--option", "rates=2,4", "--folds", "2", "--epochs", "1"]
    assert main(["train", *what, *options, "--out", str(tmp_path / "model")]) == 0
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 8
    model = VideoModel.from_pretrained(tmp_path / "model")
    assert (model.num_frames, model.head.config.num_frames) == (8, 4)
    assert main(["eval", str(tmp_path / "model"), *what[:1]]) == 0
    assert main(["predict", str(sample_clips()[0]), "--model", str(tmp_path / "model")]) == 0
    capsys.readouterr()
    assert main(["features", *what, "--num-frames", "6"]) == 2
    assert "a multiple of 4, or a multiple of 2 below it, not 6" in capsys.readouterr().err
    assert main(["features", what[0], "--encoder", "transformers:tiny/none"]) == 2
    assert "hf download tiny/none" in capsys.readouterr().err


def test_the_kept_table_holds():
    "What the handbook shows: every difference within 1e-5, of the architectures that the issue names."
    runs = json.loads((ROOT / "benchmarks" / "encoders.json").read_text())["runs"]
    newest = max(runs, key=Version)
    assert {row["key"] for row in runs[newest]["rows"]} == set(bench.TINY)
    for run in runs.values():
        for row in run["rows"]:
            differences = [value for key, value in row.items() if key.endswith("_difference")]
            assert len(differences) >= 2 and max(differences) <= 1e-5, row["key"]
    assert all(f"| {row['title']} |" in handbook() for row in runs[newest]["rows"])
