"""What the evidence says of single drugs: the genes that make lines sensitive, and the biomarkers that are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from evaluation.evidence.parts import Evidence
from evaluation.explain.biomarkers import COULD_SEE, RULE, look_up, marked_drugs, read_markers
from evaluation.explain.sensitizing import directed, rows_by_drug, sensitizing
from evaluation.explain.sums import measured
from evaluation.figures import responses
from pipelines.datasets import Prepared
from pipelines.files import jsonable
from pipelines.params import Task
from training.estimator import Estimator

_TOLD = ("drug", "drug_id", "gene", "omics", "makes", "status", "why", "rank", "features", "effect")
_OF_DATA = ("data", "data_effect", "data_low", "data_high", "data_lines")


def explain_drugs(
    task: Task,
    estimator: Estimator,
    prepared: Prepared,
    *,
    rows: int,
    title: str,
    unit: str,
    seed: int,
    output: int | None = None,
) -> tuple[dict[str, Any], Evidence]:
    """Explain drugs one by one, on test rows: those that a biomarker is known of, and the most measured others."""
    test, markers = prepared.side("test"), read_markers()
    chosen = test.take(rows_by_drug(test, marked_drugs(markers, test.drugs), rows, seed))
    attribution = None
    if len(chosen):
        attribution = estimator.attribute(chosen, None if output is None else np.full(len(chosen), output))
    if attribution is None or not measured(attribution.names, chosen).any():
        return {}, Evidence()  # the model looks at no gene
    every = directed(attribution, chosen)
    known = look_up(
        markers,
        every,
        test,
        prepared.side("train", "validation"),
        resamples=task.evaluate.resamples,
        confidence=task.evaluate.confidence,
        seed=seed,
    )
    order = {drug: place for place, drug in enumerate(marked_drugs(markers, test.drugs))}
    named = sensitizing(every)
    named = named.sort_values("drug_id", key=lambda ids: ids.map(order).fillna(len(order)), kind="stable")
    looked_up = known[known["status"].isin(COULD_SEE)]
    section: dict[str, Any] = {
        "rule": RULE,
        "looked_up": len(looked_up),
        "found": int((looked_up["status"] == "found").sum()),
        "status": known["status"].value_counts().to_dict(),
        "rows": jsonable(known[[*_TOLD, *_OF_DATA]].to_dict("records")),
    }
    drawn = {"sensitizing_genes": responses.sensitizing_genes(named, title, unit)} if len(named) else {}
    tables = {"biomarkers": known, "sensitizing_genes": named}
    told = {f"biomarkers_{key}": float(section[key]) for key in ("found", "looked_up")}
    return {"biomarkers": section}, Evidence(tables=tables, figures=drawn, logged=told)
