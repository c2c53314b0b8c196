"""What samples of all modalities have in common: rows, which scikit-learn can choose from."""

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np


class Rows(ABC):
    """Samples that are indexed as an array of one dimension."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def take(self, rows: np.ndarray) -> Self:
        """Return the samples at ``rows``: positions, or a boolean mask."""

    @property
    def shape(self) -> tuple[int]:
        """Return the number of samples."""
        return (len(self),)

    def __getitem__(self, rows: Any) -> Self:
        return self.take(np.atleast_1d(np.arange(len(self))[rows]))
