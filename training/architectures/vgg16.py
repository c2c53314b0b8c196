"""VGG16 (Simonyan and Zisserman, 2015) with a pooled head: its wide layers are nine tenths of its parameters."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks.cell_network import DEFAULTS, CellNetwork, space
from training.networks.vgg import vgg_stages


def _create(pretrained: bool) -> nn.Module:
    return models.vgg16(weights=models.VGG16_Weights.IMAGENET1K_V1 if pretrained else None)


@architecture("images", "classification", space=space, defaults=DEFAULTS)
class VGG16(CellNetwork):
    """Five stages of convolutions, each ended by pooling."""

    backbone = Backbone(_create, vgg_stages, smallest=32, source="torchvision IMAGENET1K_V1")
