"""Architectures by name. Each stands in a file of its name: builder, search space and defaults together."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.faults import UserError

if TYPE_CHECKING:
    import optuna

    from training.estimator import Estimator

Space = Callable[["optuna.Trial"], dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """How an architecture is built and what is tuned of it.

    Attributes
    ----------
    name
        Name of the architecture and of its file.
    estimator
        Its estimator class.
    space
        Draws hyperparameters from an Optuna trial; None where there is nothing to tune.
    defaults
        The first trial of every study: a point of the space that is known to be sound.
    """

    name: str
    estimator: type[Estimator]
    space: Space | None
    defaults: Mapping[str, Any]

    def build(self, hyperparameters: Mapping[str, Any], **settings: Any) -> Estimator:
        """Return an unfitted estimator; ``settings`` that it does not know (rounds, epochs, device) are left out."""
        known = inspect.signature(self.estimator).parameters
        return self.estimator(**{k: v for k, v in settings.items() if k in known}, **hyperparameters)


_registry: dict[str, Architecture] = {}


def architecture(
    name: str, *, space: Space | None = None, defaults: Mapping[str, Any] | None = None
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Register an estimator class as the architecture ``name``."""

    def register(estimator: type[Estimator]) -> type[Estimator]:
        estimator.architecture = name
        _registry[name] = Architecture(name, estimator, space, dict(defaults or {}))
        return estimator

    return register


def names() -> list[str]:
    """Return the names of all architectures, without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def get_architecture(name: str) -> Architecture:
    """Return the architecture ``name``, importing its file.

    Raises
    ------
    UserError
        There is no such architecture; lists those there are.
    """
    if name not in names():
        raise UserError(f"there is no architecture {name!r}; there are {', '.join(names())}")
    importlib.import_module(f"{__name__}.{name}")
    return _registry[name]
