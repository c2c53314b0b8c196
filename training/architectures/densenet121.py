"""DenseNet121 (Huang et al., 2017)."""

from training.architectures import architecture
from training.backbone import dense_stages, torchvision_backbone
from training.networks.cell_network import CellNetwork, space

TITLE = "DenseNet121"


@architecture("images", "classification", space=space)
class DenseNet121(CellNetwork):
    """A stem and four dense blocks, each with the transition after it."""

    backbone = torchvision_backbone("densenet121", dense_stages)
