"""ResNet50 (He et al., 2016)."""

from training.architectures import architecture
from training.backbone import residual_stages, torchvision_backbone
from training.networks import cell_network, gene_image_network

TITLE = "ResNet50"
_BACKBONE = torchvision_backbone("resnet50", residual_stages, weights="IMAGENET1K_V2")


@architecture("images", "classification", space=cell_network.space)
class ResNet50(cell_network.CellNetwork):
    """A stem and four layers of residual blocks."""

    backbone = _BACKBONE


@architecture("profiles", "classification", space=gene_image_network.space)
class GeneResNet50(gene_image_network.GeneImageNetwork):
    """The same on gene images."""

    backbone = _BACKBONE
