"""ResNet50 (He et al., 2016)."""

from __future__ import annotations

from torch import nn
from torchvision import models

from training.architectures import architecture
from training.backbone import Backbone
from training.networks import cell_network, gene_image_network


def _create(pretrained: bool) -> nn.Module:
    return models.resnet50(weights=models.ResNet50_Weights.IMAGENET1K_V2 if pretrained else None)


def _stages(network: nn.Module) -> list[nn.Module]:
    stem = nn.Sequential(*(network.get_submodule(name) for name in ("conv1", "bn1", "relu", "maxpool")))
    return [stem, *(network.get_submodule(f"layer{number}") for number in (1, 2, 3, 4))]


_BACKBONE = Backbone(_create, _stages, smallest=32, source="torchvision IMAGENET1K_V2")


@architecture("images", "classification", space=cell_network.space, defaults=cell_network.DEFAULTS)
class ResNet50(cell_network.CellNetwork):
    """A stem and four layers of residual blocks."""

    backbone = _BACKBONE


@architecture(
    "profiles",
    "classification",
    space=gene_image_network.space,
    defaults=gene_image_network.DEFAULTS,
)
class GeneResNet50(gene_image_network.GeneImageNetwork):
    """The same on gene images."""

    backbone = _BACKBONE
