"""What the endpoint of a task of kind ``expression`` takes: profiles as maps of genes, checked gene by gene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import AnyType, Array, Map, Object, Property

from pipelines.params import ExpressionTask, read_task
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.gene_names import match_genes, respelled
from pipelines.text_values import quoted
from training.contracts import (
    CONTRIBUTIONS,
    ClassContract,
    Contract,
    PayloadError,
    Remarks,
    contribution_columns,
    kind_of,
    largest_contributions,
    listed,
    number_of,
    summary_view,
)
from training.contracts.summaries import profile_summary
from training.contracts.units import outside
from training.estimator import Estimator
from training.model.novelty import View

MAX_ROWS = 2_000
_MOST = {"log2": 128.0, "as_is": 1e30}  # above, a feature may be infinite; linear values are logged
_LISTED = 200  # genes that a refusal names
_SAID = ("imputed", "ignored")  # genes that a profile lacks, and those that it has and no training profile had
_READ_AS = "read_as"  # of a profile of a request: what was normalized
_TOP = 10  # contributions to each of many predicted genes
_OF_TARGETS = Array(
    Object([Property(name, DataType.string) for name in ("target", "feature")] + [Property("value", DataType.double)])
)


@dataclass(frozen=True)
class LabelContract(ClassContract):
    """What a classifier of profiles takes and answers.

    Attributes
    ----------
    genes
        Those that the model looks at.
    known
        All genes that the training data had; a profile may hold them and they are not looked at.
    panels
        Of those that the model looks at, some that go together, by which inputs are described.
    unit
        Of the training profiles, see `training.contracts.units.unit_of`.
    """

    family = "profile_labels"

    genes: list[str]
    known: list[str]
    panels: dict[str, list[str]] = field(default_factory=dict)
    unit: dict[str, Any] | None = None

    def read(self, frame: pd.DataFrame) -> ExpressionSamples:
        """See `read_profiles`."""
        return read_profiles(frame, self)

    def request(self, samples: ExpressionSamples) -> pd.DataFrame:
        """Return the request that asks for ``samples``."""
        return _request(samples, self.genes)

    def inputs(self) -> list[ColSpec]:
        """Return the column ``expression``: gene to value."""
        return [ColSpec(Map(AnyType()), name="expression")]

    def outputs(self) -> list[ColSpec]:
        """Return the columns of an answer; with ``explain`` contributions that add up to the label's logit."""
        return [
            *super().outputs(),
            *(ColSpec(Array(DataType.string), name=name) for name in _SAID),
            ColSpec(DataType.double, name="base", required=False),
            ColSpec(CONTRIBUTIONS, name="attributions", required=False),
        ]

    def answer(self, outputs: np.ndarray, samples: ExpressionSamples) -> pd.DataFrame:
        """Return label, probabilities, the set of classes, and which genes were imputed and which ignored."""
        return super().answer(outputs, samples).assign(**_said(samples))

    def remarks(self, samples: ExpressionSamples) -> Remarks:
        """Return which profiles are in another unit than the training data."""
        return _remarks(samples, self.genes, self.unit)

    def describe(self, samples: ExpressionSamples) -> pd.DataFrame:
        """See `profile_summary`."""
        return profile_summary(samples.logged(self.genes), self.genes, self.panels)

    def views(self, samples: ExpressionSamples, described: pd.DataFrame) -> dict[str, View]:
        """Return the summary, and the genes that the model looks at."""
        return profile_views(samples.logged(self.genes), described)

    def identities(self, samples: ExpressionSamples) -> list[bytes]:
        """Return the values of the genes that the model looks at."""
        return [row.tobytes() for row in samples.logged(self.genes)]

    def explain(self, estimator: Estimator, samples: ExpressionSamples) -> dict[str, pd.Series]:
        """Return what each gene adds to the logit of the label."""
        attribution = estimator.attribute(samples)
        return {} if attribution is None else contribution_columns(attribution)


