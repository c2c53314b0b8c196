"""The contract of all models: fit, predict and attribute on raw samples, save and load without pickle."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file
from sklearn.base import BaseEstimator

from pipelines.errors import UserError

OnStep = Callable[[int, dict[str, float]], None]
_ARRAY = "__array__"
IMAGENET = "ImageNet-1k"


@dataclass(frozen=True)
class Attribution:
    """What each raw feature, named ``<table>:<feature>``, adds to each prediction.

    ``values``, in units of the target, have shape ``(n, len(names))``, ``base`` and ``prediction`` ``(n,)``;
    ``prediction`` is ``base + values.sum(axis=1)`` up to `relative_error`.
    """

    names: list[str]
    values: np.ndarray
    base: np.ndarray
    prediction: np.ndarray
    method: str

    @property
    def relative_error(self) -> float:
        """Return the mean gap of additivity, relative to the mean size of what is explained."""
        gap = np.abs(self.base + self.values.sum(axis=1) - self.prediction).mean()
        size = np.abs(self.prediction - self.base).mean()
        return float(gap / max(size, 1e-9))


def add(parts: Sequence[Attribution], weights: float | Sequence[float] = 1.0) -> Attribution:
    """Return the sum of attributions of the same samples, times one weight or each its own; names may differ."""
    weighted = list(zip(parts, np.broadcast_to(weights, len(parts)), strict=True))
    names = list(dict.fromkeys(name for part in parts for name in part.names))
    position = {name: index for index, name in enumerate(names)}
    values = np.zeros((len(parts[0].prediction), len(names)))
    for part, weight in weighted:
        values[:, [position[name] for name in part.names]] += part.values * weight
    base, prediction = (
        np.sum([getattr(part, name) * weight for part, weight in weighted], axis=0) for name in ("base", "prediction")
    )
    return Attribution(names, values, base, prediction, " + ".join(dict.fromkeys(part.method for part in parts)))


@dataclass
class FitContext:
    """Options of a fit besides its samples."""

    on_step: OnStep | None = None  # gets step and metrics after an epoch or some rounds; it may raise to end the fit
    checkpoint: Path | None = None  # a network writes it after every epoch, and resumes from it
    memory: dict[Any, Any] = field(default_factory=dict)  # features that the trials of a study share
    progress: bool = False
    start: dict[str, Any] | None = None  # `Estimator.state` of the same model: a network goes on from it, see `starts`
    loop: Callable[..., Any] | None = (
        None  # in the place of `training.networks.loop.train_network`, as which it is called
    )

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return the cached value of ``key``, or make it; the last four that were used are kept."""
        if key in self.memory:
            self.memory[key] = self.memory.pop(key)
        else:
            while len(self.memory) >= 4:
                self.memory.pop(next(iter(self.memory)))
            self.memory[key] = make()
        return self.memory[key]


