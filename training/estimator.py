"""The one contract of all models: fit, predict and attribute on raw samples, save and load without pickle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

from training.persistence import load_state, save_state

OnStep = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Attribution:
    """What each raw feature adds to each prediction.

    Attributes
    ----------
    names
        Raw features, ``<table>:<feature>``.
    values
        In units of the target, shape ``(n, len(names))``.
    base
        The prediction that the contributions start from, shape ``(n,)``.
    prediction
        Shape ``(n,)``; ``base + values.sum(axis=1)`` up to `relative_error`.
    method
        Name of the method, for reports.
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


def add(parts: Sequence[Attribution], weight: float = 1.0) -> Attribution:
    """Return the sum of attributions of the same samples, times ``weight``; additivity survives.

    Parameters
    ----------
    parts
        At least one. Their names may differ; a name that several have is added up.
    weight
        Of each part: 1 for models whose predictions are added, ``1 / len(parts)`` for their mean.
    """
    names = list(dict.fromkeys(name for part in parts for name in part.names))
    position = {name: index for index, name in enumerate(names)}
    values = np.zeros((len(parts[0].prediction), len(names)))
    for part in parts:
        values[:, [position[name] for name in part.names]] += part.values * weight
    return Attribution(
        names,
        values,
        np.sum([part.base * weight for part in parts], axis=0),
        np.sum([part.prediction * weight for part in parts], axis=0),
        " + ".join(dict.fromkeys(part.method for part in parts)),
    )


@dataclass
class FitContext:
    """What a fit is given besides its samples.

    Attributes
    ----------
    on_step
        Called with the step and its metrics after every epoch or every few boosting rounds; may raise to end the fit.
    checkpoint
        File that a network writes after every epoch and goes on from if it is there.
    memory
        Lives as long as a study: features of the same rows under the same settings are made once.
    progress
        Whether a progress bar is shown.
    """

    on_step: OnStep | None = None
    checkpoint: Path | None = None
    memory: dict[Any, Any] = field(default_factory=dict)
    progress: bool = False

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what ``make`` made for ``key`` before, or make it; only the last few that were used are kept."""
        if key in self.memory:
            self.memory[key] = self.memory.pop(key)
        else:
            while len(self.memory) >= 4:
                self.memory.pop(next(iter(self.memory)))
            self.memory[key] = make()
        return self.memory[key]


class Estimator(BaseEstimator, ABC):
    """A model on raw samples, in scikit-learn's manner.

    Constructor arguments are hyperparameters and nothing else. Featurizers are fitted inside `fit`, on the rows given
    to it, and travel with the model.
    """

    architecture: ClassVar[str] = ""
    masks_omics: ClassVar[bool] = False  # any omics of a line may be missing, whatever `missing` in params.yaml says

    @abstractmethod
    def fit(
        self,
        train: Any,
        validation: Any | None = None,
        context: FitContext | None = None,
    ) -> Self:
        """Fit on ``train``; ``validation`` serves early stopping and nothing else."""

    @abstractmethod
    def predict(self, samples: Any) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``: float64, or the code of the class."""

    def outputs(self, samples: Any) -> np.ndarray:
        """Return what scores and ensembles work on: the predicted target ``(n,)`` or probabilities ``(n, classes)``."""
        return self.predict(samples)

    @classmethod
    def mean_outputs(cls, members: Sequence[Self], samples: Any) -> np.ndarray:
        """Return the mean of what ``members`` answer; a subclass whose members have a part in common runs it once."""
        return np.mean([member.outputs(samples) for member in members], axis=0)

    def attribute(self, samples: Any, output: np.ndarray | None = None) -> Attribution | None:
        """Return what each raw feature adds to each prediction, or None where the model looks at no feature.

        Parameters
        ----------
        samples
            Whose predictions are explained.
        output
            Which of several outputs, for each sample: the position of a target gene, or of a class, whose logit (or
            margin) is explained. Without it the predicted class; a model of one number has no choice.
        """
        return None

    def heatmaps(self, samples: Any) -> np.ndarray | None:
        """Return where in each image the predicted class was seen, or None where the model has no such map.

        Returns
        -------
        numpy.ndarray
            float32 in 0..1, shape ``(n, size, size)``.
        """
        return None

    def atom_attributions(self, samples: Any, output: np.ndarray | None = None) -> list[np.ndarray] | None:
        """Return what each atom of each sample's drug adds to its prediction, or None where the model sees no atoms.

        Parameters
        ----------
        samples, output
            See `attribute`.

        Returns
        -------
        list of numpy.ndarray
            A number an atom, in the order of `training.features.molecule_graph.drawn_molecule`; none for a drug without
            a molecule.
        """
        return None

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return tags that say whether the fit starts from weights that were trained on other data, and on what."""
        return {"pretrained": "false"}

    @classmethod
    def expected_megabytes(cls) -> float:
        """Return about how large a saved model will be; 0 where that is not known before the fit and never much."""
        return 0.0

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Return everything that was fitted, as JSON values and arrays."""

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> Self:
        """Take on what `state` returned."""

    def cost(self) -> dict[str, float]:
        """Return the size of the fitted model: at least ``parameters``."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the fitted model into ``folder``."""
        hyperparameters = self.get_params(deep=False)
        save_state({"hyperparameters": hyperparameters, "fitted": self.state()}, folder)

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
