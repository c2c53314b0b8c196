"""Whether stress is recognized: a wrong area under the curve, or an interval over rows, flatters a model."""

from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from evaluation.evidence.novelty import area_under_curve, detection
from evaluation.evidence.parts import Evidence

BOOTSTRAP: dict[str, Any] = {"resamples": 500, "confidence": 0.95, "seed": 1}


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_is_that_of_scikit_learn_and_its_interval_is_over_groups(ties: bool) -> None:
    rng = np.random.default_rng(0)
    home, other = rng.normal(size=60), rng.normal(0.7, size=60)
    if ties:
        home, other = home.round(), other.round()
    truth = np.repeat([0, 1], 60)
    subjects = np.array([f"S{number:02d}" for number in range(60)])
    wide, narrow = (area_under_curve(home, other, subjects[np.arange(60) // size], **BOOTSTRAP) for size in (10, 1))
    expected = roc_auc_score(truth, np.concatenate([home, other]))
    assert wide.value == narrow.value == pytest.approx(expected)
    assert narrow.low < expected < narrow.high
    twice = area_under_curve(np.repeat(home, 2), np.repeat(other, 2), np.repeat(subjects, 2), **BOOTSTRAP)
    assert (twice.low, twice.high) == pytest.approx((narrow.low, narrow.high)), "copies of a row narrow the interval"
    counts = np.random.default_rng(1).multinomial(60, np.full(60, 1 / 60), size=500)
    areas = [
        roc_auc_score(truth, np.concatenate([home, other]), sample_weight=np.concatenate([each, each]))
        for each in counts
    ]
    assert (narrow.low, narrow.high) == pytest.approx(tuple(np.quantile(areas, [0.025, 0.975])))


def test_false_alarms_are_of_all_test_rows_and_detection_is_of_the_same_rows() -> None:
    rng = np.random.default_rng(0)
    home, moved = rng.normal(1, 0.1, 40), rng.normal(2, 0.1, 40)
    run = Mock(unlike=np.arange(100) < 2, groups=np.arange(100), bootstrap=BOOTSTRAP)
    run.model.novelty.threshold = 1.5
    run.model.novelty_scores = lambda samples: samples
    found = detection(run, home, {"stain": moved, "blur": home[::-1]}, np.arange(40))
    section = found.sections["novelty"]
    assert section["rows"] == 40 and section["false_alarms"]["value"] == pytest.approx(0.02)
    assert section["kinds"]["stain"] == {"auroc": {"value": 1.0, "low": 1.0, "high": 1.0}, "called_unlike": 1.0}
    blur = section["kinds"]["blur"]
    assert blur["auroc"]["value"] == pytest.approx(0.5) and blur["called_unlike"] == 0
    assert found.logged["novelty/false_alarms"] == pytest.approx(0.02)
    assert found.logged["novelty/auroc_blur_low"] == blur["auroc"]["low"] < 0.5
    run.unlike = None  # a model that was saved without a reference
    assert detection(run, home, {"stain": moved}, np.arange(40)) == Evidence()
