"""What all models that predict genes do with their target."""

import numpy as np

from pipelines.samples.expression import ExpressionSamples


def target_means(samples: ExpressionSamples) -> np.ndarray:
    """Return the mean of each target gene over the samples where it is known, log2 units, shape ``(targets,)``."""
    target = samples.target
    known = ~np.isnan(target)
    return np.where(known, target, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)


def centered(samples: ExpressionSamples, means: np.ndarray) -> np.ndarray:
    """Return the target as distances from ``means``; 0, which teaches nothing, where it is unknown."""
    return np.nan_to_num(samples.target - means)


def chosen_targets(samples: ExpressionSamples, output: np.ndarray | None) -> np.ndarray:
    """Return ``output``, the target gene to explain for each sample; raise ValueError unless there is one for each."""
    if output is None:
        raise ValueError("there are several target genes: name for each sample the position of the one to explain")
    if len(output) != len(samples):
        raise ValueError(f"{len(output)} positions of target genes for {len(samples)} samples; give one for each")
    return np.asarray(output)
