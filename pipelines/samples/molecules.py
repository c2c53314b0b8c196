"""Molecules from SMILES: parsing, canonical form, and which drug ids name one molecule."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from rdkit import Chem, RDLogger
from rdkit.Chem import rdMolHash
from rdkit.Chem.MolStandardize import rdMolStandardize

RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]  # a refused SMILES is reported by the caller, with file and row

MAX_SMILES_LENGTH = 2000
_UNCHARGER = rdMolStandardize.Uncharger()


@lru_cache(maxsize=8192)
def parse(smiles: str) -> Any | None:
    """Return RDKit's molecule of ``smiles``, or None if it cannot be parsed, is empty or overlong."""
    if not smiles.strip() or len(smiles) > MAX_SMILES_LENGTH:
        return None
    molecule = Chem.MolFromSmiles(smiles)
    return molecule if molecule is not None and molecule.GetNumAtoms() > 0 else None


@lru_cache(maxsize=8192)
def canonical(smiles: str) -> str | None:
    """Return RDKit's canonical SMILES, or None where `parse` does."""
    molecule = parse(smiles)
    return None if molecule is None else Chem.MolToSmiles(molecule)


@lru_cache(maxsize=8192)
def parent(smiles: str) -> str | None:
    """Return a key of the molecule that salts, stereoisomers and tautomers share, or None where `parse` does.

    It is RDKit's tautomer hash of the largest fragment, uncharged and without its stereochemistry: no SMILES to be
    parsed. A salt and its free base, two stereoisomers, or a lactam and its lactim are not the same compound and yet no
    unseen drug to one another: tables write one drug in all of these ways, and fingerprints hardly tell them apart.
    """
    largest = _largest_fragment(smiles)
    if largest is None:
        return None
    plain = Chem.MolFromSmiles(Chem.MolToSmiles(largest, isomericSmiles=False))
    if plain is None:  # what RDKit writes of some metal complexes it does not read
        return Chem.MolToSmiles(largest, isomericSmiles=False)
    return str(rdMolHash.MolHash(_UNCHARGER.uncharge(plain), rdMolHash.HashFunction.HetAtomTautomer))


@lru_cache(maxsize=8192)
def stereochemistry(smiles: str) -> str | None:
    """Return a key of `parent` with its stereochemistry, None where the SMILES says none of it or `parse` does."""
    largest = _largest_fragment(smiles)
    if largest is None or Chem.MolToSmiles(largest) == Chem.MolToSmiles(largest, isomericSmiles=False):
        return None
    plain = Chem.MolFromSmiles(Chem.MolToSmiles(largest))
    if plain is None:
        return Chem.MolToSmiles(largest)
    return str(rdMolHash.MolHash(_UNCHARGER.uncharge(plain), rdMolHash.HashFunction.HetAtomTautomer))


@lru_cache(maxsize=8192)
def without_salt(smiles: str) -> str | None:
    """Return the canonical SMILES of the largest fragment, the one that `parent` is of, with its stereochemistry."""
    largest = _largest_fragment(smiles)
    return None if largest is None else Chem.MolToSmiles(largest)


def _largest_fragment(smiles: str) -> Any | None:
    molecule = parse(smiles)
    if molecule is None:
        return None
    fragments = Chem.GetMolFrags(molecule, asMols=True, sanitizeFrags=False)
    # Of fragments of one size the choice must not depend on how the SMILES is spelled.
    return max(
        fragments,
        key=lambda each: (
            each.GetNumHeavyAtoms(),
            Chem.MolToSmiles(each, isomericSmiles=False),
            Chem.MolToSmiles(each),
        ),
    )


def pubchem_id(value: Any) -> str | None:
    """Return a PubChem compound id as digits, or None.

    Tables hold words such as ``none`` or ``several`` in this column; taken literally they would make one molecule
    of dozens of unrelated drugs.
    """
    text = str(value).strip().removesuffix(".0")
    return str(int(text)) if text.isascii() and text.isdigit() and int(text) > 0 else None
