"""Features of pairs: a cell line's and a drug's, computed once each and gathered in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from rdkit.Chem import rdFingerprintGenerator

from pipelines.samples.molecules import parent, parse
from pipelines.samples.response import ResponseSamples
from training.estimator import Featurizer
from training.features.cell_line import SUPERVISED, CellLineFeatures, leading
from training.features.mechanism import Mechanisms

_SHRINKAGE = 1.0  # prior observations at the overall mean, for drugs that were measured rarely
_LINE_COMPONENTS = 4
_FEWEST = 2  # training drugs of a target that is a feature


@dataclass
class DrugFeatures(Featurizer):
    """Numbers that describe a drug."""

    parts: ClassVar[Mapping[str, Any]] = {"mechanisms": Mechanisms}

    bits: int = 512  # of the Morgan fingerprint; 0 for none
    identity: str = "profile"  # by responses of the training lines; ``one_hot``; or ``none``, for unseen drugs
    components: int = 16  # of the profile
    mechanism: bool = False  # whether pathway and targets are among the numbers
    ids: list[str] = field(default_factory=list)
    molecules: dict[str, str] = field(default_factory=dict)
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    overall: float = 0.0
    profile: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    mechanisms: Mechanisms = field(default_factory=Mechanisms)

    def fit(self, train: ResponseSamples) -> Self:
        """Fit on training rows: means and response profiles of the drugs in them."""
        used, drug = np.unique(train.drug, return_inverse=True)
        count = np.bincount(drug, minlength=len(used))
        total = np.bincount(drug, train.target, minlength=len(used))
        self._learn_means(train.drugs["smiles"].iloc[used], total, count, float(train.target.mean()))
        if self.mechanism:
            self.mechanisms.fit(train.drugs.iloc[used], _FEWEST)
        if self.identity == "profile" and self.components:
            matrix = residual_matrix(train, train.target - self.mean[drug])
            _, size, rotation = np.linalg.svd(matrix, full_matrices=False)
            rotation, size = rotation[: self.components], size[: self.components]
            signs = np.sign(rotation[np.arange(len(rotation)), np.abs(rotation).argmax(axis=1)])
            self.profile = (rotation * (signs * size / np.sqrt(len(matrix)))[:, None]).T
        return self

    def fit_sums(
        self, smiles: pd.Series, total: np.ndarray, count: np.ndarray, products: np.ndarray, lines: int
    ) -> Self:
        """Fit on sums over training rows that are elsewhere.

        ``smiles`` has the index of the drugs; ``total`` and ``count`` of their responses are ``(drugs,)``, ``products``
        those of the columns of `residual_matrix`, ``(drugs, drugs)``, which has a row for each of the ``lines``.
        """
        self._learn_means(smiles, total, count, float(total.sum() / count.sum()))
        if self.identity == "profile" and self.components:
            vectors, size = leading(products, self.components, lines)
            self.profile = vectors * (size / np.sqrt(lines))
        return self

    def _learn_means(self, smiles: pd.Series, total: np.ndarray, count: np.ndarray, overall: float) -> None:
        self.ids, self.overall = [str(name) for name in smiles.index], overall
        self.mean = shrunk(total, count, overall)
        self.molecules = {}
        # Most measured first: a molecule under two ids is found at the one that is known best.
        for index in np.argsort(-count, kind="stable"):
            text = smiles.iloc[index]
            if isinstance(text, str) and (key := parent(text)) is not None:
                self.molecules.setdefault(key, self.ids[index])
        self.profile = np.zeros((len(smiles), 0))

    def known(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return for each drug its position among the training drugs, by id or else by molecule; -1 if unseen."""
        position = {name: index for index, name in enumerate(self.ids)}
        found = np.full(len(drugs), -1)
        for row, (drug_id, smiles) in enumerate(zip(drugs.index.tolist(), drugs["smiles"].tolist(), strict=True)):
            name = str(drug_id)
            if name not in position and isinstance(smiles, str):
                name = self.molecules.get(parent(smiles) or "", name)
            found[row] = position.get(name, -1)
        return found

    def offset(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return each drug's mean response over the training rows, the overall mean where it is unseen."""
        known = self.known(drugs)
        return np.where(known >= 0, self.mean[known], self.overall)

    def transform(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return float32 of shape ``(drugs, len(names))``."""
        known = self.known(drugs)
        seen = known >= 0
        blocks = []
        if self.identity != "none":
            blocks += [np.where(seen, self.mean[known], self.overall)[:, None], seen[:, None].astype(float)]
        if self.identity == "profile":
            blocks.append(np.where(seen[:, None], self.profile[known], 0.0))
        if self.mechanism:
            blocks.append(self.mechanisms.transform(drugs))
        if self.identity == "one_hot":
            blocks.append((known[:, None] == np.arange(len(self.ids))[None, :]).astype(float))
        if self.bits:
            blocks.append(fingerprints(drugs["smiles"].tolist(), self.bits))
        return np.hstack(blocks).astype(np.float32) if blocks else np.zeros((len(drugs), 0), np.float32)

    @property
    def names(self) -> list[str]:
        """Return the names of the columns of `transform`."""
        names = [] if self.identity == "none" else ["drug:mean_response", "drug:known"]
        if self.identity == "profile":
            names += [f"drug:profile_{index}" for index in range(self.profile.shape[1])]
        if self.mechanism:
            names += self.mechanisms.names
        if self.identity == "one_hot":
            names += [f"drug:{name}" for name in self.ids]
        if self.bits:
            names += ["fingerprint:none", *(f"fingerprint:{bit}" for bit in range(self.bits))]
        return names


def shrunk(total: np.ndarray, count: np.ndarray, overall: float) -> np.ndarray:
    """Return the mean response of each drug, ``(drugs,)``, drawn to the overall mean where it was measured rarely."""
    return (total + _SHRINKAGE * overall) / (count + _SHRINKAGE)


def fingerprints(smiles: list[str | None], bits: int) -> np.ndarray:
    """Return a flag of no SMILES and Morgan fingerprints (radius 2; Rogers and Hahn, 2010), ``(n, 1 + bits)``."""
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=bits)
    found = np.zeros((len(smiles), 1 + bits))
    for row, text in enumerate(smiles):
        molecule = parse(text) if isinstance(text, str) else None
        if molecule is None:
            found[row, 0] = 1
        else:
            found[row, 1:] = generator.GetFingerprintAsNumPy(molecule)
    return found


def residual_matrix(train: ResponseSamples, residual: np.ndarray) -> np.ndarray:
    """Return mean residuals from the drugs' means, ``(lines, drugs)``, both ascending; 0 for pairs without a row."""
    (lines, line), (drugs, drug) = (np.unique(code, return_inverse=True) for code in (train.cell, train.drug))
    total, count = np.zeros((2, len(lines), len(drugs)))
    np.add.at(total, (line, drug), residual)
    np.add.at(count, (line, drug), 1)
    return total / np.maximum(count, 1)


def line_response(train: ResponseSamples, residual: np.ndarray) -> np.ndarray:
    """Return the target of supervised selection: leading principal components of `residual_matrix`, ``(lines, k)``."""
    scores, size, _ = np.linalg.svd(residual_matrix(train, residual), full_matrices=False)
    return (scores * size)[:, :_LINE_COMPONENTS]


@dataclass(frozen=True)
class PairMatrix:
    """The feature matrix of pairs, gathered in batches."""

    cells: np.ndarray  # ``(lines, cell width)``, float32
    drugs: np.ndarray  # ``(drugs, drug width)``, float32
    cell: np.ndarray  # row of each sample in ``cells``, ``(n,)``
    drug: np.ndarray
    offset: np.ndarray  # added to the model's prediction, ``(n,)``
    complete: np.ndarray | None = None  # which lines have all required tables, ``(lines,)``; None where all have

    def __len__(self) -> int:
        return len(self.cell)

    def gather(self, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return the features of ``rows``, float32, shape ``(len(rows), cell width + drug width)``."""
        return np.hstack([self.cells[self.cell[rows]], self.drugs[self.drug[rows]]])

    def learnt(self, values: np.ndarray) -> np.ndarray:
        """Return predictions or contributions ``(n, ...)`` with 0 where the line is not complete."""
        if self.complete is None:
            return values
        return np.where(self.complete[self.cell].reshape(-1, *[1] * (values.ndim - 1)), values, 0.0)

    def batches(self, size: int = 16384) -> Iterator[slice]:
        """Return slices that cover all rows."""
        return (slice(start, min(start + size, len(self))) for start in range(0, len(self), size))


@dataclass
class PairFeatures(Featurizer):
    """Features of cell line and drug, and the offset of predictions."""

    parts: ClassVar[Mapping[str, Any]] = {"cell_line": CellLineFeatures, "drug": DrugFeatures}

    cell_line: CellLineFeatures
    drug: DrugFeatures
    center: bool = True  # the offset is the drug's mean response, else the overall mean

    def fit(self, train: ResponseSamples) -> Self:
        """Fit both featurizers on the lines and drugs of the training rows."""
        self.drug.fit(train)
        lines = np.unique(train.cell)
        omics = {name: table.iloc[lines] for name, table in train.omics.items()}
        response = None
        if self.cell_line.selection in SUPERVISED:
            response = line_response(train, train.target - self.drug.offset(train.drugs)[train.drug])
        self.cell_line.fit(train.cell_lines.iloc[lines], omics, response)
        return self

    def complete(self, samples: ResponseSamples) -> np.ndarray:
        """Return which samples a model may learn from, bool, shape ``(n,)``: see `CellLineFeatures.complete`."""
        return self.cell_line.complete(samples.cell_lines, samples.omics)[samples.cell]

    def transform(self, samples: ResponseSamples) -> PairMatrix:
        """Return the features of ``samples``."""
        offset = self.drug.offset(samples.drugs) if self.center else np.full(len(samples.drugs), self.drug.overall)
        complete = self.cell_line.complete(samples.cell_lines, samples.omics)
        return PairMatrix(
            cells=self.cell_line.transform(samples.cell_lines, samples.omics),
            drugs=self.drug.transform(samples.drugs),
            cell=samples.cell,
            drug=samples.drug,
            offset=offset[samples.drug].astype(np.float32),
            complete=None if complete.all() else complete,
        )

    @property
    def names(self) -> list[str]:
        """Return the raw features of attributions, the cell line's first."""
        return self.cell_line.names + self.drug.names

    def spread(self, attribution: np.ndarray) -> np.ndarray:
        """Distribute attributions of gathered features, shape ``(n, width)``, to ``names``."""
        width = self.cell_line.width
        return np.hstack([self.cell_line.spread(attribution[:, :width]), attribution[:, width:]])
