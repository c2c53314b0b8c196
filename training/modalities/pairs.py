"""Requests of pairs: the omics of a cell line and a drug."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import AnyType, Map

from pipelines.datasets import Prepared
from pipelines.groups.pairs import drug_groups
from pipelines.params import UNSEEN_DRUGS
from pipelines.samples.molecules import parent, stereochemistry
from pipelines.samples.response import MECHANISM, UNKNOWN, ResponseSamples, required_fields
from pipelines.samples.sensitivity import CLASSES, Thresholds
from pipelines.text_values import folded, known
from training import contract
from training.architectures import get_architecture
from training.contract import Columns, Contract, Refit, Remarks
from training.estimator import Estimator
from training.features.cell_line import CellLineChoices, measured
from training.features.pair import fingerprints
from training.features.summaries import choose_panels, drug_numbers, drug_summary, profile_summary
from training.features.units import outside, unit_of
from training.modalities import pairs_requests
from training.modalities.pairs_requests import MEASURED, READ_AS
from training.model import drug_cells, pilot
from training.model.calibration import half_widths
from training.model.cross_fit import FinalFit
from training.model.drug_cells import DRUG, TISSUE
from training.model.limits import Limits
from training.model.novelty import View

EXPRESSION = "expression"
_BITS = 1024
SENSITIVE = CLASSES.index("sensitive")
_HELD_OUT = 0.25  # of the drugs, in one fold, for the interval of unseen drugs


@dataclass(frozen=True, kw_only=True)
class Pairs(Contract):
    """What a model of pairs of a cell line and a drug takes."""

    features: dict[str, list[str]]  # that the model was fitted on, by omics
    required: list[str]  # fields that each row must have; the others are imputed where they are left out
    target: str  # column of the raw response that is learned
    panels: dict[str, list[str]] = field(default_factory=dict)  # of correlated genes, by which expression is described
    tissues: list[str] = field(default_factory=list)  # of the training lines
    needed: list[str] = field(default_factory=list)  # tables without which the model does not look at a line
    drugs: dict[str, str | None] = field(default_factory=dict)  # SMILES of each training drug, the most measured first
    units: dict[str, dict[str, Any]] = field(default_factory=dict)  # by omics, see `training.features.units.unit_of`
    mechanisms: dict[str, list[str | None]] = field(default_factory=dict)  # target and pathway of each training drug
    pilot: bool = False  # whether measured rows of a request adjust the others
    thresholds: dict[str, Any] = field(default_factory=dict)  # of `pipelines.samples.sensitivity`, where calls are made

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
            "mechanisms": _mechanisms_of(prepared.side("train", "validation")),
            "pilot": samples.pilot is not None,
            "units": _units_of(prepared.side("train", "validation"), task),
            "thresholds": {} if thresholds is None else asdict(thresholds),
        }

    @classmethod
    def adjusted(cls, prepared: Prepared, final: FinalFit, role: str) -> FinalFit:
        """Return the fit as pilot measurements adjust it, in the mode ``drug_pilot``; a baseline by their mean."""
        if prepared.samples.pilot is None:
            return final
        return pilot.piloted(final, prepared, level_alone=role == "baseline")

    def restored(self, estimator: Estimator, folder: Path) -> Estimator:
        """See `training.model.pilot.restored`."""
        return pilot.restored(estimator, folder)

    @classmethod
    def measure_unseen(cls, task: Any, prepared: Prepared, final: FinalFit, refit: Refit) -> float | None:
        """See `unseen_half_width`; in `UNSEEN_DRUGS` no row outside the fit has a known drug."""
        coverage = task.evaluate.interval_coverage
        if task.split.mode in UNSEEN_DRUGS:
            width = float(final.interval_half_widths(prepared, coverage))
            return width if math.isfinite(width) else None
        return unseen_half_width(prepared, refit, coverage)

    @classmethod
    def cell_columns(cls, task: Any, prepared: Prepared) -> dict[str, np.ndarray]:
        """Return drugs and tissues, see `Contract.cell_columns`; none in `UNSEEN_DRUGS`, where no drug is known."""
        return drug_cells.columns(task, prepared)

    @classmethod
    def served(cls, limits: Limits, prepared: Prepared) -> dict[str, Any]:
        """Return limits by tissue, or by drug: a request names no column of ``drugs.csv``, but its drug."""
        known = limits.by not in ("", "class", TISSUE, DRUG)
        return drug_cells.by_drug(limits, prepared) if known else super().served(limits, prepared)

    def cell_of(self, samples: ResponseSamples) -> np.ndarray | None:
        """Return the tissue or the known drug of each sample, empty for a drug that is not known."""
        if self.cells == TISSUE:
            return samples.cell_lines[TISSUE].to_numpy(str)[samples.cell]
        if self.cells != DRUG:
            return None
        known_drugs = [self.known_drug(*drug) or "" for drug in _drugs_in(samples)]
        return np.array(known_drugs, dtype=str)[samples.drug]

    @cached_property
    def feature_index(self) -> dict[str, pd.Index]:
        """Return the features of each omics, as columns of its table."""
        return {omics: pd.Index(names) for omics, names in self.features.items()}

    @cached_property
    def _folded(self) -> dict[str, dict[str, str]]:
        found = {}
        for kind, names in {"drug_id": list(self.drugs), "tissue": self.tissues}.items():
            count = Counter(map(folded, names))
            found[kind] = {folded(name): name for name in names if count[folded(name)] == 1}
        return found

    def as_known(self, text: str | None, field: str) -> str | None:
        """Return the one training ``drug_id`` or ``tissue`` that is ``text`` but for case and blanks, or ``text``."""
        return self._folded[field].get(folded(text), text) if text else text

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
        """Return the id of the training drug of this id or molecule; None for another molecule or stereoisomer."""
        found = drug_id if drug_id in self.drugs else self.molecules.get((smiles and parent(smiles)) or "")
        if found is None:
            return None
        own = self.drugs[found]
        return found if smiles is None or own is None or _one_molecule(own, smiles) else None

    def read(self, frame: pd.DataFrame) -> ResponseSamples:
        """Check a request and return its samples, in its order; equal profiles and equal drugs are stored once."""
        return pairs_requests.read(self, frame)

    def request(self, samples: ResponseSamples) -> pd.DataFrame:
        """Return the request that asks for ``samples``."""
        return pairs_requests.request(self, samples)

    def inputs(self) -> list[ColSpec]:
        """Return a map an omics, and what names the drug."""
        maps = [ColSpec(Map(AnyType()), name=omics, required=omics in self.required) for omics in self.features]
        smiles = ColSpec(DataType.string, name="smiles", required="smiles" in self.required)
        texts = ["drug_id", "tissue", "cell_line_id", *(MECHANISM if self.mechanisms else ())]
        measured = [ColSpec(DataType.double, name=MEASURED, required=False)] if self.pilot else []
        return [*maps, smiles, *(ColSpec(DataType.string, name=name, required=False) for name in texts), *measured]

    def outputs(self) -> list[ColSpec]:
        """Return the columns of an answer, whether the drug is known, and contributions by feature and atom."""
        called = [ColSpec(DataType.double, name=name) for name in ("probability_sensitive", "threshold")]
        return [
            *self.answered,
            *(called if self.thresholds else ()),
            ColSpec(DataType.boolean, name="drug_known"),
            *self.explained,
            ColSpec(contract.ATOMS, name="atoms", required=False),
        ]

    def remarks(self, samples: ResponseSamples) -> Remarks:
        """Return notes on what was normalized, is in another unit, is missing, and is not in the training data."""
        made = Remarks(len(samples))
        made.add(samples.pairs.get(READ_AS, pd.Series([None] * len(samples), dtype=object)).tolist())
        used, row = np.unique(samples.cell, return_inverse=True)
        for name, unit in self.units.items():
            notes = outside(samples.omics[name].to_numpy()[used], self.features[name], unit, name)
            made.add([notes[place] for place in row], withdraw=True)
        if self.needed:
            lacks = {name: ~measured(samples.omics[name])[samples.cell] for name in self.needed}
            lacking = [", ".join(name for name in self.needed if lacks[name][row]) for row in range(len(samples))]
            made.add([each and f"the sample lacks {each}, without which a baseline answers" for each in lacking])
        tissues = samples.cell_lines["tissue"].tolist()
        strange = {*tissues} - {*self.tissues, UNKNOWN} if self.tissues else set()
        notes = [f"the tissue {each!r} is not in the training data" if each in strange else None for each in tissues]
        made.add([notes[cell] for cell in samples.cell])
        if self.pilot:
            made.add(self._pilot_notes(samples), withdraw=True)
        if self.drugs:
            notes = [self._drug_note(*drug) for drug in _drugs_in(samples)]
            made.add([notes[drug] for drug in samples.drug])
        return made

    def _pilot_notes(self, samples: ResponseSamples) -> list[str | None]:
        """Return a note on each row of an unseen drug that no row of the request measures."""
        drug_ids = samples.drugs.index.to_numpy()[samples.drug]
        measured = () if samples.pilot is None else samples.pilot.drugs.index[samples.pilot.drug]
        lacking = self.unseen(samples) & ~np.isin(drug_ids, list(measured))
        return ["no row of the drug is measured: no coverage is promised" if each else None for each in lacking]

    def _drug_note(self, drug_id: str, smiles: str | None) -> str | None:
        """Return the note on a drug that is not in the training data, or is under another id."""
        found = self.known_drug(drug_id, smiles)
        named = "" if drug_id.startswith(" ") else f" {drug_id!r}"
        if found is not None:
            other_id = named and found != drug_id
            return f"the drug{named} is the known drug {found!r} by its molecule" if other_id else None
        interval = "its interval is that of unseen drugs" if self.promises_unseen else "no coverage is promised"
        if self.drugs.get(drug_id) is not None:
            return f"drug{named} is known with another molecule than this smiles; {interval}"
        return f"drug{named} is not known: it was in no training row; {interval}"

    def unseen(self, samples: ResponseSamples) -> np.ndarray:
        """Return which samples' drugs were in no training row; none without `drugs`."""
        unseen = [bool(self.drugs) and self.known_drug(*drug) is None for drug in _drugs_in(samples)]
        return np.array(unseen, dtype=bool)[samples.drug]

    def answer(self, outputs: np.ndarray, samples: ResponseSamples) -> Columns:
        """Return the answer with ``drug_known``; for calls also ``probability_sensitive`` and the drug's threshold."""
        unseen = self.unseen(samples)
        answer = self.said(outputs, unseen, self.cell_of(samples))
        if self.thresholds:
            answer["probability_sensitive"] = outputs[:, SENSITIVE]
            answer["threshold"] = Thresholds(**self.thresholds).of(samples.drugs)[samples.drug]
        known_drugs = (~unseen).tolist() if self.drugs else [None] * len(samples)
        return answer | {"drug_known": pd.Series(known_drugs, dtype=object)}

    def describe(self, samples: ResponseSamples) -> Columns:
        """Return `profile_summary` of the expression, the mean of each other omics, tissue, and `drug_summary`."""
        cells, cell = np.unique(samples.cell, return_inverse=True)
        drugs, drug = np.unique(samples.drug, return_inverse=True)
        tissues, known = samples.cell_lines["tissue"].tolist(), {*self.tissues, UNKNOWN}
        shown = [tissues[line] if tissues[line] in known else "other" for line in cells]
        lines = {"tissue": np.array(shown, dtype=object)}
        for omics, features in self.features.items():
            panels = self.panels if omics == EXPRESSION else {}
            summary = profile_summary(samples.omics[omics].to_numpy()[cells], features, panels)
            kept = summary if omics == EXPRESSION else ("level", "missing")
            lines |= {f"{omics}_{name}": summary[name] for name in kept}
        molecules = drug_summary(samples.drugs["smiles"].iloc[drugs].tolist())
        own = {name: values[cell] for name, values in lines.items()}
        return own | {name: values[drug] for name, values in molecules.items()}

    def views(self, samples: ResponseSamples, described: Columns | None = None) -> dict[str, View]:
        """Return the values of each omics, and what the molecule looks like: as numbers, and as a fingerprint."""
        smiles = samples.drugs["smiles"].tolist()
        bits = fingerprints(smiles, _BITS)
        bits[bits[:, 0] > 0] = np.nan  # nothing is known of these
        found = {omics: View("profile", samples.omics[omics].to_numpy(), samples.cell) for omics in self.features}
        found["drug"] = View("summary", np.array([drug_numbers(each) for each in smiles]), samples.drug)
        return found | {"molecule": View("fingerprint", bits[:, 1:], samples.drug)}

    def identities(self, samples: ResponseSamples) -> list[bytes]:
        """Return values, tissue and drug of each row."""
        tables = [samples.omics[omics].to_numpy() for omics in self.features]
        tissues, smiles = samples.cell_lines["tissue"].tolist(), samples.drugs["smiles"].tolist()
        lines = [
            b"\0".join([str(tissue).encode(), *(table[line].tobytes() for table in tables)])
            for line, tissue in enumerate(tissues)
        ]
        ids = [str(name) for name in samples.drugs.index]
        told = [samples.drugs.get(name, pd.Series(None, samples.drugs.index, object)).tolist() for name in MECHANISM]
        drugs = [  # the id of a row that gave none begins with a space, see `read`
            "\0".join(map(str, (*texts, "" if name.startswith(" ") else name))).encode()
            for *texts, name in zip(smiles, *told, ids, strict=True)
        ]
        return [lines[cell] + b"\0" + drugs[drug] for cell, drug in zip(samples.cell, samples.drug, strict=True)]

    def explain(self, estimator: Estimator, samples: ResponseSamples) -> Columns:
        """Return the contributions of features and atoms; for calls always to the log odds of sensitive."""
        explained = np.full(len(samples), SENSITIVE) if self.thresholds else None
        attribution = estimator.attribute(samples, explained)
        if attribution is None:
            return {}
        atoms = estimator.atom_attributions(samples, explained)
        found = {} if atoms is None else {"atoms": pd.Series([each.tolist() for each in atoms], dtype=object)}
        return contract.contribution_columns(attribution) | found


