"""DenseNet201 (Huang et al., 2017)."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks.cell_network import DEFAULTS, CellNetwork, space
from training.networks.dense import dense_stages


def _create(pretrained: bool) -> nn.Module:
    return models.densenet201(weights=models.DenseNet201_Weights.IMAGENET1K_V1 if pretrained else None)


@architecture("images", "classification", space=space, defaults=DEFAULTS)
class DenseNet201(CellNetwork):
    """A stem and four dense blocks, each with the transition after it."""

    backbone = Backbone(_create, dense_stages, smallest=32, source="torchvision IMAGENET1K_V1")
