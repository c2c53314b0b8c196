"""Xception (Chollet, 2017), from timm: torchvision has none."""

import timm
from torch import nn

from training.backbone import Backbone
from training.networks import cell_network, gene_image_network


def _create(pretrained: bool) -> nn.Module:
    return timm.create_model("legacy_xception.tf_in1k", pretrained=pretrained)


def _stages(network: nn.Module) -> list[nn.Module]:
    part = network.get_submodule
    stem = [part(name) for name in ("conv1", "bn1", "act1", "conv2", "bn2", "act2")]
    end = [part(name) for name in ("conv3", "bn3", "act3", "conv4", "bn4", "act4")]
    blocks = [part(f"block{number}") for number in range(1, 13)]
    return [nn.Sequential(*each) for each in (stem, blocks[:3], blocks[3:7], blocks[7:11], [*blocks[11:], *end])]


_BACKBONE = Backbone(
    _create, _stages, smallest=71, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), source="timm legacy_xception.tf_in1k"
)

cell_network.register("xception", _BACKBONE)
gene_image_network.register("xception", _BACKBONE)
