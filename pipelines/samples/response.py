"""Pairs of a cell line and a drug; the features of a line and of a drug are stored once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import numpy as np
import pandas as pd

from pipelines.modalities.pairs import MissingPolicy, PairsTask
from pipelines.samples import Kept, count_dropped
from pipelines.samples.formats import KEYS, ResponseTables
from pipelines.samples.molecules import parent
from pipelines.samples.rows import Rows
from pipelines.text_values import known_column

UNKNOWN = "unknown"
MECHANISM = ("target", "pathway")  # columns of `drugs.csv` that may be missing


@dataclass(frozen=True)
class ResponseSamples(Rows):
    """Pairs of a cell line and a drug, as indices into two small tables."""

    modality: ClassVar[str] = "pairs"

    pairs: pd.DataFrame  # a row a sample: `sample_id, study, cell_line_id, drug_id`, and `target` where it is known
    cell_lines: pd.DataFrame  # index `cell_line_id`; column `tissue` (`UNKNOWN` where the table has none)
    drugs: pd.DataFrame  # index `drug_id`; column `smiles` (None where the table has none) and others
    omics: dict[str, pd.DataFrame]  # float32, with the index of `cell_lines`; a row of NaN where not measured
    cell: np.ndarray  # for each sample its row in `cell_lines`, int32, (n,)
    drug: np.ndarray  # for each sample its row in `drugs`, int32, (n,)
    pilot: "ResponseSamples | None" = field(default=None, kw_only=True)  # measured samples that adjust a model

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def table(self) -> pd.DataFrame:
        """Return ``pairs``, by the name that all modalities have."""
        return self.pairs

    @property
    def target(self) -> np.ndarray:
        """Return the measured response, float64, shape ``(n,)``."""
        return self.pairs["target"].to_numpy(np.float64)

    @property
    def within(self) -> pd.Series:
        """Return the drug of each sample, within which metrics are taken too."""
        return self.pairs["drug_id"]

    def take(self, rows: np.ndarray) -> Self:
        """Return the samples at ``rows`` (positions, or a boolean mask); the feature tables are shared."""
        positions = np.flatnonzero(rows) if rows.dtype == bool else rows
        pairs = self.pairs.iloc[positions].reset_index(drop=True)
        return replace(self, pairs=pairs, cell=self.cell[rows], drug=self.drug[rows])

    def alone(self) -> Self:
        """Return the samples with only their own cell lines and drugs."""
        cells, cell = np.unique(self.cell, return_inverse=True)
        drugs, drug = np.unique(self.drug, return_inverse=True)
        return replace(
            self,
            cell_lines=self.cell_lines.iloc[cells],
            drugs=self.drugs.iloc[drugs],
            omics={name: table.iloc[cells] for name, table in self.omics.items()},
            cell=cell.astype(np.int32),
            drug=drug.astype(np.int32),
        )


def make_samples(
    pairs: pd.DataFrame, cell_lines: pd.DataFrame, drugs: pd.DataFrame, omics: dict[str, pd.DataFrame]
) -> ResponseSamples:
    """Index ``pairs`` (``cell_line_id``, ``drug_id``) into tables whose indices hold all of these ids."""
    cell_lines = cell_lines.assign(tissue=cell_lines["tissue"].fillna(UNKNOWN).astype(str))
    return ResponseSamples(
        pairs=pairs.reset_index(drop=True),
        cell_lines=cell_lines,
        drugs=drugs,
        omics={name: table.reindex(cell_lines.index).astype(np.float32) for name, table in omics.items()},
        cell=cell_lines.index.get_indexer(pd.Index(pairs["cell_line_id"])).astype(np.int32),
        drug=drugs.index.get_indexer(pd.Index(pairs["drug_id"])).astype(np.int32),
    )


def keep_samples(tables: ResponseTables, task: PairsTask, *, labelled: bool = True) -> Kept:
    """Apply ``task.data.missing`` to validated tables, and count what each rule drops."""
    response, policy = tables.response, task.data.missing
    cell_lines = tables.cell_lines.set_index("cell_line_id")
    drugs = tables.drugs.set_index("drug_id")
    drugs["smiles"] = drugs["smiles"].astype(object).where(drugs["smiles"].notna(), None)
    drugs = annotated(drugs)
    omics = {name: table.set_index("cell_line_id") for name, table in tables.omics.items()}

    rows = {
        "unknown_cell_line": ~response["cell_line_id"].isin(cell_lines.index).to_numpy(),
        "unknown_drug": ~response["drug_id"].isin(drugs.index).to_numpy(),
    }
    if labelled:
        rows["without_target"] = response[task.data.target].isna().to_numpy()
    measured = {name: table.index[table.notna().any(axis=1)] for name, table in omics.items()}
    measured["tissue"] = cell_lines.index[cell_lines["tissue"].notna()]
    measured["smiles"] = drugs.index[drugs["smiles"].notna()]
    for name, ids in measured.items():
        if getattr(policy, name) == "drop":
            column = "drug_id" if name == "smiles" else "cell_line_id"
            rows[f"without_{name}"] = ~response[column].isin(ids).to_numpy()

    dropped = np.zeros(len(response), dtype=bool)
    dropped_rows = count_dropped(rows, dropped)
    kept = response[~dropped]
    sample_id = kept["study"].astype(str) + "|" + kept["cell_line_id"] + "|" + kept["drug_id"]
    pairs = pd.DataFrame({"sample_id": sample_id, **{key: kept[key] for key in KEYS}})
    if labelled:
        pairs["target"] = kept[task.data.target].astype(np.float32)
    used_cells = cell_lines[cell_lines.index.isin(kept["cell_line_id"])]
    used_drugs = drugs[drugs.index.isin(kept["drug_id"])]
    counts = {
        "rows": {"raw": len(response), "kept": len(kept), "dropped": dropped_rows},
        "cell_lines": {"raw": int(response["cell_line_id"].nunique()), "kept": len(used_cells)},
        "drugs": {"raw": int(response["drug_id"].nunique()), "kept": len(used_drugs)},
        "without": {
            name: {"rule": getattr(policy, name), "kept": int((~used.index.isin(ids)).sum())}
            for name, ids in measured.items()
            for used in [used_drugs if name == "smiles" else used_cells]
        },
    }
    return Kept(make_samples(pairs, used_cells, used_drugs, omics), counts)


def annotated(drugs: pd.DataFrame) -> pd.DataFrame:
    """Return drugs with the columns `MECHANISM`, None where unknown: where a drug has two ids, what either is told."""
    from pipelines.groups.pairs import drug_groups  # which imports this module

    group = drug_groups(drugs)
    for column in set(MECHANISM) & set(drugs):
        own = known_column(drugs[column])
        found = own.fillna(own.groupby(group).transform("first"))
        drugs = drugs.assign(**{column: found.where(found.notna(), None)})
    return drugs


def required_fields(policy: MissingPolicy, omics: Sequence[str]) -> tuple[str, ...]:
    """Return the fields that a sample must have under ``policy``: those whose rule is ``drop``."""
    return tuple(name for name in (*omics, "tissue", "smiles") if getattr(policy, name) == "drop")


def molecule_keys(drugs: pd.DataFrame) -> pd.Series:
    """Return for each drug its `parent` molecule, or ``id:<drug_id>`` where it has no readable SMILES."""
    smiles = drugs["smiles"].items()
    keys = [(parent(each) if isinstance(each, str) else None) or f"id:{drug_id}" for drug_id, each in smiles]
    return pd.Series(keys, index=drugs.index)
