"""Samples whose reading kills the process, as one does that has no memory left; alone, so that a child starts fast."""

from __future__ import annotations

import os

import numpy as np

from pipelines.datasets import Prepared


class Deadly(Prepared):
    """Dies when it is asked for its rows."""

    def rows(self, *sides: str) -> np.ndarray:
        os._exit(9)
