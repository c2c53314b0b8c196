"""DenseNet201 (Huang et al., 2017)."""

from training.backbone import dense_stages, torchvision_backbone
from training.networks.cell_network import register

TITLE = "DenseNet201"

register("densenet201", torchvision_backbone("densenet201", dense_stages))
