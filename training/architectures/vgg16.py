"""VGG16 (Simonyan and Zisserman, 2015) with a pooled head: its wide layers are nine tenths of its parameters."""

from training.backbone import vgg_stages
from training.networks.cell_network import torchvision_network

TITLE = "VGG16"

torchvision_network("vgg16", vgg_stages)
