"""SHAP values and Integrated Gradients of many samples at once, against one call a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.bench.measured import Record, compare
from tests.training.profile_samples import TARGETS, gene_samples, labels_samples
from training.architectures import get_architecture

EXPLAINED: Sequence[tuple[str, str, str]] = (
    ("SHAP (trees)", "xgboost", "profiles classification"),
    ("Integrated Gradients (dense)", "dnn", "profiles multi_target"),
    ("Integrated Gradients (recurrent)", "gru", "profiles multi_target"),
)


def explanations(small: bool = False) -> list[Record]:
    """Explain samples in one call of ``attribute`` and in one call a sample; both must say the same."""
    count, rounds = (8, 3) if small else (64, 5)
    records = []
    for method, architecture, kind in EXPLAINED:
        of_genes = kind == "profiles multi_target"
        train = gene_samples() if of_genes else labels_samples(120)
        samples: Any = train.take(np.arange(count))
        outputs = np.arange(count) % (len(TARGETS) if of_genes else 3)
        found = get_architecture(architecture, *kind.split())
        estimator = found.build(dict(found.defaults), epochs=2, rounds=40, seed=0, device="cpu").fit(train)

        def whole(estimator: Any = estimator, samples: Any = samples, outputs: np.ndarray = outputs) -> np.ndarray:
            return estimator.attribute(samples, outputs).values

        def one_by_one(estimator: Any = estimator, samples: Any = samples, outputs: np.ndarray = outputs) -> np.ndarray:
            rows = [np.array([row]) for row in range(len(samples))]
            return np.concatenate([estimator.attribute(samples.take(row), outputs[row]).values for row in rows])

        np.testing.assert_allclose(whole(), one_by_one(), rtol=1e-3, atol=1e-4)
        name = f"{method}, {architecture}, {count} samples of {len(samples.inputs)} genes"
        records.append(compare(name, whole, one_by_one, sides=("in one call", "a call a sample"), rounds=rounds))
    return records
