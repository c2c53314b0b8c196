"""DenseNet169 (Huang et al., 2017) on gene images."""

from training.backbone import dense_stages
from training.networks.gene_image_network import torchvision_network

TITLE = "DenseNet169"

torchvision_network("densenet169", dense_stages)
