"""Hold the encoders of transformers' classes against the library's own forward pass, at tiny sizes.

    python benchmarks/encoders.py benchmarks/encoders.json     # with each release of transformers that is to be kept

Each architecture is built from its own config class with random weights, saved in the hub's layout in its own cache,
and made again by `create_encoder("transformers:tiny/NAME")`. The library's processor and model, called by themselves on
the same frames, give the reference. Architectures that the installed transformers lacks are left out."""

import os
import sys
import tempfile
import torch
from pathlib import Path
from typing import NamedTuple

WORDS = ["a", "clip", "of", "walking", "running", "jumping", "video", "photo", "cat", "dog"]
FRAME = (45, 60)  # height and width of the frames, so that every processor has to resize


class Tiny(NamedTuple):
    "How a tiny model of an architecture is made, and how the library itself is asked."

    model: str  # class of transformers
    config: dict
    processor: tuple  # (class, settings)
    refer: object  # (model, pixels [N,3,h,w] or windows [n,t,3,h,w]) -> pooled [.,D], tokens [.,hw,G]
    window: int = 1
    text: str = ""  # kind of tokenizer


def vit(**more) -> dict:
    "Sizes that most vision transformers share."
    sizes = dict(image_size=32, patch_size=8, hidden_size=24, num_hidden_layers=2)
    return sizes | dict(num_attention_heads=2, intermediate_size=32) | more


