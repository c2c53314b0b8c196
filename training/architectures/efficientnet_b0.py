"""EfficientNet-B0 (Tan and Le, 2019)."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks.cell_network import DEFAULTS, CellNetwork, space


def _create(pretrained: bool) -> nn.Module:
    return models.efficientnet_b0(weights=models.EfficientNet_B0_Weights.IMAGENET1K_V1 if pretrained else None)


def _stages(network: nn.Module) -> list[nn.Module]:
    return list(network.get_submodule("features").children())


@architecture("images", "classification", space=space, defaults=DEFAULTS)
class EfficientNetB0(CellNetwork):
    """A stem, seven stages of inverted bottlenecks, and the last convolution."""

    backbone = Backbone(_create, _stages, smallest=32, source="torchvision IMAGENET1K_V1")
