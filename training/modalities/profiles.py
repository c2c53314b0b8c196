"""Requests of expression profiles: maps of genes to values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import AnyType, Array, Map

from pipelines.datasets import Prepared
from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import read_task
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.gene_names import match_genes, respelled
from pipelines.text_values import quoted
from training import contract
from training.contract import Columns, Contract, PayloadError, Remarks
from training.estimator import Estimator
from training.features.summaries import choose_panels, profile_summary
from training.features.units import outside, unit_of
from training.model.novelty import View, some

MAX_ROWS = 2_000
_MOST = {"log2": 128.0, "as_is": 1e30}  # above, a feature may be infinite; linear values are logged
_LISTED = 200  # genes that a refusal names
_ABOUT_GENES = ("imputed", "ignored")  # columns of an answer: genes that a profile, or the training data, lacks
_REMEMBERED = 8  # sets of names, from request to request
_READ_AS = "read_as"  # column of the profiles of a request: what was normalized
_COLUMNS = ["sample_id", "patient_id", *_ABOUT_GENES, _READ_AS]

_Match = tuple[list[str], list[int], list[str], str | None]  # see `_named_genes`


@dataclass(frozen=True, kw_only=True)
class Profiles(Contract):
    """What a model of expression profiles takes."""

    genes: list[str]  # that the model looks at
    known: list[str]  # all of the training data; a profile may have them
    panels: dict[str, list[str]] = field(default_factory=dict)  # correlated ``genes``, by which inputs are described
    unit: dict[str, Any] | None = None  # of the training profiles, see `training.features.units.unit_of`

    @classmethod
    def taken(cls, architecture: str, task: Any, prepared: Prepared, estimator: Estimator) -> dict[str, Any]:
        """Return the genes of the fitted model and of the data, panels of them, and the unit of the profiles."""
        genes = used_genes(estimator, prepared.samples)
        fitted_on = prepared.side("train", "validation")
        described = prepared.samples.take(some(prepared.rows("train")))
        return {
            "genes": genes,
            "known": list(prepared.samples.genes),
            "panels": choose_panels(described.logged(genes), genes),
            "unit": unit_of(fitted_on.raw(genes), fitted_on.scale),
        }

    @cached_property
    def _all_known(self) -> tuple[str, ...]:
        """A symbol of two known genes is ambiguous though the model looks at one of them alone."""
        return tuple(dict.fromkeys([*self.genes, *self.known]))

    @property
    def scale(self) -> str:
        """Return the scale of a request's expression, see `pipelines.samples.expression`."""
        return str(read_task(self.task_text).data.scale)

    @cached_property
    def _about_genes(self) -> pd.DataFrame:
        return pd.DataFrame(index=pd.Index(self.genes))

    @cached_property
    def _matched(self) -> dict[tuple[str, ...], _Match]:
        return {}

    def read(self, frame: pd.DataFrame) -> ExpressionSamples:
        """Check a request and return its samples, in its order; up to ``missing_genes`` of a profile are imputed."""
        contract.check_form(frame, ["expression"], ["expression"], MAX_ROWS)
        task: Any = read_task(self.task_text)
        values = np.full((len(frame), len(self.genes)), np.nan, dtype=np.float32)
        matches: dict[tuple[str, ...], _Match] = {}  # profiles of one laboratory name the same genes
        about: list[list[Any]] = []
        for row, profile in enumerate(frame["expression"].tolist()):
            where = f"row {row}, field expression"
            if not isinstance(profile, Mapping):
                raise PayloadError(f"{where}: must be a map of gene to value, it is {contract.kind_of(profile)}")
            given = profile if set(map(type, profile)) <= {str} else {str(gene): profile[gene] for gene in profile}
            names = tuple(given)
            if names not in matches:
                matches[names] = self._matched.get(names) or _named_genes(names, self._all_known, self.genes)
            wanted, places, unknown, note = matches[names]
            values[row, places] = _values(given, wanted, where, task)
            lacking = [self.genes[place] for place in np.flatnonzero(np.isnan(values[row]))]
            allowed = task.data.missing_genes
            if len(unknown) > allowed * max(1, len(names)):
                raise PayloadError(
                    f"{where}: {len(unknown)} of {len(names)} genes are unknown, {allowed:.1%} may be: "
                    f"{contract.listed(unknown, _LISTED)}"
                )
            if len(lacking) > allowed * len(self.genes):
                raise PayloadError(
                    f"{where}: lacks {len(lacking)} of the model's {len(self.genes)} genes, {allowed:.1%} may be "
                    f"missing: {contract.listed(lacking, _LISTED)}"
                )
            about.append([f"row:{row}", f"row:{row}", lacking, list(unknown), note])
        for names, match in matches.items():
            # For the next request. Names that are all known are as long as the model's, and few laboratories ask it.
            if not match[2] and len(self._matched) < _REMEMBERED:
                self._matched[names] = match
        table, rows = pd.DataFrame(about, columns=_COLUMNS, dtype=object), np.arange(len(about))
        return self.aimed(ExpressionSamples(table, values, rows, tuple(self.genes), self._about_genes, task.data.scale))

    def request(self, samples: ExpressionSamples) -> pd.DataFrame:
        """Return the request that asks for ``samples``."""
        columns = pd.Index(samples.genes).get_indexer(pd.Index(self.genes))
        values = samples.values[np.ix_(samples.index, columns)]
        rows = [
            {gene: float(value) for gene, value in zip(self.genes, row, strict=True) if not math.isnan(value)}
            for row in values
        ]
        return pd.DataFrame({"expression": pd.Series(rows, dtype=object)})

    def inputs(self) -> list[ColSpec]:
        """Return the column ``expression``: gene to value."""
        return [ColSpec(Map(AnyType()), name="expression")]

    def outputs(self) -> list[ColSpec]:
        """Return the columns of an answer, with the genes that were imputed and ignored."""
        about = [ColSpec(Array(DataType.string), name=name) for name in _ABOUT_GENES]
        return [*self.answered, *about, *self.explained]

    def answer(self, outputs: np.ndarray, samples: ExpressionSamples) -> Columns:
        """Return the answer with the genes that were imputed and ignored: none for samples of a training table."""
        nothing: list[list[str]] = [[] for _ in range(len(samples))]
        about = {name: samples.table.get(name, nothing) for name in _ABOUT_GENES}
        return super().answer(outputs, samples) | about

    def remarks(self, samples: ExpressionSamples) -> Remarks:
        """Return notes on what was normalized and which profiles are in another unit than the training data."""
        made = Remarks(len(samples))
        if _READ_AS in samples.table:
            made.add(samples.table[_READ_AS].tolist())
        if self.unit is not None:
            made.add(outside(samples.raw(self.genes), self.genes, self.unit, "expression"), withdraw=True)
        return made

    def describe(self, samples: ExpressionSamples) -> Columns:
        """See `profile_summary`."""
        return profile_summary(samples.logged(self.genes), self.genes, self.panels)

    def views(self, samples: ExpressionSamples, described: Columns | None = None) -> dict[str, View]:
        """Return the summary, without the number of missing genes, and the genes that the model looks at."""
        values = samples.logged(self.genes)
        described = self.describe(samples) if described is None else described
        columns = [name for name in described if name != "missing"]
        genes = View("profile", values, np.arange(len(values)))
        return {"summary": contract.summary_view(described, columns), "genes": genes}

    def identities(self, samples: ExpressionSamples) -> list[bytes]:
        """Return the values of the genes that the model looks at."""
        return [row.tobytes() for row in samples.logged(self.genes)]


