"""Torchvision's networks as backbones: how their features are cut into stages, and where their weights come from."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torchvision.models import get_model

from training.backbone import Backbone


def torchvision_backbone(
    name: str, stages: Callable[[nn.Module], list[nn.Module]], *, smallest: int = 32, weights: str = "IMAGENET1K_V1"
) -> Backbone:
    """Return torchvision's network ``name``; ``weights`` is the name of its ImageNet weights."""

    def create(pretrained: bool) -> nn.Module:
        return get_model(name, weights=weights if pretrained else None)

    return Backbone(create, stages, smallest=smallest, source=f"torchvision {weights}")


def alexnet_stages(network: nn.Module) -> list[nn.Module]:
    """Return AlexNet's five convolutions, each with its activation and the pooling after it."""
    layers = list(network.get_submodule("features").children())
    return [nn.Sequential(*layers[start:end]) for start, end in ((0, 3), (3, 6), (6, 8), (8, 10), (10, 13))]


def vgg_stages(network: nn.Module) -> list[nn.Module]:
    """Return VGG's convolutions, each stage ended by pooling."""
    layers = list(network.get_submodule("features").children())
    ends = [position + 1 for position, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    return [nn.Sequential(*layers[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def dense_stages(network: nn.Module) -> list[nn.Module]:
    """Return DenseNet's stem and four dense blocks; the last ends with DenseNet's last activation."""
    layers = dict(network.get_submodule("features").named_children())
    stem = [layers[name] for name in ("conv0", "norm0", "relu0", "pool0")]
    blocks = [nn.Sequential(layers[f"denseblock{n}"], layers[f"transition{n}"]) for n in (1, 2, 3)]
    return [nn.Sequential(*stem), *blocks, nn.Sequential(layers["denseblock4"], layers["norm5"], nn.ReLU())]


def residual_stages(network: nn.Module) -> list[nn.Module]:
    """Return ResNet's stem and four layers of residual blocks."""
    stem = nn.Sequential(*(network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")))
    return [stem, *(network.get_submodule(f"layer{number}") for number in (1, 2, 3, 4))]


def efficient_stages(network: nn.Module) -> list[nn.Module]:
    """Return EfficientNet's stem, seven stages of inverted bottlenecks, and the last convolution."""
    return list(network.get_submodule("features").children())
