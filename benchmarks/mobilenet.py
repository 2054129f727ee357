"""MobileNet-EdgeTPU, trained on ImageNet, as an encoder of one's own.

Its name is `own:benchmarks/mobilenet.py:make`, wherever the kit takes an encoder's name. The weights are not the
kit's: they are looked for in ../shared beside the checkout, or where VIDPRISM_SHARED says."""

import os
from pathlib import Path
from torch import nn
from vidprism.encoders.base import Features, FrameEncoder, Preprocess
from vidprism.errors import ConfigError

SHARED = Path(os.environ.get("VIDPRISM_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def load_network(path):
    "MobileNet-EdgeTPU as shared/weights/README.md loads it."
    import timm
    from safetensors.torch import load_file

    network = timm.create_model("mobilenet_edgetpu_100", pad_type="same", num_classes=1001)
    network.blocks[0][0].bn1.act = nn.Identity()
    network.load_state_dict({k: v.float() for k, v in load_file(path).items()}, strict=False)
    return network


class Mobile(nn.Module):
    "A mobile network of timm without its classifier."

    def __init__(self, network):
        super().__init__()
        self.net = network

    def forward(self, x):
        return self.net.forward_head(self.net.forward_features(x), pre_logits=True)


class MobileEncoder(FrameEncoder):
    "A mobile network of timm: frames to 1280 numbers each, and the 7x7 map before the pooling."

    def __init__(self, name, network, how):
        super().__init__(name, 1280, how)
        self.model = Mobile(network).requires_grad_(False).eval()

    def encode(self, x, grid=False):
        seen = self.model.net.forward_features(x)
        pooled = self.model.net.forward_head(seen, pre_logits=True)
        return Features(pooled, seen.permute(0, 2, 3, 1) if grid else None)


def make(path=SHARED / "weights" / "mobilenet_edgetpu_100.imagenet1k.safetensors"):
    "The encoder, frozen."
    path = Path(path)
    if not path.is_file():
        place = f"{path.name} in {path.parent.name}/ of VIDPRISM_SHARED"
        raise ConfigError(f"The encoder's weights are not here: {place}.")
    how = Preprocess(224, (128 / 255,) * 3, (127 / 255,) * 3)
    return MobileEncoder("own:mobilenet_edgetpu_100/imagenet1k", load_network(path), how)
