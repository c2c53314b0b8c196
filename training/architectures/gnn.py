"""A graph neural network over a drug's molecule, beside a branch for the cell line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from pipelines.samples.response import ResponseSamples
from training.architectures import architecture
from training.features.cell_line import CellLineFeatures
from training.features.molecule_graph import MoleculeGraphs, by_atom
from training.networks.response_network import ResponseNetwork
from training.networks.response_space import response_space

if TYPE_CHECKING:
    import optuna

    from training.networks.molecule_encoder import MoleculeModule

TITLE = "GNN"


def space(trial: optuna.Trial, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Draw hyperparameters."""
    return {
        "convolution": trial.suggest_categorical("convolution", ["gine", "gatv2"]),
        "depth": trial.suggest_int("depth", 2, 4),
        "width": trial.suggest_categorical("width", [32, 64, 128]),
        "components": trial.suggest_categorical("components", [32, 64, 128]),
        **response_space(trial, settings, learning_rate=(2e-4, 5e-3), dropout=0.4),
    }


@architecture("pairs", "regression", space=space)
@dataclass(eq=False, repr=False, kw_only=True)
class GNN(ResponseNetwork):
    """`training.networks.molecule_encoder.MoleculeModule`; the graph stands in the fingerprint's place.

    Parameters
    ----------
    convolution, depth, width
        See `training.networks.molecule_encoder.MoleculeEncoder`.
    components
        Principal components that each omics table is reduced to; 0 for none.

    The others are those of `training.networks.response_network.ResponseNetwork`.
    """

    batch_size: int = 2048
    dropout: float = 0.1
    bits: int = 0
    convolution: str = "gine"
    depth: int = 3
    width: int = 64
    components: int = 64

    steps: ClassVar[int] = 32
    rows_at_once: ClassVar[int] = 512

    def _cell_features(self, train: ResponseSamples) -> CellLineFeatures:
        return self.cell_line_features(train, self.components)

    def _learn(self, train: ResponseSamples) -> dict[str, Any]:
        smiles = train.drugs["smiles"].iloc[np.unique(train.drug)].tolist()
        return {"graphs": MoleculeGraphs().fit(smiles).state()}

    @property
    def _graphs(self) -> MoleculeGraphs:
        return MoleculeGraphs.from_state(self.learnt_["graphs"])

    def _molecules(self, drugs: pd.DataFrame) -> tuple[np.ndarray, ...]:
        return self._graphs.transform(drugs["smiles"].tolist())

    @property
    def _kinds(self) -> list[str]:
        return self._graphs.names

    def _module(self, cell_width: int, drug_width: int) -> MoleculeModule:
        from training.networks.molecule_encoder import MoleculeEncoder, MoleculeModule  # imports torch-geometric

        encoder = MoleculeEncoder(
            width=self.width,
            depth=self.depth,
            convolution=self.convolution,
            activation=self.activation,
            dropout=self.dropout,
        )
        return MoleculeModule(
            cell_width=cell_width, drug_width=drug_width, encoder=encoder, width=self.width, head=self.head
        )

    def atom_attributions(self, samples: ResponseSamples, output: np.ndarray | None = None) -> list[np.ndarray]:
        """Return what each atom of the drug's molecule adds: the columns ``atom:`` and ``bond:`` of `attribute`.

        What a bond adds is halved between its atoms.
        """
        inputs = self._inputs(samples)
        parts = self._shares(inputs).parts
        assert parts is not None
        _, _, there, ends = (each[inputs.drug].cpu().numpy() for each in inputs.drugs)
        return by_atom(inputs.matrix.learnt(parts.sum(axis=2)), there, ends)
