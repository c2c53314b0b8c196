"""Models of new drugs beside the baseline: mean correlation within a drug, of all drugs and of kinase inhibitors."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from evaluation.metrics import TOLERANCE, mean_of_rows
from pipelines.params import UNSEEN_DRUGS, Task
from pipelines.text_values import folded

ALL, KINASES = "all drugs", "kinase inhibitors"
_ROWS = 5  # of a drug, at least
_PATHWAYS = {  # of GDSC, all drugs of which inhibit kinases; those of lipids among them
    *("abl signaling", "egfr signaling", "erk mapk signaling", "igfr signaling", "jnk and p38 signaling"),
    *("other, kinases", "pi3k/mtor signaling", "rtk signaling"),
}
_TARGETS = re.compile(  # families, perhaps with a number or a letter: CDK4, AURKB
    "(abl|alk|atm|atr|aurk|brsk|btk|cdk|chek|ddr|dnapk|egfr|ephb|erbb|erk|fak|flt|gsk|igf1r|ikk|irak|itk|kit|lck|lok|mps1|mtor|"
    "ntrk|pak|pdgfr|pim|pkc|plk|prkc|ret|ripk|rock|rsk|sgk|src|tbk|wee)(?![a-z]{2})"
)


def new_drugs(
    task: Task, tables: Mapping[tuple[str, str], pd.DataFrame], samples: Any, **bootstrap: Any
) -> list[dict[str, Any]]:
    """Return for each mode, architecture and part of the drugs the mean correlation, and how much it exceeds the
    baseline's; both with intervals of the same resamples of drugs.

    ``tables`` are the predictions of test rows by mode and architecture. As in `evaluation.problems.regression` a
    constant prediction has the correlation 0, and drugs with fewer than five rows are left out.
    """
    tables = {key: table for key, table in tables.items() if key[0] in UNSEEN_DRUGS}
    inhibitors, found = kinase_inhibitors(samples.drugs) if tables else [], []
    for (mode, architecture), table in tables.items():
        if (mode, task.evaluate.baseline) not in tables:
            continue
        within = correlations(table)
        over = within - correlations(tables[mode, task.evaluate.baseline])
        group = table.groupby("drug_id")["group"].first()[within.index]
        for part, of_part in ((ALL, within.index), (KINASES, within.index[within.index.isin(inhibitors)])):
            if len(of_part):
                measured = {"within": within, "over_baseline": over}
                row = {
                    name: mean_of_rows(values[of_part], group[of_part], **bootstrap).as_dict()
                    for name, values in measured.items()
                }
                found.append({"mode": mode, "architecture": architecture, "part": part, "drugs": len(of_part), **row})
    return found


def correlations(predictions: pd.DataFrame) -> pd.Series:
    """Return the correlation of target and prediction within each drug of enough rows, by its id."""

    def of(part: pd.DataFrame) -> float:
        constant = part["prediction"].std() < TOLERANCE or part["target"].std() < TOLERANCE
        return 0.0 if constant else float(part["target"].corr(part["prediction"]))

    rows = predictions.groupby("drug_id")["target"].transform("size") >= _ROWS
    return predictions[rows].groupby("drug_id")[["target", "prediction"]].apply(of).astype(float)


def kinase_inhibitors(drugs: pd.DataFrame) -> Sequence[str]:
    """Return the ids of drugs whose ``pathway`` or first ``target`` is of kinases; none where neither is known."""
    nothing = pd.Series("", index=drugs.index)
    pathway, target = (drugs.get(name, nothing).fillna("").astype(str).map(folded) for name in ("pathway", "target"))
    return list(drugs.index[pathway.isin(_PATHWAYS) | np.array([bool(_TARGETS.match(text)) for text in target])])
