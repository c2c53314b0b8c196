"""Cells of pairs of a cell line and a drug, by which intervals or sets may differ: drugs, what they share, tissues."""

from typing import Any

import numpy as np

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.params import PARAMS_FILE, UNSEEN_DRUGS
from pipelines.samples.response import UNKNOWN
from pipelines.text_values import known_column
from training.model.limits import Limits

TISSUE, DRUG = "tissue", "drug_id"


def columns(task: Any, prepared: Prepared) -> dict[str, np.ndarray]:
    """Return the cells of each prepared pair by column, see `training.contract.Contract.cell_columns`.

    None in `UNSEEN_DRUGS`, modes in which an answer is always of an unseen drug.
    """
    if task.split.mode in UNSEEN_DRUGS:
        return {}
    samples, found = prepared.samples, {}
    there = {DRUG: samples.pairs[DRUG], TISSUE: samples.cell_lines[TISSUE].iloc[samples.cell]}
    there |= {str(name): values.iloc[samples.drug] for name, values in samples.drugs.items()}
    for asked in task.evaluate.intervals_by:
        column = asked.removesuffix("?")
        if column in there:
            found[column] = known_column(there[column]).fillna(UNKNOWN).to_numpy(str)
        elif column == asked:
            said = f"{PARAMS_FILE}: evaluate.intervals_by names {column!r}, which no request tells of a pair; there are"
            raise UserError(f"{said} {', '.join(there)}. Write '{column}?' for one that only some data has")
    return found


def by_drug(limits: Limits, prepared: Prepared) -> dict[str, Any]:
    """Return limits by what drugs share as those of each drug, since a request names no column but the drug."""
    drugs = prepared.samples.drugs
    of_drug = limits.of(known_column(drugs[limits.by]).fillna(UNKNOWN)).tolist()
    return {"cells": DRUG, "limits": dict(zip(map(str, drugs.index), of_drug, strict=True))}
