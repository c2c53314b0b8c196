"""What the tests on expression profiles share: simulated profiles in memory, learnt in a moment."""

from dataclasses import replace

import numpy as np
import pandas as pd

from pipelines.samples.expression import ExpressionSamples

CLASSES = ("BRCA", "KIRC", "LUAD")
GENES = tuple(f"GENE{number}" for number in range(40))
TARGETS, PREDICTORS = GENES[:4], GENES[4:]


def labels_samples(count: int = 90, *, seed: int = 0) -> ExpressionSamples:
    """Return linear profiles of three classes, each with eight genes of its own that are raised."""
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % len(CLASSES)
    logged = rng.normal(5, 1, (count, len(GENES)))
    for code in range(len(CLASSES)):
        logged[np.ix_(codes == code, np.arange(8 * code, 8 * code + 8))] += 1.5
    samples = _samples((2**logged - 1).clip(0), "linear")
    table = samples.table.assign(label=[CLASSES[code] for code in codes], target=codes.astype(np.int64))
    return replace(samples, table=table, classes=CLASSES)


def gene_samples(count: int = 120, *, seed: int = 0) -> ExpressionSamples:
    """Return logged profiles whose first genes follow the others: two programs, seen by all genes with noise."""
    loadings = np.random.default_rng(1).normal(0, 1, (2, len(GENES)))
    rng = np.random.default_rng([2, seed])
    logged = 6 + rng.normal(0, 1.5, (count, 2)) @ loadings + rng.normal(0, 0.4, (count, len(GENES)))
    return _samples(logged, "log2").aimed(TARGETS, PREDICTORS)


def _samples(values: np.ndarray, scale: str) -> ExpressionSamples:
    names = [f"S{row}" for row in range(len(values))]
    table = pd.DataFrame(
        {
            "sample_id": names,
            "patient_id": names,
            "label": pd.Series([None] * len(names), dtype=object),
            "digest": [f"{row:064x}" for row in range(len(names))],
        }
    )
    about = pd.DataFrame(index=pd.Index(GENES))
    return ExpressionSamples(table, values.astype(np.float32), np.arange(len(values)), GENES, about, scale)


def with_values(samples: ExpressionSamples, values: np.ndarray) -> ExpressionSamples:
    """Return the same samples with other values, shape ``(n, genes)``."""
    return replace(samples, values=values.astype(np.float32), index=np.arange(len(samples)))


def reordered(samples: ExpressionSamples, *, seed: int = 0) -> ExpressionSamples:
    """Return the same samples from a file whose genes stand in another order."""
    order = np.random.default_rng(seed).permutation(len(samples.genes))
    return replace(
        samples,
        values=np.ascontiguousarray(samples.values[:, order]),
        genes=tuple(samples.genes[column] for column in order),
        about_genes=samples.about_genes.iloc[order],
    )
