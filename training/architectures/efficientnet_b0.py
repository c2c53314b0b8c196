"""EfficientNet-B0 (Tan and Le, 2019)."""

from training.backbone import efficient_stages, torchvision_backbone
from training.networks.cell_network import register

TITLE = "EfficientNet-B0"

register("efficientnet_b0", torchvision_backbone("efficientnet_b0", efficient_stages))
