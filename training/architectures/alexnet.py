"""AlexNet (Krizhevsky et al., 2012) with a pooled head."""

from training.backbone import alexnet_stages
from training.networks.cell_network import torchvision_network

TITLE = "AlexNet"

torchvision_network("alexnet", alexnet_stages, smallest=63)
