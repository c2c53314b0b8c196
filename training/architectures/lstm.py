"""A bidirectional LSTM over windows of genes."""

from __future__ import annotations

from training.architectures import architecture
from training.networks.gene_network import RecurrentGeneNetwork, recurrent_space

DEFAULTS = {
    "window": 96,
    "embedding": 128,
    "width": 64,
    "depth": 1,
    "order": "correlation",
    "learning_rate": 2e-3,
    "weight_decay": 1.0,
    "dropout": 0.4,
    "noise": 0.3,
    "mixup": 0.4,
    "batch_size": 64,
    "linear_start": 0.5,
}


@architecture("lstm", family="gene_targets", space=recurrent_space, defaults=DEFAULTS)
class LSTM(RecurrentGeneNetwork):
    """The LSTM's last states and its mean state feed the last layer."""

    cell = "lstm"
