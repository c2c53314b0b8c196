"""Choosing samples: one of the task's data, or a file that somebody brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from pipelines.errors import UserError
from pipelines.text_values import folded, quoted
from serving.dashboard.data import collection
from serving.dashboard.data.glossary import means
from serving.dashboard.data.loading import load
from serving.dashboard.data.words import counted, plain
from serving.dashboard.pages import frame

if TYPE_CHECKING:  # pandas is not needed until somebody brings a file
    import pandas as pd

    from serving.dashboard.data.uploads import Profiles

OF_DATA, OWN = "From the data", "Your own file"
_MOST_MEGABYTES = 200


def source(task: str, what: str) -> str:
    """Let people say where samples come from."""
    chosen = st.segmented_control(
        what, [OF_DATA, OWN], default=OF_DATA, required=True, key=f"source {task}", label_visibility="visible"
    )
    return str(chosen)


def one_of(labels: dict[str, str], label: str, what: str, key: str, help_: str | None = None) -> str | None:
    """Let people choose one by what they read of each; ``what`` they are called in the plural."""
    chosen: str | None = st.selectbox(
        label,
        list(labels),
        index=None,
        format_func=labels.__getitem__,
        placeholder=f"Type to search {len(labels):,} {what}",
        key=key,
        persist_state="session",
        help=help_,
    )
    return chosen


def own_files(
    task: str,
    omics: Sequence[str],
    known: dict[str, list[str]],
    example: pd.DataFrame | None,
    required: Sequence[str] | None = None,
) -> dict[str, Profiles]:
    """Let people bring tables, and say at once what is wrong with them; empty until there is one that can be used.

    Parameters
    ----------
    omics
        Which tables the task knows; a file's name says which it is, and one that says nothing is the first.
    known
        Features of each.
    example
        A row of the data that is offered as an example file.
    required
        Which of the tables the model needs; None where that is not known, and the model says so when it is asked.
    """
    csv_of, uploads = load("serving.dashboard.data.tables").csv_of, load("serving.dashboard.data.uploads")
    more = "" if len(omics) == 1 else f" Files named {', '.join(omics[1:])} may come with it."
    files = st.file_uploader(
        "Expression profiles (CSV, TSV, Excel or Parquet; also zipped)",
        type=list(uploads.TABLES),
        accept_multiple_files=len(omics) > 1,
        key=f"files {task}",
        help=f"A row a sample and a column a gene, or the other way round. {means('profile')}{more}",
        max_upload_size=_MOST_MEGABYTES,
    )
    if example is not None:
        frame.offer("Download an example file", csv_of(example), "example_profile.csv", type="tertiary")
    given = files if isinstance(files, list) else [files] if files is not None else []
    found: dict[str, Profiles] = {}
    with frame.told():
        for file in given:
            name = uploads.omics_of(file.name, omics)
            if name in found:
                raise UserError(f"{file.name}: there is a table of {name.replace('_', ' ')} already; remove one.")
            found[name] = _read(file.name, file.getvalue(), tuple(known.get(name, ())))
        _check(found, required or ())
        found = _called_alike(found, required or ())
        for name, table in found.items():
            samples, features = table.values.shape
            st.success(
                plain(f"{name.replace('_', ' ').capitalize()}: {counted(samples, 'sample')}, {features:,} features.")
            )
            doubt = uploads.unit_note(name, table.values, known.get(name, ()))
            for note in [*table.notes, *([doubt] if doubt else [])]:
                st.caption(plain(note))
        return found
    return {}


def tissues(found: dict[str, Profiles]) -> dict[str, str | None]:
    """Return the tissues that the files name."""
    return {sample: tissue for table in found.values() for sample, tissue in table.tissue.items()}


def example_of(path: Path, key: str) -> pd.DataFrame | None:
    """Return the first profile of the data as people would bring it; None where there is no data."""
    return _example(str(path), key, path.stat().st_mtime if path.is_file() else 0.0)


@st.cache_data(show_spinner=False, max_entries=8)
def _example(path: str, key: str, changed: float) -> pd.DataFrame | None:
    try:
        ids = collection.ids_of(Path(path), key)[:2]
        found: pd.DataFrame = load("serving.dashboard.data.measured").profiles(Path(path), key, ids)
        return found.reset_index()
    except UserError:
        return None


@st.cache_data(show_spinner="Reading the file", max_entries=8)
def _read(name: str, content: bytes, known: tuple[str, ...]) -> Profiles:
    found: Profiles = load("serving.dashboard.data.uploads").read_profiles(name, content, known)
    return found


def _called_alike(found: dict[str, Profiles], required: Sequence[str]) -> dict[str, Profiles]:
    """Return the tables with the samples of the others called as in the first, where only case differs."""
    if len(found) < 2:
        return found
    first = next(iter([*required, *found]))
    names = [str(sample) for sample in found[first].values.index]
    with_names_of = load("serving.dashboard.data.uploads").with_names_of
    return {
        name: table if name == first else with_names_of(table, name.replace("_", " "), names)
        for name, table in found.items()
    }


def _check(found: dict[str, Profiles], required: Sequence[str]) -> None:
    if not found:
        return
    for name in required:
        if name not in found:
            raise UserError(f"The model needs a table of {name.replace('_', ' ')} beside the others; name the file so.")
    first = next(iter([*required, *found]))
    for name, table in found.items():
        theirs, ours = table.values.index, found[first].values.index
        if not {folded(str(each)) for each in ours} & {folded(str(each)) for each in theirs}:
            raise UserError(
                f"The samples of the table of {name.replace('_', ' ')} ({quoted(theirs, 2)}) have other names than "
                f"those of {first.replace('_', ' ')} ({quoted(ours, 2)})."
            )
