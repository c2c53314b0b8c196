"""What sites have to agree on before a network can start, as lists and sums; a module a modality.

A modality has three functions. ``lists(samples)`` returns what a site has names of. ``sums(step, samples, agreed,
estimator)`` returns arrays that are added up over the sites in each of the module's ``STEPS``, with what was agreed
before. ``begin(estimator, agreed)`` returns the estimator as it is before training: as if it had seen all rows.
``CHOICES`` are the hyperparameters of which no sums can tell more.
"""

import importlib
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from pipelines.errors import UserError
from training.architectures import Architecture
from training.estimator import FitContext
from training.networks.transfer import TransferNetwork

Sums = dict[str, np.ndarray]
_Network = TypeVar("_Network", bound=TransferNetwork)


def of_modality(modality: str) -> Any:
    """Return the module of a modality; UserError where there is none."""
    try:
        return importlib.import_module(f"training.federated.{modality}")
    except ModuleNotFoundError as error:
        raise UserError(f"{modality} cannot be federated: there are images, pairs and profiles") from error


def agreeable(architecture: Architecture, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters that sites can agree on: what a modality's ``CHOICES`` name is as they say."""
    return {**hyperparameters, **architecture.known(of_modality(architecture.modality).CHOICES)}


def common(each: list[list[str]], what: str) -> list[str]:
    """Return the names that every site has, in the order of the first; UserError if there is none."""
    found = [name for name in each[0] if all(name in set(others) for others in each[1:])]
    if not found:
        raise UserError(f"the sites have no {what} in common; give them the same names")
    return found


def class_counts(samples: Any) -> np.ndarray:
    """Return how many samples each class has, float64, ``(classes,)``."""
    return np.bincount(samples.target, minlength=len(samples.classes)).astype(np.float64)


def head_sums(begun: TransferNetwork, samples: Any) -> Sums:
    """Return sums of the inputs of a head alone that is trained; of other networks none, since theirs do not stay."""
    if not begun.frozen:
        return {}
    values = begun.summaries(samples, FitContext()).double().cpu().numpy()
    views = len(values) / len(samples)  # which count as one sample
    sums = {"sum": values.sum(axis=0) / views, "square": (values**2).sum(axis=0) / views}
    return {f"head.{name}": each for name, each in sums.items()} | {"head.count": np.array([float(len(samples))])}


def settled(begun: _Network, total: Mapping[str, np.ndarray]) -> _Network:
    """Return the network with the mean and deviation of `head_sums`, where there are any."""
    return begun.settle(*moments(total, "head")) if "head.count" in total else begun


def moments(total: Mapping[str, np.ndarray], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation by the sums ``count``, ``sum`` and ``square`` of ``name``."""
    count = np.maximum(total[f"{name}.count"], 1)
    mean = total[f"{name}.sum"] / count
    return mean, np.sqrt(np.maximum(total[f"{name}.square"] / count - mean**2, 0.0))
