"""EfficientNet-B3 (Tan and Le, 2019)."""

from training.architectures import architecture
from training.backbone import efficient_stages, torchvision_backbone
from training.networks.cell_network import CellNetwork, space

TITLE = "EfficientNet-B3"


@architecture("images", "classification", space=space)
class EfficientNetB3(CellNetwork):
    """A stem, seven stages of inverted bottlenecks, and the last convolution."""

    backbone = torchvision_backbone("efficientnet_b3", efficient_stages)
