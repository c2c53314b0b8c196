"""A bidirectional LSTM over windows of genes, read by additive attention."""

from __future__ import annotations

from training.architectures import architecture
from training.networks.gene_network import RecurrentGeneNetwork
from training.networks.gene_space import ATTENTION_DEFAULTS, attention_space


@architecture("profiles", "multi_target", space=attention_space, defaults=ATTENTION_DEFAULTS)
class AttentionLSTM(RecurrentGeneNetwork):
    """The LSTM's states are pooled by attention, whose weights say which windows are looked at."""

    cell = "lstm"
    attends = True
