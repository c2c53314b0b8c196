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
    family
        What it takes and answers: see `pipelines.params.Task`.
    estimator
        Its estimator class.
    space
        Draws hyperparameters from an Optuna trial, given the settings that `build` is given; None where there is
        nothing to tune.
    defaults
        The first trial of every study: a point of the space that is known to be sound.
    """

    name: str
    family: str
    estimator: type[Estimator]
    space: Space | None
    defaults: Mapping[str, Any]

    def build(self, hyperparameters: Mapping[str, Any], **settings: Any) -> Estimator:
        """Return an unfitted estimator; ``settings`` that it does not know (rounds, epochs, device) are left out."""
        return self.estimator(**self.known(settings), **hyperparameters)

    def known(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of ``settings`` that the estimator takes: the others cannot change what it becomes."""
        parameters = inspect.signature(self.estimator).parameters
        return {name: value for name, value in settings.items() if name in parameters}

    def first_trial(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the defaults; a mode or a layout that ``settings`` leave out becomes the first that is left."""
        first = dict(self.defaults)
        for key, choices in (("mode", settings.get("modes")), ("layout", settings.get("layouts"))):
            if choices and key in first and first[key] not in choices:
                first[key] = choices[0]
        return first


_registry: dict[tuple[str, str], Architecture] = {}

# Families whose architectures are made of another family's, where they have none of their own.
_MADE_OF = {"response_labels": "response"}


def architecture(
    name: str, *, family: str = "response", space: Space | None = None, defaults: Mapping[str, Any] | None = None
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Register an estimator class as the architecture ``name`` for the family ``family``."""

    def register(estimator: type[Estimator]) -> type[Estimator]:
        estimator.architecture = name
        _registry[name, family] = Architecture(name, family, estimator, space, dict(defaults or {}))
        return estimator

    return register


def names(family: str | None = None) -> list[str]:
    """Return the names of all architectures, or of those that take the family ``family``."""
    every = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    if family is None:
        return every
    for name in every:
        importlib.import_module(f"{__name__}.{name}")
    return [name for name in every if {(name, family), (name, _MADE_OF.get(family))} & _registry.keys()]


def get_architecture(name: str, family: str = "response") -> Architecture:
    """Return the architecture ``name`` for the family ``family``, importing its file.

    Raises
    ------
    UserError
        There is no such architecture; lists those there are.
    """
    if name not in names():
        raise UserError(f"there is no architecture {name!r}; there are {', '.join(names(family))}")
    importlib.import_module(f"{__name__}.{name}")
    if (name, family) not in _registry and (made_of := _registry.get((name, _MADE_OF.get(family, "")))):
        from training.sensitivity import classifier_of  # it imports this package

        _registry[name, family] = classifier_of(made_of)
    if (name, family) not in _registry:
        raise UserError(f"the architecture {name!r} takes no {family}; there are {', '.join(names(family))}")
    return _registry[name, family]
