"""DenseNet201 (Huang et al., 2017)."""

from training.architectures import architecture
from training.backbone import dense_stages, torchvision_backbone
from training.networks.cell_network import CellNetwork, space

TITLE = "DenseNet201"


@architecture("images", "classification", space=space)
class DenseNet201(CellNetwork):
    """A stem and four dense blocks, each with the transition after it."""

    backbone = torchvision_backbone("densenet201", dense_stages)
