"""VGG19 (Simonyan and Zisserman, 2015) on gene images, with a pooled head in place of its wide layers."""

from training.backbone import torchvision_backbone, vgg_stages
from training.networks.gene_image_network import register

TITLE = "VGG19"

register("vgg19", torchvision_backbone("vgg19", vgg_stages))
