"""How requests of pairs are read: maps of values by feature, texts, and responses that were measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipelines.samples.molecules import canonical
from pipelines.samples.response import MECHANISM, UNKNOWN, ResponseSamples
from pipelines.text_values import known
from training import contract
from training.contract import PayloadError
from training.features.units import LIMITS

if TYPE_CHECKING:
    from training.modalities.pairs import Pairs

MAX_ROWS = 10_000
MEASURED = "measured"  # field of a request: a response that was measured, and adjusts the other rows of its drug
READ_AS = "read_as"  # column of the pairs of a request: what was normalized
_COLUMNS = (["cell_line_id", "drug_id", READ_AS], ["tissue"], ["smiles", *MECHANISM])
_PAIR, _LINE, _DRUG = map(pd.Index, _COLUMNS)  # made once: pandas finds a column by a table that its index keeps


def read(model: Pairs, frame: pd.DataFrame) -> ResponseSamples:
    """Return the samples of a request, see `Pairs.read`."""
    needed = [name for name in (*model.required, "smiles") if name != "smiles" or "drug_id" not in frame]
    told = MECHANISM if model.mechanisms else ()
    fields = [*model.features, "tissue", "cell_line_id", "smiles", "drug_id", *told, *([MEASURED] * model.pilot)]
    contract.check_form(frame, fields, needed, MAX_ROWS)
    given = {name: frame[name].tolist() for name in fields if name in frame}
    nothing: list[Any] = [None] * len(frame)
    order = [*model.features, "tissue", "cell_line_id", "smiles", "drug_id", *MECHANISM, MEASURED]
    columns = [given.get(name, nothing) for name in order]
    texts, maps = dict[str, str | None](), dict[tuple[str, int], bytes]()  # many rows may share a text or a map
    named, molecules = dict[Any, tuple[str | None, ...]](), dict[str, str | None]()
    lines, drugs = dict[tuple[Any, ...], int](), dict[tuple[str | None, ...], tuple[int, str | None]]()
    profile_of = dict[str, tuple[Any, ...]]()
    cell, drug, read_as, measured = [], [], [], []
    for row, (*profiles, tissue, line_id, smiles, given_id, target, pathway, value) in enumerate(
        zip(*columns, strict=True)
    ):
        line: list[Any] = []
        for name, values in zip(model.features, profiles, strict=True):
            if (place := (name, id(values))) not in maps:
                maps[place] = _profile(values, name, row, model)
            line.append(maps[place])
        line.append(model.as_known(_text(tissue, "tissue", row, texts), "tissue") or UNKNOWN)
        named_line = _text(line_id, "cell_line_id", row, texts)
        if named_line is not None and profile_of.setdefault(named_line, tuple(line)) != tuple(line):
            said = f"{named_line[:80]!r} has another profile or tissue in a row above"
            raise PayloadError(f"row {row}, field cell_line_id: {said}")
        cell.append(lines.setdefault((*line, named_line), len(lines)))
        asked = _text(smiles, "smiles", row, texts), _text(given_id, "drug_id", row, texts)
        if asked not in named:
            named[asked] = _drug(*asked, row, model)
        drug_id, molecule, spelled, note = named[asked]
        if drug_id is not None and molecules.setdefault(drug_id, molecule) != molecule:
            raise PayloadError(f"row {row}, field drug_id: {drug_id[:80]!r} has a different smiles in a row above")
        own = [_text(each, name, row, texts) for name, each in zip(MECHANISM, (target, pathway), strict=True)]
        mechanism = _mechanism(model, drug_id, spelled, own)
        drug.append(drugs.setdefault((drug_id, molecule, *mechanism), (len(drugs), spelled))[0])
        read_as.append(note)
        measured.append(_measured(value, row))
    *tables, tissues, named_lines = zip(*lines, strict=True)
    line_ids = pd.Index([name or f" row:{index}" for index, name in enumerate(named_lines)], dtype=object)
    # Ids that were given are stripped, so none of them begins with a space.
    drug_ids = pd.Index([drug_id or f" row:{index}" for index, (drug_id, *_) in enumerate(drugs)], dtype=object)
    omics = {}
    for (name, names), table in zip(model.feature_index.items(), tables, strict=True):
        values = np.frombuffer(b"".join(table)).reshape(len(lines), len(names))
        omics[name] = pd.DataFrame(values.astype(np.float32), index=line_ids, columns=names)
    of_drugs = np.array([[drugs[key][1], *key[2:]] for key in drugs], object)
    samples = ResponseSamples(
        pairs=pd.DataFrame(np.array([line_ids[cell], drug_ids[drug], read_as], object).T, None, _PAIR, object),
        cell_lines=pd.DataFrame(np.array([tissues], object).T, line_ids, _LINE, object),
        drugs=pd.DataFrame(of_drugs, drug_ids, _DRUG, object),
        omics=omics,
        cell=np.array(cell, dtype=np.int32),
        drug=np.array(drug, dtype=np.int32),
    )
    values = np.array(measured, dtype=np.float64)
    if np.isnan(values).all():
        return samples
    known_rows = replace(samples, pairs=samples.pairs.assign(target=values)).take(~np.isnan(values))
    return replace(samples, pilot=known_rows)


def request(model: Pairs, samples: ResponseSamples) -> pd.DataFrame:
    """Return the request that asks for ``samples``."""
    rows: list[dict[str, Any]] = []
    for cell, drug in zip(samples.cell, samples.drug, strict=True):
        row: dict[str, Any] = {}
        for omics, features in model.features.items():
            values = samples.omics[omics].iloc[cell]
            # A request has a table whole or not at all; one with gaps is left to imputation where that may be.
            left_out = values.isna().all() or (values.isna().any() and omics not in model.required)
            row[omics] = None if left_out else {name: float(values[name]) for name in features}
        tissue, smiles = samples.cell_lines["tissue"].iloc[cell], samples.drugs["smiles"].iloc[drug]
        row |= {"smiles": smiles, "drug_id": str(samples.drugs.index[drug])}
        if model.mechanisms:
            row |= {name: samples.drugs[name].iloc[drug] for name in MECHANISM if name in samples.drugs}
        if model.pilot:
            row |= {"cell_line_id": str(samples.cell_lines.index[cell])}
        rows.append(row | {"tissue": None if tissue == UNKNOWN else str(tissue)})
    frame = pd.DataFrame(rows)
    return frame.drop(columns=[c for c in frame if c not in model.required and frame[c].isna().all()])


def _mechanism(model: Pairs, drug_id: str | None, smiles: str | None, own: list[str | None]) -> list[str | None]:
    """Return target and pathway of a request, ``own``, or else those of the training drug that its drug is."""
    if all(own) or not model.mechanisms:
        return own
    known_as = model.mechanisms.get(model.known_drug(drug_id or " ", smiles) or "", [None] * len(own))
    return [each or other for each, other in zip(own, known_as, strict=True)]


def _measured(value: Any, row: int) -> float:
    """Return a measured response, NaN where the row has none."""
    if contract.is_null(value):
        return math.nan
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise PayloadError(f"row {row}, field {MEASURED}: must be a finite number")
    return float(value)


def _profile(values: Any, name: str, row: int, model: Pairs) -> bytes:
    """Return the values in the model's order, float64; NaN where the row has none and need not."""
    where, wanted = f"row {row}, field {name}", model.features[name]
    if contract.is_null(values):
        if name in model.required:
            raise PayloadError(f"{where}: missing; this model needs it")
        return np.full(len(wanted), np.nan).tobytes()
    if not isinstance(values, Mapping):
        raise PayloadError(f"{where}: must be a map of feature to value, it is {contract.kind_of(values)}")
    in_order = list(values) == wanted  # as most requests are: then nothing is looked up
    if not in_order and (missing := [feature for feature in wanted if feature not in values]):
        raise PayloadError(f"{where}: lacks {len(missing)} of {len(wanted)} features: {contract.listed(missing)}")
    if len(values) > len(wanted):
        raise PayloadError(
            f"{where}: unknown features: {contract.listed([str(each) for each in {*values} - {*wanted}])}"
        )
    numbers = contract.numbers_of(list(values.values() if in_order else map(values.get, wanted)), wanted, where)
    scale = model.scale_of(name)
    lowest, highest, reason = LIMITS.get(scale, (-math.inf, math.inf, ""))
    refused = (numbers != 0) & (numbers != 1) if scale == "mutation" else (numbers < lowest) | (numbers > highest)
    contract.refuse_values(refused, numbers, wanted, where, reason)
    return numbers.tobytes()


