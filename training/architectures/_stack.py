"""The weighted mean of several architectures, with weights that out-of-fold outputs decided (Breiman, 1996)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from pipelines.errors import UserError
from training.architectures import STACK, Architecture, get_architecture, ranges
from training.estimator import Estimator, FitContext
from training.model.cross_fit import Ensemble


@dataclass(eq=False, repr=False, kw_only=True)
class Stack(Ensemble):
    """Models of the architectures ``stacked``, fitted on the same rows; the one with the largest weight is the first.

    Each of ``stacked`` has the name of the architecture's file (``of``) and all arguments of its estimator
    (``hyperparameters``); ``weights`` are positive and sum to 1. See `training.model.stacking`.
    """

    stacked: Sequence[Mapping[str, Any]] = ()
    weights: Sequence[float] = ()
    modality: str = ""
    problem: str = ""

    architecture: ClassVar[str] = STACK

    def fit(self, train: Any, validation: Any | None = None, context: FitContext | None = None) -> Self:
        """Fit the members one after another; the weights stay as they are."""
        if not self.stacked:
            raise UserError("a stack has no members; `make stack TASK=...` makes one")
        progress = context is not None and context.progress
        return self.of([each.fit(train, validation, FitContext(progress=progress)) for each in self._unfitted()])

    def of(self, members: Sequence[Estimator]) -> Self:
        """Take on fitted members."""
        self.members_ = list(members)
        return self

    @property
    def shares(self) -> np.ndarray:
        """Return the weights."""
        return np.asarray(self.weights)

    def _unfitted(self) -> list[Estimator]:
        found = [get_architecture(each["of"], self.modality, self.problem) for each in self.stacked]
        return [of.estimator(**each["hyperparameters"]) for of, each in zip(found, self.stacked, strict=True)]

    def outputs(self, samples: Any) -> np.ndarray:
        """Return the weighted mean: ``(n,)``, ``(n, targets)``, or probabilities ``(n, classes)``."""
        return self.mean_outputs([self], samples)

    @classmethod
    def mean_outputs(cls, members: Sequence[Self], samples: Any) -> np.ndarray:
        """Return the mean of the outputs of stacks with the same weights; what their members share runs once."""
        alike = list(zip(*(stack.members_ for stack in members), strict=True))
        outputs = [type(each[0]).mean_outputs(each, samples) for each in alike]
        return np.average(outputs, axis=0, weights=members[0].shares)

    @classmethod
    def origin(cls, hyperparameters: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """Return the names of the members; what they started from is in the evidence, see `pretraining`."""
        return {"stacked": ", ".join(each["of"] for each in hyperparameters["stacked"])}

    def pretraining(self) -> dict[str, Any]:
        """Return the weights that all members started from; not known is what is not known of one."""
        found = [{"encoder": None, "license": "", **each.pretraining()} for each in self.members_]
        started = [each for each in found if each["pretrained_on"] != []]
        known = [each["pretrained_on"] for each in started]

        def joined(name: str) -> str:
            return ", ".join(sorted({each[name] for each in started if each[name]}))

        return {
            "weights": joined("weights") or "none",
            "encoder": joined("encoder") or None,
            "license": joined("license"),
            "pretrained_on": None if None in known else sorted({name for each in known for name in each}),
        }

    def restore(self, state: dict[str, Any]) -> Self:
        """Take on the members' states."""
        each = zip(self._unfitted(), state["members"], strict=True)
        return self.of([member.restore(of_member) for member, of_member in each])


def stack(modality: str, problem: str) -> Architecture:
    """Return the architecture of stacks for a modality and a problem."""
    return Architecture(STACK, modality, problem, Stack, ranges())
