"""EfficientNet-B3 (Tan and Le, 2019)."""

from training.architectures import architecture
from training.networks.cell_network import CellNetwork, space
from training.networks.torchvision_backbone import efficient_stages, torchvision_backbone

TITLE = "EfficientNet-B3"


@architecture("images", "classification", space=space)
class EfficientNetB3(CellNetwork):
    """A stem, seven stages of inverted bottlenecks, and the last convolution."""

    backbone = torchvision_backbone("efficientnet_b3", efficient_stages)
