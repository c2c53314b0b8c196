"""Summaries of the training rows, in the model's folder ``reference/``: drift is measured against them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipelines.datasets import Prepared
from training.contract import Contract
from training.model.cross_fit import FinalFit
from training.model.novelty import Novelty, fit_novelty, some
from training.model.prediction_log import prediction_columns

INPUTS, PREDICTIONS = "inputs.parquet", "predictions.parquet"


@dataclass(frozen=True)
class Reference:
    """Summaries of at most 2,000 training rows, without ids, and of predictions of held-out rows with their target."""

    inputs: pd.DataFrame
    predictions: pd.DataFrame
    novelty: Novelty

    def save(self, folder: Path) -> None:
        """Write everything as Parquet, JSON and plain arrays."""
        folder.mkdir(parents=True, exist_ok=True)
        self.inputs.to_parquet(folder / INPUTS, index=False)
        self.predictions.to_parquet(folder / PREDICTIONS, index=False)
        self.novelty.save(folder)


def make_reference(contract: Contract, prepared: Prepared, final: FinalFit) -> Reference:
    """Return the summaries of a final fit's training rows and of its predictions of held-out rows."""
    rows = some(prepared.rows("train", "validation"))
    samples = prepared.samples.take(rows)
    described = contract.describe(samples)
    about = prepared.table.iloc[rows]
    novelty = fit_novelty(contract.views(samples, described), about["fold"].to_numpy(), about["group"].to_numpy())
    places = some(np.arange(len(final.held_out_rows)))
    unseen = prepared.samples.take(final.held_out_rows[places])
    answer = contract.answer(contract.calibrated(final.held_out[places]), unseen)
    predictions = prediction_columns(answer).assign(target=contract.targets_text(unseen.target))
    return Reference(described, predictions, novelty)
