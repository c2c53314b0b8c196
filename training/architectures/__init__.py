"""Architectures by name. Each stands in a file of its name: builder, search space and defaults together."""

from __future__ import annotations

import importlib
import importlib.util
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
    modality, problem
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
    modality: str
    problem: str
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


_registry: dict[tuple[str, str, str], Architecture] = {}


def architecture(
    modality: str,
    problem: str,
    *,
    space: Space | None = None,
    defaults: Mapping[str, Any] | None = None,
    name: str = "",
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Register an estimator class for a modality and a problem, under the name of its file unless another is given."""

    def register(estimator: type[Estimator]) -> type[Estimator]:
        known = name or estimator.__module__.rpartition(".")[2]
        estimator.architecture = known
        _registry[known, modality, problem] = Architecture(
            known, modality, problem, estimator, space, dict(defaults or {})
        )
        return estimator

    return register


def names(modality: str | None = None, problem: str | None = None) -> list[str]:
    """Return the names of all architectures, or of those for a modality and a problem."""
    every = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    if modality is None or problem is None:
        return every
    return [name for name in every if _found(name, modality, problem) is not None]


def get_architecture(name: str, modality: str, problem: str) -> Architecture:
    """Return the architecture ``name`` for a modality and a problem, importing its file.

    Raises
    ------
    UserError
        There is no such architecture; lists those there are.
    """
    found = _found(name, modality, problem) if name in names() else None
    if found is None:
        said = f"takes no {modality} for {problem}" if name in names() else "is none"
        raise UserError(f"the architecture {name!r} {said}; there are {', '.join(names(modality, problem))}")
    return found


def _found(name: str, modality: str, problem: str) -> Architecture | None:
    """Return an architecture, or what an adapter makes of one of another problem; None if there is neither."""
    importlib.import_module(f"{__name__}.{name}")
    if (name, modality, problem) not in _registry and importlib.util.find_spec(
        f"training.adapters.{modality}_{problem}"
    ):
        adapter = importlib.import_module(f"training.adapters.{modality}_{problem}")
        if (of := _registry.get((name, modality, adapter.OF))) is not None:
            _registry[name, modality, problem] = adapter.adapt(of)
    return _registry.get((name, modality, problem))
