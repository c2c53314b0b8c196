"""VGG16 (Simonyan and Zisserman, 2015) with a pooled head: its wide layers are nine tenths of its parameters."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.transfer import DEFAULTS, TransferNetwork, space


def _create(pretrained: bool) -> nn.Module:
    return models.vgg16(weights=models.VGG16_Weights.IMAGENET1K_V1 if pretrained else None)


def _stages(network: nn.Module) -> list[nn.Module]:
    layers = list(network.get_submodule("features").children())
    ends = [position + 1 for position, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return [nn.Sequential(*layers[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


@architecture("vgg16", kind="images", space=space, defaults=DEFAULTS)
class VGG16(TransferNetwork):
    """Five stages of convolutions, each ended by pooling."""

    backbone = Backbone(_create, _stages, smallest=32, source="torchvision IMAGENET1K_V1")
