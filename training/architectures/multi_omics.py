"""An encoder for each omics table, and late fusion; missing tables are masked, not imputed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from pipelines.samples.response import ResponseSamples
from training.architectures import Range, architecture, draw
from training.estimator import Attribution
from training.features.cell_line import CellLineFeatures, measured
from training.networks.pair_module import Head, PairModule
from training.networks.response_network import ResponseNetwork, response_space

if TYPE_CHECKING:
    import optuna

TITLE = "Multi-omics"


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    masked = {**settings, "imputations": ("mean",)}  # missing tables are masked
    own = {"fusion": ["mean", "gated"], "modality_dropout": Range(0.0, 0.5), "depth": Range(1, 2)}
    drawn = draw(trial, **own, components=[0, 32, 64, 128])
    sizes = (1024, 2048, 4096)
    return drawn | response_space(
        trial, masked, learning_rate=(1e-4, 5e-3), dropout=0.5, batch_sizes=sizes, omics=("all",)
    )


class FusionModule(PairModule):
    """Encoders of tables, the mean of the codes of measured ones, and the tissue.

    Parameters
    ----------
    blocks
        Columns of each table, in the order of the mask of `cell_code`; the last ``tissues`` columns are the tissue's.
    depth
        Hidden layers of an encoder.
    gated
        Whether the mean is weighted by a gate on each code.
    modality_dropout
        Share of measured tables that are masked in training, anew for each line in each step (Neverova et al., 2016).
    head
        Joins the codes; its units, activation and dropout are those of the encoders too.
    """

    def __init__(
        self,
        *,
        blocks: list[slice],
        tissues: int,
        drug_width: int,
        depth: int,
        gated: bool,
        modality_dropout: float,
        head: Head,
    ) -> None:
        super().__init__()
        self.blocks = blocks
        self.tissues = tissues
        self.modality_dropout = modality_dropout
        widths = [block.stop - block.start for block in blocks]
        self.encoders = nn.ModuleList(_encoder(width, depth, head) for width in widths)
        self.gates = nn.ModuleList(nn.Linear(head.units, 1) for _ in blocks) if gated else None
        self.tissue = nn.Parameter(torch.zeros(tissues, head.units))
        self.drug = nn.Linear(drug_width, head.units)
        self.hidden = head.build()

    def cell_code(self, cells: Tensor, *known: Tensor) -> Tensor:
        """Return a code per line, ``(lines, units)``; ``known`` is a mask of measured tables, ``(lines, tables)``."""
        (measured,) = known
        if self.training and self.modality_dropout > 0:
            measured = measured & (torch.rand(measured.shape, device=measured.device) >= self.modality_dropout)
        of_tissue = cells[:, cells.shape[1] - self.tissues :] @ self.tissue
        if not self.blocks:
            return of_tissue
        codes = torch.stack(
            [encode(cells[:, block]) for encode, block in zip(self.encoders, self.blocks, strict=True)], dim=1
        )
        return (self._weights(codes, measured)[..., None] * codes).sum(dim=1) + of_tissue

    def _weights(self, codes: Tensor, measured: Tensor) -> Tensor:
        """Return how much each table counts, ``(lines, tables)``: measured ones sum to 1, the others are 0."""
        if self.gates is None:
            return measured / measured.sum(dim=1, keepdim=True).clamp(min=1)
        said = torch.cat([gate(codes[:, table]) for table, gate in enumerate(self.gates)], dim=1)
        # Finite, so that a line without any table has weights: all are 0 by the mask.
        return said.masked_fill(~measured, -1e9).softmax(dim=1) * measured

    def drug_code(self, drugs: Tensor, *molecule: Tensor) -> Tensor:
        """Return a code per drug, ``(drugs, units)``."""
        return self.drug(drugs)


def _encoder(width: int, depth: int, head: Head) -> nn.Sequential:
    stack: list[nn.Module] = []
    for number in range(depth):
        stack += [nn.Linear(head.units if number else width, head.units), *head.activated()]
    return nn.Sequential(*stack, nn.Linear(head.units, head.units))


@architecture("pairs", "regression", space=space)
@dataclass(eq=False, repr=False, kw_only=True)
class MultiOmics(ResponseNetwork):
    """`FusionModule` on all tables; lines and samples may lack any. For the others see `ResponseNetwork`.

    Parameters
    ----------
    fusion
        ``gated`` or ``mean``.
    depth, modality_dropout
        See `FusionModule`.
    components
        Principal components per table; 0 for none.
    """

    masks_omics = True

    omics: str = "all"
    fusion: str = "mean"
    modality_dropout: float = 0.1
    depth: int = 1
    components: int = 64

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        return self.cell_line_features(train, self.components)

    def _module(self, cell_width: int, drug_width: int) -> FusionModule:
        return FusionModule(
            blocks=list(self._tables().values()),
            tissues=len(self.features_.cell_line.tissues),
            drug_width=drug_width,
            depth=self.depth,
            gated=self.fusion == "gated",
            modality_dropout=self.modality_dropout,
            head=self.head,
        )

    def _tables(self) -> dict[str, slice]:
        """Return where the values of each table stand that has any."""
        return {name: block for name, block in self.features_.cell_line.blocks.items() if block.stop > block.start}

    def _known_of_lines(self, samples: ResponseSamples) -> tuple[np.ndarray, ...]:
        """Return which tables were measured of each line, bool, shape ``(lines, tables)``."""
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
