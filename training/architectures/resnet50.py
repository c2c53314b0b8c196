"""ResNet50 (He et al., 2016): a stem and four layers of residual blocks."""

from training.backbone import residual_stages, torchvision_backbone
from training.networks import cell_network, gene_image_network

TITLE = "ResNet50"
_BACKBONE = torchvision_backbone("resnet50", residual_stages, weights="IMAGENET1K_V2")

ResNet50 = cell_network.register("resnet50", _BACKBONE)
GeneResNet50 = gene_image_network.register("resnet50", _BACKBONE)
