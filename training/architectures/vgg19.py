"""VGG19 (Simonyan and Zisserman, 2015) on gene images, with a pooled head in place of its wide layers."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks.gene_image_network import DEFAULTS, GeneImageNetwork, space
from training.networks.vgg import vgg_stages


def _create(pretrained: bool) -> nn.Module:
    return models.vgg19(weights=models.VGG19_Weights.IMAGENET1K_V1 if pretrained else None)


@architecture("profiles", "classification", space=space, defaults=DEFAULTS)
class VGG19(GeneImageNetwork):
    """Five stages of convolutions, each ended by pooling."""

    backbone = Backbone(_create, vgg_stages, smallest=32, source="torchvision IMAGENET1K_V1")
