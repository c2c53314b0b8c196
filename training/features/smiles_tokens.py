"""A molecule as a sequence of tokens: the atoms, bonds, branches and ring closures of its canonical SMILES."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from pipelines.samples.molecules import canonical
from training.features.fitted import Featurizer

# Of OpenSMILES: atoms in brackets, the organic subset, bonds, branches, ring closures, dots; then whatever is left.
_TOKEN = re.compile(r"\[[^][]*\]|Br|Cl|[BCNOPSFI]|[bcnops]|\*|[-=#$:/\\]|[().]|%\d\d|\d|.")
_KNOWN_FROM = 2  # training molecules with a token; rarer ones count as unknown, whose weights are thereby trained


def tokens_of(smiles: str | None) -> list[str]:
    """Return the tokens of the canonical SMILES; none where there is no SMILES or it cannot be parsed."""
    spelled = canonical(smiles) if isinstance(smiles, str) else None
    return [] if spelled is None else _TOKEN.findall(spelled)


@dataclass
class SmilesTokens(Featurizer):
    """The vocabulary of the training drugs' SMILES, padded to the longest of them; token 0 is any other."""

    longest: int = 100  # tokens of a molecule that are read, at most
    vocabulary: list[str] = field(default_factory=list)
    length: int = 1

    def fit(self, smiles: Sequence[str | None]) -> Self:
        """Learn the vocabulary of the training drugs."""
        found = [tokens_of(each) for each in smiles]
        count = Counter(token for tokens in found for token in set(tokens))
        self.vocabulary = sorted(token for token, times in count.items() if times >= _KNOWN_FROM)
        self.length = min(self.longest, max([1, *map(len, found)]))
        return self

    def transform(self, smiles: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Return one-hot tokens, float32 ``(n, length, 1 + len(vocabulary))``, and their mask, ``(n, length)``."""
        number = {token: 1 + index for index, token in enumerate(self.vocabulary)}
        kinds = np.zeros((len(smiles), self.length, 1 + len(number)), np.float32)
        for row, each in enumerate(smiles):
            for place, token in enumerate(tokens_of(each)[: self.length]):
                kinds[row, place, number.get(token, 0)] = 1
        return kinds, np.asarray(kinds.any(axis=2))

    @property
    def names(self) -> list[str]:
        """Return the names of the last axis of `transform`."""
        return [f"token:{token}" for token in ("unknown", *self.vocabulary)]