def text_tower(**more) -> dict:
    "Sizes of a text tower."
    sizes = dict(vocab_size=40, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return sizes | dict(max_position_embeddings=12, pad_token_id=0, bos_token_id=1, eos_token_id=2) | more


def crop(kind: str, **more) -> tuple:
    "A processor that resizes the shorter side to 36 and crops 32."
    return kind, dict(size=dict(shortest_edge=36), crop_size=dict(height=32, width=32)) | more


def squash(kind: str, **more) -> tuple:
    "A processor that resizes both sides to 32."
    return kind, dict(size=dict(height=32, width=32)) | more


# what the library itself gives


def class_token(model, x):
    seen = model(pixel_values=x).last_hidden_state
    return seen[:, 0], seen[:, 1 + getattr(model.config, "num_register_tokens", 0) :]


def features_of(model, call, **inputs):
    "What `get_image_features` and its kin give, in releases that return a tensor and in those that do not."
    found = getattr(model, call)(**inputs)
    return found if torch.is_tensor(found) else found.pooler_output


def clip(model, x):
    tokens = model.vision_model(pixel_values=x).last_hidden_state[:, 1:]
    return features_of(model, "get_image_features", pixel_values=x), tokens


def siglip(model, x):
    tokens = model.vision_model(pixel_values=x).last_hidden_state
    return features_of(model, "get_image_features", pixel_values=x), tokens


def naflex(model, inputs):
    pooled = features_of(model, "get_image_features", **inputs)
    high, wide = inputs["spatial_shapes"][0].tolist()
    values = (inputs["pixel_values"], inputs["pixel_attention_mask"], inputs["spatial_shapes"])
    return pooled, model.vision_model(*values).last_hidden_state[:, : high * wide]


def moments(tokens):
    "Means over places of tokens [n,s,hw,D], and the tokens, moment by moment."
    tokens = tokens.flatten(0, 1)
    return tokens.mean(1), tokens


def tubelets(model, x, name="pixel_values", skip=0, **options):
    seen = model(**{name: x}, **options).last_hidden_state[:, skip:]
    span = model.config.tubelet_size
    span = span if isinstance(span, int) else span[0]
    return moments(seen.reshape(len(x), x.shape[1] // span, -1, seen.shape[-1]))


def vjepa2(model, x):
    return tubelets(model, x, "pixel_values_videos", skip_predictor=True)


def videoprism(model, x):
    return tubelets(model, x, "pixel_values_videos")


def vivit(model, x):
    return tubelets(model, x, skip=1)


def timesformer(model, x):
    "Place by place, and within a place frame by frame."
    seen = model(pixel_values=x).last_hidden_state[:, 1:]
    return moments(seen.reshape(len(x), -1, x.shape[1], seen.shape[-1]).permute(0, 2, 1, 3))


def videoprism_clip(model, x):
    video = features_of(model, "get_video_features", pixel_values_videos=x)
    tokens = model.video_model(pixel_values_videos=x).last_hidden_state
    places = tokens.reshape(len(x), x.shape[1], -1, tokens.shape[-1]).mean(1)
    return video.reshape(len(x), -1), places


def xclip(model, x):
    "A frame's vector behind the MIT; their mean is the library's video embedding."
    seen = model.vision_model(pixel_values=x.flatten(0, 1))
    frames = model.visual_projection(seen.pooler_output).reshape(*x.shape[:2], -1)
    out = model.mit(frames)[0]
    video = features_of(model, "get_video_features", pixel_values=x)
    assert (out.mean(1) - video).abs().max() < 1e-6
    return out.flatten(0, 1), seen.last_hidden_state[:, 1:]


def video(**more) -> dict:
    "Sizes of a video transformer of 4 frames."
    return vit(num_frames=4) | more


TUBELET = dict(tubelet_size=[2, 8, 8])
VJEPA = dict(crop_size=32, frames_per_clip=4, mlp_ratio=2.0, pred_hidden_size=24, pred_num_attention_heads=2)
PRISM = dict(tubelet_size=[1, 8, 8], num_spatial_layers=1, num_temporal_layers=1, num_auxiliary_layers=1)
TINY = {
    "vjepa2": Tiny(
        "VJEPA2Model",
        dict(model_type="vjepa2", **vit(pred_num_hidden_layers=1), **VJEPA),
        crop("VJEPA2VideoProcessor"),
        vjepa2,
        4,
    ),
    "videoprism": Tiny(
        "VideoPrismVisionModel",
        dict(model_type="videoprism_vision_model", **video(), **PRISM),
        squash("LlavaOnevisionVideoProcessor", do_normalize=False),
        videoprism,
        4,
    ),
    "videoprism-lvt": Tiny(
        "VideoPrismClipModel",
        dict(model_type="videoprism", vision_config=dict(**video(), **PRISM), text_config=text_tower()),
        squash("LlavaOnevisionVideoProcessor", do_normalize=False),
        videoprism_clip,
        4,
        "plain",
    ),
    "xclip": Tiny(
        "XCLIPModel",
        dict(
            model_type="xclip",
            projection_dim=16,
            prompt_layers=1,
            prompt_num_attention_heads=2,
            vision_config=video(
                mit_hidden_size=16, mit_intermediate_size=32, mit_num_hidden_layers=1, mit_num_attention_heads=2
            ),
            text_config=text_tower(),
        ),
        crop("VideoMAEImageProcessor"),
        xclip,
        4,
        "plain",
    ),
    "timesformer": Tiny(
        "TimesformerModel", dict(model_type="timesformer", **video()), crop("VideoMAEImageProcessor"), timesformer, 4
    ),
    "vivit": Tiny("VivitModel", dict(model_type="vivit", **video(), **TUBELET), crop("VivitImageProcessor"), vivit, 4),
    "videomae": Tiny(
        "VideoMAEModel",
        dict(model_type="videomae", use_mean_pooling=False, **video()),
        crop("VideoMAEImageProcessor"),
        tubelets,
        4,
    ),
    "siglip2": Tiny(
        "SiglipModel",
        dict(model_type="siglip", vision_config=vit(), text_config=text_tower(projection_size=24)),
        squash("SiglipImageProcessor", resample=2),
        siglip,
        text="plain",
    ),
    "siglip2-naflex": Tiny(
        "Siglip2Model",
        dict(
            model_type="siglip2",
            vision_config={**vit(num_patches=16), "image_size": None},
            text_config=text_tower(projection_size=24),
        ),
        ("Siglip2ImageProcessor", dict(patch_size=8, max_num_patches=20)),
        naflex,
        text="plain",
    ),
    "dinov3": Tiny(
        "DINOv3ViTModel",
        dict(model_type="dinov3_vit", **vit(num_register_tokens=3)),
        squash("DINOv3ViTImageProcessorFast"),
        class_token,
    ),
    "dinov3-convnext": Tiny(
        "DINOv3ConvNextModel",
        dict(model_type="dinov3_convnext", image_size=32, depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 12, 16]),
        ("DINOv3ViTImageProcessorFast", dict(size=dict(height=64, width=64))),
        class_token,
    ),
    "dinov2": Tiny(
        "Dinov2Model", dict(model_type="dinov2", **vit(mlp_ratio=2)), crop("BitImageProcessor"), class_token
    ),
    "dinov2-registers": Tiny(
        "Dinov2WithRegistersModel",
        dict(model_type="dinov2_with_registers", **vit(mlp_ratio=2, num_register_tokens=4)),
        crop("BitImageProcessor"),
        class_token,
    ),
    "vit": Tiny("ViTModel", dict(model_type="vit", **vit()), squash("ViTImageProcessor"), class_token),
    "clip": Tiny(
        "CLIPModel",
        dict(model_type="clip", projection_dim=16, vision_config=vit(projection_dim=16), text_config=text_tower()),
        crop("CLIPImageProcessor"),
        clip,
        text="plain",
    ),
}


def seeded(make, seed: int):
    "A model made with a seed, all its weights drawn from a normal distribution."
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().eval()
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return model


def write_tokenizer(folder: Path, length: int):
    "A tokenizer of whole words, which ends a sentence with the highest id, as CLIP's does."
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", *WORDS]
    own = Tokenizer(models.WordLevel({word: i for i, word in enumerate(names)}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    inputs = ["input_ids", "attention_mask"]
    special = dict(model_input_names=inputs, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=length, **special).save_pretrained(folder)


def processor_class(name: str):
    "A processor of the installed transformers; newer releases have dropped the word Fast."
    import transformers

    return getattr(transformers, name, None) or getattr(transformers, name.removesuffix("Fast"))


def write_tiny(name: str, folder: Path, seed: int = 0):
    "Write a tiny model in the hub's layout; the model."
    import transformers

    tiny = TINY[name]
    settings = {key: value for key, value in tiny.config.items() if key != "model_type"}
    config = transformers.CONFIG_MAPPING[tiny.config["model_type"]](**settings)
    model = seeded(lambda: getattr(transformers, tiny.model)(config), seed)
    model.save_pretrained(folder)
    kind, given = tiny.processor
    processor_class(kind)(**given).save_pretrained(folder)
    if tiny.text:
        write_tokenizer(folder, 12)
    return model


def plant(name: str, hub: Path, seed: int = 0) -> Path:
    "Write a tiny model into a hub's cache as tiny/NAME; its folder there."
    repo = hub / f"models--tiny--{name}"
    commit = "0" * 40
    folder = repo / "snapshots" / commit
    folder.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    write_tiny(name, folder, seed)
    return folder


def is_known(name: str) -> bool:
    "Whether the installed transformers has an architecture."
    import transformers

    return TINY[name].config["model_type"] in transformers.CONFIG_MAPPING


def prepared(folder: Path, frames, window: int):
    "Frames [N,H,W,3] as the library's own processor prepares them: pixels, windows, or SigLIP 2's dict."
    import transformers

    pictures = list(frames.numpy())
    kind = TINY[folder.parents[1].name.removeprefix("models--tiny--")].processor[0]
    if "Video" in kind and "Image" not in kind:
        processor = transformers.AutoVideoProcessor.from_pretrained(folder)
        found = processor(videos=[frames.permute(0, 3, 1, 2)], do_sample_frames=False, return_tensors="pt")
    else:
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        found = processor(images=pictures, return_tensors="pt")
    if "spatial_shapes" in found:
        return dict(found)
    x = found["pixel_values_videos"] if "pixel_values_videos" in found else found["pixel_values"]
    x = x.flatten(0, x.ndim - 4)
    return x if window == 1 else x.unflatten(0, (-1, window))


def compare(name: str, hub: Path, seed: int = 0, size: tuple = FRAME) -> dict:
    "The largest differences between the kit's features and the library's own, and what the encoder is."
    import transformers
    from vidprism.encoders.factory import create_encoder

    tiny = TINY[name]
    folder = plant(name, hub, seed)
    model = getattr(transformers, tiny.model).from_pretrained(folder).eval()
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randint(0, 256, (2, 8, *size, 3), dtype=torch.uint8, generator=generator)
    encoder = create_encoder(f"transformers:tiny/{name}")
    seen = encoder(clips, grid=True)
    with torch.no_grad():
        pooled, tokens = tiny.refer(model, prepared(folder, clips.flatten(0, 1), tiny.window))
    grid = seen.grid.flatten(0, 1).flatten(1, 2)
    assert seen.pooled.shape[:2] == seen.grid.shape[:2] == (2, 8 // encoder.span)
    found = dict(
        title=encoder.kind.title,
        model=tiny.model,
        name=f"transformers:ORG/REPO ({tiny.config['model_type']})",
        pooled=encoder.kind.pooled,
        span=encoder.span,
        mixes_time=encoder.window > 1,
        lengths=encoder.kind.kind,
        text=encoder.has_text,
        pooled_difference=(seen.pooled.flatten(0, 1) - pooled).abs().max().item(),
        grid_difference=(grid - tokens).abs().max().item(),
        largest=pooled.abs().max().item(),
    )
    if tiny.text:
        found["text_difference"] = compare_text(encoder, model, folder)
    return found


def compare_text(encoder, model, folder: Path) -> float:
    "The largest difference between the kit's text embeddings and the library's own."
    from transformers import AutoTokenizer

    sentences = ["a clip of running", "dog", "a photo of walking cat"]
    tokens = AutoTokenizer.from_pretrained(folder)(
        sentences, padding="max_length", max_length=12, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        own = features_of(model, "get_text_features", **tokens)
        return (encoder.encode_sentences(sentences) - own).abs().max().item()


def main(out: Path):
    "Compare all that the installed transformers has, and keep the table beside those of other releases."
    import transformers
    from vidprism.files import write_json
    from vidprism.schema import read_kept

    hub = Path(os.environ["HF_HUB_CACHE"])
    rows = [compare(name, hub) | dict(key=name) for name in TINY if is_known(name)]
    runs = read_kept(out).get("runs", {})
    runs[transformers.__version__] = dict(torch=torch.__version__.partition("+")[0], rows=rows)
    write_json(out, dict(runs=runs))
    for row in rows:
        print(f"{row['key']:18} pooled {row['pooled_difference']:.1e}  grid {row['grid_difference']:.1e}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:
        os.environ |= dict(HF_HUB_CACHE=cache, HF_HUB_OFFLINE="1")
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/encoders.json"))
