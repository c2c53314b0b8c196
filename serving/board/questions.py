"""Samples and drugs as the rows that an endpoint takes, see `training.contract`."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from pipelines.samples.gene_names import match_genes, respelled
from pipelines.text_values import clean
from serving.board.asking import Refused
from serving.board.collection import Drug
from serving.board.words import counted, listed

Row = dict[str, Any]
_QUOTES = "\"'`“”„‘’«»"


@dataclass(frozen=True)
class Question:
    """What is asked, and what people call it.

    Attributes
    ----------
    rows
        For the endpoint.
    names
        Of the rows, for messages.
    about
        Of the rows, for tables: ``sample``, and for responses ``drug`` and ``drug_id``.
    notes
        What was left out, in sentences.
    """

    rows: list[Row]
    names: list[str]
    about: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def of_responses(
    omics: Mapping[str, pd.DataFrame],
    tissue: Mapping[str, str | None],
    drugs: Sequence[Drug],
    contract: Mapping[str, Any] | None = None,
) -> Question:
    """Ask for the response of every sample to every drug.

    Parameters
    ----------
    omics
        Tables with a row a sample; the first that the model needs names the samples, all where it needs none.
    tissue
        Of samples, where it is known.
    drugs
        Which are asked about.
    contract
        Of the model, where it is known: features that it does not know are left out.

    Raises
    ------
    Refused
        A table is lacking without which the model cannot answer.
    """
    features, required = (contract or {}).get("features", {}), set((contract or {}).get("required", ["expression"]))
    if lacking := [name.replace("_", " ") for name in features if name in required and name not in omics]:
        raise Refused(f"The model needs a table of {' and of '.join(lacking)}, which these samples lack.")
    if not omics:
        raise Refused("Nothing was measured of these cells.")
    naming = [table for name, table in omics.items() if name in required][:1] or list(omics.values())
    samples = dict.fromkeys(sample for table in naming for sample in table.index)
    notes: list[str] = []
    maps: dict[str, dict[str, Row | None]] = {}
    for name, table in omics.items():
        if contract is not None and name not in features:
            notes.append(f"The model does not look at {name.replace('_', ' ')}; it was left out.")
            continue
        renamed, left_out = _known(table, features.get(name))
        notes += left_out
        maps[name] = {str(sample): _map(row) for sample, row in _records(renamed)}
        for sample, values in maps[name].items():
            gaps = any(value is None for value in (values or {}).values())
            if gaps and name not in required:  # a table is sent whole or not at all, and imputed then
                maps[name][sample] = None
    rows, names, about = [], [], []
    for sample in samples:
        for drug in drugs:
            row: Row = {name: found.get(str(sample)) for name, found in maps.items()}
            row = {name: value for name, value in row.items() if value is not None or name in required}
            if drug.smiles is not None:
                row["smiles"] = drug.smiles
            if drug.drug_id is not None:
                row["drug_id"] = drug.drug_id
            if tissue.get(str(sample)):
                row["tissue"] = tissue[str(sample)]
            rows.append({**row, "sample_id": f"{sample}|{drug.drug_id or drug.label}"})
            names.append(f"{sample} with {drug.label}")
            about.append((str(sample), drug.label, drug.drug_id))
    return Question(_uniform(rows), names, pd.DataFrame(about, columns=["sample", "drug", "drug_id"]), notes)


def of_profiles(values: pd.DataFrame, contract: Mapping[str, Any] | None = None) -> Question:
    """Ask what expression profiles are of, or what other genes they have; genes that nobody knows are left out.

    Parameters
    ----------
    values
        A row a sample, a column a gene; NaN where a gene was not measured.
    contract
        Of the model, where it is known.
    """
    wanted = None
    if contract is not None:
        wanted = list(dict.fromkeys([*contract.get("genes", []), *contract.get("known", [])]))
    known, notes = _known(values, wanted)
    rows = [{"expression": _map(row), "sample_id": str(sample)} for sample, row in _records(known)]
    names = [str(sample) for sample in values.index]
    return Question(rows, names, pd.DataFrame({"sample": names}), notes)


def named_images(files: Iterable[tuple[str, bytes]]) -> dict[str, bytes]:
    """Return images by their names, without folders of any system and without what systems leave beside images."""
    found: dict[str, bytes] = {}
    for place, (given, content) in enumerate(files, start=1):
        name = PurePosixPath(clean(given).replace("\\", "/")).name
        if name.lower() in ("thumbs.db", "desktop.ini") or name.startswith("."):
            continue
        found[name if name not in found else f"{name} ({place})"] = content
    return found


def molecule(text: str) -> str:
    """Return a SMILES that was typed or pasted, without quotation marks and line ends around it."""
    found = clean(text)
    while len(found) > 1 and found[0] in _QUOTES and found[-1] in _QUOTES:
        found = found[1:-1].strip()
    return found


def of_images(files: Mapping[str, bytes]) -> Question:
    """Ask what images show; the files go as they are."""
    rows = [{"image": base64.b64encode(content).decode("ascii"), "sample_id": name} for name, content in files.items()]
    names = list(files)
    return Question(rows, names, pd.DataFrame({"sample": names}))


def only(question: Question, row: int) -> Question:
    """Return the question of one row."""
    about = question.about.iloc[[row]].reset_index(drop=True)
    return Question([question.rows[row]], [question.names[row]], about, question.notes)


def _known(table: pd.DataFrame, wanted: Sequence[str] | None) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns that a model knows, under its names, and what was left out; all where nothing is known."""
    if wanted is None:
        return table, []
    names = [str(column) for column in table.columns]
    match = match_genes(names, wanted)
    back = {given: gene for gene, given in match.found.items()}
    back |= {given[0]: gene for gene, given in respelled(names, wanted).items() if len(given) == 1}
    kept = table[[column for column in table.columns if str(column) in back]]
    kept = kept.set_axis([back[str(column)] for column in kept.columns], axis=1)
    unknown = [each for each in names if each not in back]
    if not unknown:
        return kept, []
    return kept, [f"The model does not know {counted(len(unknown), 'column')}, left out: {listed(unknown, 4)}."]


def _records(table: pd.DataFrame) -> list[tuple[Any, dict[str, float]]]:
    names, values = [str(column) for column in table.columns], table.to_numpy(np.float64).tolist()
    return [(index, dict(zip(names, row, strict=True))) for index, row in zip(table.index, values, strict=True)]


def _map(row: Mapping[str, float]) -> Row:
    """Return a row for JSON, which has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in row.items()}


def _uniform(rows: list[Row]) -> list[Row]:
    """Give every row every field: MLflow makes a table of them, and reads what is left out as NaN."""
    fields = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: row.get(name) for name in fields} for row in rows]
