"""The search space that the networks of drug response share; each adds what its encoders want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from training.architectures import Range, draw
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
    """Draw the fields of `ResponseNetwork`; ``learning_rate`` has bounds, ``dropout`` an upper bound."""
    shared = draw(
        trial,
        learning_rate=Range(*learning_rate, log=True),
        layers=Range(1, 3),
        units=[64, 128, 256],
        activation=["relu", "tanh", "silu"],
        dropout=Range(0.0, dropout),
        batch_size=batch_sizes,
        weight_decay=Range(1e-4, 1.0, log=True),
    )
    shared |= cell_line_space(trial, settings, omics=omics)
    return shared | draw(trial, identity=["profile", "one_hot", "none"])
