"""EfficientNet-Lite2 (Google, 2020), whose weights an installed package holds, too."""

from training.backbone import lite
from training.networks.cell_network import register

TITLE = "EfficientNet-Lite2"

register("efficientnet_lite2", lite(2))
