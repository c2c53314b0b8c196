"""One gene under several names: ``TP53|7157``, ``TP53`` and ``7157`` are the same where nothing else is called so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipelines.faults import UserError

_NO_SYMBOL = ("", "?")


@dataclass(frozen=True)
class Match:
    """Which given name stands for which wanted gene.

    Attributes
    ----------
    found
        Wanted gene to the name that was given for it.
    missing
        Wanted genes that no given name stands for.
    unknown
        Given names that stand for no wanted gene.
    """

    found: dict[str, str]
    missing: list[str]
    unknown: list[str]


def match_genes(given: Iterable[str], wanted: Sequence[str]) -> Match:
    """Match names of genes: the whole name first, then symbol or Entrez number where that is told of one gene alone.

    Parameters
    ----------
    given
        Names as a laboratory has them: symbols, Entrez numbers or ``SYMBOL|ENTREZ``.
    wanted
        Names as a model knows them.
    """
    names = list(dict.fromkeys(given))
    whole = set(names)
    found = {gene: gene for gene in wanted if gene in whole}
    used = set(found.values())
    left = [gene for gene in wanted if gene not in found]
    if left:
        by_part = _parts([name for name in names if name not in used])
        alone = _parts(wanted)
        for gene in left:
            for part in parts_of(gene):
                candidates = by_part.get(part, [])
                # A symbol that two genes bear says which of them is meant only beside the Entrez number.
                if len(candidates) == 1 and len(alone[part]) == 1 and candidates[0] not in used:
                    if _contradict(gene, candidates[0]):
                        continue
                    found[gene] = candidates[0]
                    used.add(candidates[0])
                    break
    return Match(
        found,
        [gene for gene in wanted if gene not in found],
        [name for name in names if name not in used],
    )


def find_gene(name: str, genes: Sequence[str]) -> str:
    """Return the one of ``genes`` that is called ``name``.

    Raises
    ------
    UserError
        There is none, or more than one.
    """
    if name in genes:
        return name
    found = [gene for gene in genes if name in parts_of(gene) or gene in parts_of(name)]
    if len(found) != 1:
        what = f"is the name of {len(found)} genes: {', '.join(found[:5])}" if found else "is not among the genes"
        raise UserError(f"the gene {name!r} {what}; name it as the columns of expression.parquet do")
    return found[0]


def symbol_of(gene: str) -> str:
    """Return the symbol of ``SYMBOL|ENTREZ``, or the whole name where it has no symbol."""
    symbol = gene.split("|", 1)[0]
    return gene if symbol in _NO_SYMBOL else symbol


def parts_of(name: str) -> list[str]:
    """Return the names under which a gene may also be known: ``TP53`` and ``7157`` of ``TP53|7157``, else itself."""
    return [part for part in name.split("|") if part not in _NO_SYMBOL]


def _parts(names: Iterable[str]) -> dict[str, list[str]]:
    by_part: dict[str, list[str]] = {}
    for name in names:
        for part in dict.fromkeys(parts_of(name)):
            by_part.setdefault(part, []).append(name)
    return by_part


def _contradict(one: str, other: str) -> bool:
    """Whether both are ``SYMBOL|ENTREZ`` and the numbers differ."""
    numbers = [name.split("|", 1)[1] for name in (one, other) if "|" in name]
    return len(numbers) == 2 and numbers[0] != numbers[1]