def unseen_half_width(prepared: Prepared, refit: Refit, coverage: float) -> float | None:
    """Return the half width of intervals for unseen drugs, see `half_widths`; None for too few held-out drugs.

    A model of the training rows of three quarters of the drugs, grouped as in a drug-blind split, predicts the
    validation rows of the others. The final model is fitted on more drugs, so the width errs on the wide side.
    """
    train, validation = prepared.side("train"), prepared.side("validation")
    group = drug_groups(prepared.samples.drugs).to_numpy()
    names = np.unique(group[np.unique(train.drug)])
    shuffled = names[np.random.default_rng(0).permutation(len(names))]
    least = math.ceil(coverage / (1 - coverage) - 1e-9)
    held = shuffled[: max(round(_HELD_OUT * len(names)), least)]
    is_held = np.isin(group, held)
    unseen = validation.take(is_held[validation.drug])
    drugs = len(np.unique(group[unseen.drug])) if len(unseen) else 0
    if drugs < least or 2 * len(held) > len(names):
        return None
    fitted = train.take(~is_held[train.drug])
    watched = validation.take(~is_held[validation.drug])
    if not len(fitted) or not len(watched):
        return None
    return float(half_widths(unseen.target - refit(fitted, watched).outputs(unseen), drugs, coverage))


