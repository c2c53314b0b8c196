"""What the networks share that read a cell line's genes in an order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.features.cell_line import CellLineFeatures
from training.features.gene_order import correlation_order
from training.networks.response_network import ResponseNetwork


@dataclass(eq=False, repr=False, kw_only=True)
class OrderedResponseNetwork(ResponseNetwork):
    """A network that reads genes in the order of a clustering of the training lines, beside flags and tissues.

    Of tables of very many genes the most variable are read.
    """

    widest: ClassVar[int] = 2000  # genes

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        features = self.cell_line_features(train)
        genes = sum(train.omics[name].shape[1] for name in features.omics)
        if self.selection == "all" and genes > self.widest:
            return replace(features, selection="variance", keep_share=self.widest / genes)
        return features

    def _learn(self, train: ResponseSamples) -> dict[str, Any]:
        """Return the columns of genes in their order, and those of all else."""
        features, lines = self.features_.cell_line, np.unique(train.cell)
        values = features.transform(
            train.cell_lines.iloc[lines], {name: table.iloc[lines] for name, table in train.omics.items()}
        ).astype(np.float64)
        columns = np.concatenate([np.arange(values.shape[1])[block] for block in features.blocks.values()])
        genes = values[:, columns] - values[:, columns].mean(axis=0)
        return {
            "order": columns[correlation_order(genes)],
            "others": np.setdiff1d(np.arange(values.shape[1]), columns),
        }

    @property
    def gene_order(self) -> list[str]:
        """Return the genes, ``<table>:<gene>``, in the order in which the network reads them."""
        names = self.features_.cell_line.names
        return [names[column] for column in self.learnt_["order"]]
