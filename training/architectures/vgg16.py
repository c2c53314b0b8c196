"""VGG16 (Simonyan and Zisserman, 2015) with a pooled head: its wide layers are nine tenths of its parameters."""

from training.backbone import torchvision_backbone, vgg_stages
from training.networks.cell_network import register

TITLE = "VGG16"

register("vgg16", torchvision_backbone("vgg16", vgg_stages))