def _named_genes(names: tuple[str, ...], known: tuple[str, ...], genes: Sequence[str]) -> _Match:
    """Return the names of the ``genes`` that were found, their places, names of no known gene, and a note on them."""
    match = match_genes(names, known)
    found, unknown, note = match.found, match.unknown, None
    if match.missing and unknown:
        certain = {gene: given[0] for gene, given in respelled(names, known).items() if len(given) == 1}
        if certain:
            note = f"{len(certain)} genes were matched but for case or blanks, such as {quoted(certain.values(), 3)}"
        left = set(unknown) - set(certain.values())
        found, unknown = {**found, **certain}, [name for name in unknown if name in left]
    places = [place for place, gene in enumerate(genes) if gene in found]
    return [found[genes[place]] for place in places], places, unknown, note


def used_genes(estimator: Estimator, samples: ExpressionSamples) -> list[str]:
    """Return the genes that a fitted model looks at, in the order of the table."""
    used: set[str] = set()
    waiting = [estimator]
    while waiting:
        member = waiting.pop()
        waiting += getattr(member, "members_", [])  # which may be ensembles themselves
        used |= set(getattr(getattr(member, "features_", None), "genes", []))
    return [gene for gene in samples.inputs if gene in used]


def _values(given: Mapping[str, Any], names: list[str], where: str, task: ProfilesTask) -> np.ndarray:
    """Return the values under ``names``; NaN for null, which is a gene that was not measured."""
    values, measured = list(map(given.__getitem__, names)), names
    if missing := type(None) in set(map(type, values)):
        measured = [name for name, value in zip(names, values, strict=True) if value is not None]
    numbers = contract.numbers_of([given[name] for name in measured] if missing else values, measured, where)
    scale = task.data.scale
    if scale != "as_is":
        contract.refuse_values(numbers < 0, numbers, measured, where, f"{scale} expression is never below 0")
    most = _MOST.get(scale, math.inf)
    contract.refuse_values(
        np.abs(numbers) > most, numbers, measured, where, f"{scale} expression is never beyond {most:g}"
    )
    if not missing:
        return numbers
    found = dict(zip(measured, numbers, strict=True))
    return np.array([found.get(name, math.nan) for name in names], dtype=np.float64)


TAKEN = Profiles
