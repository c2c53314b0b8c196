"""Widgets that choose samples: of the task's data, or a file that somebody brings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from pipelines.errors import UserError
from pipelines.text_values import quoted
from serving.dashboard.data import collection
from serving.dashboard.data.loading import tables, uploads
from serving.dashboard.data.words import counted, means, plain
from serving.dashboard.pages import frame

OWN = "Your own file"
_OF_DATA = "From the data"
_MOST_MEGABYTES = 200


def source(task: str, what: str) -> str:
    """Let people choose where samples come from."""
    return str(st.segmented_control(what, [_OF_DATA, OWN], default=_OF_DATA, required=True, key=f"source {task}"))


def one_of(labels: dict[str, str], label: str, what: str, key: str, help_: str | None = None) -> str | None:
    """Let people choose one of several by their labels; ``what`` is their plural."""
    return st.selectbox(
        label,
        list(labels),
        index=None,
        format_func=labels.__getitem__,
        placeholder=f"Type to search {len(labels):,} {what}",
        key=key,
        persist_state="session",
        help=help_,
    )


def own_files(
    task: str, omics: Sequence[str], folder: Path, key: str, required: Sequence[str] | None = None
) -> dict[str, uploads.Profiles]:
    """Let people bring tables, told apart by their names, and show what is wrong; empty until one can be used."""
    known = {each: collection.features(folder / f"{each}.parquet", key) for each in omics}
    more = "" if len(omics) == 1 else f" Files named {', '.join(omics[1:])} may come with it."
    files = st.file_uploader(
        "Expression profiles (CSV, TSV, Excel or Parquet; also zipped)",
        type=list(uploads.TABLES),
        accept_multiple_files=len(omics) > 1,
        key=f"files {task}",
        help=f"A row a sample and a column a gene, or the other way round. {means('profile')}{more}",
        max_upload_size=_MOST_MEGABYTES,
    )
    if (example := _example(folder / f"{omics[0]}.parquet", key)) is not None:
        frame.offer("Download an example file", example, "example_profile.csv", type="tertiary")
    given = files if isinstance(files, list) else [files] if files is not None else []
    found: dict[str, uploads.Profiles] = {}
    with frame.errors_shown():
        for file in given:
            name = uploads.omics_of(file.name, omics)
            if name in found:
                raise UserError(f"{file.name}: there is a table of {_text(name)} already; remove one.")
            found[name] = _read(file.name, file.getvalue(), tuple(known[name]))
        lacking = _check(found, required or ())
        for name, table in found.items():
            samples, features = table.values.shape
            st.success(plain(f"{_text(name).capitalize()}: {counted(samples, 'sample')}, {features:,} features."))
            for note in filter(None, [*table.notes, uploads.unit_note(name, table.values, known[name])]):
                st.caption(plain(note))
        for note in lacking:
            st.warning(plain(note))
        return found
    return {}


@st.cache_data(show_spinner=False, max_entries=8, ttl=60)
def _example(path: Path, key: str) -> bytes | None:
    """Return the first profiles of the data as CSV; None if there is no data."""
    try:
        table = tables.profiles(path, key, collection.ids_of(path, key)[:2])
    except UserError:
        return None
    return tables.csv_of(table.reset_index())


@st.cache_data(show_spinner="Reading the file", max_entries=8)
def _read(name: str, content: bytes, known: tuple[str, ...]) -> uploads.Profiles:
    return uploads.read_profiles(name, content, known)


def _text(name: str) -> str:
    return name.replace("_", " ")


def _check(found: dict[str, uploads.Profiles], required: Sequence[str]) -> list[str]:
    """Refuse tables without a common sample, or without one that is required; return which samples a table lacks."""
    if missing := [name for name in required if found and name not in found]:
        raise UserError(f"The model needs a table of {_text(missing[0])} beside the others; name the file so.")
    notes = []
    first = next(iter([*required, *found]), "")
    for name, table in found.items():
        theirs, ours = list(map(str, table.values.index)), list(map(str, found[first].values.index))
        if not set(ours) & set(theirs):
            raise UserError(
                f"The samples of the table of {_text(name)} ({quoted(theirs, 2)}) have other names than "
                f"those of {_text(first)} ({quoted(ours, 2)})."
            )
        for of, lacking in ((name, set(ours) - set(theirs)), (first, set(theirs) - set(ours))):
            if lacking:
                notes.append(f"Samples that the table of {_text(of)} lacks: {quoted(sorted(lacking))}.")
    return notes
