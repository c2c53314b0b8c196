"""What belongs together, by kind of samples: groups that never cross a split, and what must not stand on two sides."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd

from pipelines.groups import expression, images, response
from pipelines.params import Split, SplitMode
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.images import ImageSamples
from pipelines.samples.response import ResponseSamples
from pipelines.samples.sensitivity import SensitivitySamples

_OF: dict[type, ModuleType] = {
    ResponseSamples: response,
    SensitivitySamples: response,
    ImageSamples: images,
    ExpressionSamples: expression,
}


def group_samples(samples: Any, split: Split) -> tuple[pd.Series, pd.Series]:
    """Return for each sample its group and its stratum (what groups are balanced by), text, shape ``(n,)``."""
    groups: tuple[pd.Series, pd.Series] = _OF[type(samples)].group_samples(samples, split)
    return groups


def sample_identities(samples: Any, mode: SplitMode) -> dict[str, pd.Series]:
    """Return what must not stand on two sides besides the group: name to one text a sample, None where unknown."""
    identities: dict[str, pd.Series] = _OF[type(samples)].sample_identities(samples, mode)
    return identities
