"""AlexNet (Krizhevsky et al., 2012) with a pooled head."""

from training.architectures import architecture
from training.backbone import alexnet_stages, torchvision_backbone
from training.networks.cell_network import CellNetwork, space

TITLE = "AlexNet"


@architecture("images", "classification", space=space)
class AlexNet(CellNetwork):
    """Five convolutions; ends with its last pooling."""

    backbone = torchvision_backbone("alexnet", alexnet_stages, smallest=63)