def _drug(smiles: str | None, given: str | None, row: int, model: Pairs) -> tuple[str | None, ...]:
    """Return id, molecule and SMILES as the training data writes them, and a note where the request does not."""
    drug_id = model.as_known(given, "drug_id")
    notes = [] if drug_id == given else [f"drug_id {given!r} was read as {drug_id!r}"]
    if smiles is None and drug_id is not None:
        smiles = model.drugs.get(drug_id)  # what the training rows of this id had
    if smiles is None and (drug_id is None or "smiles" in model.required):
        raise PayloadError(f"row {row}, field smiles: missing; without it the drug is not known")
    if smiles is None and model.drugs and drug_id not in model.drugs:
        raise PayloadError(
            f"row {row}, field drug_id: {str(drug_id)[:80]!r} is none of the model's {len(model.drugs)} drugs, such "
            f"as {contract.listed(list(model.drugs), 3)}; give its smiles too"
        )
    if smiles is not None and canonical(smiles) is None:
        raise PayloadError(f"row {row}, field smiles: {smiles[:80]!r} is not a SMILES that RDKit can parse")
    if smiles is not None and (found := model.known_drug(drug_id or " ", smiles)) is not None:
        own = model.drugs[found]
        if own is not None and canonical(own) != canonical(smiles):
            notes.append(f"the smiles is a salt, tautomer or other spelling of {found!r} and was read as that")
            smiles = own
    return drug_id, smiles and canonical(smiles), smiles, "; ".join(notes) or None


def _text(value: Any, name: str, row: int, texts: dict[str, str | None]) -> str | None:
    if contract.is_null(value):
        return None
    if not isinstance(value, str):
        raise PayloadError(f"row {row}, field {name}: must be text, it is {contract.kind_of(value)}")
    if value not in texts:
        texts[value] = known(value)
    return texts[value]
