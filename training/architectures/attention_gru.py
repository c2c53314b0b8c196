"""A bidirectional GRU over windows of genes, read by additive attention."""

from dataclasses import dataclass

from training.architectures import architecture
from training.networks.gene_network import ATTENTION, RecurrentGeneNetwork

TITLE = "Attention GRU"


@architecture("profiles", "multi_target", space=ATTENTION)
@dataclass(eq=False, repr=False, kw_only=True)
class AttentionGRU(RecurrentGeneNetwork):
    """The GRU's states are pooled by attention."""

    window: int = 72

    cell = "gru"
    attends = True
