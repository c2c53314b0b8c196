"""What belongs together, by kind of samples: groups that never cross a split, and what must not stand on two sides."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pipelines.groups import images, response
from pipelines.images import ImageSamples
from pipelines.params import Split, SplitMode


def group_samples(samples: Any, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group and its stratum (what groups are balanced by), text, shape ``(n,)``."""
    return (images if isinstance(samples, ImageSamples) else response).group_samples(samples, split)


def sample_identities(samples: Any, mode: SplitMode) -> dict[str, pd.Series]:
    """Return what must not stand on two sides besides the group: name to one text a sample, None where unknown."""
    return (images if isinstance(samples, ImageSamples) else response).sample_identities(samples, mode)
