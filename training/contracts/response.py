"""What the endpoint of a task of kind ``response`` takes: checked row by row, then made samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import AnyType, Map

from pipelines.samples.molecules import canonical
from pipelines.samples.response import UNKNOWN, ResponseSamples, make_samples
from training.contracts import (
    ATOMS,
    CONTRIBUTIONS,
    Contract,
    PayloadError,
    atom_columns,
    contribution_columns,
    kind_of,
    listed,
    number_of,
)
from training.contracts.summaries import drug_numbers, drug_summary, profile_summary
from training.estimator import Estimator
from training.features.cell_line import measured
from training.features.drug import fingerprints
from training.model.novelty import View

MAX_ROWS = 10_000
EXPRESSION = "expression"
_BITS = 1024


@dataclass(frozen=True)
class ResponseContract(Contract):
    """What a model of responses takes and answers.

    Attributes
    ----------
    features
        For each omics the features that the model was fitted on.
    required
        Fields that a row must have; the others may be left out and are imputed.
    half_width, coverage
        Of the prediction interval.
    panels
        Of the expression's genes, some that go together, by which inputs are described.
    tissues
        Of the training lines; any other is described as another.
    needed
        Tables without which the model does not look at a line, see `CellLineFeatures.complete`; an answer notes it.
    """

    family = "response"

    features: dict[str, list[str]]
    required: list[str]
    target: str
    half_width: float | None
    coverage: float
    panels: dict[str, list[str]] = field(default_factory=dict)
    tissues: list[str] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)

    def read(self, frame: pd.DataFrame) -> ResponseSamples:
        """See `read_payload`."""
        return read_payload(frame, self)

    def request(self, samples: ResponseSamples) -> pd.DataFrame:
        """Return the request that asks for ``samples``."""
        rows: list[dict[str, Any]] = []
        for cell, drug in zip(samples.cell, samples.drug, strict=True):
            row: dict[str, Any] = {}
            for omics, features in self.features.items():
                values = samples.omics[omics].iloc[cell]
                # A request has a table whole or not at all; one with gaps is left to imputation where that may be.
                left_out = values.isna().all() or (values.isna().any() and omics not in self.required)
                row[omics] = None if left_out else {name: float(values[name]) for name in features}
            tissue = samples.cell_lines["tissue"].iloc[cell]
            row["smiles"] = samples.drugs["smiles"].iloc[drug]
            row["drug_id"] = str(samples.drugs.index[drug])
            row["tissue"] = None if tissue == UNKNOWN else str(tissue)
            rows.append(row)
        frame = pd.DataFrame(rows)
        return frame.drop(columns=[c for c in frame if c not in self.required and frame[c].isna().all()])

    def inputs(self) -> list[ColSpec]:
        """Return a map an omics, and what names the drug."""
        maps = [ColSpec(Map(AnyType()), name=omics, required=omics in self.required) for omics in self.features]
        return [
            *maps,
            ColSpec(DataType.string, name="smiles", required="smiles" in self.required),
            ColSpec(DataType.string, name="drug_id", required=False),
            ColSpec(DataType.string, name="tissue", required=False),
        ]

    def outputs(self) -> list[ColSpec]:
        """Return prediction and interval; with ``explain`` contributions that add up to the prediction, and by atom."""
        return [
            *(ColSpec(DataType.double, name=name) for name in ("prediction", "low", "high", "coverage")),
            ColSpec(DataType.double, name="base", required=False),
            ColSpec(CONTRIBUTIONS, name="attributions", required=False),
            ColSpec(ATOMS, name="atoms", required=False),
            *self._noted(),
        ]

    def _noted(self) -> list[ColSpec]:
        return [ColSpec(DataType.string, name="note", required=False)] if self.needed else []

    def notes(self, samples: ResponseSamples) -> dict[str, pd.Series]:
        """Return what is to be said of an answer besides: that the model had to leave the line aside."""
        if not self.needed:
            return {}
        lacks = {name: ~measured(samples.omics[name])[samples.cell] for name in self.needed}
        lacking = [", ".join(name for name in self.needed if lacks[name][row]) for row in range(len(samples))]
        said = [f"lacks {names}, without which a baseline answers" if names else None for names in lacking]
        return {"note": pd.Series(said, dtype=object)}

    def answer(self, outputs: np.ndarray, samples: Any) -> pd.DataFrame:
        """Return prediction, ``low`` and ``high`` of the interval, and the ``coverage`` that it was made for."""
        half = np.nan if self.half_width is None else self.half_width
        return pd.DataFrame(
            {"prediction": outputs, "low": outputs - half, "high": outputs + half, "coverage": self.coverage}
        ).assign(**self.notes(samples))

    def describe(self, samples: ResponseSamples) -> pd.DataFrame:
        """Return `profile_summary` of the expression, the mean of each other omics, tissue, and `drug_summary`."""
        cells, cell = np.unique(samples.cell, return_inverse=True)
        drugs, drug = np.unique(samples.drug, return_inverse=True)
        tissue = samples.cell_lines["tissue"].iloc[cells].astype(str)
        known = {*self.tissues, UNKNOWN}
        lines: list[pd.DataFrame] = [
            pd.DataFrame({"tissue": pd.Series([each if each in known else "other" for each in tissue], dtype=object)})
        ]
        for omics in self.features:
            values = samples.omics[omics].to_numpy()[cells]
            if omics == EXPRESSION:
                lines.append(profile_summary(values, self.features[omics], self.panels).add_prefix(f"{omics}_"))
            else:
                summary = profile_summary(values, self.features[omics], {})
                lines.append(summary[["level", "missing"]].add_prefix(f"{omics}_"))
        molecules = drug_summary(samples.drugs["smiles"].iloc[drugs].tolist())
        of_lines = pd.concat(lines, axis=1).iloc[cell].reset_index(drop=True)
        return pd.concat([of_lines, molecules.iloc[drug].reset_index(drop=True)], axis=1)

    def views(self, samples: ResponseSamples, described: pd.DataFrame) -> dict[str, View]:
        """Return the values of each omics, and what the molecule looks like: as numbers, and as a fingerprint."""
        smiles = samples.drugs["smiles"].tolist()
        bits = fingerprints(smiles, _BITS)
        bits[bits[:, 0] > 0] = np.nan  # nothing is known of these
        found = {omics: View("profile", samples.omics[omics].to_numpy(), samples.cell) for omics in self.features}
        numbers = np.array([drug_numbers(each) for each in smiles])
        found["drug"] = View("summary", numbers, samples.drug)
        found["molecule"] = View("fingerprint", bits[:, 1:], samples.drug)
        return found

    def identities(self, samples: ResponseSamples) -> list[bytes]:
        """Return values, tissue and drug of each row."""
        tables = [samples.omics[omics].to_numpy() for omics in self.features]
        tissues, smiles = samples.cell_lines["tissue"].tolist(), samples.drugs["smiles"].tolist()
        lines = [
            b"\0".join([str(tissue).encode(), *(table[line].tobytes() for table in tables)])
            for line, tissue in enumerate(tissues)
        ]
        ids = [str(name) for name in samples.drugs.index]
        drugs = [  # the id of a row that gave none begins with a space, see `read_payload`
            f"{text}\0{'' if name.startswith(' ') else name}".encode() for text, name in zip(smiles, ids, strict=True)
        ]
        return [lines[cell] + b"\0" + drugs[drug] for cell, drug in zip(samples.cell, samples.drug, strict=True)]

    def explain(self, estimator: Estimator, samples: ResponseSamples) -> dict[str, pd.Series]:
        """Return what each feature adds to each prediction, and each atom of the drug where the model sees atoms."""
        attribution = estimator.attribute(samples)
        if attribution is None:
            return {}
        return contribution_columns(attribution) | atom_columns(estimator.atom_attributions(samples))


def read_payload(frame: pd.DataFrame, contract: ResponseContract) -> ResponseSamples:
    """Check a request and make samples of it.

    Parameters
    ----------
    frame
        A row a question: a column an omics, each a map ``feature -> value``; ``smiles``; where known ``drug_id`` and
        ``tissue``.
    contract
        Of the model that is asked.

    Returns
    -------
    ResponseSamples
        In the order of the rows; equal profiles and equal drugs are stored once.

    Raises
    ------
    PayloadError
        Names the row (from 0, as in the request) and the field of the first fault.
    """
    if len(frame) == 0:
        raise PayloadError("the request has no rows; send at least one")
    if len(frame) > MAX_ROWS:
        raise PayloadError(f"the request has {len(frame)} rows; send at most {MAX_ROWS} at a time")
    known = [*contract.features, "tissue", "smiles", "drug_id"]
    if unknown := [str(column) for column in frame.columns if column not in known]:
        raise PayloadError(f"unknown field {listed(unknown)}; the fields are {', '.join(known)}")
    for name in (*contract.required, "smiles"):
        if name not in frame.columns and not (name == "smiles" and "drug_id" in frame.columns):
            raise PayloadError(f"the field {name} is missing; every row needs it")
    lines: dict[tuple[Any, ...], int] = {}
    profiles: list[dict[str, np.ndarray | None]] = []
    tissues: list[str | None] = []
    drugs: dict[tuple[str | None, str | None], int] = {}
    molecules: dict[str, str | None] = {}
    spellings: list[str | None] = []
    cell, drug = [], []
    above: dict[str, _Checked] = {}
    for row, record in enumerate(frame.to_dict("records")):
        profile = {name: _as_above(record.get(name), name, row, contract, above) for name in contract.features}
        tissue = _text(record.get("tissue"), "tissue", row)
        key = (tissue, *(None if values is None else values.tobytes() for values in profile.values()))
        if key not in lines:
            lines[key] = len(lines)
            profiles.append(profile)
            tissues.append(tissue)
        cell.append(lines[key])
        drug_id, smiles = _drug(record, row, contract)
        molecule = None if smiles is None else canonical(smiles)
        if drug_id is not None and molecules.setdefault(drug_id, molecule) != molecule:
            raise PayloadError(f"row {row}, field drug_id: {drug_id[:80]!r} has a different smiles in a row above")
        if (drug_id, molecule) not in drugs:
            drugs[drug_id, molecule] = len(drugs)
            spellings.append(smiles)
        drug.append(drugs[drug_id, molecule])
    names = [f"row:{index}" for index in range(len(lines))]
    # Ids that were given are stripped, so none of them begins with a space.
    drug_ids = [drug_id or f" row:{index}" for index, (drug_id, _) in enumerate(drugs)]
    omics = {
        name: pd.DataFrame(
            np.array([np.full(len(columns), np.nan) if p[name] is None else p[name] for p in profiles]),
            index=pd.Index(names),
            columns=pd.Index(columns),
        )
        for name, columns in contract.features.items()
    }
    pairs = pd.DataFrame({"cell_line_id": np.array(names)[cell], "drug_id": np.array(drug_ids)[drug]})
    return make_samples(
        pairs,
        pd.DataFrame({"tissue": pd.Series(tissues, index=names, dtype=object)}, index=pd.Index(names)),
        pd.DataFrame({"smiles": pd.Series(spellings, index=drug_ids, dtype=object)}),
        omics,
    )


@dataclass(frozen=True)
class _Checked:
    """A table of a row, as it came and as it was read."""

    values: Mapping[str, Any]
    types: list[type]
    read: np.ndarray | None


def _as_above(
    values: Any, name: str, row: int, contract: ResponseContract, above: dict[str, _Checked]
) -> np.ndarray | None:
    """Return `_profile`, which is the row above's where the table is: many drugs are asked about one line."""
    if not isinstance(values, Mapping):
        return _profile(values, name, row, contract)
    types = [type(value) for value in values.values()]  # true is equal to 1, and is no number
    before = above.get(name)
    if before is None or types != before.types or values != before.values:
        before = above[name] = _Checked(values, types, _profile(values, name, row, contract))
    return before.read


