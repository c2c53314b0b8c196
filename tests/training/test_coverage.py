"""Sets and intervals must have the declared coverage on rows that neither fit nor calibration has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.params import read_params
from pipelines.samples.expression import ExpressionSamples
from tests.serving.served import PROFILES, save_fitted, split
from tests.training.profile_samples import CLASSES, gene_samples, labels_samples, with_values
from tests.training.tiny import ROOT
from training.model.predictor import Predictor

UNSEEN = 1_500


def _blurred(count: int, seed: int) -> ExpressionSamples:
    """Return profiles with so much noise that a third are taken for another class."""
    samples = labels_samples(count, seed=seed)
    noise = 2 ** np.random.default_rng([seed, 1]).normal(0, 3.5, samples.values.shape)
    return with_values(samples, samples.values * noise)


def _fitted(folder: Path, name: str, architecture: str, samples: Any, declared: float, **chosen: str) -> Predictor:
    task = read_params(ROOT / "params.yaml").task(name)
    task = replace(task, evaluate=replace(task.evaluate, interval_coverage=declared))
    save_fitted(name, architecture, task, split(samples), folder, **chosen)
    return Predictor().read(folder)


@pytest.mark.parametrize("declared", [0.8, 0.9])
def test_sets_of_classes_have_the_declared_coverage(declared: float, tmp_path: Path) -> None:
    unseen = _blurred(UNSEEN, 7)
    predictor = _fitted(tmp_path, PROFILES, "logistic_regression", _blurred(1_500, 0), declared, selection="top_30")
    answer = predictor.answer(unseen)
    true = np.array(CLASSES)[unseen.target]
    held = np.mean([label in labels for label, labels in zip(true, answer["labels"], strict=True)])
    assert set(answer["coverage"].dropna()) == {declared} and answer["coverage"].notna().mean() > 0.9
    assert np.mean(answer["label"] == true) < declared - 0.05, "the label alone holds as much: nothing is tested"
    # 300 calibration rows: the threshold's own spread is 0.02; a wrong one is off by far more
    assert abs(held - declared) < 0.06, held


@pytest.mark.parametrize("declared", [0.8, 0.9])
def test_intervals_have_the_declared_coverage(declared: float, tmp_path: Path) -> None:
    unseen, chosen = gene_samples(UNSEEN, seed=7), {"selection": "all", "kernel": "linear"}
    predictor = _fitted(tmp_path, "gene_expression", "ridge", gene_samples(1_500), declared, **chosen)
    answer = predictor.answer(unseen)
    promised = answer["coverage"].notna().to_numpy()
    assert promised.mean() > 0.9  # nothing is promised of the few that are called unlike the training data
    answer, unseen = answer[promised], unseen.take(promised)
    targets = list(unseen.targets)
    low, high = (np.array([[row[gene] for gene in targets] for row in answer[name]]) for name in ("low", "high"))
    held = ((unseen.target >= low) & (unseen.target <= high)).mean(axis=0)
    assert set(answer["coverage"]) == {declared}
    assert (np.abs(held - declared) < 0.06).all(), held
