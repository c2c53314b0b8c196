"""Decisions of people on doubtful labels, a table beside the raw data: keep, change or drop a sample, by whom and why.

They apply by name after the split: no decision deals a group to another side.
"""

import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipelines.errors import DataError, Finding
from pipelines.files import written_whole
from pipelines.samples.formats import read_table
from pipelines.text_values import quoted

DECISIONS_FILE = "label_decisions.csv"
COLUMNS = ("sample_id", "given", "decision", "new_label", "by", "why", "date")
DECISIONS = ("keep", "change", "drop")
DROPPED = "label_decision"  # the rule that such rows are counted under
_ADDING = threading.Lock()


class Decided(NamedTuple):
    """Samples under decisions, and which of those before are kept, bool, ``(n,)``."""

    samples: Any
    kept: np.ndarray


def read_decisions(folder: Path) -> pd.DataFrame:
    """Return the table of decisions of a raw folder, without rows where there is none; `DataError` for faults in it."""
    path = folder / DECISIONS_FILE
    if not path.is_file():
        return pd.DataFrame(columns=list(COLUMNS), dtype=object)
    table = read_table(path, text=COLUMNS, verbatim=("sample_id",))
    change = table["decision"] == "change"
    days = pd.to_datetime(table["date"], format="%Y-%m-%d", errors="coerce")
    empty = ("sample_id", "given", "by", "why")
    _refuse(table, *((each, table[each].isna(), "is empty; fill it in") for each in empty))
    _refuse(
        table,
        ("sample_id", table["sample_id"].duplicated(), "has two decisions; keep the one that holds"),
        ("decision", ~table["decision"].isin(DECISIONS), f"is none; write {', '.join(DECISIONS)}"),
        ("new_label", change & table["new_label"].isna(), "is empty and the decision is change; name the label"),
        ("new_label", ~change & table["new_label"].notna(), "is for change alone; leave it empty"),
        ("new_label", table["new_label"] == table["given"], "is the given label; to leave it decide keep"),
        ("date", days.isna(), "is no date; write it as 2026-11-30"),
    )
    return table


def add_decision(folder: Path, **row: str) -> None:
    """Write one more decision, of `COLUMNS`, into the table of a raw folder; `DataError` for faults in it."""
    with _ADDING, tempfile.TemporaryDirectory(prefix="oncolineage-") as place:
        table = pd.concat([read_decisions(folder), pd.DataFrame([row])], ignore_index=True)[list(COLUMNS)]
        table.to_csv(Path(place) / DECISIONS_FILE, index=False)
        read_decisions(Path(place))
        with written_whole(folder / DECISIONS_FILE) as path:
            shutil.copyfile(Path(place) / DECISIONS_FILE, path)


def decide(samples: Any, table: pd.DataFrame) -> Decided:
    """Return samples with the labels that ``table`` of `read_decisions` gives them, without those that it drops.

    `DataError` for samples that there are not, given labels that are not theirs now, and labels that no class has.
    """
    kept = np.ones(len(samples), dtype=bool)
    if not len(table):
        return Decided(samples, kept)
    if not getattr(samples, "classes", ()) or "label" not in samples.table:
        raise DataError(
            [Finding("labels_are_read", DECISIONS_FILE, "the samples of this task have no labels of files")]
        )
    rows = pd.Index(samples.table["sample_id"]).get_indexer(pd.Index(table["sample_id"]))
    labels = samples.table["label"].to_numpy(object).copy()
    there = pd.Series(np.where(rows >= 0, labels[rows], None), index=table.index, dtype=object)
    other = (there != table["given"]) & (rows >= 0)
    strange = table["new_label"].notna() & ~table["new_label"].isin(samples.classes)
    unknown = pd.Series(rows < 0, index=table.index)
    _refuse(
        table,
        ("sample_id", unknown, "no sample that the task reads has this id; correct or delete the row"),
        ("given", other, "the label of the data is another now; look again, and renew or delete the row"),
        ("new_label", strange, f"is no class; the classes are {', '.join(samples.classes)}"),
    )
    kept[rows[table["decision"] == "drop"]] = False
    changed = (table["decision"] == "change").to_numpy()
    labels[rows[changed]] = table.loc[changed, "new_label"].to_numpy(object)
    codes = pd.Index(samples.classes).get_indexer(pd.Index(labels)).astype(np.int64)
    return Decided(replace(samples, table=samples.table.assign(label=labels, target=codes)).take(kept), kept)


def counted(table: pd.DataFrame, tested: set[str]) -> dict[str, Any]:
    """Return how often each decision was made, and, without names of samples, all on samples that are ``tested``."""
    told = table[table["sample_id"].isin(tested)].fillna("")
    by = ["decision", "given", "new_label", "by", "why"]
    grouped = told.groupby(by, sort=True).size().reset_index(name="samples")
    return {
        **{decision: int((table["decision"] == decision).sum()) for decision in DECISIONS},
        "tested": grouped.to_dict("records"),
    }


def _refuse(table: pd.DataFrame, *checks: tuple[str, pd.Series, str]) -> None:
    """Raise `DataError` for the rows at fault; each check is of a column."""
    found = []
    for column, wrong, message in checks:
        if len(rows := np.flatnonzero(wrong)):
            values = table[column].iloc[rows].dropna()
            named = f"{message} (found {quoted(values, 3)})" if len(values) else message
            found.append(Finding.at_rows("label_decision", DECISIONS_FILE, column, rows, named, values=values))
    if found:
        raise DataError(found)
