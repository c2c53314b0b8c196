"""Dense layers with residual connections, from predictor genes to target genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.architectures import architecture
from training.networks.gene_modules import DenseTrunk
from training.networks.gene_network import GeneNetwork
from training.networks.gene_space import shared_space

if TYPE_CHECKING:
    import optuna

TITLE = "DNN"


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters; the order of genes is not among them, since dense layers do not see it."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-3, log=True),
        "width": trial.suggest_categorical("width", [128, 256, 384]),
        "depth": trial.suggest_int("depth", 1, 3),
        **shared_space(trial),
    }


@architecture("profiles", "multi_target", space=space)
@dataclass(eq=False, repr=False, kw_only=True)
class DNN(GeneNetwork):
    """`training.networks.gene_modules.DenseTrunk` on standardized predictors."""

    learning_rate: float = 5e-4
    weight_decay: float = 3.0

    def _trunk(self, genes: int) -> DenseTrunk:
        return DenseTrunk(genes=genes, width=self.width, depth=self.depth, dropout=self.dropout)
