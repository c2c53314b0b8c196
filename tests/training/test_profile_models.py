"""A ridge that fails with few samples, and a class that is explained by genes that have nothing to do with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.profile_samples import CLASSES, GENES, gene_samples
from tests.training.tiny_sets import tiny_set
from training.architectures import get_architecture, names
from training.estimator import Estimator
from training.networks.transfer import TransferNetwork

LABELS = ("profiles", "classification")
EXPLAINED = [
    name
    for name in names(*LABELS)
    if get_architecture(name, *LABELS).role != "baseline"
    and not issubclass(get_architecture(name, *LABELS).estimator, TransferNetwork)
]


@pytest.mark.parametrize(("kernel", "scaling"), [("linear", "none"), ("linear", "standard"), ("rbf", "min_max")])
def test_ridge_predicts_with_either_kernel_and_fewer_samples_than_genes(kernel: str, scaling: str) -> None:
    few, unseen = gene_samples(25), gene_samples(60, seed=2)

    def error(model: Estimator) -> float:
        return float(np.mean((model.fit(few).predict(unseen) - unseen.target) ** 2))

    ridge, naive = (
        get_architecture(name, "profiles", "multi_target").build(point)
        for name, point in (("ridge", {"kernel": kernel, "scaling": scaling}), ("mean_expression", {}))
    )
    assert error(ridge) < 0.4 * error(naive)
    explained = ridge.attribute(unseen, np.zeros(len(unseen), dtype=np.int64))
    assert explained is not None
    assert explained.relative_error < 1e-6
    assert explained.method == ("exact" if kernel == "linear" else "integrated_gradients")


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_class_is_explained_by_the_genes_that_make_it(name: str, tmp_path: Path) -> None:
    architecture, tiny = get_architecture(name, *LABELS), tiny_set(*LABELS, tmp_path)
    train, validation, samples = (tiny.rows(side, architecture) for side in ("train", "validation", "unseen"))
    explained = tiny.build(architecture).fit(train, validation).attribute(samples, samples.target)
    assert explained is not None
    number = np.array([int(gene.removeprefix("GENE")) for gene in explained.names])
    for code in range(len(CLASSES)):
        mean = explained.values[samples.target == code].mean(axis=0)
        blocks = [mean[number // 8 == block].sum() for block in range(len(GENES) // 8)]
        assert np.argmax(blocks) == code
