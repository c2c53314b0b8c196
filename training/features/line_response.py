"""How the training lines answered beyond the drugs' means: as a matrix, and as a few numbers a line."""

from __future__ import annotations

import numpy as np

from pipelines.samples.response import ResponseSamples

_COMPONENTS = 4


def residual_matrix(line: np.ndarray, drug: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Return mean residuals, shape ``(lines, drugs)``; a pair that was not measured stands at its drug's mean, 0.

    Parameters
    ----------
    line, drug
        Code of each row's line and drug, from 0 without gaps, shape ``(n,)``.
    residual
        Response less the drug's mean, shape ``(n,)``.
    """
    total, count = np.zeros((2, line.max() + 1, drug.max() + 1))
    np.add.at(total, (line, drug), residual)
    np.add.at(count, (line, drug), 1)
    return total / np.maximum(count, 1)


def line_response(train: ResponseSamples, residual: np.ndarray) -> np.ndarray:
    """Return what features of lines are selected for, shape ``(lines, components)``; lines ascend as in ``np.unique``.

    Leading principal components, at most four, of the lines-by-drugs matrix of residuals, each in units of the target.
    The mean residual of a line, which is much the same as the first, would find only genes that go with answering to
    every drug; what goes with answering to one class of drugs shows in the next ones. The residuals themselves, a
    column a drug, are noisy, mostly not measured, and cost hundreds of times as much.

    Parameters
    ----------
    train
        Training rows, and no others.
    residual
        Their target less the drug's mean, shape ``(n,)``.
    """
    matrix = residual_matrix(
        np.unique(train.cell, return_inverse=True)[1], np.unique(train.drug, return_inverse=True)[1], residual
    )
    scores, size, _ = np.linalg.svd(matrix, full_matrices=False)
    return (scores * size)[:, :_COMPONENTS]
