"""A drug as numbers: what its molecule looks like, and how the training lines answered to it."""

from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pandas as pd
from rdkit.Chem import rdFingerprintGenerator

from pipelines.samples.molecules import parent, parse
from pipelines.samples.response import ResponseSamples
from training.estimator import Featurizer

_SHRINKAGE = 1.0  # prior observations at the overall mean, for drugs that were measured rarely
_LINE_COMPONENTS = 4


@dataclass
class DrugFeatures(Featurizer):
    """Numbers that describe a drug."""

    bits: int = 512  # of the Morgan fingerprint; 0 for none
    identity: str = "profile"  # by responses of the training lines; ``one_hot``; or ``none``, for unseen drugs
    components: int = 16  # of the profile
    ids: list[str] = field(default_factory=list)
    molecules: dict[str, str] = field(default_factory=dict)
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    overall: float = 0.0
    profile: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def fit(self, train: ResponseSamples) -> Self:
        """Fit on training rows: means and response profiles of the drugs in them."""
        used, drug = np.unique(train.drug, return_inverse=True)
        self.ids = [str(name) for name in train.drugs.index[used]]
        self.overall = float(train.target.mean())
        count = np.bincount(drug, minlength=len(used))
        total = np.bincount(drug, train.target, minlength=len(used))
        self.mean = (total + _SHRINKAGE * self.overall) / (count + _SHRINKAGE)
        self.molecules = {}
        # Most measured first: a molecule under two ids is found at the one that is known best.
        for index in np.argsort(-count, kind="stable"):
            smiles = train.drugs["smiles"].iloc[used[index]]
            if isinstance(smiles, str) and (key := parent(smiles)) is not None:
                self.molecules.setdefault(key, self.ids[index])
        self.profile = np.zeros((len(used), 0))
        if self.identity == "profile" and self.components:
            matrix = residual_matrix(train, train.target - self.mean[drug])
            _, size, rotation = np.linalg.svd(matrix, full_matrices=False)
            rotation, size = rotation[: self.components], size[: self.components]
            signs = np.sign(rotation[np.arange(len(rotation)), np.abs(rotation).argmax(axis=1)])
            self.profile = (rotation * (signs * size / np.sqrt(len(matrix)))[:, None]).T
        return self

    def known(self, drugs: pd.DataFrame) -> np.ndarray:
        """Return for each drug its position among the training drugs, by id or else by molecule; -1 if unseen."""
        position = {name: index for index, name in enumerate(self.ids)}
        found = np.full(len(drugs), -1)
        for row, (drug_id, smiles) in enumerate(zip(drugs.index, drugs["smiles"], strict=True)):
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
        if self.identity == "one_hot":
            names += [f"drug:{name}" for name in self.ids]
        if self.bits:
            names += ["fingerprint:none", *(f"fingerprint:{bit}" for bit in range(self.bits))]
        return names


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
