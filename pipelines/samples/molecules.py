"""Molecules from SMILES: parsing, canonical form, and keys of molecules."""

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

    It is RDKit's tautomer hash of the largest fragment, uncharged and without its stereochemistry, and no SMILES:
    tables write one drug as a salt and its free base, as two stereoisomers, or as a lactam and its lactim.
    """
    largest = _largest_fragment(smiles)
    return None if largest is None else _tautomer_hash(Chem.MolToSmiles(largest, isomericSmiles=False))


@lru_cache(maxsize=8192)
def stereochemistry(smiles: str) -> str | None:
    """Return a key of `parent` with its stereochemistry, None where the SMILES has none or `parse` returns None."""
    largest = _largest_fragment(smiles)
    if largest is None or Chem.MolToSmiles(largest) == Chem.MolToSmiles(largest, isomericSmiles=False):
        return None
    return _tautomer_hash(Chem.MolToSmiles(largest))


def _tautomer_hash(smiles: str) -> str:
    molecule = Chem.MolFromSmiles(smiles)
    if molecule is None:  # RDKit writes some metal complexes that it cannot read
        return smiles
    return str(rdMolHash.MolHash(_UNCHARGER.uncharge(molecule), rdMolHash.HashFunction.HetAtomTautomer))


@lru_cache(maxsize=8192)
def without_salt(smiles: str) -> str | None:
    """Return the canonical SMILES of the largest fragment, with its stereochemistry."""
    largest = _largest_fragment(smiles)
    return None if largest is None else Chem.MolToSmiles(largest)


def _largest_fragment(smiles: str) -> Any | None:
    if (molecule := parse(smiles)) is None:
        return None

    def size(fragment: Any) -> tuple[int, str, str]:  # and the spelling, on which the choice must not depend
        return fragment.GetNumHeavyAtoms(), Chem.MolToSmiles(fragment, isomericSmiles=False), Chem.MolToSmiles(fragment)

    return max(Chem.GetMolFrags(molecule, asMols=True, sanitizeFrags=False), key=size)


def pubchem_id(value: Any) -> str | None:
    """Return a PubChem compound id as digits, or None for words such as ``none`` or ``several``."""
    text = str(value).strip().removesuffix(".0")
    return str(int(text)) if text.isascii() and text.isdigit() and int(text) > 0 else None
