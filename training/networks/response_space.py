"""The search space that the networks of drug response share; each adds what its encoders want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.features.cell_line_choices import cell_line_space

if TYPE_CHECKING:
    import optuna


def response_space(
    trial: optuna.Trial,
    settings: Mapping[str, Any],
    *,
    learning_rate: tuple[float, float],
    dropout: float,
    batch_sizes: Sequence[int] = (2048, 4096),
    omics: Sequence[str] = ("expression", "all"),
) -> dict[str, Any]:
    """Draw the fields of `training.networks.response_network.ResponseNetwork`.

    Parameters
    ----------
    trial, settings
        As an architecture's space takes them.
    learning_rate
        Lowest and highest.
    dropout
        The highest.
    batch_sizes
        Choices.
    omics
        Choices of tables, see `cell_line_space`.
    """
    return {
        "learning_rate": trial.suggest_float("learning_rate", *learning_rate, log=True),
        "layers": trial.suggest_int("layers", 1, 3),
        "units": trial.suggest_categorical("units", [64, 128, 256]),
        "activation": trial.suggest_categorical("activation", ["relu", "tanh", "silu"]),
        "dropout": trial.suggest_float("dropout", 0.0, dropout),
        "batch_size": trial.suggest_categorical("batch_size", batch_sizes),
        "weight_decay": trial.suggest_float("weight_decay", 1e-4, 1.0, log=True),
        **cell_line_space(trial, settings, omics=omics),
        "identity": trial.suggest_categorical("identity", ["profile", "one_hot", "none"]),
    }
