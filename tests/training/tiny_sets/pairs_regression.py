"""Responses of simulated cell lines to drugs."""

from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from pipelines.datasets import Prepared
from pipelines.samples.response import ResponseSamples
from tests.training.tiny import SMALL, changed, rmse, tiny_prepared
from tests.training.tiny_sets import TinySet
from training.architectures import Architecture


class Tiny(TinySet):
    """Unseen rows are of unseen cell lines."""

    small: ClassVar[dict[str, Any]] = {"rounds": 40, "epochs": 10, **SMALL}

    @cached_property
    def prepared(self) -> Prepared:
        """Return the rows with their split."""
        return tiny_prepared(self.folder / "raw")

    def rows(self, side: str, architecture: Architecture) -> ResponseSamples:
        return self.prepared.side({"unseen": "test"}.get(side, side))

    def content(self, samples: ResponseSamples) -> list[Any]:
        tables = [samples.pairs, samples.cell_lines, samples.drugs, *samples.omics.values()]
        return [table.copy() for table in tables] + [samples.cell.copy(), samples.drug.copy()]

    def odd(self, samples: ResponseSamples) -> ResponseSamples:
        return changed(samples, np.arange(len(samples)))

    def reordered(self, samples: ResponseSamples) -> ResponseSamples:
        rng = np.random.default_rng(1)
        omics = {name: table.iloc[:, rng.permutation(table.shape[1])] for name, table in samples.omics.items()}
        return replace(samples, omics=omics)

    def with_holes(self, samples: ResponseSamples) -> ResponseSamples:
        omics = {}
        for number, (name, table) in enumerate(samples.omics.items()):
            values = table.to_numpy(copy=True)
            values[number::3] = np.nan
            values[number + 1, :5] = np.nan  # single values too
            omics[name] = pd.DataFrame(values, index=table.index, columns=table.columns)
        return replace(samples, omics=omics)

    def error(self, outputs: np.ndarray, samples: ResponseSamples) -> float:
        return rmse(outputs, samples.target)

    def naive(self, samples: ResponseSamples) -> float:
        return rmse(np.array(self.prepared.side("train").target.mean()), samples.target)

    def outputs_of(self, explained: np.ndarray) -> np.ndarray:
        return explained[:, 0]
