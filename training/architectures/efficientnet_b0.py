"""EfficientNet-B0 (Tan and Le, 2019)."""

from training.architectures import architecture
from training.backbone import efficient_stages, torchvision_backbone
from training.networks.cell_network import CellNetwork, space

TITLE = "EfficientNet-B0"


@architecture("images", "classification", space=space)
class EfficientNetB0(CellNetwork):
    """A stem, seven stages of inverted bottlenecks, and the last convolution."""

    backbone = torchvision_backbone("efficientnet_b0", efficient_stages)
