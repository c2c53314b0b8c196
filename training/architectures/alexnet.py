"""AlexNet (Krizhevsky et al., 2012) with a pooled head."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks.cell_network import DEFAULTS, CellNetwork, space


def _create(pretrained: bool) -> nn.Module:
    return models.alexnet(weights=models.AlexNet_Weights.IMAGENET1K_V1 if pretrained else None)


def _stages(network: nn.Module) -> list[nn.Module]:
    layers = list(network.get_submodule("features").children())
    return [nn.Sequential(*layers[start:end]) for start, end in ((0, 3), (3, 6), (6, 8), (8, 10), (10, 13))]


@architecture("images", "classification", space=space, defaults=DEFAULTS)
class AlexNet(CellNetwork):
    """Five convolutions; ends with its last pooling."""

    backbone = Backbone(_create, _stages, smallest=63, source="torchvision IMAGENET1K_V1")
