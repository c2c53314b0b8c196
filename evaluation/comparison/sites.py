"""Each site alone, federated, and all rows pooled: the same network on the same test rows, with paired intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from evaluation.comparison.paired import paired_difference
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.formatting import interval
from pipelines.params import Params
from pipelines.paths import MODELS
from pipelines.report import Code, report, section, table, text
from training.architectures import FEDERATED, get_architecture
from training.federated.final import told
from training.federated.plan import Plan
from training.federated.site import Site
from training.model.final_fit import read_fitted
from training.studies.trials import fit_settings

POOLED = "pooled"


def content(
    name: str, params: Params, prepared: Prepared, architecture: str, folders: Sequence[Path]
) -> dict[str, Any]:
    """Return a report of an architecture fitted at each of the sites' ``folders`` alone, at all, and on all rows.

    Alone and pooled are ordinary fits with the federation's hyperparameters, stopped early on validation rows. The
    last column is by how much a model is better than the federated one. `UserError` where that is not of this split.
    """
    task = params.task(name)
    fitted, model, federated = read_fitted(MODELS / name / f"{FEDERATED}{architecture}")
    if fitted.split_sha256 != prepared.sha256:
        raise UserError(f"{name} {fitted.architecture} was fitted on another split; run `make federate` again")
    tested = prepared.samples.take(prepared.tested)
    naive, rows_of = model.baseline.outputs(tested), prepared.table.iloc[prepared.tested]
    plan = Plan(task=name, architecture=architecture, hyperparameters=fitted.hyperparameters, **told(prepared, task))
    of, settings = get_architecture(architecture, task.modality, task.problem), fit_settings(params, task)

    def alone(train: Any, validation: Any) -> pd.DataFrame:
        estimator = of.build(fitted.hyperparameters, **settings).fit(train, validation)
        return model.contract.predicted(rows_of, tested, estimator.outputs(tested), naive)

    frames, sizes = {fitted.architecture: federated}, {fitted.architecture: 0.0}
    for folder in tqdm(folders, "sites", disable=None, leave=False):
        site = Site(folder.name, folder, params, plan)
        frames[f"{folder.name} alone"] = alone(site.train, site.validation)
        sizes[f"{folder.name} alone"] = len(site.train)
        sizes[fitted.architecture] += len(site.train)
    frames[POOLED] = alone(prepared.side("train"), prepared.side("validation"))
    sizes[POOLED] = len(prepared.rows("train"))
    modality = modality_of(task.modality)
    frames = {each: modality.resampled(frame, prepared, task.split)[1] for each, frame in frames.items()}
    return _report(name, params, frames, sizes, fitted.federated)


def _report(
    name: str, params: Params, frames: dict[str, pd.DataFrame], sizes: dict[str, float], about: dict[str, Any]
) -> dict[str, Any]:
    task, metric = params.task(name), params.task(name).evaluate.metric
    measures, settings, first = measures_of(task.problem), task.evaluate, next(iter(frames))
    known = {"resamples": settings.resamples, "seed": params.seed, "confidence": settings.confidence}
    rows = []
    for model, frame in frames.items():
        found = measures.intervals(frame, task, params.seed)
        cells = [interval(found[each].as_dict(), sign="+" if each == "margin" else "") for each in (metric, "margin")]
        better = vars(paired_difference(task, frame, frames[first], metric, **known)) if model != first else None
        cells.append("–" if better is None else interval(better, "difference", sign="+"))
        rows.append([Code(model), f"{sizes[model]:,.0f}", *cells])
    private, reference = about["privacy"], frames[first]
    spent = (
        "No privacy was bought."
        if private is None
        else (
            f"Privacy spent by the federated weights: epsilon {private['epsilon']:.2f} at delta {private['delta']:g}."
        )
    )
    said = (
        f"{len(reference):,} test rows of {reference['group'].nunique()} groups, at the coordinator; "
        f"{settings.confidence:.0%} intervals over groups, on the same resamples for all; margin over "
        f"{settings.baseline}. {spent}"
    )
    head = ["trained", "training rows", metric, "margin", f"{metric} above {first}"]
    return report(f"{name}: alone, federated, pooled", [section("", text(said), table(head, rows))])
