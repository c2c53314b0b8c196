"""EfficientNet-B3 (Tan and Le, 2019)."""

from training.backbone import efficient_stages, torchvision_backbone
from training.networks.cell_network import register

TITLE = "EfficientNet-B3"

register("efficientnet_b3", torchvision_backbone("efficientnet_b3", efficient_stages))