def _drugs_in(samples: ResponseSamples) -> list[tuple[str, str | None]]:
    known = [each if isinstance(each, str) else None for each in samples.drugs["smiles"].tolist()]
    return list(zip(map(str, samples.drugs.index.tolist()), known, strict=True))


def _drugs_of(samples: ResponseSamples) -> dict[str, str | None]:
    """Return the SMILES of each drug by its id, the most measured first."""
    used, count = np.unique(samples.drug, return_counts=True)
    drugs = _drugs_in(samples)
    return dict(drugs[drug] for drug in used[np.argsort(-count, kind="stable")])


def _mechanisms_of(samples: ResponseSamples) -> dict[str, list[str | None]]:
    """Return target and pathway of each drug by its id; empty where the data tells none."""
    told = samples.drugs.iloc[np.unique(samples.drug)].reindex(columns=list(MECHANISM))
    if told.isna().all(axis=None):
        return {}
    return {str(name): [known(each) for each in values] for name, *values in told.itertuples()}


def _units_of(samples: ResponseSamples, task: Any) -> dict[str, dict[str, Any]]:
    """Return the unit of each omics of the lines, where its scale is known."""
    lines = np.unique(samples.cell)
    scales = {name: task.validate.expression_scale if name == EXPRESSION else name for name in task.data.omics}
    found = {name: unit_of(samples.omics[name].to_numpy()[lines], scale) for name, scale in scales.items()}
    return {name: unit for name, unit in found.items() if unit is not None}


