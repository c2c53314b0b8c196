"""One gene under several names: ``TP53|7157``, ``TP53`` and ``7157`` are the same where nothing else has that name."""

import datetime
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pipelines.errors import UserError
from pipelines.text_values import folded, is_unknown

_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec|march|april|june|july)"
_DAY, _YEAR = r"[0-9]{1,2}", r"[0-9]{2}(?:[0-9]{2})?"
_TIME = r"(?:[ T][0-9:.]+Z?)?"
_DATE_OR_NUMBER = re.compile(
    rf"{_DAY}[-./ ]+{_MONTH}\.?(?:[-./ ]{_YEAR})?"  # 1-Mar, 1-Mar-20
    rf"|{_MONTH}[-. ]+{_YEAR}|{_MONTH}[-. ]+{_DAY}"  # Mar-01, Sep-2
    rf"|[0-9]{{4}}-{_DAY}-{_DAY}{_TIME}|{_DAY}[./]{_DAY}[./]{_YEAR}{_TIME}"  # 2001-03-01 00:00:00, 3/1/2001
    r"|[0-9]+(?:[.,][0-9]+)?E[+-]?[0-9]+|[0-9]+[.,][0-9]+",  # 2.31E+13 of 2310009E13Rik
    re.IGNORECASE,
)
_SERIAL = range(36_526, 55_153)  # a spreadsheet's days of the years 2000 to 2050
_DAYS = {3: 11, 9: 15, 12: 2}  # MARCH1 to MARCH11, SEPT1 to SEPT15, DEC1 and DEC2 become days
_SEVERAL = re.compile(r"\s*(?:;|,|/{2,}|\s/\s)\s*")


@dataclass(frozen=True)
class Match:
    """Wanted genes to the names that were given for them; wanted genes without a name; names without a gene."""

    found: dict[str, str]
    missing: list[str]
    unknown: list[str]


def match_genes(given: Iterable[str], wanted: Sequence[str]) -> Match:
    """Match symbols, Entrez numbers or ``SYMBOL|ENTREZ``: the whole name first, then a part that one gene alone has."""
    names = list(dict.fromkeys(given))
    whole = set(names)
    found = {gene: gene for gene in wanted if gene in whole}
    used = set(found.values())
    if len(found) < len(wanted):
        by_part, alone = _parts([name for name in names if name not in used]), _parts(wanted)
        for gene in (gene for gene in wanted if gene not in found):
            # A symbol of two genes is ambiguous without the Entrez number.
            fits = [by_part[part][0] for part in parts_of(gene) if len(by_part.get(part, [])) == len(alone[part]) == 1]
            name = next((each for each in fits if each not in used and not _contradict(gene, each)), None)
            if name is not None:
                found[gene] = name
                used.add(name)
    missing = [gene for gene in wanted if gene not in found]
    return Match(found, missing, [name for name in names if name not in used])


def respelled(given: Iterable[str], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Return the names in another case for each wanted gene that `match_genes` misses; of several none is certain."""
    match, genes = match_genes(given, wanted), _parts(wanted, folded)
    missing, found = set(match.missing), dict[str, list[str]]()
    for name in match.unknown:
        meant = {gene for part in parts_of(name) for gene in genes.get(folded(part), [])}
        if len(meant) == 1 and (gene := meant.pop()) in missing and not _contradict(gene, folded(name)):
            found.setdefault(gene, []).append(name)
    return found


def find_gene(name: str, genes: Sequence[str]) -> str:
    """Return the one of ``genes`` that is called ``name``; raise a `UserError` if there is none, or more than one."""
    found = [name] if name in genes else [gene for gene in genes if name in parts_of(gene) or gene in parts_of(name)]
    if len(found) != 1:
        what = f"is the name of {len(found)} genes: {', '.join(found[:5])}" if found else "is not among the genes"
        raise UserError(f"the gene {name!r} {what}; name it as the columns of expression.parquet do")
    return found[0]


def symbol_of(gene: str) -> str:
    """Return the symbol of ``SYMBOL|ENTREZ``, or the whole name where it has no symbol."""
    symbol = gene.split("|", 1)[0]
    return gene if is_unknown(symbol) else symbol


def parts_of(name: str) -> list[str]:
    """Return the names under which a gene may also be known: ``TP53`` and ``7157`` of ``TP53|7157``, else itself."""
    return [part for part in name.split("|") if not is_unknown(part)]


def spreadsheet_names(names: Iterable[str]) -> list[str]:
    """Return names that a spreadsheet made: ``1-Mar``, ``2.31E+13``, or a day as a number (``43891``) among symbols.

    Which gene it was is lost: ``MARCH1`` and ``MARC1`` both become ``1-Mar``.
    """
    known = list(names)
    symbols = 2 * sum(name.strip().isdecimal() for name in known) < len(known)
    return [name for name in known if _DATE_OR_NUMBER.fullmatch(name.strip()) or (symbols and _is_day(name.strip()))]


def several_genes(name: str) -> bool:
    """Return whether a name has several genes: ``A;B``, ``A /// B``, ``A // B``, ``A, B``."""
    return len(genes_of(name)) > 1


def genes_of(name: str) -> list[str]:
    """Return the genes of a name, each once: ``A`` and ``B`` of ``A /// B``, none of ``---``."""
    return list(dict.fromkeys(part for part in _SEVERAL.split(name.strip()) if not is_unknown(part)))


def _is_day(name: str) -> bool:
    if not (name.isascii() and name.isdecimal() and int(name) in _SERIAL):
        return False
    day = datetime.date(1899, 12, 30) + datetime.timedelta(int(name))
    return day.day <= _DAYS.get(day.month, 0)


def _parts(names: Iterable[str], spelling: Callable[[str], str] = str) -> dict[str, list[str]]:
    """Return the names that have a part, by its spelling."""
    by_part: dict[str, list[str]] = {}
    for name in names:
        for part in dict.fromkeys(map(spelling, parts_of(name))):
            by_part.setdefault(part, []).append(name)
    return by_part


def _contradict(one: str, other: str) -> bool:
    """Whether both are ``SYMBOL|ENTREZ`` and the numbers differ."""
    numbers = [name.split("|", 1)[1] for name in (one, other) if "|" in name]
    return len(numbers) == 2 and numbers[0] != numbers[1]
