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

Space = Callable[["optuna.Trial", Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Architecture:
    """How an architecture is built and what is tuned of it.

    Attributes
    ----------
    name
        Name of the architecture and of its file.
    kind
        Kind of the samples that it takes.
    estimator
        Its estimator class.
    space
        Draws hyperparameters from an Optuna trial, given the settings that `build` is given; None where there is
        nothing to tune.
    defaults
        The first trial of every study: a point of the space that is known to be sound.
    """

    name: str
    kind: str
    estimator: type[Estimator]
    space: Space | None
    defaults: Mapping[str, Any]

    def build(self, hyperparameters: Mapping[str, Any], **settings: Any) -> Estimator:
        """Return an unfitted estimator; ``settings`` that it does not know (rounds, epochs, device) are left out."""
        known = inspect.signature(self.estimator).parameters
        return self.estimator(**{k: v for k, v in settings.items() if k in known}, **hyperparameters)

    def first_trial(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults; where they name a mode that ``settings`` leave out, with the first that is left."""
        modes = list(settings.get("modes", ()))
        first = dict(self.defaults)
        if modes and "mode" in first and first["mode"] not in modes:
            first["mode"] = modes[0]
        return first


_registry: dict[tuple[str, str], Architecture] = {}


def architecture(
    name: str, *, kind: str = "response", space: Space | None = None, defaults: Mapping[str, Any] | None = None
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Register an estimator class as the architecture ``name`` for samples of ``kind``."""

    def register(estimator: type[Estimator]) -> type[Estimator]:
        estimator.architecture = name
        _registry[name, kind] = Architecture(name, kind, estimator, space, dict(defaults or {}))
        return estimator

    return register


def names(kind: str | None = None) -> list[str]:
    """Return the names of all architectures, or of those that take samples of ``kind``."""
    every = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    if kind is None:
        return every
    for name in every:
        importlib.import_module(f"{__name__}.{name}")
    return [name for name in every if (name, kind) in _registry]


def get_architecture(name: str, kind: str = "response") -> Architecture:
    """Return the architecture ``name`` for samples of ``kind``, importing its file.

    Raises
    ------
    UserError
        There is no such architecture; lists those there are.
    """
    if name not in names():
        raise UserError(f"there is no architecture {name!r}; there are {', '.join(names(kind))}")
    importlib.import_module(f"{__name__}.{name}")
    if (name, kind) not in _registry:
        raise UserError(f"the architecture {name!r} takes no {kind}; there are {', '.join(names(kind))}")
    return _registry[name, kind]
