"""Models of pairs take omics of a cell line and a drug, checked row by row."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import AnyType, Map

from pipelines.datasets import Prepared
from pipelines.samples.molecules import canonical, parent, stereochemistry
from pipelines.samples.response import UNKNOWN, ResponseSamples, make_samples, required_fields
from pipelines.samples.sensitivity import CLASSES, Thresholds
from pipelines.text_values import folded, known, quoted
from training.architectures import get_architecture
from training.contract import (
    ATOMS,
    Contract,
    PayloadError,
    Remarks,
    atom_columns,
    contribution_columns,
    kind_of,
    listed,
    number_of,
)
from training.estimator import Estimator
from training.features.cell_line import measured
from training.features.cell_line_choices import CellLineChoices
from training.features.drug import fingerprints
from training.features.summaries import choose_panels, drug_numbers, drug_summary, profile_summary
from training.features.units import LIMITS, outside, unit_of
from training.model.novelty import View
from training.model.unseen_drugs import unseen_half_width

if TYPE_CHECKING:
    from training.contract import Refit
    from training.model.cross_fit import FinalFit

MAX_ROWS = 10_000
EXPRESSION = "expression"
_READ_AS = "read_as"  # of a pair of a request: what was normalized
_BITS = 1024
SENSITIVE = CLASSES.index("sensitive")


@dataclass(frozen=True, kw_only=True)
class Pairs(Contract):
    """What a model of pairs of a cell line and a drug takes, whatever it answers.

    Attributes
    ----------
    features
        For each omics the features that the model was fitted on.
    required
        Fields that a row must have; the others may be left out and are imputed.
    target
        Column of the raw response that is learnt.
    drugs
        SMILES, or None, by the id of each drug of the training rows, the most measured first. Without any it is not
        said which drugs are known.
    units
        See `training.features.units.unit_of`, for each omics.
    panels
        Of the expression's genes, some that go together, by which inputs are described.
    tissues
        Of the training lines; any other is described as another.
    needed
        Tables without which the model does not look at a line, see `CellLineFeatures.complete`; an answer notes it.
    thresholds
        Of `pipelines.samples.sensitivity.Thresholds`, where calls are predicted: an answer tells the drug's, in the
        unit of ``target``.
    """

    features: dict[str, list[str]]
    required: list[str]
    target: str
    panels: dict[str, list[str]] = field(default_factory=dict)
    tissues: list[str] = field(default_factory=list)
    needed: list[str] = field(default_factory=list)
    drugs: dict[str, str | None] = field(default_factory=dict)
    units: dict[str, dict[str, Any]] = field(default_factory=dict)
    thresholds: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def taken(cls, architecture: str, task: Any, prepared: Prepared, estimator: Estimator) -> dict[str, Any]:
        """Return features, units, tissues and drugs of the training rows, and what a request must have."""
        estimator_class = get_architecture(architecture, task.modality, task.problem).estimator
        masked = task.data.omics if estimator_class.masks_omics else ()
        samples = prepared.samples
        thresholds = getattr(samples, "thresholds", None)
        lines = np.unique(prepared.side("train").cell)
        return {
            "features": {omics: [str(column) for column in table] for omics, table in samples.omics.items()},
            "required": [each for each in required_fields(task.data.missing, task.data.omics) if each not in masked],
            "target": task.data.target,
            "panels": _expression_panels(samples, lines),
            "tissues": sorted({str(each) for each in samples.cell_lines["tissue"].iloc[lines]}),
            "needed": _needed(estimator, prepared),
            "drugs": _drugs_of(prepared.side("train", "validation")),
            "units": _units_of(prepared.side("train", "validation"), task),
            "thresholds": {} if thresholds is None else thresholds.state(),
        }

    @classmethod
    def measure_unseen(cls, task: Any, prepared: Prepared, final: FinalFit, refit: Refit) -> float | None:
        """See `training.model.unseen_drugs`; in the mode ``drug_blind`` no row outside the fit has a known drug."""
        coverage = task.evaluate.interval_coverage
        if task.split.mode == "drug_blind":
            width = float(final.interval_half_widths(prepared, coverage))
            return width if math.isfinite(width) else None
        return unseen_half_width(prepared, refit, coverage)

    @cached_property
    def folded_drugs(self) -> dict[str, list[str]]:
        """Return the ids of the known drugs by what people read them as."""
        return _by_folded(self.drugs)

    @cached_property
    def folded_tissues(self) -> dict[str, list[str]]:
        """Return the training lines' tissues by what people read them as."""
        return _by_folded(self.tissues)

    def drug_id_as_known(self, text: str | None) -> str | None:
        """Return the training drugs' id that people would read ``text`` as, or ``text`` where there is none."""
        return _as_known(text, self.drugs, self.folded_drugs)

    def tissue_as_known(self, text: str | None) -> str | None:
        """Return the training lines' tissue that people would read ``text`` as, or ``text`` where there is none."""
        return _as_known(text, self.tissues, self.folded_tissues)

    @cached_property
    def molecules(self) -> dict[str, str]:
        """Return the id of the most measured known drug by its `parent` molecule."""
        found: dict[str, str] = {}
        for drug_id, smiles in self.drugs.items():
            if smiles is not None and (key := parent(smiles)) is not None:
                found.setdefault(key, drug_id)
        return found

    def scale_of(self, omics: str) -> str:
        """Return the scale of a table, as `training.features.units` calls it."""
        if omics != EXPRESSION:
            return omics
        return "log2_tpm_plus_1" if '"log2_tpm_plus_1"' in self.task_text else "any"

    def known_drug(self, drug_id: str, smiles: str | None) -> str | None:
        """Return the id of the training drug that a drug is, by its id or else by its molecule; None if there is none.

        A known id with another molecule is none, and nor is another stereoisomer of a known molecule.
        """
        own = self.drugs.get(drug_id)
        if drug_id in self.drugs and (smiles is None or own is None):
            return drug_id
        key = None if smiles is None else parent(smiles)
        if drug_id in self.drugs:
            return drug_id if own is not None and smiles is not None and _one_molecule(own, smiles) else None
        found = self.molecules.get(key or "")
        if found is None or smiles is None or not _one_molecule(str(self.drugs[found]), smiles):
            return None
        return found

    def known_drugs(self, samples: ResponseSamples) -> np.ndarray:
        """Return of which samples the drug stood in the training rows, bool, ``(n,)``; all where it is not known."""
        if not self.drugs:
            return np.ones(len(samples), dtype=bool)
        pairs = zip(samples.drugs.index, samples.drugs["smiles"], strict=True)
        found = [self.known_drug(str(name), smiles if isinstance(smiles, str) else None) for name, smiles in pairs]
        return np.array([each is not None for each in found], dtype=bool)[samples.drug]

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
        """Return the columns of an answer, whether the drug is known, and contributions by feature and atom."""
        called = [ColSpec(DataType.double, name=name) for name in ("probability_sensitive", "threshold")]
        return [
            *self.answered(),
            *(called if self.thresholds else ()),
            ColSpec(DataType.boolean, name="drug_known"),
            *self.explained(),
            ColSpec(ATOMS, name="atoms", required=False),
        ]

    def remarks(self, samples: ResponseSamples) -> Remarks:
        """Return what the model had to leave aside, what it does not know, and what is in another unit."""
        made = Remarks(len(samples))
        made.add(samples.pairs.get(_READ_AS, pd.Series([None] * len(samples), dtype=object)).tolist())
        for name, unit in self.units.items():
            values = samples.omics[name].to_numpy()
            used, row = np.unique(samples.cell, return_inverse=True)
            said = outside(values[used], self.features[name], unit, name)
            made.add([said[place] for place in row], withdraw=True)
        lacks = {name: ~measured(samples.omics[name])[samples.cell] for name in self.needed}
        lacking = [", ".join(name for name in self.needed if lacks[name][row]) for row in range(len(samples))]
        made.add(
            [f"the sample lacks {names}, without which a baseline answers" if names else None for names in lacking]
        )
        tissues = samples.cell_lines["tissue"].astype(str).tolist()
        strange = {*tissues} - {*self.tissues, UNKNOWN} if self.tissues else set()
        said = [
            f"the tissue {each!r} is not among those of the training data" if each in strange else None
            for each in tissues
        ]
        made.add([said[cell] for cell in samples.cell])
        if self.drugs:
            of_drug = [
                self._said_of(str(name), smiles if isinstance(smiles, str) else None)
                for name, smiles in zip(samples.drugs.index, samples.drugs["smiles"], strict=True)
            ]
            made.add([of_drug[drug] for drug in samples.drug])
        return made

    def _said_of(self, drug_id: str, smiles: str | None) -> str | None:
        """Return what is to be said of a drug: that it is not known, or known under another id."""
        found = self.known_drug(drug_id, smiles)
        if found == drug_id:
            return None
        named = "" if drug_id.startswith(" ") else f" {drug_id!r}"
        if found is not None:
            return f"the drug{named} is the known drug {found!r} by its molecule" if named else None
        interval = "its interval is that of unseen drugs" if self.promises_unseen else "no coverage is promised"
        own = self.drugs.get(drug_id)
        if own is not None:
            return f"drug{named} is known with another molecule than this smiles; {interval}"
        other = self.molecules.get((parent(smiles) if smiles is not None else None) or "")
        if other is not None:
            return f"drug{named} is another stereoisomer of the known drug {other!r}; {interval}"
        return f"drug{named} is not known: it was in no training row; {interval}"

    def unseen(self, samples: ResponseSamples) -> np.ndarray:
        """Return of which samples the drug is not known."""
        return ~self.known_drugs(samples)

    def answer(self, outputs: np.ndarray, samples: ResponseSamples) -> pd.DataFrame:
        """Return the answer and ``drug_known``; where calls are predicted also the drug's threshold, which for a drug
        that is not known is that of all drugs, and the probability of being sensitive.
        """
        answer = self.said(outputs, samples)
        if self.thresholds:
            answer["probability_sensitive"] = outputs[:, SENSITIVE]
            answer["threshold"] = Thresholds(**self.thresholds).of(samples.drugs)[samples.drug]
        known_drugs = self.known_drugs(samples).tolist() if self.drugs else [None] * len(samples)
        return answer.assign(drug_known=pd.Series(known_drugs, dtype=object))

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
        """Return what each feature adds to each prediction, and each atom of the drug where the model sees atoms.

        Of calls the log odds of being sensitive are explained, whatever class is answered.
        """
        explained = np.full(len(samples), SENSITIVE) if self.thresholds else None
        attribution = estimator.attribute(samples, explained)
        if attribution is None:
            return {}
        return contribution_columns(attribution) | atom_columns(estimator.atom_attributions(samples, explained))


