"""Tuned choices of a cell line's features, the same in every architecture that uses them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.features.cell_line import IMPUTATIONS, SCALINGS, CellLineFeatures, measured
from training.features.selection import SELECTIONS

_SHARES = (0.1, 0.25, 0.5)
_ENOUGH = 0.5  # more of the training lines have every table, or `drop` is not tried


@dataclass(eq=False, repr=False, kw_only=True)
class CellLineChoices:
    """Hyperparameters of a cell line's features, for estimators to inherit; see `CellLineFeatures`."""

    omics: str = "expression"  # or ``all`` tables
    selection: str = "all"
    keep_share: float = 0.25
    scaling: str = "standard"
    imputation: str = "mean"

    def cell_line_features(self, train: ResponseSamples, components: int = 0) -> CellLineFeatures:
        """Return the unfitted featurizer of lines; without expression all tables are used."""
        chosen = ("expression",) if self.omics == "expression" and "expression" in train.omics else tuple(train.omics)
        return CellLineFeatures(
            chosen, self.scaling, self.keep_share, components, self.selection, imputation=self.imputation
        )


def cell_line_space(
    trial: Any, settings: Mapping[str, Any], omics: Sequence[str] = ("expression", "all")
) -> dict[str, Any]:
    """Draw `CellLineChoices`, of each only what matters given the others, and imputations that the data allow."""
    drawn: dict[str, Any] = {}
    if len(omics) > 1:
        drawn["omics"] = trial.suggest_categorical("omics", omics)
    drawn["selection"] = trial.suggest_categorical("selection", SELECTIONS)
    drawn["scaling"] = trial.suggest_categorical("scaling", SCALINGS)
    if drawn["selection"] != "all":
        drawn["keep_share"] = trial.suggest_categorical("keep_share", _SHARES)
    tried = settings.get("imputations", IMPUTATIONS)
    if drawn.get("omics", omics[0]) == "all" and len(tried) > 1:
        drawn["imputation"] = trial.suggest_categorical("imputation", tried)
    return drawn


def imputations(train: ResponseSamples) -> tuple[str, ...]:
    """Return the imputations that are worth a trial: one without gaps, no ``drop`` that drops half the lines."""
    lines = np.unique(train.cell)
    tables = [table.iloc[lines] for table in train.omics.values()]
    if not any(table.isna().to_numpy().any() for table in tables):
        return IMPUTATIONS[:1]
    found = [measured(table) for table in tables]
    complete = np.all([lines for lines in found if lines.any()], axis=0)
    return IMPUTATIONS if np.mean(complete) > _ENOUGH else tuple(each for each in IMPUTATIONS if each != "drop")
