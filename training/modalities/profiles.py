"""Models of expression profiles take maps of genes, checked gene by gene."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from training.contract import Contract, PayloadError, Remarks, kind_of, listed, number_of, summary_view
from training.estimator import Estimator
from training.features.summaries import choose_panels, profile_summary
from training.features.units import outside, unit_of
from training.model.novelty import View, some

MAX_ROWS = 2_000
_MOST = {"log2": 128.0, "as_is": 1e30}  # above, a feature may be infinite; linear values are logged
_LISTED = 200  # genes that a refusal names
_SAID = ("imputed", "ignored")  # genes that a profile lacks, and those that it has and no training profile had
_READ_AS = "read_as"  # of a profile of a request: what was normalized


@dataclass(frozen=True, kw_only=True)
class Profiles(Contract):
    """What a model of expression profiles takes, whatever it answers.

    Attributes
    ----------
    genes
        Those that the model looks at.
    known
        All genes that the training data had; a profile may hold them and they are not looked at.
    panels
        Of those that the model looks at, some that go together, by which inputs are described.
    unit
        Of the training profiles, see `training.features.units.unit_of`.
    """

    genes: list[str]
    known: list[str]
    panels: dict[str, list[str]] = field(default_factory=dict)
    unit: dict[str, Any] | None = None

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

    def read(self, frame: pd.DataFrame) -> ExpressionSamples:
        """See `read_profiles`."""
        return self.aimed(read_profiles(frame, self))

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
        """Return the columns of an answer, and which genes were imputed and which ignored."""
        said = [ColSpec(Array(DataType.string), name=name) for name in _SAID]
        return [*self.answered(), *said, *self.explained()]

    def answer(self, outputs: np.ndarray, samples: ExpressionSamples) -> pd.DataFrame:
        """Return the answer, and which genes were imputed and which ignored; of a training table, none."""
        nothing: pd.Series = pd.Series([[] for _ in range(len(samples))], dtype=object)
        said = {name: samples.table.get(name, nothing) for name in _SAID}
        return self.said(outputs, samples).assign(**said)

    def remarks(self, samples: ExpressionSamples) -> Remarks:
        """Return what was read otherwise, and which profiles are in another unit than the training data."""
        made = Remarks(len(samples))
        if _READ_AS in samples.table:
            made.add(samples.table[_READ_AS].tolist())
        if self.unit is not None:
            made.add(outside(samples.raw(self.genes), self.genes, self.unit, "expression"), withdraw=True)
        return made

    def describe(self, samples: ExpressionSamples) -> pd.DataFrame:
        """See `profile_summary`."""
        return profile_summary(samples.logged(self.genes), self.genes, self.panels)

    def views(self, samples: ExpressionSamples, described: pd.DataFrame) -> dict[str, View]:
        """Return the summary, and the genes that the model looks at."""
        return profile_views(samples.logged(self.genes), described)

    def identities(self, samples: ExpressionSamples) -> list[bytes]:
        """Return the values of the genes that the model looks at."""
        return [row.tobytes() for row in samples.logged(self.genes)]


def profile_views(values: np.ndarray, described: pd.DataFrame) -> dict[str, View]:
    """Return the summary's view and that of the genes, of profiles in log2 units, shape ``(n, genes)``."""
    columns = [str(column) for column in described if column != "missing"]  # how many may be is the task's to say
    return {
        "summary": summary_view(described, columns),
        "genes": View("profile", values, np.arange(len(values))),
    }


def read_profiles(frame: pd.DataFrame, contract: Profiles) -> ExpressionSamples:
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
    task: Any = read_task(contract.task_text)
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


def _number(value: Any, where: str, task: ProfilesTask) -> float:
    """Return a value of a profile; NaN for null, which is a gene that was not measured."""
    if value is None:
        return math.nan
    number = number_of(value, where[:160])
    if number < 0 and task.data.scale != "as_is":
        raise PayloadError(f"{where[:160]}: {number:g} is below 0, which {task.data.scale} expression never is")
    if abs(number) > (most := _MOST.get(task.data.scale, math.inf)):
        raise PayloadError(f"{where[:160]}: {number:g} is beyond {most:g}, which {task.data.scale} expression never is")
    return number


TAKEN = Profiles
