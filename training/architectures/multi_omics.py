"""An encoder for each omics table, and late fusion; missing tables are masked, not imputed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.response import ResponseSamples
from training.architectures import Range, architecture, draw
from training.estimator import Attribution
from training.features.cell_line import measured
from training.networks.response_network import PairModule, ResponseNetwork, response_space

TITLE = "Multi-omics"


def space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    masked = {**settings, "imputations": ("mean",)}  # missing tables are masked
    own = {"fusion": ["mean", "gated"], "modality_dropout": Range(0.0, 0.5), "depth": Range(1, 2)}
    drawn = draw(trial, **own, components=[0, 32, 64, 128])
    shared: dict[str, Any] = {"learning_rate": (1e-4, 5e-3), "dropout": 0.5, "batch_sizes": (1024, 2048, 4096)}
    return drawn | response_space(trial, masked, **shared, omics=("all",))


class FusionModule(PairModule):
    """The mean of the codes of measured tables, some masked in training (Neverova et al., 2016), and the tissue."""

    def __init__(self, of: MultiOmics, *, blocks: list[slice], tissues: int, drug_width: int) -> None:
        super().__init__()
        self.blocks = blocks  # columns of each table, in the order of the mask of `cell_code`
        self.tissues = tissues  # number of the last columns, which are the tissue's
        self.modality_dropout = of.modality_dropout
        self.encoders = nn.ModuleList(_encoder(of, block.stop - block.start) for block in blocks)
        self.gates = nn.ModuleList(nn.Linear(of.units, 1) for _ in blocks) if of.fusion == "gated" else None
        self.tissue = nn.Parameter(torch.zeros(tissues, of.units))
        self.drug = nn.Linear(drug_width, of.units)
        self.hidden = of.head()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code per line, ``(lines, units)``; ``known`` is a mask of measured tables, ``(lines, tables)``."""
        (measured,) = known
        if self.training and self.modality_dropout > 0:
            measured = measured & (torch.rand(measured.shape, device=measured.device) >= self.modality_dropout)
        of_tissue = cells[:, cells.shape[1] - self.tissues :] @ self.tissue
        if not self.blocks:
            return of_tissue
        encoded = [encode(cells[:, block]) for encode, block in zip(self.encoders, self.blocks, strict=True)]
        codes = torch.stack(encoded, dim=1)
        return (self._weights(codes, measured)[..., None] * codes).sum(dim=1) + of_tissue

    def _weights(self, codes: Tensor, measured: Tensor) -> Tensor:
        """Return how much each table counts, ``(lines, tables)``: measured ones sum to 1, the others are 0."""
        if self.gates is None:
            return measured / measured.sum(dim=1, keepdim=True).clamp(min=1)
        said = torch.cat([gate(codes[:, table]) for table, gate in enumerate(self.gates)], dim=1)
        # Finite, so that a line without any table has weights: all are 0 by the mask.
        return said.masked_fill(~measured, -1e9).softmax(dim=1) * measured


def _encoder(of: MultiOmics, width: int) -> nn.Sequential:
    stack: list[nn.Module] = []
    for number in range(of.depth):
        stack += [nn.Linear(of.units if number else width, of.units), *of.activated()]
    return nn.Sequential(*stack, nn.Linear(of.units, of.units))


@architecture("pairs", "regression", space=space)
class MultiOmics(ResponseNetwork):
    """`FusionModule` on all tables; lines and samples may lack any."""

    masks_omics = True
    of_lines = ("cell_features", "measured_tables")

    omics: str = "all"
    fusion: str = "mean"  # or ``gated``: weighted by a gate on each code
    modality_dropout: float = 0.1
    depth: int = 1  # hidden layers of an encoder
    components: int = 64  # of each table; 0 for none

    def _module(self, cell_width: int, drug_width: int) -> FusionModule:
        tissues = len(self.features_.cell_line.tissues)
        return FusionModule(self, blocks=list(self._tables().values()), tissues=tissues, drug_width=drug_width)

    def _tables(self) -> dict[str, slice]:
        """Return where the values of each table stand that has any."""
        return {name: block for name, block in self.features_.cell_line.blocks.items() if block.stop > block.start}

    def _known_of_lines(self, samples: ResponseSamples) -> tuple[np.ndarray, ...]:
        found = [measured(samples.omics[name]) for name in self._tables()]
        return (np.column_stack(found) if found else np.zeros((len(samples.cell_lines), 0), dtype=bool),)

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        """Return the predicted target, shape ``(n,)``; tables that the samples lack count as not measured."""
        return super().predict(self._whole(samples))

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        """See `ResponseNetwork.attribute`; the baseline is a line with the same measured tables."""
        return super().attribute(self._whole(samples), output)

    def _whole(self, samples: ResponseSamples) -> ResponseSamples:
        """Return the samples with a table of gaps for each that they lack."""
        lacking = {
            name: pd.DataFrame(np.nan, index=samples.cell_lines.index, columns=table.names)
            for name, table in self.features_.cell_line.tables.items()
            if name not in samples.omics
        }
        return replace(samples, omics={**samples.omics, **lacking}) if lacking else samples
