"""EfficientNet-Lite0 (Google, 2020), the network that needs no download; trees see images by it, too."""

from functools import partial

from training.architectures import architecture
from training.backbone import LITE
from training.networks.cell_network import CellNetwork, space

TITLE = "EfficientNet-Lite0"


@architecture("images", "classification", space=partial(space, backbone=LITE))
class EfficientNetLite0(CellNetwork):
    """A stem, seven stages of inverted bottlenecks, and the last convolution."""

    backbone = LITE
