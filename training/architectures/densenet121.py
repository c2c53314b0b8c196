"""DenseNet121 (Huang et al., 2017)."""

from training.backbone import dense_stages
from training.networks.cell_network import torchvision_network

TITLE = "DenseNet121"

torchvision_network("densenet121", dense_stages)
