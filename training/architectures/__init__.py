"""Architectures by name, each in a file of its name: estimator, search space and role."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, dataclass_transform

from pipelines.errors import UserError

if TYPE_CHECKING:
    import optuna

    from training.estimator import Estimator

Role = Literal["model", "simple", "baseline"]
Space = Callable[["optuna.Trial", Mapping[str, Any]], dict[str, Any]]


class Range(NamedTuple):
    """Bounds of a hyperparameter: of an integer or a float, ``log`` on a logarithmic scale."""

    low: float
    high: float
    log: bool = False


def draw(trial: optuna.Trial, **each: Any) -> dict[str, Any]:
    """Draw hyperparameters, each of a `Range` or a list of choices."""
    found = {}
    for name, of in each.items():
        if not isinstance(of, Range):
            found[name] = trial.suggest_categorical(name, of)
        elif isinstance(of.low, int):
            found[name] = trial.suggest_int(name, of.low, of.high)
        else:
            found[name] = trial.suggest_float(name, of.low, of.high, log=of.log)
    return found


def ranges(**each: Any) -> Space:
    """Return a space of hyperparameters that do not depend on settings, see `draw`."""
    return lambda trial, settings: draw(trial, **each)


def joined(*spaces: Space) -> Space:
    """Return a space of all hyperparameters of ``spaces``, drawn one after another."""
    return lambda trial, settings: {key: value for of in spaces for key, value in of(trial, settings).items()}


_FOLDER = Path(__file__).parent
FEDERATED = "federated_"  # before the name of an architecture: fitted at sites, see `training.federated`
STACK = "stack"  # the weighted mean of several architectures, see `training.model.stacking`
ENCODER = "_encoder"  # the file of all encoders that ``params.yaml`` brings


@dataclass(frozen=True)
class Architecture:
    """How an architecture is built and what is tuned of it."""

    name: str  # of its file too
    modality: str  # what it takes, as in `pipelines.params.Task`
    problem: str  # what it answers
    estimator: type[Estimator]  # whose hyperparameters are keyword-only fields with defaults
    space: Space | None  # draws hyperparameters, given the settings of `build`; None where there is nothing to tune
    role: Role = "model"  # ``simple``: a candidate has to be as good (`policy.gate`); ``baseline``: it sees no features
    given: Mapping[str, Any] = field(default_factory=dict, hash=False)  # arguments that params.yaml fixes

    @property
    def file(self) -> str:
        """Return the name of the architecture's file, by which an estimator that was saved is found again."""
        return ENCODER if self.given else self.name

    def build(self, hyperparameters: Mapping[str, Any], **settings: Any) -> Estimator:
        """Return an unfitted estimator; ``settings`` that it does not know (rounds, epochs, device) are left out."""
        return self.estimator(**self.known(settings), **self.given, **hyperparameters)

    def origin(self, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """See `Estimator.origin`."""
        return self.estimator.origin({**self.given, **hyperparameters}, settings)

    def expected_megabytes(self) -> float:
        """See `Estimator.expected_megabytes`."""
        return self.estimator.expected_megabytes(**self.given)

    def known(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return those of ``settings`` that the estimator takes: the others cannot change what it becomes."""
        parameters = inspect.signature(self.estimator).parameters
        return {name: value for name, value in settings.items() if name in parameters}

    @property
    def defaults(self) -> dict[str, Any]:
        """Return the estimator's own values of the hyperparameters that are tuned."""
        return self.first_trial({})

    def first_trial(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return `defaults` as a point of the space; what ``settings`` do not allow becomes the first choice left.

        ``settings["first"]`` has values in their place, by architecture; UserError for one that is not in the space.
        """
        parameters = inspect.signature(self.estimator).parameters
        given = settings.get("first", {}).get(self.name, {})
        own = _OwnValues({name: parameter.default for name, parameter in parameters.items()} | given, set(given))
        found = self.space(own, settings) if self.space else {}
        for name, value in given.items():
            if found.get(name) != value:
                raise UserError(
                    f"tune.first: {self.name} cannot start from {name}: {value!r}, which its search space does not "
                    "contain under these settings of `tune`; change or remove it in params.yaml"
                )
        return found


class _OwnValues:
    """In the place of an Optuna trial: draws the default of each hyperparameter; None of ``checked`` out of bounds."""

    def __init__(self, values: Mapping[str, Any], checked: Collection[str]) -> None:
        self._values, self._checked = values, checked

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._values[name] if self._values[name] in choices else choices[0]

    def suggest_float(self, name: str, low: float, high: float, **how: Any) -> Any:
        value = self._values[name]
        if name in self._checked and not (isinstance(value, int | type(low)) and low <= value <= high):
            return None
        return value

    suggest_int = suggest_float


_registry: dict[tuple[str, str, str], Architecture] = {}


@dataclass_transform(kw_only_default=True, eq_default=False)
def architecture(
    modality: str, problem: str, *, space: Space | None = None, role: Role = "model"
) -> Callable[[type[Estimator]], type[Estimator]]:
    """Register an estimator class under the name of its file; its annotated attributes become hyperparameters."""

    def register(estimator: type[Estimator]) -> type[Estimator]:
        made = dataclass(eq=False, repr=False, kw_only=True)(estimator)
        made.architecture = name = made.__module__.rpartition(".")[2]
        _registry[name, modality, problem] = Architecture(name, modality, problem, made, space, role)
        return made

    return register


def declare(
    name: str, base: type[Estimator], modality: str, problem: str, *, space: Space, **attributes: Any
) -> type[Any]:
    """Register a subclass with these class attributes, as if the file of the architecture ``name`` had written it."""
    made = type(name, (base,), {"__module__": f"{__name__}.{name}", **attributes})
    return architecture(modality, problem, space=space)(made)


def names(modality: str | None = None, problem: str | None = None) -> list[str]:
    """Return the names of all architectures, or of those for a modality and a problem."""
    every = sorted(path.stem for path in _FOLDER.glob("*.py") if not path.stem.startswith("_"))
    if modality is None or problem is None:
        return every
    return [name for name in every if _found(name, modality, problem) is not None]


def get_architecture(name: str, modality: str, problem: str) -> Architecture:
    """Return the architecture ``name`` for a modality and a problem; UserError if there is none.

    A name without a file is that of an encoder of ``params.yaml`` in the working directory; `FEDERATED` before a name
    changes nothing.
    """
    name = name.removeprefix(FEDERATED)
    if name == STACK:
        made: Architecture = importlib.import_module(f"{__name__}._stack").stack(modality, problem)
        return made
    found = _found(name, modality, problem) if name in (*names(), ENCODER) else None
    if found is None and name not in names() and (encoder := _found(ENCODER, modality, problem)) is not None:
        found = importlib.import_module(f"{__name__}.{ENCODER}").brought(name, encoder)
    if found is None:
        said = f"takes no {modality} for {problem}" if name in names() else "is none"
        raise UserError(f"the architecture {name!r} {said}; there are {', '.join(names(modality, problem))}")
    return found


@cache
def display_name(name: str) -> str:
    """Return how an architecture is written for people: ``TITLE`` in its file, which is read and not imported."""
    if name.startswith(FEDERATED):
        return f"{display_name(name.removeprefix(FEDERATED))}, federated"
    path = _FOLDER / f"{name}.py"
    if name.isidentifier() and path.is_file():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TITLE":
                return str(ast.literal_eval(node.value))
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def _found(name: str, modality: str, problem: str) -> Architecture | None:
    """Return an architecture, or an adapter's of one of another problem; None if there is neither."""
    importlib.import_module(f"{__name__}.{name}")
    if (name, modality, problem) not in _registry and importlib.util.find_spec(
        f"training.adapters.{modality}_{problem}"
    ):
        adapter = importlib.import_module(f"training.adapters.{modality}_{problem}")
        if (of := _registry.get((name, modality, adapter.OF))) is not None:
            _registry[name, modality, problem] = adapter.adapt(of)
    return _registry.get((name, modality, problem))
