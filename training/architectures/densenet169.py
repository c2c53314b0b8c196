"""DenseNet169 (Huang et al., 2017) on gene images."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks.dense import dense_stages
from training.networks.gene_image_network import DEFAULTS, GeneImageNetwork, space


def _create(pretrained: bool) -> nn.Module:
    return models.densenet169(weights=models.DenseNet169_Weights.IMAGENET1K_V1 if pretrained else None)


@architecture("profiles", "classification", space=space, defaults=DEFAULTS)
class DenseNet169(GeneImageNetwork):
    """A stem and four dense blocks, each with the transition after it."""

    backbone = Backbone(_create, dense_stages, smallest=32, source="torchvision IMAGENET1K_V1")
