"""A bidirectional GRU over windows of genes, read by additive attention."""

from __future__ import annotations

from training.architectures import architecture
from training.networks.gene_network import RecurrentGeneNetwork
from training.networks.gene_space import ATTENTION_DEFAULTS, attention_space


@architecture("profiles", "multi_target", space=attention_space, defaults=ATTENTION_DEFAULTS)
class AttentionGRU(RecurrentGeneNetwork):
    """The GRU's states are pooled by attention, whose weights say which windows are looked at."""

    cell = "gru"
    attends = True