class Featurizer:
    """A dataclass whose fields are settings and what was learned: JSON values, arrays, and featurizers (``parts``)."""

    parts: ClassVar[Mapping[str, Any]] = {}

    def state(self) -> dict[str, Any]:
        """Return all fields."""
        return vars(self) | {name: getattr(self, name).state() for name in self.parts}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from `state`."""
        return cls(**state | {name: of.from_state(state[name]) for name, of in cls.parts.items()})


class Estimator(BaseEstimator, ABC):
    """A model on raw samples, in scikit-learn's manner.

    Constructor arguments are hyperparameters and nothing else. Featurizers are fitted inside `fit`, on the rows given
    to it, and saved with the model. A subclass declares what `fit` sets, by names of attributes without their trailing
    underscore: ``featurizers`` are classes of `Featurizer`, ``fitted`` JSON values and arrays, ``counted`` the model's
    parameters.
    """

    featurizers: ClassVar[Mapping[str, Any]] = {}
    fitted: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[tuple[str, ...]] = ()
    architecture: ClassVar[str] = ""
    masks_omics: ClassVar[bool] = False  # whether any omics of a line may be missing
    starts: ClassVar[bool] = False  # whether `fit` heeds `FitContext.start`: then it learns nothing but weights
    still: ClassVar[tuple[str, ...]] = ()  # how the names of those weights begin that no training moves

    @abstractmethod
    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Fit on ``train``; ``validation`` serves early stopping and nothing else."""

    @abstractmethod
    def predict(self, samples: Any) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``: float64, or the code of the class."""

    @property
    def watches(self) -> bool:
        """Whether `fit` decides by validation rows when to end; if not, a final fit is on these rows too."""
        return True

    def seen(self, samples: Any) -> Any:
        """Return samples as the model sees them, such as cells alone; its outputs for these are the same."""
        return samples

    def outputs(self, samples: Any) -> np.ndarray:
        """Return what is scored and averaged: the predicted target ``(n,)`` or probabilities ``(n, classes)``."""
        return self.predict(samples)

    @classmethod
    def mean_outputs(cls, members: Sequence[Self], samples: Any) -> np.ndarray:
        """Return the mean of the outputs of ``members``; a subclass may run a part that they share once."""
        return np.mean([member.outputs(samples) for member in members], axis=0)

    def embedded(self, samples: Any) -> np.ndarray | None:
        """Return the features that the last layer sees, ``(n, width)``; None where novelty is not measured on them."""
        return None

    def outputs_embedded(self, samples: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `outputs` and `embedded`; a subclass may compute both in one pass."""
        return self.outputs(samples), self.embedded(samples)

    @classmethod
    def mean_outputs_embedded(cls, members: Sequence[Self], samples: Any) -> tuple[np.ndarray, np.ndarray | None]:
        """Return `mean_outputs`, and the `embedded` features of the first of ``members``."""
        return cls.mean_outputs(members, samples), members[0].embedded(samples)

    def outputs_by_views(self, samples: Any) -> np.ndarray | None:
        """Return the outputs averaged over 1, 2, ... views of a sample, ``(views, n, ...)``; None without views."""
        return None

    def attribute(self, samples: Any, output: np.ndarray | None = None) -> Attribution | None:
        """Return what each raw feature adds to each prediction, or None where the model uses no feature.

        ``output`` is the position, for each sample, of the target gene, or of the class whose logit (or margin) is
        explained; by default that of the predicted class.
        """
        return None

    @property
    def heatmap_method(self) -> str:
        """Return what `heatmaps` are: ``grad_cam`` or ``occlusion``."""
        return "grad_cam"

    def heatmaps(self, samples: Any) -> np.ndarray | None:
        """Return maps of the predicted class on `seen` samples, float32 in 0..1, ``(n, size, size)``; None of trees."""
        return None

    def atom_attributions(self, samples: Any, output: np.ndarray | None = None) -> list[np.ndarray] | None:
        """Return what each atom of each sample's drug adds to its prediction, or None where the model sees no atoms.

        Atoms are in the order of `training.features.molecule_graph.drawn_molecule`; ``output`` as in `attribute`.
        """
        return None

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return tags of the run about weights that were trained on other data."""
        return {"pretrained": "false"}

    @classmethod
    def expected_megabytes(cls, **given: Any) -> float:
        """Return the approximate size of a saved model; 0 for small ones. ``given``: see `Architecture.given`."""
        return 0.0

    def pretraining(self) -> dict[str, Any]:
        """Return the ``weights`` that the fit started from, and names of the collections that they were trained on.

        The names, ``pretrained_on``, are None where they are not known.
        """
        return {"weights": "none", "pretrained_on": []}

    def graph(self, contract: Any) -> Any:
        """Return the model as a `training.graphs.Graph`, to be exported; UserError where there is none.

        ``contract`` is the `training.contract.Contract` of the model.
        """
        raise UserError(f"{self.architecture} cannot be exported: only networks, trees and linear models have a graph")

    def state(self) -> dict[str, Any]:
        """Return the fitted state, as JSON values and arrays."""
        parts = {name: getattr(self, f"{name}_") for name in self.featurizers}
        made = {name: None if part is None else part.state() for name, part in parts.items()}
        return made | {name: getattr(self, f"{name}_") for name in self.fitted}

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on the result of `state`."""
        for name, of in self.featurizers.items():
            setattr(self, f"{name}_", None if state[name] is None else of.from_state(state[name]))
        for name in self.fitted:
            setattr(self, f"{name}_", state[name])
        return self

    def cost(self) -> dict[str, float]:
        """Return the size of the fitted model: at least ``parameters``."""
        parts = [getattr(self, f"{name}_") for name in self.counted]
        return {"parameters": sum(map(np.size, parts))} if parts else {}

    def save(self, folder: Path) -> None:
        """Write the fitted model into ``folder``; TypeError where the class does not declare what `fit` sets."""
        state = self.state()
        if not state and any(name.endswith("_") for name in vars(self)):
            raise TypeError(f"{type(self).__name__} was fitted, but names nothing in `fitted` or `featurizers`")
        save_state({"hyperparameters": self.get_params(deep=False), "fitted": state}, folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote."""
        saved = load_state(folder)
        return cls(**saved["hyperparameters"]).restore(saved["fitted"])


class Classifier(Estimator):
    """A model that answers probabilities of classes."""

    @abstractmethod
    def predict_proba(self, samples: Any) -> np.ndarray:
        """Return the probability of each class, float64, shape ``(n, classes)``; rows sum to 1."""

    def predict(self, samples: Any) -> np.ndarray:
        """Return the code of the most probable class, int64, shape ``(n,)``."""
        return self.predict_proba(samples).argmax(axis=1)

    def outputs(self, samples: Any) -> np.ndarray:
        """Return probabilities, shape ``(n, classes)``."""
        return self.predict_proba(samples)


def save_state(state: dict[str, Any], folder: Path) -> None:
    """Write nested JSON values and arrays of numbers to ``state.json`` and ``state.safetensors`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    content, arrays = packed(state)
    (folder / "state.json").write_text(content, encoding="utf-8")
    save_file(arrays, folder / "state.safetensors")


def packed(state: dict[str, Any]) -> tuple[str, dict[str, np.ndarray]]:
    """Return nested JSON values and arrays of numbers as JSON text and arrays by name."""
    arrays: dict[str, np.ndarray] = {}

    def strip(value: Any, path: str) -> Any:
        if isinstance(value, np.ndarray):
            arrays[path] = np.ascontiguousarray(value)
            return {_ARRAY: path}
        if isinstance(value, dict):
            return {key: strip(inner, f"{path}.{key}") for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [strip(inner, f"{path}.{index}") for index, inner in enumerate(value)]
        return value.item() if isinstance(value, np.generic) else value

    return json.dumps(strip(state, "state")), arrays


def load_state(folder: Path) -> dict[str, Any]:
    """Read what `save_state` wrote."""
    return unpacked((folder / "state.json").read_text(encoding="utf-8"), load_file(folder / "state.safetensors"))


def unpacked(content: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return what was `packed`."""

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {_ARRAY}:
                return arrays[value[_ARRAY]]
            return {key: fill(inner) for key, inner in value.items()}
        return [fill(inner) for inner in value] if isinstance(value, list) else value

    return fill(json.loads(content))