def _drugs_of(samples: ResponseSamples) -> dict[str, str | None]:
    """Return the SMILES of each drug by its id, the most measured first."""
    used, count = np.unique(samples.drug, return_counts=True)
    smiles = samples.drugs["smiles"]
    order = used[np.argsort(-count, kind="stable")]
    return {
        str(smiles.index[drug]): str(each) if isinstance(each := smiles.iloc[drug], str) else None for drug in order
    }


def _units_of(samples: ResponseSamples, task: Any) -> dict[str, dict[str, Any]]:
    """Return the unit of each omics of the lines; nothing is known of a scale that is not named."""
    lines = np.unique(samples.cell)
    scales: dict[str, str] = {name: name for name in task.data.omics}
    if EXPRESSION in scales:
        scales[EXPRESSION] = task.validate.expression_scale
    found = {name: unit_of(samples.omics[name].to_numpy()[lines], scale) for name, scale in scales.items()}
    return {name: unit for name, unit in found.items() if unit is not None}


def _needed(estimator: Estimator, prepared: Prepared) -> list[str]:
    """Return the tables without which the estimator leaves a line aside: by its choices, or those of what it wraps."""
    chosen = estimator.get_params(deep=False)
    while "hyperparameters" in chosen:
        chosen = chosen["hyperparameters"]
    known = {each.name for each in fields(CellLineChoices)}
    choices = CellLineChoices(**{key: value for key, value in chosen.items() if key in known})
    train = prepared.side("train")
    lines = np.unique(train.cell)
    used = choices.cell_line_features(train).omics if choices.imputation == "drop" else ()
    return [name for name in used if measured(train.omics[name].iloc[lines]).any()]


