"""Contracts as the fit stage writes them."""

from __future__ import annotations

import math
from typing import Any

from pipelines.datasets import Prepared
from pipelines.modalities.pairs import PairsTask
from pipelines.params import Task, task_text
from pipelines.samples.images import ImageSamples
from pipelines.samples.response import required_fields
from training.architectures import get_architecture
from training.contract import contract_class


def response_contract(
    name: str, architecture: str, task: PairsTask, prepared: Prepared, half_width: float, coverage: float
) -> Any:
    masked = task.data.omics if get_architecture(architecture, "pairs", "regression").estimator.masks_omics else ()
    return contract_class("pairs", "regression")(
        task=name,
        architecture=architecture,
        baseline=task.evaluate.baseline,
        task_text=task_text(task),
        features={omics: [str(column) for column in table] for omics, table in prepared.samples.omics.items()},
        required=[each for each in required_fields(task.data.missing, task.data.omics) if each not in masked],
        target=task.data.target,
        half_width=half_width if math.isfinite(half_width) else None,
        coverage=coverage,
    )


def image_contract(
    name: str, architecture: str, task: Task, samples: ImageSamples, temperature: float, threshold: float
) -> Any:
    return contract_class("images", "classification")(
        task=name,
        architecture=architecture,
        baseline=task.evaluate.baseline,
        task_text=task_text(task),
        classes=list(samples.classes),
        temperature=temperature,
        threshold=threshold,
        coverage=task.evaluate.interval_coverage,
    )
