"""A graph neural network over a drug's molecule, beside a branch for the cell line."""

from functools import partial
from typing import ClassVar

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.architectures import Range, architecture, joined, ranges
from training.features.molecule_graph import MoleculeGraphs, by_atom
from training.networks.response_network import PairModule, ResponseNetwork, response_space

TITLE = "GNN"

SPACE = joined(
    ranges(convolution=["gine", "gatv2"], depth=Range(2, 4), width=[32, 64, 128], components=[32, 64, 128]),
    partial(response_space, learning_rate=(2e-4, 5e-3), dropout=0.4),
)


@architecture("pairs", "regression", space=SPACE)
class GNN(ResponseNetwork):
    """`MoleculeModule` with the graph in place of the fingerprint; see `MoleculeEncoder`."""

    batch_size: int = 2048
    dropout: float = 0.1
    bits: int = 0
    convolution: str = "gine"
    depth: int = 3
    width: int = 64
    components: int = 64  # of each omics table; 0 for none

    steps: ClassVar[int] = 32
    rows_at_once: ClassVar[int] = 512
    reader = ("graphs", MoleculeGraphs)

    def _module(self, cell_width: int, drug_width: int) -> PairModule:
        from training.networks.molecule_encoder import MoleculeModule  # imports torch-geometric

        return MoleculeModule(self, cell_width, drug_width)

    def atom_attributions(self, samples: ResponseSamples, output: np.ndarray | None = None) -> list[np.ndarray]:
        """Return contributions of the atoms of each drug; those of bonds are halved between their atoms."""
        inputs = self._inputs(samples)
        parts = self._shares(inputs).parts
        _, _, there, ends = (each[inputs.drug].cpu().numpy() for each in inputs.drugs)
        return by_atom(inputs.matrix.learnt(parts.sum(axis=2)), there, ends)