def _expression_panels(samples: ResponseSamples, lines: np.ndarray) -> dict[str, list[str]]:
    if EXPRESSION not in samples.omics:
        return {}
    table = samples.omics[EXPRESSION].iloc[lines]
    return choose_panels(table.dropna(how="all").to_numpy(), [str(gene) for gene in table])


def read_payload(frame: pd.DataFrame, contract: Pairs) -> ResponseSamples:
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
    cell, drug, read_as = [], [], []
    above: dict[str, _Checked] = {}
    for row, record in enumerate(frame.to_dict("records")):
        profile = {name: _as_above(record.get(name), name, row, contract, above) for name in contract.features}
        tissue = contract.tissue_as_known(_text(record.get("tissue"), "tissue", row))
        key = (tissue, *(None if values is None else values.tobytes() for values in profile.values()))
        if key not in lines:
            lines[key] = len(lines)
            profiles.append(profile)
            tissues.append(tissue)
        cell.append(lines[key])
        drug_id, smiles, said = _drug(record, row, contract)
        read_as.append(said)
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
    pairs[_READ_AS] = pd.Series(read_as, dtype=object)
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


def _as_above(values: Any, name: str, row: int, contract: Pairs, above: dict[str, _Checked]) -> np.ndarray | None:
    """Return `_profile`, which is the row above's where the table is: many drugs are asked about one line."""
    if not isinstance(values, Mapping):
        return _profile(values, name, row, contract)
    types = [type(value) for value in values.values()]  # true is equal to 1, and is no number
    before = above.get(name)
    if before is None or types != before.types or values != before.values:
        before = above[name] = _Checked(values, types, _profile(values, name, row, contract))
    return before.read


