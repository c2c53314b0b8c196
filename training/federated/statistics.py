"""What sites have to agree on before a network can start, as lists and sums; a module a modality.

A modality has three functions. ``lists(samples)`` returns what a site has names of. ``sums(step, samples, agreed,
estimator)`` returns arrays that are added up over the sites in each of the module's ``STEPS``, with what was agreed
before. ``begin(estimator, agreed)`` returns the estimator as it is before training: as if it had seen all rows.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipelines.errors import UserError

Sums = dict[str, np.ndarray]


def of_modality(modality: str) -> Any:
    """Return the module of a modality; UserError where there is none."""
    try:
        return importlib.import_module(f"training.federated.{modality}")
    except ModuleNotFoundError as error:
        raise UserError(f"{modality} cannot be federated yet: there are pairs and profiles") from error


def common(each: list[list[str]], what: str) -> list[str]:
    """Return the names that every site has, in the order of the first; UserError if there is none."""
    found = [name for name in each[0] if all(name in set(others) for others in each[1:])]
    if not found:
        raise UserError(f"the sites have no {what} in common; give them the same names")
    return found


def moments(total: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation by the sums ``count``, ``sum`` and ``square`` of ``name``."""
    count = np.maximum(total[f"{name}.count"], 1)
    mean = total[f"{name}.sum"] / count
    return mean, np.sqrt(np.maximum(total[f"{name}.square"] / count - mean**2, 0.0))
