"""DenseNet121 (Huang et al., 2017)."""

from training.backbone import dense_stages, torchvision_backbone
from training.networks.cell_network import register

TITLE = "DenseNet121"

register("densenet121", torchvision_backbone("densenet121", dense_stages))