def _profile(values: Any, name: str, row: int, contract: ResponseContract) -> np.ndarray | None:
    """Return the values in the model's order, or None where the row has none and need not."""
    if values is None or (isinstance(values, float) and math.isnan(values)):
        if name in contract.required:
            raise PayloadError(f"row {row}, field {name}: missing; this model needs it")
        return None
    if not isinstance(values, Mapping):
        raise PayloadError(f"row {row}, field {name}: must be a map of feature to value, it is {kind_of(values)}")
    wanted = contract.features[name]
    if missing := [feature for feature in wanted if feature not in values]:
        raise PayloadError(
            f"row {row}, field {name}: lacks {len(missing)} of {len(wanted)} features: {listed(missing)}"
        )
    if len(values) > len(wanted):
        known = set(wanted)
        unknown = [str(feature) for feature in values if feature not in known]
        raise PayloadError(f"row {row}, field {name}: unknown features: {listed(unknown)}")
    numbers = [values[feature] for feature in wanted]
    for feature, number in zip(wanted, numbers, strict=True):
        value = number_of(number, f"row {row}, field {name}.{feature}")
        if name == "expression" and value < 0 and '"log2_tpm_plus_1"' in contract.task_text:
            raise PayloadError(f"row {row}, field {name}.{feature}: {number} is below 0, which log2(TPM+1) never is")
    return np.array(numbers, dtype=np.float64)


def _drug(record: Mapping[Any, Any], row: int, contract: ResponseContract) -> tuple[str | None, str | None]:
    smiles = _text(record.get("smiles"), "smiles", row)
    drug_id = _text(record.get("drug_id"), "drug_id", row)
    if smiles is None and (drug_id is None or "smiles" in contract.required):
        raise PayloadError(f"row {row}, field smiles: missing; without it the drug is not known")
    if smiles is not None and canonical(smiles) is None:
        raise PayloadError(f"row {row}, field smiles: {smiles[:80]!r} is not a SMILES that RDKit can parse")
    return drug_id, smiles


def _text(value: Any, name: str, row: int) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise PayloadError(f"row {row}, field {name}: must be text, it is {kind_of(value)}")
    return value.strip() or None


CONTRACTS = {"response": ResponseContract}
