"""Features of pairs: a cell line's and a drug's, computed once each and gathered in batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.estimator import Featurizer
from training.features.cell_line import SUPERVISED, CellLineFeatures
from training.features.drug import DrugFeatures, line_response


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
