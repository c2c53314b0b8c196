"""VGG's layers as stages."""

from __future__ import annotations

from torch import nn


def vgg_stages(network: nn.Module) -> list[nn.Module]:
    """Return the stages of torchvision's VGG: convolutions, each stage ended by pooling."""
    layers = list(network.get_submodule("features").children())
    ends = [position + 1 for position, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return [nn.Sequential(*layers[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
