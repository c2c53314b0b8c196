"""VGG16 (Simonyan and Zisserman, 2015) with a pooled head: its wide layers are nine tenths of its parameters."""

from training.architectures import architecture
from training.backbone import torchvision_backbone, vgg_stages
from training.networks.cell_network import CellNetwork, space

TITLE = "VGG16"


@architecture("images", "classification", space=space)
class VGG16(CellNetwork):
    """Five stages of convolutions, each ended by pooling."""

    backbone = torchvision_backbone("vgg16", vgg_stages)
