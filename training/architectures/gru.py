"""A bidirectional GRU over windows of genes."""

from training.architectures import architecture
from training.networks.gene_network import RECURRENT, RecurrentGeneNetwork

TITLE = "GRU"


@architecture("profiles", "multi_target", space=RECURRENT)
class GRU(RecurrentGeneNetwork):
    """The GRU's last states and its mean state feed the last layer."""

    cell = "gru"
