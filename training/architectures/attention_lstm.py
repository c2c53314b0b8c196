"""A bidirectional LSTM over windows of genes, read by additive attention."""

from dataclasses import dataclass

from training.architectures import architecture
from training.networks.gene_network import ATTENTION, RecurrentGeneNetwork

TITLE = "Attention LSTM"


@architecture("profiles", "multi_target", space=ATTENTION)
@dataclass(eq=False, repr=False, kw_only=True)
class AttentionLSTM(RecurrentGeneNetwork):
    """The LSTM's states are pooled by attention."""

    window: int = 72

    cell = "lstm"
    attends = True
