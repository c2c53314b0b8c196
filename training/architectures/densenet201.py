"""DenseNet201 (Huang et al., 2017)."""

from training.backbone import dense_stages
from training.networks.cell_network import torchvision_network

TITLE = "DenseNet201"

torchvision_network("densenet201", dense_stages)
