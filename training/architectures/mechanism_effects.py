"""Mean effects within a mechanism: how a line answers drugs of a pathway and of a target, shrunken to all drugs."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.architectures import Range, architecture, ranges
from training.architectures.mean_effects import MeanEffects
from training.estimator import Attribution, FitContext
from training.features.mechanism import Mechanisms

SPACE = ranges(pathway_prior=Range(2.0, 50.0, log=True), target_prior=Range(1.0, 20.0, log=True))
_KINDS = ("pathway", "target")


@architecture("pairs", "regression", space=SPACE, role="simple")
class MechanismEffects(MeanEffects):
    """`MeanEffects`, plus the line's mean residual over drugs of the pathway, and over drugs that share a target.

    Each is shrunken to zero by a number of prior drugs. A line or a mechanism that was not trained on has no effect,
    so a drug of which nothing is known is answered by mean effects.
    """

    featurizers: ClassVar[Mapping[str, Any]] = {**MeanEffects.featurizers, "mechanisms": Mechanisms}
    fitted: ClassVar[tuple[str, ...]] = (
        *MeanEffects.fitted,
        "pathway_sum",
        "pathway_count",
        "target_sum",
        "target_count",
    )

    pathway_prior: float = 10.0
    target_prior: float = 4.0

    @property
    def watches(self) -> bool:
        """Return False: validation rows decide nothing."""
        return False

    def fit(self, train: ResponseSamples, validation: Any = None, context: FitContext | None = None) -> Self:
        """Fit the effects on the training rows; all measurements of a line with a drug count as one."""
        super().fit(train)
        drugs, drug = np.unique(train.drug, return_inverse=True)
        lines, line = np.unique(train.cell, return_inverse=True)
        total, count = np.zeros((2, len(lines), len(drugs)))
        np.add.at(total, (line, drug), train.target - super().predict(train))
        np.add.at(count, (line, drug), 1)
        residual, measured = total / np.maximum(count, 1), np.minimum(count, 1)

        told = train.drugs.iloc[drugs]
        self.mechanisms_ = Mechanisms().fit(told)
        for kind, of in zip(_KINDS, self._split(self.mechanisms_.transform(told)), strict=True):
            sums, counts = residual @ of, measured @ of
            setattr(self, f"{kind}_sum_", sums.astype(np.float32))
            setattr(self, f"{kind}_count_", counts.astype(np.float32))
            if kind == "pathway":  # targets explain what their pathway leaves
                residual = residual - measured * (sums / (counts + self.pathway_prior) @ of.T)
        return self

    def _split(self, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the columns of pathways and of targets, without the one of nothing known."""
        end = 1 + len(self.mechanisms_.pathways)
        return known[:, 1:end].astype(np.float64), known[:, end:].astype(np.float64)

    def _within(self, samples: ResponseSamples) -> np.ndarray:
        """Return the effects of pathway and targets on each sample, ``(n, 2)``."""
        place = {name: at for at, name in enumerate(self.line_ids_)}
        line = np.array([place.get(str(name), -1) for name in samples.cell_lines.index])[samples.cell]
        found = []
        for kind, of in zip(_KINDS, self._split(self.mechanisms_.transform(samples.drugs)), strict=True):
            sums, counts = (getattr(self, f"{kind}_{what}_") for what in ("sum", "count"))
            effects = (sums @ of.T) / (counts @ of.T + getattr(self, f"{kind}_prior"))
            found.append(np.where(line >= 0, effects[line, samples.drug], 0.0))
        return np.column_stack(found)

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return drug mean + effects of the line on all drugs, its pathway's and its targets', shape ``(n,)``."""
        return super().predict(samples) + self._within(samples).sum(axis=1)

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """Return the four effects, from the overall mean."""
        found, within = super().attribute(samples), self._within(samples)
        names = [*found.names, *(f"cell_line:effect_on_{kind}" for kind in _KINDS)]
        values = np.hstack([found.values, within])
        return Attribution(names, values, found.base, found.prediction + within.sum(axis=1), "exact")

    def graph(self, contract: Any) -> Any:
        """See `Estimator.graph`; the effects are looked up outside of it."""
        from training.graphs import Formula, Graph

        about = {"effects": "the drug's mean, and the line's effects on all drugs, on its pathway's and its targets'"}

        def inputs(samples: ResponseSamples) -> dict[str, np.ndarray]:
            return {"effects": np.column_stack([*self._effects(samples), self._within(samples)])}

        return Graph(Formula(lambda effects: effects.sum(dim=1)), inputs, about, shared=False)

    def cost(self) -> dict[str, float]:
        """Return the number of means."""
        return {"parameters": super().cost()["parameters"] + self.pathway_sum_.size + self.target_sum_.size}
