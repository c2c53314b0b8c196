"""How far a fitted model is trusted: calibrated probabilities, sets of classes and intervals, from unseen rows.

What is found becomes part of the model's contract, so that the endpoint answers with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pipelines.params import ResponseTask, SensitivityTask, Task, task_text
from pipelines.prepared import Prepared
from pipelines.samples.response import required_fields
from training.architectures import get_architecture
from training.contracts import Contract
from training.contracts.images import ImageContract
from training.contracts.profiles import GeneContract, LabelContract, used_genes
from training.contracts.response import EXPRESSION, ResponseContract
from training.contracts.sensitivity import SensitivityContract
from training.contracts.summaries import choose_panels
from training.contracts.units import unit_of
from training.estimator import Estimator
from training.features.cell_line import measured
from training.features.cell_line_choices import CellLineChoices
from training.model.calibration import apply_temperature, conformal_threshold, fit_temperature
from training.model.final import FinalFit
from training.model.novelty import some


@dataclass(frozen=True)
class Trust:
    """What the fit stage keeps of it.

    Attributes
    ----------
    half_width
        Of the prediction interval, of several targets the mean; NaN for classes.
    temperature, threshold
        Of calibrated probabilities and of the set of classes; 1 and 0 for numbers.
    """

    contract: Contract
    half_width: float = math.nan
    temperature: float = 1.0
    threshold: float = 0.0

    def metrics(self) -> dict[str, float]:
        """Return what is logged of it."""
        if math.isnan(self.half_width):
            return {"temperature": self.temperature}
        return {"interval_half_width": self.half_width}


def trust(
    name: str,
    architecture: str,
    task: Task,
    prepared: Prepared,
    final: FinalFit,
    unseen_half_width: float | None = None,
) -> Trust:
    """Calibrate a final fit on the rows that it was not fitted on, and write its contract.

    Parameters
    ----------
    name, architecture, task, prepared, final
        What was fitted on what.
    unseen_half_width
        Of `training.model.unseen_drugs.unseen_half_width`, where numbers are predicted of drugs.
    """
    common = {
        "task": name,
        "architecture": architecture,
        "baseline": task.evaluate.baseline,
        "task_text": task_text(task),
        "coverage": task.evaluate.interval_coverage,
    }
    made = _OF_FAMILY[task.family](common, task, prepared, final)
    if type(made.contract) is ResponseContract and unseen_half_width is not None:
        return replace(made, contract=replace(made.contract, unseen_half_width=unseen_half_width))
    return made


def _response(common: dict[str, Any], task: Task, prepared: Prepared, final: FinalFit) -> Trust:
    assert isinstance(task, ResponseTask)
    half = float(final.interval_half_widths(prepared, task.evaluate.interval_coverage))
    asked = _of_pairs(common["architecture"], task, prepared, final.estimator)
    contract = ResponseContract(**common, **asked, half_width=half if math.isfinite(half) else None)
    return Trust(contract, half)


def _sensitivity(common: dict[str, Any], task: Task, prepared: Prepared, final: FinalFit) -> Trust:
    assert isinstance(task, SensitivityTask)
    said = _classes(common, task, prepared, final)
    asked = _of_pairs(common["architecture"], task, prepared, final.estimator)
    asked["thresholds"] = prepared.samples.thresholds.state()
    contract = SensitivityContract(**said, **asked, half_width=None)
    return Trust(contract, temperature=said["temperature"], threshold=said["threshold"])


def _of_pairs(architecture: str, task: ResponseTask, prepared: Prepared, estimator: Estimator) -> dict[str, Any]:
    """Return what contracts say of pairs of a cell line and a drug."""
    masked = task.data.omics if get_architecture(architecture).estimator.masks_omics else ()
    return {
        "features": {omics: [str(column) for column in table] for omics, table in prepared.samples.omics.items()},
        "required": [each for each in required_fields(task.data.missing, task.data.omics) if each not in masked],
        "target": task.data.target,
        "panels": _expression_panels(prepared),
        "tissues": sorted({str(each) for each in prepared.samples.cell_lines["tissue"].iloc[_trained_lines(prepared)]}),
        "needed": _needed(estimator, prepared),
        "drugs": _known_drugs(prepared),
        "units": _units_of_lines(task, prepared),
    }


def _known_drugs(prepared: Prepared) -> dict[str, str | None]:
    """Return the SMILES of each drug of the training rows by its id, the most measured first."""
    samples = prepared.side("train", "validation")
    used, count = np.unique(samples.drug, return_counts=True)
    smiles = samples.drugs["smiles"]
    order = used[np.argsort(-count, kind="stable")]
    return {
        str(smiles.index[drug]): str(each) if isinstance(each := smiles.iloc[drug], str) else None for drug in order
    }


def _units_of_lines(task: ResponseTask, prepared: Prepared) -> dict[str, dict[str, Any]]:
    """Return the unit of each omics of the lines that were fitted on; nothing is known of a scale that is not named."""
    lines = np.unique(prepared.side("train", "validation").cell)
    scales: dict[str, str] = {name: name for name in task.data.omics}
    if EXPRESSION in scales:
        scales[EXPRESSION] = task.validate.expression_scale
    found = {name: unit_of(prepared.samples.omics[name].to_numpy()[lines], scale) for name, scale in scales.items()}
    return {name: unit for name, unit in found.items() if unit is not None}


def _needed(estimator: Estimator, prepared: Prepared) -> list[str]:
    """Return the tables without which the estimator leaves a line aside: by its choices, or those of what it wraps."""
    chosen = estimator.get_params(deep=False)
    while "hyperparameters" in chosen:
        chosen = chosen["hyperparameters"]
    known = {each.name for each in fields(CellLineChoices)}
    choices = CellLineChoices(**{key: value for key, value in chosen.items() if key in known})
    train = prepared.side("train")
    lines = np.unique(train.cell)
    used = choices.cell_line_features(train).omics if choices.imputation == "drop" else ()
    return [name for name in used if measured(train.omics[name].iloc[lines]).any()]


def _trained_lines(prepared: Prepared) -> np.ndarray:
    return np.unique(prepared.side("train").cell)


def _expression_panels(prepared: Prepared) -> dict[str, list[str]]:
    if EXPRESSION not in prepared.samples.omics:
        return {}
    table = prepared.samples.omics[EXPRESSION].iloc[_trained_lines(prepared)]
    return choose_panels(table.dropna(how="all").to_numpy(), [str(gene) for gene in table])


def _profile_panels(prepared: Prepared, genes: list[str]) -> dict[str, list[str]]:
    rows = some(prepared.rows("train"))
    return choose_panels(prepared.samples.take(rows).logged(genes), genes)


def _unit_of_profiles(prepared: Prepared, genes: list[str]) -> dict[str, Any] | None:
    samples = prepared.side("train", "validation")
    return unit_of(samples.raw(genes), samples.scale)


def _classes(common: dict[str, Any], task: Task, prepared: Prepared, final: FinalFit) -> dict[str, Any]:
    measured = prepared.samples.target[final.held_out_rows]
    temperature = fit_temperature(final.held_out, measured)
    calibrated = apply_temperature(final.held_out, temperature)
    coverage = task.evaluate.interval_coverage
    threshold = conformal_threshold(calibrated, measured, final.groups(prepared), coverage)
    classes = list(prepared.samples.classes)
    return {**common, "classes": classes, "temperature": temperature, "threshold": threshold}


def _images(common: dict[str, Any], task: Task, prepared: Prepared, final: FinalFit) -> Trust:
    said = _classes(common, task, prepared, final)
    return Trust(ImageContract(**said), temperature=said["temperature"], threshold=said["threshold"])


def _labels(common: dict[str, Any], task: Task, prepared: Prepared, final: FinalFit) -> Trust:
    said = _classes(common, task, prepared, final)
    genes = used_genes(final.estimator, prepared.samples)
    said |= {"genes": genes, "known": list(prepared.samples.genes), "panels": _profile_panels(prepared, genes)}
    said["unit"] = _unit_of_profiles(prepared, genes)
    return Trust(LabelContract(**said), temperature=said["temperature"], threshold=said["threshold"])


def _genes(common: dict[str, Any], task: Task, prepared: Prepared, final: FinalFit) -> Trust:
    half = np.asarray(final.interval_half_widths(prepared, task.evaluate.interval_coverage))
    genes = used_genes(final.estimator, prepared.samples)
    contract = GeneContract(
        **common,
        genes=genes,
        known=list(prepared.samples.genes),
        targets=list(prepared.samples.targets),
        spreads=[float(spread) for spread in np.nanstd(prepared.side("train").target, axis=0)],
        half_widths=[float(width) if math.isfinite(width) else None for width in half],
        panels=_profile_panels(prepared, genes),
        unit=_unit_of_profiles(prepared, genes),
    )
    return Trust(contract, float(half.mean()))


_OF_FAMILY: dict[str, Callable[[dict[str, Any], Task, Prepared, FinalFit], Trust]] = {
    "response": _response,
    "response_labels": _sensitivity,
    "images": _images,
    "profile_labels": _labels,
    "gene_targets": _genes,
}
