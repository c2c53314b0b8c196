"""What would make an explanation wrong: a class that is explained by genes that have nothing to do with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.training.profile_samples import CLASSES, GENES
from tests.training.tiny_sets import tiny_set
from training.architectures import get_architecture, names
from training.networks.transfer import TransferNetwork

LABELS = ("profiles", "classification")
EXPLAINED = [
    name
    for name in names(*LABELS)
    if get_architecture(name, *LABELS).role != "baseline"
    and not issubclass(get_architecture(name, *LABELS).estimator, TransferNetwork)
]


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
