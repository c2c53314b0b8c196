"""Residuals of the training lines from the drugs' means: as a matrix, and as a few numbers per line."""

from __future__ import annotations

import numpy as np

from pipelines.samples.response import ResponseSamples

_COMPONENTS = 4


def residual_matrix(line: np.ndarray, drug: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """Return mean residuals from the drugs' means, shape ``(lines, drugs)``; 0 for pairs that were not measured.

    ``line`` and ``drug`` are codes from 0 without gaps, shape ``(n,)``.
    """
    total, count = np.zeros((2, line.max() + 1, drug.max() + 1))
    np.add.at(total, (line, drug), residual)
    np.add.at(count, (line, drug), 1)
    return total / np.maximum(count, 1)


def line_response(train: ResponseSamples, residual: np.ndarray) -> np.ndarray:
    """Return the target of supervised selection, shape ``(lines, components)``; lines ascend as in ``np.unique``.

    Leading principal components, at most four, of the lines-by-drugs matrix of ``residual`` from the drugs' means. The
    first is close to a line's mean residual, which finds genes of general sensitivity; the next ones show classes of
    drugs.
    """
    matrix = residual_matrix(
        np.unique(train.cell, return_inverse=True)[1], np.unique(train.drug, return_inverse=True)[1], residual
    )
    scores, size, _ = np.linalg.svd(matrix, full_matrices=False)
    return (scores * size)[:, :_COMPONENTS]
