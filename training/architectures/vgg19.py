"""VGG19 (Simonyan and Zisserman, 2015) on gene images, with a pooled head in place of its wide layers."""

from training.backbone import vgg_stages
from training.networks.gene_image_network import torchvision_network

TITLE = "VGG19"

torchvision_network("vgg19", vgg_stages)
