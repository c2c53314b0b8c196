"""What the networks share that read a cell line's genes in an order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipelines.samples.response import ResponseSamples
from training.features.cell_line import CellLineFeatures
from training.features.gene_layout import correlation_order
from training.features.pair import PairFeatures
from training.networks.response_network import PairModule, ResponseNetwork


class OrderedModule(PairModule):
    """A network on columns of lines: ``order`` of genes in their order, ``others`` of all else."""

    order: Tensor
    others: Tensor

    def __init__(self, of: OrderedResponseNetwork) -> None:
        super().__init__()
        for name in ("order", "others"):
            self.register_buffer(name, torch.as_tensor(of.learnt_[name]), persistent=False)


@dataclass(eq=False, repr=False, kw_only=True)
class OrderedResponseNetwork(ResponseNetwork):
    """A network that reads a line's genes, the most variable of very many, in the order of a clustering."""

    widest: ClassVar[int] = 2000  # genes
    starts = False  # the order of the genes is learned from rows

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        features = self.cell_line_features(train)
        genes = sum(train.omics[name].shape[1] for name in features.omics)
        if self.selection == "all" and genes > self.widest:
            return replace(features, selection="variance", keep_share=self.widest / genes)
        return features

    def _learn(self, train: ResponseSamples, features: PairFeatures) -> dict[str, Any]:
        of_line, lines = features.cell_line, np.unique(train.cell)
        values = of_line.transform(
            train.cell_lines.iloc[lines], {name: table.iloc[lines] for name, table in train.omics.items()}
        ).astype(np.float64)
        columns = np.concatenate([np.arange(values.shape[1])[block] for block in of_line.blocks.values()])
        genes = values[:, columns] - values[:, columns].mean(axis=0)
        others = np.setdiff1d(np.arange(values.shape[1]), columns)
        return {"order": columns[correlation_order(genes)], "others": others, **super()._learn(train, features)}
