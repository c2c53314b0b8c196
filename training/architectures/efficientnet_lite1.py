"""EfficientNet-Lite1 (Google, 2020), whose weights an installed package holds, too."""

from training.backbone import lite
from training.networks.cell_network import register

TITLE = "EfficientNet-Lite1"

register("efficientnet_lite1", lite(1))
