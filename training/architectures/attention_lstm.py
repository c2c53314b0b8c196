"""A bidirectional LSTM over windows of genes, read by additive attention."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from training.architectures import architecture
from training.networks.gene_network import RecurrentGeneNetwork, recurrent_space

if TYPE_CHECKING:
    import optuna


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {**recurrent_space(trial, settings), "heads": trial.suggest_categorical("heads", [1, 2, 4])}


DEFAULTS = {
    "window": 72,
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
    "heads": 2,
}


@architecture("attention_lstm", family="gene_targets", space=space, defaults=DEFAULTS)
class AttentionLSTM(RecurrentGeneNetwork):
    """The LSTM's states are pooled by attention, whose weights say which windows are looked at."""

    cell = "lstm"
    attends = True
