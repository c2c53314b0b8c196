"""DenseNet169 (Huang et al., 2017) on gene images."""

from training.architectures import architecture
from training.backbone import dense_stages, torchvision_backbone
from training.networks.gene_image_network import GeneImageNetwork, space

TITLE = "DenseNet169"


@architecture("profiles", "classification", space=space)
class DenseNet169(GeneImageNetwork):
    """A stem and four dense blocks, each with the transition after it."""

    backbone = torchvision_backbone("densenet169", dense_stages)
