"""A gene that is taken for another gives a wrong answer that nothing shows: names are matched one to one, or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.samples.gene_names import (
    find_gene,
    match_genes,
    parts_of,
    several_genes,
    spreadsheet_names,
)

# Few symbols and numbers, so that names collide all the time.
_symbols = st.sampled_from(["A", "B", "C", "?"])
_numbers = st.sampled_from(["1", "2", "3"])
_names = st.one_of(
    st.builds("{}|{}".format, _symbols, _numbers), _symbols.filter(lambda symbol: symbol != "?"), _numbers
)


def _number(name: str) -> str | None:
    return name.split("|", 1)[1] if "|" in name else None


@given(st.lists(_names, max_size=8), st.lists(_names, max_size=8, unique=True))
def test_no_given_name_stands_for_two_genes_none_is_lost_and_no_number_contradicts(
    given_names: list[str], wanted: list[str]
) -> None:
    match = match_genes(given_names, wanted)
    assert len(set(match.found.values())) == len(match.found)
    assert sorted([*match.found, *match.missing]) == sorted(wanted)
    assert sorted([*match.found.values(), *match.unknown]) == sorted(set(given_names))
    for gene, name in match.found.items():
        assert set(parts_of(gene)) & set(parts_of(name)) or gene == name
        assert None in (_number(gene), _number(name)) or _number(gene) == _number(name)
    for gene in set(given_names) & set(wanted):  # a whole name is always found
        assert match.found[gene] == gene


@given(st.lists(_names, max_size=8, unique=True), st.lists(_names, max_size=8, unique=True), st.randoms())
def test_the_order_of_a_profiles_genes_does_not_matter(given_names: list[str], wanted: list[str], rng: object) -> None:
    mixed = list(given_names)
    rng.shuffle(mixed)  # type: ignore[attr-defined]
    assert set(match_genes(mixed, wanted).missing) == set(match_genes(given_names, wanted).missing)
    assert match_genes(mixed, wanted).found == match_genes(given_names, wanted).found


@pytest.mark.parametrize(
    ("given_names", "wanted", "found"),
    [
        (["TP53|7157", "TP53", "7157", "P53|7157"], "TP53|7157", True),  # renamed since; the number stays
        (["TP53|7157"], "TP53", True),
        (["TP53|7157"], "7157", True),
        (["TP53|9999", "tp53"], "TP53|7157", False),  # Trp53 of a mouse is another gene
        (["?|653553"], "653553", True),
        (["?", "?|1"], "?|653553", False),
    ],
)
def test_names_of_one_gene(given_names: list[str], wanted: str, found: bool) -> None:
    for name in given_names:
        assert match_genes([name], [wanted]).found == ({wanted: name} if found else {})


def test_a_symbol_of_two_genes_stands_for_neither() -> None:
    wanted = ["SLC35E2|728661", "SLC35E2|9906"]
    assert match_genes(["SLC35E2"], wanted).missing == wanted
    assert match_genes(["SLC35E2", "9906"], wanted).found == {"SLC35E2|9906": "9906"}
    assert match_genes(wanted, ["SLC35E2"]).missing == ["SLC35E2"]
    with pytest.raises(UserError, match=r"is the name of 2 genes: SLC35E2\|728661, SLC35E2\|9906; name it as"):
        find_gene("SLC35E2", wanted)
    assert find_gene("9906", wanted) == find_gene("SLC35E2|9906", wanted) == "SLC35E2|9906"


@pytest.mark.parametrize(
    "name",
    [
        *("1-Mar", "01-Mar", "15-Sept", "1-MAR", "1-Mar-2020", "Mar-01", "Sep-2", "1. Mar", "2/Sep", "2001-03-01"),
        *("2001-03-01 00:00:00", "2001-03-01T00:00:00", "3/1/2001", "01.03.2001", "2.31E+13", "2,31E+13", "7157.0"),
    ],
)
def test_what_a_spreadsheet_made_of_a_gene_is_told(name: str) -> None:
    assert spreadsheet_names([name, "TP53", "MYC"]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        *("TP53", "MARCH1", "MARCHF1", "SEPTIN2", "SEP15", "DEC1", "MARC1", "OCT4", "7157", "ENSG00000141510.16"),
        *("HLA-A", "NKX2-1", "TP53|7157", "?|100130426", "2310009E13Rik", "hsa-mir-9-1", "MAR-1A", "RP11-34P13.7"),
        *("1-Mar-A", "AC000012.1", "E2F1", "", "5S_rRNA", "MT-ND1", "H3.3"),
    ],
)
def test_names_of_genes_are_no_dates(name: str) -> None:
    assert spreadsheet_names([name]) == [] and not several_genes(name)


@pytest.mark.parametrize(
    ("names", "days"),
    [
        (["TP53", "43891", "MYC", "KRAS", "7157", "43900", "EGFR"], ["43891", "43900"]),  # the 1st and 10th of March
        (["TP53", "43831", "MYC", "43902", "KRAS"], []),  # the 1st of January, the 12th of March
        (["43891", "7157", "4609"], []),
    ],
)
def test_a_day_as_a_number_is_told_among_symbols_and_not_among_entrez_ids(names: list[str], days: list[str]) -> None:
    assert spreadsheet_names(names) == days


def test_several_genes_under_one_name_are_told() -> None:
    assert all(map(several_genes, ("A;B", "A /// B", "A // B", "A///B", "A, B", "A / B")))
    assert not any(map(several_genes, ("A;", "A;A", "A /// ---", "A/B", "A|12", "H2A-B")))
