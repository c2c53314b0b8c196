"""Dense layers with residual connections, from predictor genes to target genes."""

from training.architectures import Range, architecture, joined, ranges
from training.networks.gene_network import SHARED, GeneNetwork

TITLE = "DNN"

SPACE = joined(ranges(learning_rate=Range(1e-4, 3e-3, log=True), width=[128, 256, 384], depth=Range(1, 3)), SHARED)


@architecture("profiles", "multi_target", space=SPACE)
class DNN(GeneNetwork):
    """`training.networks.gene_modules.DenseTrunk` on standardized predictors."""

    learning_rate: float = 5e-4
    weight_decay: float = 3.0
