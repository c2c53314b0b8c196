"""VGG19 (Simonyan and Zisserman, 2015) on gene images, with a pooled head in place of its wide layers."""

from training.architectures import architecture
from training.backbone import torchvision_backbone, vgg_stages
from training.networks.gene_image_network import GeneImageNetwork, space

TITLE = "VGG19"


@architecture("profiles", "classification", space=space)
class VGG19(GeneImageNetwork):
    """Five stages of convolutions, each ended by pooling."""

    backbone = torchvision_backbone("vgg19", vgg_stages)
