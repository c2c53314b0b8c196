"""EfficientNet-B3 (Tan and Le, 2019)."""

from training.backbone import efficient_stages
from training.networks.cell_network import torchvision_network

TITLE = "EfficientNet-B3"

torchvision_network("efficientnet_b3", efficient_stages)
