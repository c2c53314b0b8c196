"""A network that has learnt nothing: the same layers, their weights drawn anew (Adebayo et al., 2018)."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING

from training.estimator import Estimator
from training.model.cross_fit import CrossFitted

if TYPE_CHECKING:
    from torch import nn

_PLACES = ("module_", "network_")  # where estimators keep their network


def network_name(estimator: Estimator) -> str | None:
    """Return the attribute that holds an estimator's network, None where it is no network."""
    if "torch" not in sys.modules:
        return None  # whatever holds a network has loaded PyTorch, which takes seconds
    import torch

    return next((name for name in _PLACES if isinstance(getattr(estimator, name, None), torch.nn.Module)), None)


def randomized(estimator: Estimator, seed: int) -> Estimator:
    """Return a copy of a network (of an ensemble its first) whose weights are drawn anew."""
    import torch

    first = estimator.members_[0] if isinstance(estimator, CrossFitted) else estimator
    other = copy.deepcopy(first)
    if hasattr(other, "_frozen_id"):
        other._frozen_id = None  # what is cached under the name of the trained weights is not its own
    place = network_name(other)
    if place is None:
        raise TypeError(f"{type(first).__name__} holds no network")
    integrate_coarsely(other)
    torch.manual_seed(seed)
    for module in getattr(other, place).modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        else:
            _draw(module)
    return other


def integrate_coarsely(estimator: Estimator) -> None:
    """Let an estimator take its coarsest integral: for attributions that are ranked or correlated, not added up."""
    if isinstance(steps := getattr(estimator, "steps", None), tuple):
        estimator.steps = steps[:1]


def _draw(module: nn.Module) -> None:
    """Draw anew what a module without a method for it holds itself, at the spread that it has: buffers too."""
    import torch

    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    with torch.no_grad():
        for values in own:
            if values.is_floating_point() and values.numel() > 1:
                values.copy_(torch.randn(values.shape).to(values) * values.std())