def _needed(estimator: Estimator, prepared: Prepared) -> list[str]:
    """Return the tables without which the estimator, or one that it wraps, leaves a line aside."""
    known = {each.name for each in fields(CellLineChoices)}
    train = prepared.side("train")
    lines, used = np.unique(train.cell), list[str]()
    for chosen in _wrapped(estimator.get_params(deep=False)):
        choices = CellLineChoices(**{key: value for key, value in chosen.items() if key in known})
        used += choices.cell_line_features(train).omics if choices.imputation == "drop" else ()
    return [name for name in dict.fromkeys(used) if measured(train.omics[name].iloc[lines]).any()]


def _wrapped(chosen: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the hyperparameters of the estimators that one with these wraps, or its own."""
    inner = chosen.get("stacked", [chosen] if "hyperparameters" in chosen else [])
    return [each for one in inner for each in _wrapped(one["hyperparameters"])] or [chosen]


def _expression_panels(samples: ResponseSamples, lines: np.ndarray) -> dict[str, list[str]]:
    if EXPRESSION not in samples.omics:
        return {}
    table = samples.omics[EXPRESSION].iloc[lines]
    return choose_panels(table.dropna(how="all").to_numpy(), [str(gene) for gene in table])


def _one_molecule(one: str, other: str) -> bool:
    """Whether two SMILES are one drug: salts and tautomers are, molecules of different stereochemistry are not."""
    ends = stereochemistry(one), stereochemistry(other)
    return parent(one) == parent(other) and (not all(ends) or ends[0] == ends[1])


TAKEN = Pairs
