"""What is predicted: how logged answers are measured by the monitor, and how answers are shown by the dashboard.

A problem is a module of this package, found by its name. The first page of the dashboard needs one: what loads for
seconds (pandas, charts, metrics) is imported where it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pipelines.errors import UserError
from serving.dashboard.data.loading import load

if TYPE_CHECKING:
    import pandas as pd

    from serving.table_files import TableFile

Answer = dict[str, Any]
Refuse = Callable[[str, str, np.ndarray, str, Sequence[Any]], None]


@dataclass(frozen=True)
class Wording:
    """How contributions to an answer are put into words.

    Attributes
    ----------
    of
        What they contribute to: "the prediction".
    raises, lowers
        What positive and negative ones mean.
    red
        Which of the two is drawn red; ``raises`` unless said otherwise.
    summed
        What they add up to.
    unit
        Of the contributions.
    note
        What is to be said above them.
    target
        Which of several answers is meant; it stands in the name of the downloaded file too.
    """

    of: str
    raises: str
    lowers: str
    red: str = ""
    summed: str = "The prediction"
    unit: str = ""
    note: str = ""
    target: str | None = None


class Problem(ABC):
    """One problem; what is drawn is drawn by Streamlit, where the page is.

    Attributes
    ----------
    measurable
        Metrics that a prediction log suffices for, the most telling first.
    scores, scores_within
        Metrics of the evidence that are shown beside an answer, the most telling first; the second, where there are
        any, for a modality whose samples are measured in parts.
    promise
        What it is that is promised of an answer, and what that does.
    says
        What a model says of a sample.
    ranks
        How answers about many drugs are ranked; empty where the problem is not asked of pairs.
    behind
        Heading of the explanation of a sample's answer.
    tables
        Of explanations that are told part by part: file, the column that names the part, and what that is called.
    """

    measurable: ClassVar[tuple[str, ...]]
    scores: ClassVar[tuple[str, ...]]
    scores_within: ClassVar[tuple[str, ...]] = ()
    promise: ClassVar[tuple[str, str]] = ("Each interval", "hold the measured value")
    says: ClassVar[str] = ""
    ranks: ClassVar[str] = ""
    behind: ClassVar[str] = "Genes behind it"
    tables: ClassVar[tuple[tuple[str, str, str], ...]] = ()

    # The monitor.

    def label_columns(self, contract: Any) -> list[str]:
        """Return the columns in which labels arrive, beside ``sample_id``."""
        return ["target"]

    def read_labels(
        self, contract: Any, table: TableFile, at: Mapping[str, int], refuse: Refuse, tell: Callable[[str], None]
    ) -> tuple[dict[str, Any], np.ndarray]:
        """Read the columns of labels, which are finite numbers unless a problem says otherwise.

        Parameters
        ----------
        contract
            Of the version.
        table, at
            The file, and the place of each column in it.
        refuse
            Takes the name of an expectation, a column, which rows break it (bool), what must be, and cells to show.
        tell
            Takes a sentence on what is read otherwise than it stands there.

        Returns
        -------
        tuple
            Columns whose names start with ``measured``, and which rows say that nothing is known, bool, ``(n,)``.
        """
        from serving.number_cells import read_numbers

        columns = self.label_columns(contract)
        cells = table.cells[[at[column] for column in columns]]
        found = read_numbers(cells, table.name, decimal_comma=table.decimal_comma)
        missing = (np.isnan(found.values) & ~found.wrong).all(axis=1)
        for place, column in enumerate(columns):
            wrong = ~np.isfinite(found.values[:, place]) & ~missing
            refuse("finite", column, wrong, "must be a finite number", table.column(at[column]))
        table.notes.extend(found.notes)
        names = [f"measured_{place}" for place in range(len(columns))] if len(columns) > 1 else ["measured"]
        return dict(zip(names, found.values.T, strict=True)), missing

    @abstractmethod
    def predictions(self, contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
        """Return what was predicted in rows of the log or of a version's reference, in columns that can be compared."""

    @abstractmethod
    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return measured and predicted values as `evaluation.problems.Measures.bootstrap` takes them.

        Parameters
        ----------
        contract
            Of the version.
        joined
            Columns of `read_labels` and of `predictions`.
        """

    # The dashboard: answers about samples, one by one; `answers` are the endpoint's, `about` names their samples.

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return the answers as they are downloaded: ``sample``, what is answered, and `tables.novelty`."""
        raise self._unasked("samples")

    def overview(self, table: pd.DataFrame, what: str) -> None:  # noqa: B027  # one answer may fill the page
        """Draw a row a sample; ``what`` a sample is called."""

    def heading(self, answer: Answer) -> str:
        """Draw the heading of a sample's answer, where it has one; return in a word what is answered."""
        return "what it answers"

    def held(self, answer: Answer) -> tuple[str, str] | None:
        """Return in a sentence what the answer does not rule out, with the glossary's key of it, where that is told."""
        return None

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the answer about one sample, which is called ``what``.

        ``own`` are its rows of `table`; names of files that are downloaded begin with ``file``.
        """
        raise self._unasked("samples")

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Return how contributions to the answer are told; may let people choose which, by a widget of this key."""
        raise self._unasked("samples")

    # The dashboard: answers about pairs, ranked.

    def ranked(
        self, answers: Sequence[Answer], about: pd.DataFrame, usual: Callable[[], Mapping[str, float]]
    ) -> pd.DataFrame:
        """Return a table like `table` with ``rank, drug, drug_id``; of each sample the most sensitive drug is first.

        ``usual`` reads the median measured response by ``drug_id``.
        """
        raise self._unasked("pairs")

    def show_ranked(self, own: pd.DataFrame, sample: str, target: str) -> pd.DataFrame:
        """Draw the answers about a sample, rows of `ranked`; return them in the order that is shown.

        ``target`` is the column of the raw response that is learnt.
        """
        raise self._unasked("pairs")

    def pair_wording(self, target: str) -> Wording:
        """Return how contributions to the answer about a pair are told."""
        raise self._unasked("pairs")

    def _unasked(self, what: str) -> UserError:
        return UserError(f"the dashboard does not show {type(self).__name__.lower()} of {what} yet")


@cache
def get_problem(name: str) -> Problem:
    """Return the problem ``name``, importing its module."""
    found: Problem = load(f"{__name__}.{name}").PROBLEM
    return found