@dataclass(frozen=True)
class GeneContract(Contract):
    """What a model that predicts genes from genes takes and answers.

    Attributes
    ----------
    genes, known, panels, unit
        See `LabelContract`.
    targets
        Genes that are predicted, in log2 units.
    spreads
        Of the targets over the training rows: standard deviations.
    half_widths, coverage
        Of each target's prediction interval.
    """

    family = "gene_targets"

    genes: list[str]
    known: list[str]
    targets: list[str]
    spreads: list[float]
    half_widths: list[float | None]
    coverage: float
    panels: dict[str, list[str]] = field(default_factory=dict)
    unit: dict[str, Any] | None = None

    def read(self, frame: pd.DataFrame) -> ExpressionSamples:
        """See `read_profiles`."""
        return read_profiles(frame, self).aimed(self.targets, self.genes)

    def request(self, samples: ExpressionSamples) -> pd.DataFrame:
        """Return the request that asks for ``samples``."""
        return _request(samples, self.genes)

    def inputs(self) -> list[ColSpec]:
        """Return the column ``expression``: gene to value."""
        return [ColSpec(Map(AnyType()), name="expression")]

    def outputs(self) -> list[ColSpec]:
        """Return the columns of an answer; with ``explain`` the largest contributions to each target."""
        return [
            *(ColSpec(Map(DataType.double), name=name) for name in ("prediction", "low", "high")),
            ColSpec(DataType.double, name="coverage"),
            *(ColSpec(Array(DataType.string), name=name) for name in _SAID),
            ColSpec(Map(DataType.double), name="base", required=False),
            ColSpec(_OF_TARGETS, name="attributions", required=False),
        ]

    def answer(self, outputs: np.ndarray, samples: ExpressionSamples) -> pd.DataFrame:
        """Return each target with its interval, in log2 units, and which genes were imputed and which ignored."""
        half = np.array([np.nan if width is None else width for width in self.half_widths])

        def named(values: np.ndarray) -> pd.Series:
            rows = [dict(zip(self.targets, map(float, row), strict=True)) for row in values]
            return pd.Series(rows, dtype=object)

        parts = {"prediction": named(outputs)}
        if np.isfinite(half).all():
            parts |= {"low": named(outputs - half), "high": named(outputs + half)}
        return pd.DataFrame({**parts, "coverage": self.coverage, **_said(samples)})

    def withdrawn(self, answer: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
        """Return an answer without intervals in ``rows``."""
        maps = {name: answer[name].astype(object).where(~rows, None) for name in ("low", "high") if name in answer}
        return answer.assign(coverage=answer["coverage"].mask(rows), **maps)

    def remarks(self, samples: ExpressionSamples) -> Remarks:
        """Return which profiles are in another unit than the training data."""
        return _remarks(samples, self.genes, self.unit)

    def describe(self, samples: ExpressionSamples) -> pd.DataFrame:
        """See `profile_summary`."""
        return profile_summary(samples.logged(self.genes), self.genes, self.panels)

    def views(self, samples: ExpressionSamples, described: pd.DataFrame) -> dict[str, View]:
        """Return the summary, and the genes that the model looks at."""
        return profile_views(samples.logged(self.genes), described)

    def identities(self, samples: ExpressionSamples) -> list[bytes]:
        """Return the values of the genes that the model looks at."""
        return [row.tobytes() for row in samples.logged(self.genes)]

    def explain(self, estimator: Estimator, samples: ExpressionSamples) -> dict[str, pd.Series]:
        """Return the largest contributions to each target, in log2 units; ``base`` and they add up to it."""
        rows: list[list[dict[str, Any]]] = [[] for _ in range(len(samples))]
        bases: list[dict[str, float]] = [{} for _ in range(len(samples))]
        for position, target in enumerate(self.targets):
            attribution = estimator.attribute(samples, np.full(len(samples), position))
            if attribution is None:
                return {}
            named = largest_contributions(attribution, _TOP)
            for row, of_row, found, base in zip(rows, bases, named, attribution.base, strict=True):
                row += [{"target": target, **each} for each in found]
                of_row[target] = float(base)
        return {"base": pd.Series(bases, dtype=object), "attributions": pd.Series(rows, dtype=object)}


def _said(samples: ExpressionSamples) -> dict[str, pd.Series]:
    """Return which genes each profile of a request lacks, and which nobody knows; of a training table, none."""
    nothing: pd.Series = pd.Series([[] for _ in range(len(samples))], dtype=object)
    return {name: samples.table.get(name, nothing) for name in _SAID}


def _remarks(samples: ExpressionSamples, genes: list[str], unit: dict[str, Any] | None) -> Remarks:
    made = Remarks(len(samples))
    if _READ_AS in samples.table:
        made.add(samples.table[_READ_AS].tolist())
    if unit is not None:
        made.add(outside(samples.raw(genes), genes, unit, "expression"), withdraw=True)
    return made


def profile_views(values: np.ndarray, described: pd.DataFrame) -> dict[str, View]:
    """Return the summary's view and that of the genes, of profiles in log2 units, shape ``(n, genes)``."""
    columns = [str(column) for column in described if column != "missing"]  # how many may be is the task's to say
    return {
        "summary": summary_view(described, columns),
        "genes": View("profile", values, np.arange(len(values))),
    }


def read_profiles(frame: pd.DataFrame, contract: LabelContract | GeneContract) -> ExpressionSamples:
    """Check a request and make samples of it.

    Parameters
    ----------
    frame
        A row a profile: column ``expression``, a map of genes to values on the scale of the task's data. Genes go by
        symbol, by Entrez number or as ``SYMBOL|ENTREZ``. A gene that is left out, or null, is imputed.
    contract
        Of the model that is asked.

    Returns
    -------
    ExpressionSamples
        In the order of the rows; ``table["imputed"]`` lists the genes that each row lacks, ``table["ignored"]`` those
        that it names and the training data did not have.

    Raises
    ------
    PayloadError
        Names the row (from 0, as in the request) and the gene; or lists the genes that a row lacks, or that nobody
        knows, where they are more than ``data.missing_genes`` of ``params.yaml`` allows.
    """
    if len(frame) == 0:
        raise PayloadError("the request has no rows; send at least one")
    if len(frame) > MAX_ROWS:
        raise PayloadError(f"the request has {len(frame)} rows; send at most {MAX_ROWS} at a time")
    if unknown := [str(column) for column in frame.columns if column != "expression"]:
        raise PayloadError(f"unknown field {listed(unknown)}; the field is expression")
    if len(frame.columns) != 1:
        count = len(frame.columns)
        what = f"stands {count} times; send it once" if count else "is missing; every row needs it"
        raise PayloadError(f"the field expression {what}")
    task = read_task(contract.task_text)
    assert isinstance(task, ExpressionTask)
    values = np.full((len(frame), len(contract.genes)), np.nan, dtype=np.float32)
    imputed: list[list[str]] = []
    ignored: list[list[str]] = []
    used = set(contract.genes)
    # All that are known: a symbol that two of them bear says not which is meant, though the model looks at one alone.
    known = [*contract.genes, *(gene for gene in contract.known if gene not in used)]
    matches: dict[tuple[str, ...], _Named] = {}  # profiles of one laboratory name the same genes
    read_as: list[str | None] = []
    for row, profile in enumerate(frame["expression"].tolist()):
        where = f"row {row}, field expression"
        if not isinstance(profile, Mapping):
            raise PayloadError(f"{where}: must be a map of gene to value, it is {kind_of(profile)}")
        given = {str(gene): value for gene, value in profile.items()}
        names = tuple(given)
        if names not in matches:
            matches[names] = _named_genes(names, known)
        found, unknown = matches[names].found, matches[names].unknown
        read_as.append(matches[names].said)
        for column, gene in enumerate(contract.genes):
            if gene in found:
                values[row, column] = _number(given[found[gene]], f"{where}.{found[gene]}", task)
        lacking = [gene for gene, value in zip(contract.genes, values[row], strict=True) if math.isnan(value)]
        allowed = task.data.missing_genes
        if len(unknown) > allowed * max(1, len(names)):
            raise PayloadError(
                f"{where}: {len(unknown)} of {len(names)} genes are unknown, {allowed:.1%} may be: "
                f"{listed(unknown, _LISTED)}"
            )
        if len(lacking) > allowed * len(contract.genes):
            raise PayloadError(
                f"{where}: lacks {len(lacking)} of the model's {len(contract.genes)} genes, {allowed:.1%} may be "
                f"missing: {listed(lacking, _LISTED)}"
            )
        imputed.append(lacking)
        ignored.append(list(unknown))
    ids = [f"row:{row}" for row in range(len(frame))]
    said = {name: pd.Series(genes, dtype=object) for name, genes in zip(_SAID, (imputed, ignored), strict=True)}
    table = pd.DataFrame({"sample_id": ids, "patient_id": ids, **said, _READ_AS: pd.Series(read_as, dtype=object)})
    genes = tuple(contract.genes)
    return ExpressionSamples(
        table, values, np.arange(len(table)), genes, pd.DataFrame(index=pd.Index(genes)), task.data.scale
    )


@dataclass(frozen=True)
class _Named:
    """Which name of a profile stands for which gene, the names that stand for none, and what was read otherwise."""

    found: dict[str, str]
    unknown: list[str]
    said: str | None


def _named_genes(names: tuple[str, ...], known: list[str]) -> _Named:
    match = match_genes(names, known)
    if not match.missing or not match.unknown:
        return _Named(match.found, match.unknown, None)
    certain = {gene: given[0] for gene, given in respelled(names, known).items() if len(given) == 1}
    left = set(match.unknown) - set(certain.values())
    said = f"{len(certain)} genes were matched but for case or blanks, such as {quoted(certain.values(), 3)}"
    unknown = [name for name in match.unknown if name in left]
    return _Named({**match.found, **certain}, unknown, said if certain else None)


def used_genes(estimator: Estimator, samples: ExpressionSamples) -> list[str]:
    """Return the genes that a fitted model looks at, in the order of the table."""
    members = getattr(estimator, "members_", [estimator])
    used = {gene for member in members for gene in getattr(getattr(member, "features_", None), "genes", [])}
    return [gene for gene in samples.inputs if gene in used]


def _number(value: Any, where: str, task: ExpressionTask) -> float:
    """Return a value of a profile; NaN for null, which is a gene that was not measured."""
    if value is None:
        return math.nan
    number = number_of(value, where[:160])
    if number < 0 and task.data.scale != "as_is":
        raise PayloadError(f"{where[:160]}: {number:g} is below 0, which {task.data.scale} expression never is")
    if abs(number) > (most := _MOST.get(task.data.scale, math.inf)):
        raise PayloadError(f"{where[:160]}: {number:g} is beyond {most:g}, which {task.data.scale} expression never is")
    return number


def _request(samples: ExpressionSamples, genes: list[str]) -> pd.DataFrame:
    columns = pd.Index(samples.genes).get_indexer(pd.Index(genes))
    values = samples.values[np.ix_(samples.index, columns)]
    rows = [
        {gene: float(value) for gene, value in zip(genes, row, strict=True) if not math.isnan(value)} for row in values
    ]
    return pd.DataFrame({"expression": pd.Series(rows, dtype=object)})


CONTRACTS: dict[str, type[Contract]] = {"profile_labels": LabelContract, "gene_targets": GeneContract}
