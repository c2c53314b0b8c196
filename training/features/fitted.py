"""Fitted state that is a few attributes: how most featurizers and estimators are saved and loaded."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from training.estimator import Estimator


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


class FittedAttributes(Estimator):
    """An estimator that declares what `fit` sets, by names of attributes without their trailing underscore.

    ``featurizers`` are classes of `Featurizer`, ``fitted`` JSON values and arrays, ``counted`` the model's parameters.
    """

    featurizers: ClassVar[Mapping[str, Any]] = {}
    fitted: ClassVar[tuple[str, ...]] = ()
    counted: ClassVar[tuple[str, ...]] = ()

    def cost(self) -> dict[str, float]:
        """Return the number of parameters."""
        parts = [getattr(self, f"{name}_") for name in self.counted]
        return {"parameters": sum(map(np.size, parts))} if parts else {}

    def state(self) -> dict[str, Any]:
        """Return the featurizers' states and the fitted values."""
        made = {name: getattr(self, f"{name}_").state() for name in self.featurizers}
        return made | {name: getattr(self, f"{name}_") for name in self.fitted}

    def restore(self, state: dict[str, Any]) -> Self:
        """Restore what `state` returned."""
        for name, of in self.featurizers.items():
            setattr(self, f"{name}_", of.from_state(state[name]))
        for name in self.fitted:
            setattr(self, f"{name}_", state[name])
        return self