def _profile(values: Any, name: str, row: int, contract: Pairs) -> np.ndarray | None:
    """Return the values in the model's order, or None where the row has none and need not."""
    if values is None or (isinstance(values, float) and math.isnan(values)):
        if name in contract.required:
            raise PayloadError(f"row {row}, field {name}: missing; this model needs it")
        return None
    if not isinstance(values, Mapping):
        raise PayloadError(f"row {row}, field {name}: must be a map of feature to value, it is {kind_of(values)}")
    wanted = contract.features[name]
    if missing := [feature for feature in wanted if feature not in values]:
        by_folded = _by_folded([str(feature) for feature in values])
        alike = [each for feature in missing for each in by_folded.get(folded(feature), [])]
        beside = f"; write {quoted(alike, 3)} as the model does" if alike else ""
        raise PayloadError(
            f"row {row}, field {name}: lacks {len(missing)} of {len(wanted)} features: {listed(missing)}{beside}"
        )
    if len(values) > len(wanted):
        known = set(wanted)
        unknown = [str(feature) for feature in values if feature not in known]
        raise PayloadError(f"row {row}, field {name}: unknown features: {listed(unknown)}")
    numbers = [values[feature] for feature in wanted]
    scale = contract.scale_of(name)
    lowest, highest, what = LIMITS.get(scale, (-math.inf, math.inf, ""))
    for feature, number in zip(wanted, numbers, strict=True):
        value = number_of(number, f"row {row}, field {name}.{feature}")
        if not lowest <= value <= highest or (scale == "mutation" and value not in (0, 1)):
            side = f", below {lowest:g}" if value < lowest else f", above {highest:g}" if value > highest else ""
            raise PayloadError(f"row {row}, field {name}.{feature}: is {value:g}{side}; {what}")
    return np.array(numbers, dtype=np.float64)


def _drug(record: Mapping[Any, Any], row: int, contract: Pairs) -> tuple[str | None, str | None, str | None]:
    """Return id and SMILES as the training data writes them, and what is to be said where the request does not."""
    smiles = _text(record.get("smiles"), "smiles", row)
    given = _text(record.get("drug_id"), "drug_id", row)
    drug_id = contract.drug_id_as_known(given)
    said = None if drug_id == given else f"drug_id {given!r} was read as {drug_id!r}"
    if smiles is None and drug_id is not None:
        smiles = contract.drugs.get(drug_id)  # what the training rows of this id had
    if smiles is None and (drug_id is None or "smiles" in contract.required):
        raise PayloadError(f"row {row}, field smiles: missing; without it the drug is not known")
    if smiles is None and contract.drugs and drug_id not in contract.drugs:
        raise PayloadError(
            f"row {row}, field drug_id: {str(drug_id)[:80]!r} is none of the {len(contract.drugs)} drugs that the "
            f"model knows, such as {listed(list(contract.drugs), 3)}; give its smiles too"
        )
    if smiles is not None and canonical(smiles) is None:
        raise PayloadError(f"row {row}, field smiles: {smiles[:80]!r} is not a SMILES that RDKit can parse")
    if smiles is not None and (found := contract.known_drug(drug_id or " ", smiles)) is not None:
        own = contract.drugs[found]
        if own is not None and canonical(own) != canonical(smiles):
            also = f"the smiles is a salt, tautomer or other spelling of {found!r} and was read as that"
            return drug_id, own, f"{said}; {also}" if said else also
    return drug_id, smiles, said


def _as_known(text: str | None, names: Collection[str], by_folded: Mapping[str, list[str]]) -> str | None:
    """Return the one of ``names`` that people would read ``text`` as, or ``text`` where there is none or several."""
    if text is None or text in names:
        return text
    alike = by_folded.get(folded(text), [])
    return alike[0] if len(alike) == 1 else text


def _by_folded(names: Collection[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(folded(name), []).append(name)
    return found


def _one_molecule(one: str, other: str) -> bool:
    """Whether two SMILES are one drug: but for salts and tautomers, and not where both say another stereochemistry."""
    ends = stereochemistry(one), stereochemistry(other)
    return parent(one) == parent(other) and (not all(ends) or ends[0] == ends[1])


def _text(value: Any, name: str, row: int) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if not isinstance(value, str):
        raise PayloadError(f"row {row}, field {name}: must be text, it is {kind_of(value)}")
    return known(value)


TAKEN = Pairs
