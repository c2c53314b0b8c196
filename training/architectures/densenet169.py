"""DenseNet169 (Huang et al., 2017) on gene images."""

from training.backbone import dense_stages, torchvision_backbone
from training.networks.gene_image_network import register

TITLE = "DenseNet169"

register("densenet169", torchvision_backbone("densenet169", dense_stages))
