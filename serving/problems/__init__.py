"""Problems, a module each, found by its name: how logged answers are measured, and how the dashboard shows answers."""

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

    from serving.dashboard.pages import frame
    from serving.table_files import TableFile

RESISTANCE, SENSITIVITY = "towards resistance", "towards sensitivity"
Answer = dict[str, Any]
Refuse = Callable[[str, str, np.ndarray, str, Sequence[Any]], None]
Tell = Callable[[str], None]
Places = Mapping[str, int]
Labels = tuple[dict[str, Any], np.ndarray]  # columns, and which rows have no label, bool
Usual = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Wording:
    """Words for the contributions to an answer."""

    of: str
    raises: str  # what positive ones do
    lowers: str
    red: str = ""  # the one that is drawn red, else ``raises``
    summed: str = "The prediction"  # what they add up to
    unit: str = ""
    note: str = ""  # stands above them
    target: str | None = None  # one of several predictions


@dataclass(frozen=True)
class Worth:
    """How good answers are, and what of an answer tells that beforehand, both a number a row, ``(n,)``."""

    metric: str
    signal: Callable[[pd.DataFrame], np.ndarray]  # of answers; the higher, the higher is the score
    score: Callable[[pd.DataFrame], np.ndarray]  # of answers with their ``target``
    of_mean: Callable[[float], float] = float  # the metric, of a mean of scores
    probability: bool = False  # whether the signal is one, of a score of 0 or 1


class Problem(ABC):
    """One problem, drawn with Streamlit where the page is; metrics are in the order of their importance."""

    measurable: ClassVar[tuple[str, ...]]  # metrics that can be computed from a prediction log
    scores: ClassVar[tuple[str, ...]]  # metrics of the evidence that are shown beside an answer
    scores_within: ClassVar[tuple[str, ...]] = ()  # in their place for a modality that is scored within parts
    promise: ClassVar[tuple[str, str]] = ("Each interval", "hold the measured value")  # what promises to do what
    says: ClassVar[str] = ""  # what a model says of a sample
    ranks: ClassVar[str] = ""  # how answers about many drugs are ranked; empty for a problem that pairs do not have
    behind: ClassVar[str] = "Genes behind it"  # heading of the explanation of a sample's answer
    tables: ClassVar[tuple[tuple[str, str], ...]] = ()  # files of explanations by part, and the column of the part
    tried: ClassVar[str] = "prediction"  # column of the log by which a trial compares answers

    # The monitor.

    def label_columns(self, contract: Any) -> list[str]:
        """Return the columns of labels, beside ``sample_id``."""
        return ["target"]

    def read_labels(self, contract: Any, table: TableFile, at: Places, refuse: Refuse, tell: Tell) -> Labels:
        """Read labels, finite numbers by default: columns named ``measured...``, and which rows have no label.

        ``at`` has the places of columns. ``refuse`` takes an expectation, a column, the faulty rows, what must be, and
        cells to show; ``tell`` takes a sentence on cells that are read otherwise than they are written.
        """
        from serving.table_files import read_numbers

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

    def predictions(self, contract: Any, rows: pd.DataFrame) -> pd.DataFrame:
        """Return what was predicted in rows of the log or of a version's reference, in comparable columns."""
        return rows[["prediction"]]

    def worth(self) -> Worth | None:
        """Return what tells how good logged answers are; None where nothing does."""
        return None

    def apart(self, contract: Any, answers: pd.Series, others: pd.Series) -> np.ndarray:
        """Return how far the answers `tried` lie from others, 0 to 1, ``(n,)``; by default whether they differ.

        ``contract`` is of the version that is served: the scale must be known before a trial begins.
        """
        return (answers.astype(str) != others.astype(str)).to_numpy(np.float64)

    def lost(self, contract: Any, answers: pd.Series, measured: pd.DataFrame) -> np.ndarray:
        """Return how far answers lie from labels, the columns of `read_labels`, as `apart` does."""
        return self.apart(contract, answers, measured["measured"])

    @abstractmethod
    def to_score(self, contract: Any, joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Return measured and predicted values of joined labels and predictions, as `Measures.bootstrap` takes them."""

    # The dashboard: answers about samples, one by one; ``about`` names the samples of the answers.

    def table(self, answers: Sequence[Answer], about: pd.DataFrame) -> pd.DataFrame:
        """Return the answers as they are downloaded: ``sample``, the answer, and `tables.novelty`."""
        raise self._not_shown("samples")

    def columns(self, table: pd.DataFrame) -> frame.Columns:
        """Return the columns of the overview of several samples, a row each; none where one answer fills the page."""
        return {}

    def heading(self, answer: Answer) -> str:
        """Draw the heading of a sample's answer, if it has one; return the answer in a word."""
        return "the answer"

    def held(self, answer: Answer) -> tuple[str, str] | None:
        """Return a sentence on what the answer does not rule out, and the term of the glossary that explains it."""
        return None

    def show(self, answer: Answer, own: pd.DataFrame, what: str, file: str) -> None:
        """Draw the answer about the sample ``what``, in `table` as ``own``; names of files begin with ``file``."""
        raise self._not_shown("samples")

    def wording(self, answer: Answer, own: pd.DataFrame, key: str) -> Wording:
        """Return the words for contributions; may let people choose among answers by a widget with this key."""
        raise self._not_shown("samples")

    # The dashboard: answers about pairs, ranked.

    def ranked(self, answers: Sequence[Answer], about: pd.DataFrame, usual: Usual) -> pd.DataFrame:
        """Return a `table` with ``rank, drug, drug_id``, most sensitive first; ``usual`` reads median responses."""
        raise self._not_shown("pairs")

    def show_ranked(self, own: pd.DataFrame, sample: str, target: str) -> pd.DataFrame:
        """Draw the answers about a sample, rows of `ranked`, in units of ``target``; return them in the order shown."""
        raise self._not_shown("pairs")

    def pair_wording(self, target: str) -> Wording:
        """Return the words for contributions to the answer about a pair."""
        raise self._not_shown("pairs")

    def _not_shown(self, what: str) -> UserError:
        return UserError(f"the dashboard does not show {type(self).__name__.lower()} of {what} yet")


@cache
def get_problem(name: str) -> Problem:
    """Return the problem ``name``, importing its module."""
    return load(f"{__name__}.{name}").PROBLEM
