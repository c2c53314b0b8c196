"""Fitted state that is a few attributes: how most featurizers and estimators are saved and loaded."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from training.estimator import Estimator


class Featurizer:
    """A dataclass whose fields are settings and what `fit` learned: JSON values and arrays."""

    def state(self) -> dict[str, Any]:
        """Return all fields."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from `state`."""
        return cls(**state)


class FittedAttributes(Estimator):
    """An estimator that declares what `fit` sets, by names of attributes without their trailing underscore.

    ``featurizers`` have ``state`` and a class with ``from_state``; ``fitted`` are JSON values and arrays.
    """

    featurizers: ClassVar[Mapping[str, Any]] = {}
    fitted: ClassVar[tuple[str, ...]] = ()

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
