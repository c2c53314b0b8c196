"""AlexNet (Krizhevsky et al., 2012) with a pooled head."""

from training.backbone import alexnet_stages, torchvision_backbone
from training.networks.cell_network import register

TITLE = "AlexNet"

register("alexnet", torchvision_backbone("alexnet", alexnet_stages, smallest=63))
