"""The start of a head: the minimum that it claims to be, kept where no epoch betters it, gone where it is off."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from pipelines.samples.images import ImageSamples
from tests.training.image_samples import in_memory, labeled
from training.architectures.efficientnet_lite0 import EfficientNetLite0
from training.estimator import FitContext
from training.networks import linear_probe
from training.networks.linear_probe import probe

WIDTH, ROWS = 12, 300


def head(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.BatchNorm1d(WIDTH, affine=False), nn.Dropout(0.3), nn.Linear(WIDTH, classes)).eval()


def rows(classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    codes = rng.integers(classes, size=ROWS)
    features = rng.normal(size=(ROWS, WIDTH)) * np.logspace(-1, 2, WIDTH) + 5
    features[:, :classes] += np.eye(classes)[codes] * features[:, :classes].std(axis=0)
    return features, codes


def probed(given: torch.Tensor, codes: np.ndarray, penalty: float) -> np.ndarray:
    """Return the logits of a head that starts from these features."""
    mine = head(codes.max() + 1)
    probe(mine, given, torch.from_numpy(codes), nn.CrossEntropyLoss(), penalty)
    return np.asarray(mine(given.float()).detach())


@pytest.mark.parametrize(("classes", "kind"), [(2, torch.float16), (3, torch.float64)])
@pytest.mark.parametrize("penalty", [0.01, 30.0])
def test_it_is_logistic_regression_on_standardized_features(classes: int, penalty: float, kind: torch.dtype) -> None:
    features, codes = rows(classes)
    given = torch.from_numpy(features).to(kind)
    scaled = StandardScaler().fit_transform(given.double().numpy())
    # Of two classes scikit-learn has one row of weights: the difference of the two that are penalized here.
    c = (2 if classes == 2 else 1) / (penalty * ROWS)
    theirs = LogisticRegression(C=c, tol=1e-8, max_iter=5000).fit(scaled, codes)
    found = softmax(probed(given, codes, penalty), axis=1)
    np.testing.assert_allclose(found, theirs.predict_proba(scaled), atol=2e-3)


def fitted(held_out: ImageSamples | None = None, **given: Any) -> EfficientNetLite0:
    settings: dict[str, Any] = {"epochs": 3, "views": 2, "seed": 1, "device": "cpu", "weights": "imagenet"}
    watched = in_memory(12, first=100) if held_out is None else held_out
    return EfficientNetLite0(**settings | given).fit(in_memory(24), watched, FitContext())


def test_the_start_is_kept_where_no_epoch_is_better() -> None:
    held_out = in_memory(12, first=100)
    others = labeled(held_out.pixels, np.roll(held_out.target, 1))  # on which the more is learnt the worse it is
    spoiled, alone = fitted(others, learning_rate=0.03, penalty=10.0), fitted(others, epochs=0, penalty=10.0)
    assert (spoiled.trained_.best_epoch, len(spoiled.trained_.history), alone.trained_.history) == (-1, 3, [])
    np.testing.assert_array_equal(spoiled.predict_proba(held_out), alone.predict_proba(held_out))
    assert (alone.predict(held_out) == held_out.target).mean() > 0.8


def test_without_a_penalty_or_from_scratch_training_starts_from_chance() -> None:
    assert fitted(penalty=None).trained_.best_epoch >= 0
    assert fitted(mode="full", weights="none", epochs=1).trained_.best_epoch == 0
    untrained, held_out = fitted(penalty=None, epochs=0), in_memory(12, first=100)
    assert (untrained.predict(held_out) == held_out.target).mean() < 0.8


def test_rows_in_parts_give_what_all_at_once_give(monkeypatch: pytest.MonkeyPatch) -> None:
    features, codes = rows(3)
    whole = probed(torch.from_numpy(features).half(), codes, 0.5)
    monkeypatch.setattr(linear_probe, "_ROWS", 7)
    np.testing.assert_allclose(probed(torch.from_numpy(features).half(), codes, 0.5), whole, atol=1e-3)


@pytest.mark.parametrize("mode", ["partial", "full"])
def test_stages_that_are_trained_start_below_the_same_head(mode: str) -> None:
    held_out = in_memory(12, first=100)
    # The head of a full network has seen each image once, that of another each view.
    one, other = fitted(mode=mode, epochs=0), fitted(epochs=0, views=1 if mode == "full" else 2)
    np.testing.assert_allclose(one.predict_proba(held_out), other.predict_proba(held_out), atol=0.01)
