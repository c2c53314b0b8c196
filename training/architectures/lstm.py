"""A bidirectional LSTM over windows of genes."""

from training.architectures import architecture
from training.networks.gene_network import RECURRENT, RecurrentGeneNetwork

TITLE = "LSTM"


@architecture("profiles", "multi_target", space=RECURRENT)
class LSTM(RecurrentGeneNetwork):
    """The LSTM's last states and its mean state feed the last layer."""

    cell = "lstm"
