"""The search spaces that the networks from genes to genes share, and where the recurrent ones start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


def shared_space(trial: optuna.Trial) -> dict[str, Any]:
    """Draw the hyperparameters that all these networks have."""
    return {
        "dropout": trial.suggest_float("dropout", 0.0, 0.5),
        "noise": trial.suggest_float("noise", 0.0, 1.0),
        "mixup": trial.suggest_categorical("mixup", [0.0, 0.2, 0.4, 1.0]),
        "weight_decay": trial.suggest_float("weight_decay", 0.03, 10.0, log=True),
        "batch_size": trial.suggest_categorical("batch_size", [64, 128]),
        "linear_start": trial.suggest_categorical("linear_start", [0.0, 0.5, 0.9]),
    }


def recurrent_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the hyperparameters of a recurrent network; ``settings["orders"]`` are the orders of genes to try.

    The order along the genome is no default: not all samples say where their genes lie.
    """
    return {
        "learning_rate": trial.suggest_float("learning_rate", 3e-4, 6e-3, log=True),
        "width": trial.suggest_categorical("width", [32, 64]),
        "depth": trial.suggest_int("depth", 1, 2),
        "window": trial.suggest_categorical("window", [48, 72, 96]),
        "embedding": trial.suggest_categorical("embedding", [64, 128]),
        "order": trial.suggest_categorical("order", list(settings.get("orders", ("table", "correlation")))),
        **shared_space(trial),
    }


def attention_space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the hyperparameters of a recurrent network whose states are pooled by attention."""
    return {**recurrent_space(trial, settings), "heads": trial.suggest_categorical("heads", [1, 2, 4])}
