"""A cell line or a drug on two sides of the split makes every metric a lie: groups, identities, folds and the guard."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipelines.groups import sample_identities
from pipelines.groups.pairs import cell_line_groups, drug_groups
from pipelines.samples.formats import ResponseTables
from pipelines.samples.response import ResponseSamples
from pipelines.split import NO_FOLD, SIDES, SplitError, guard, split_samples, split_sha256
from tests.pipelines.response_tables import (
    MODES,
    make_tables,
    profile,
    samples_of,
    shipped_task,
    shuffled,
    split_of,
    with_cell,
    with_profile,
    without_profile,
)

TASK = shipped_task()
SEED = 11
Alike = Callable[[ResponseTables, str, str], ResponseTables]


def split_table(tables: ResponseTables, mode: str, seed: int = SEED) -> pd.DataFrame:
    return split_samples(samples_of(tables, TASK), split_of(mode), seed)


def groups_of_lines(tables: ResponseTables, near_identical: float = 0.99) -> pd.Series:
    return cell_line_groups(samples_of(tables, TASK), near_identical)


def groups_of_drugs(tables: ResponseTables) -> pd.Series:
    return drug_groups(samples_of(tables, TASK).drugs)


def one_pair(groups: pd.Series, first: str, second: str) -> bool:
    """Return whether the two are one group, and all others are apart."""
    return bool(groups[second] == groups[first] == first and groups.nunique() == len(groups) - 1)


class Screen(NamedTuple):
    """Tables, and the lines and drugs that are one in truth."""

    tables: ResponseTables
    same_lines: tuple[tuple[str, str], ...]
    same_drugs: tuple[tuple[str, str], ...]


def same_name(tables: ResponseTables, a: str, b: str) -> ResponseTables:
    return with_cell(with_cell(tables, "cell_lines", a, "name", f"X-{a} 1"), "cell_lines", b, "name", f"x{a}1".lower())


def same_profile(omics: str, noise: float, tables: ResponseTables, a: str, b: str) -> ResponseTables:
    values = profile(tables, omics, a)
    return with_profile(tables, omics, b, values + np.random.default_rng(0).normal(0, 1, values.size) * noise)


same_expression = functools.partial(same_profile, "expression", 0.0)
nearly_same_expression = functools.partial(same_profile, "expression", 0.05)
same_copy_number = functools.partial(same_profile, "copy_number", 0.0)


def same_smiles(tables: ResponseTables, a: str, b: str) -> ResponseTables:
    written, other = f"OC(C)CCN{'C' * int(a[1:])}", f"{'C' * int(a[1:])}NCCC(C)O"
    return with_cell(with_cell(tables, "drugs", a, "smiles", written), "drugs", b, "smiles", other)


def same_pubchem(tables: ResponseTables, a: str, b: str) -> ResponseTables:
    number = 5000 + int(a[1:])
    changed = with_cell(tables, "drugs", a, "pubchem_id", str(number))
    return with_cell(with_cell(changed, "drugs", b, "pubchem_id", f"{number}.0"), "drugs", b, "smiles", None)


def same_drug_name(tables: ResponseTables, a: str, b: str) -> ResponseTables:
    return with_cell(with_cell(tables, "drugs", a, "name", f"BMS-{a}"), "drugs", b, "name", f"bms {a}".lower())


ONE_LINE: tuple[Alike, ...] = (same_name, same_expression, nearly_same_expression, same_copy_number)
ONE_DRUG: tuple[Alike, ...] = (same_smiles, same_pubchem, same_drug_name)


@st.composite
def screens(draw: st.DrawFn) -> Screen:
    lines, drugs = draw(st.integers(16, 26)), draw(st.integers(12, 16))
    tissues = ["lung", "breast", "skin", "ovary", "kidney", "liver", "bone", None]
    tables = make_tables(lines, drugs, tissues=tissues, seed=draw(st.integers(0, 99)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))

    # Disjoint couples, so that making one alike does not undo another.
    same: dict[str, tuple[tuple[str, str], ...]] = {}
    for kind, count, ways in (("L", lines, ONE_LINE), ("D", drugs, ONE_DRUG)):
        order = [f"{kind}{number:02d}" for number in rng.permutation(count)]
        same[kind] = tuple((order[2 * k], order[2 * k + 1]) for k in range(draw(st.integers(0, 3))))
        for a, b in same[kind]:
            tables = draw(st.sampled_from(ways))(tables, a, b)
    response = tables.response
    again = response[rng.random(len(response)) < draw(st.sampled_from([0.0, 0.3]))].assign(study="GDSC2")
    kept = response[rng.random(len(response)) < draw(st.sampled_from([1.0, 0.7]))]
    return Screen(replace(tables, response=pd.concat([kept, again], ignore_index=True)), same["L"], same["D"])


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(screen=screens(), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99))
def test_no_group_crosses_and_a_seed_gives_the_same_bytes(mode: str, screen: Screen, seed: int, order: int) -> None:
    samples = samples_of(screen.tables, TASK)
    try:
        table = split_samples(samples, split_of(mode), seed)
    except SplitError as error:
        assert "groups" in str(error)  # too few or too uneven after all the merging
        reject()
    # Every sample once, in order, on a side, and in a fold unless it is a test row.
    assert table["sample_id"].tolist() == sorted(samples.pairs["sample_id"])
    assert set(table["split"]) == set(SIDES)
    assert set(table.loc[table["split"] != "test", "fold"]) == {0, 1, 2}
    assert set(table.loc[table["split"] == "test", "fold"]) == {NO_FOLD}

    # What is one in truth, whatever the group column says.
    line = table["cell_line_id"].replace({b: a for a, b in screen.same_lines})
    drug = table["drug_id"].replace({b: a for a, b in screen.same_drugs})
    tissue = table["cell_line_id"].map(samples.cell_lines["tissue"])
    truth = {"random": [line + "|" + drug], "cell_blind": [line], "drug_blind": [drug], "tissue_blind": [line, tissue]}
    for one in (table["group"], *truth[mode]):
        for place in ("split", "fold"):
            assert table.groupby(one)[place].nunique().max() == 1

    again = split_samples(samples_of(shuffled(screen.tables, order), TASK), split_of(mode), seed)
    pd.testing.assert_frame_equal(again, table)
    assert split_sha256(again) == split_sha256(table)
    assert again.to_parquet(index=False) == table.to_parquet(index=False)


def test_a_group_of_most_rows_leaves_no_side_empty_and_one_of_nearly_all_is_refused() -> None:
    for mode, column in (("cell_blind", "cell_line_id"), ("drug_blind", "drug_id")):
        tables = make_tables(20, 20)
        of_one = tables.response[column].str.endswith("00")
        rare = tables.response[~of_one].groupby(column).head(2)
        huge = pd.concat([tables.response[of_one].assign(study=f"study {number}") for number in range(8)])
        table = split_table(replace(tables, response=pd.concat([rare, huge])), mode)
        assert table["group"].value_counts(normalize=True).iloc[0] > 0.8
        assert set(table["split"]) == set(SIDES)
        assert table.loc[table["group"] == table["group"].mode()[0], "split"].unique().tolist() == ["train"]
    tables = make_tables(5, 40)
    of_one = tables.response["cell_line_id"] == "L00"
    rare = tables.response[~of_one].groupby("cell_line_id").head(1)
    with pytest.raises(SplitError, match=r"too uneven, .* got none; bring more data or choose another mode"):
        split_table(replace(tables, response=pd.concat([tables.response[of_one], rare])), "cell_blind")


def test_every_tissue_is_on_every_side_in_cell_blind() -> None:
    tissues = ["lung", "breast", "skin", "ovary", "kidney", "liver", "bone", None]
    tables = make_tables(96, 3, tissues=tissues)
    for seed in range(2):
        table = split_table(tables, "cell_blind", seed)
        tissue = table["cell_line_id"].map(samples_of(tables, TASK).cell_lines["tissue"])
        lines = pd.crosstab(tissue, table["split"]) / 3
        assert lines.index.tolist() == sorted(tissue or "unknown" for tissue in tissues)
        assert lines.min().min() >= 1 and lines["test"].between(1, 4).all()  # of 12 lines a tissue, 2.4 asked for


def test_one_cell_line_or_drug_under_two_ids_is_one_group() -> None:
    for same_line in ONE_LINE:
        assert one_pair(groups_of_lines(same_line(make_tables(), "L03", "L12")), "L03", "L12")  # of two tissues
    for same_drug in ONE_DRUG:
        assert one_pair(groups_of_drugs(same_drug(make_tables(), "D03", "D08")), "D03", "D08")


def test_chains_names_of_digits_and_profiles_with_gaps_make_lines_one() -> None:
    tables = make_tables()
    chain = same_copy_number(same_name(same_expression(tables, "L01", "L02"), "L02", "L03"), "L03", "L04")
    groups = groups_of_lines(chain)
    assert set(groups[["L01", "L02", "L03", "L04"]]) == {"L01"} and groups.nunique() == len(groups) - 3
    # pandas reads a column of numbers as numbers; 697 is a leukemia line.
    names = pd.Series(range(1000, 1024)).where(~tables.cell_lines["cell_line_id"].isin(["L03", "L12"]), 697)
    assert one_pair(groups_of_lines(replace(tables, cell_lines=tables.cell_lines.assign(name=names))), "L03", "L12")
    tables = nearly_same_expression(make_tables(genes=40), "L03", "L12")
    expression = tables.omics["expression"].set_index("cell_line_id")
    gaps = expression.mask(np.eye(24, 40, dtype=bool)).reset_index()  # every line lacks another gene
    tables = replace(tables, omics=tables.omics | {"expression": gaps})
    assert one_pair(groups_of_lines(tables), "L03", "L12")


def without_lines(tables: ResponseTables, column: str, value: object) -> ResponseTables:
    for line in ("L00", "L01", "L02", "L03"):
        tables = with_cell(tables, "cell_lines", line, column, value)
    return tables


def test_unknown_names_and_profiles_make_no_two_lines_one() -> None:
    tables, lines, first, second = make_tables(), ("L00", "L01", "L02"), np.full(40, np.nan), np.full(40, np.nan)
    without_omics = without_profile(without_profile(tables, "methylation", *lines), "copy_number", *lines)
    unchanged = tables
    for line in lines:  # a line without mutations is like no other, nor is one without copy changes
        unchanged = with_profile(unchanged, "mutation", line, np.zeros(12))
        unchanged = with_profile(unchanged, "copy_number", line, np.full(12, 0.1))
    first[:21], second[19:] = np.arange(21), np.arange(21)  # 2 genes in common, on a line
    few_in_common = with_profile(make_tables(genes=40), "expression", "L03", first)
    few_in_common = with_profile(few_in_common, "expression", "L12", second)
    no_column = replace(tables, cell_lines=tables.cell_lines.drop(columns="name"))
    unnamed = without_lines(tables, "name", "N.A.")
    for number, changed in enumerate((make_tables(80), unnamed, no_column, unchanged, without_omics, few_in_common)):
        assert groups_of_lines(changed).is_unique, number


def test_the_threshold_of_nearly_identical_is_the_one_asked_for() -> None:
    tables = make_tables(genes=200)
    source = profile(tables, "expression", "L03")
    noisy = source + np.random.default_rng(1).normal(0, 0.7 * source.std(), source.size)
    tables = with_profile(tables, "expression", "L12", noisy)
    correlation = np.corrcoef(source, noisy)[0, 1]
    assert 0.7 < correlation < 0.9
    assert groups_of_lines(tables, correlation + 0.001).is_unique
    assert groups_of_lines(tables, correlation - 0.001)["L12"] == "L03"


def test_omics_without_any_row_or_gene_are_no_likeness() -> None:
    task = replace(TASK, data=replace(TASK.data, missing=replace(TASK.data.missing, expression="impute")))
    tables = make_tables()
    empty = {name: table.iloc[:0] for name, table in tables.omics.items()}
    bare = {name: table[["cell_line_id"]] for name, table in tables.omics.items()}
    for omics in (empty, bare, {}):
        samples = samples_of(replace(tables, omics=omics), task)
        assert cell_line_groups(samples, 0.99).is_unique
        assert set(split_samples(samples, split_of("cell_blind"), SEED)["split"]) == set(SIDES)


def with_drugs(values: Mapping[str, object], column: str = "smiles") -> ResponseTables:
    tables = make_tables()
    for drug, value in values.items():
        tables = with_cell(tables, "drugs", drug, column, value)
    return tables


def test_one_molecule_written_in_two_ways_is_one_drug() -> None:
    own_alcohols = {"D00": None, "D01": None}
    for first, second in (
        ("C1=CC=CC=C1O", "c1ccccc1O"),
        ("Cc1ccc2nc(NCCN)c3ncc(C)n3c2c1", "CC1=CC2=C(C=C1)N=C(C3=NC=C(N23)C)NCCN.Cl"),  # BMS-345541 and its salt
        *(("C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O"), ("C/C=C/CO", "C/C=C\\CO"), ("[13CH3]CO", "CCO")),
    ):
        assert groups_of_drugs(with_drugs({"D03": first, "D08": second, **own_alcohols}))["D08"] == "D03"


def test_salts_unreadable_molecules_and_drugs_without_structure_name_and_pubchem_id_merge_with_none() -> None:
    salts = {f"D{number:02d}": f"C{'C' * number}O.OS(=O)(=O)O.Cl" if number > 4 else None for number in range(12)}
    assert groups_of_drugs(with_drugs(salts)).is_unique
    for word in ("none", "several", "", "0", "²", "12, 34", None, np.nan):
        no_id = with_drugs(dict.fromkeys(("D00", "D01", "D02", "D03"), word), "pubchem_id")
        assert groups_of_drugs(no_id).is_unique, word
    for smiles in ("", "C1CC", "not a molecule", "C" * 2001):
        assert groups_of_drugs(with_drugs(dict.fromkeys(("D00", "D01"), smiles))).is_unique, smiles
    tables = make_tables()
    for drug in ("D00", "D01", "D02"):
        for column, value in (("smiles", None), ("name", None), ("pubchem_id", "none")):
            tables = with_cell(tables, "drugs", drug, column, value)
    assert groups_of_drugs(tables).is_unique
    assert groups_of_drugs(replace(tables, drugs=make_tables().drugs[["drug_id", "smiles"]])).is_unique


def test_pairs_of_one_line_or_drug_spread_in_random() -> None:
    table = split_table(make_tables(), "random")
    for key in ("cell_line_id", "drug_id"):
        assert (table.groupby(key)[["split", "fold"]].nunique() > 1).any().all()


def test_lines_without_a_tissue_and_tissues_that_share_a_line_are_one_group_each() -> None:
    table = split_table(without_lines(make_tables(30), "tissue", None), "tissue_blind")
    unknown = table[table["cell_line_id"].isin(["L00", "L01", "L02", "L03"])]
    assert len(table) == 30 * 12
    assert set(unknown["group"]) == {"unknown"} and unknown["split"].nunique() == unknown["fold"].nunique() == 1
    table = split_table(same_name(make_tables(), "L00", "L01"), "tissue_blind")  # lung, breast
    of_both = table["cell_line_id"].isin([f"L{number:02d}" for number in range(24) if number % 8 in (0, 1)])
    assert set(table.loc[of_both, "group"]) == {"breast+lung"}


def test_too_few_groups_are_refused_with_advice() -> None:
    three_tissues = make_tables(24, tissues=["lung", "breast", "skin"])
    for mode, tables, found in (("tissue_blind", three_tissues, 3), ("cell_blind", make_tables(1, 40), 1)):
        with pytest.raises(SplitError, match=f"mode {mode} finds {found} groups; .* 3 folds need at least 4"):
            split_table(tables, mode)


@functools.cache
def sound(mode: str) -> tuple[pd.DataFrame, ResponseSamples]:
    tables = make_tables(30, 20)
    twice = pd.concat([tables.response, tables.response.assign(study="GDSC2")], ignore_index=True)
    samples = samples_of(replace(tables, response=twice), TASK)
    table = split_samples(samples, split_of(mode), SEED)
    samples = in_order(samples, table)
    guard(table, sample_identities(samples, mode))  # raises nothing
    return table, samples


def in_order(samples: ResponseSamples, table: pd.DataFrame) -> ResponseSamples:
    return samples.take(samples.pairs.set_index("sample_id").index.get_indexer(pd.Index(table["sample_id"])))


def good(mode: str) -> tuple[pd.DataFrame, ResponseSamples]:
    table, samples = sound(mode)
    return table.copy(), samples


@pytest.mark.parametrize("mode", MODES)
def test_guard_finds_one_row_on_another_side_or_fold_and_what_the_group_column_hides(mode: str) -> None:
    table, samples = good(mode)
    for origin, goal in (("train", "test"), ("test", "train"), ("train", "validation")):
        row, moved = table.index[table["split"] == origin][-1], table.copy()
        fold = NO_FOLD if goal == "test" else 0 if origin == "test" else table.loc[row, "fold"]
        moved.loc[row, ["split", "fold"]] = [goal, fold]
        named = rf"{re.escape(repr(table.loc[row, 'group']))}.* in {', '.join(sorted([origin, goal]))}"
        with pytest.raises(SplitError, match=rf"the split leaks: 1 group\(s\) on two sides.*{named}"):
            guard(moved, sample_identities(samples, mode))
    row = table.index[table["fold"] == 1][0]
    other = table.copy()
    other.loc[row, "fold"] = 2
    with pytest.raises(SplitError, match=r"1 group\(s\) on two folds.* in 1, 2;"):
        guard(other, sample_identities(samples, mode))
    row = table.index[table["split"] == "train"][0]
    table.loc[row, ["group", "split"]] = ["a group of its own", "validation"]
    with pytest.raises(SplitError, match=r"the split leaks: 1 (cell line|molecule|cell line and molecule)\(s\) on two"):
        guard(table, sample_identities(samples, mode))


@pytest.mark.parametrize(
    ("mode", "make_one", "identity"),
    [
        ("cell_blind", same_expression, "expression profile"),
        ("cell_blind", same_copy_number, "copy_number profile"),
        ("tissue_blind", same_copy_number, "copy_number profile"),
        ("drug_blind", same_smiles, "molecule"),
        ("random", same_smiles, "cell line and molecule"),
        ("random", same_expression, "expression and molecule"),
    ],
)
def test_guard_finds_identical_content_on_two_sides(mode: str, make_one: Alike, identity: str) -> None:
    """Split tables as if their lines and drugs differed, then show the guard what they are."""
    tables = make_tables(30, 20)
    column = "drug_id" if make_one is same_smiles else "cell_line_id"
    table = split_table(tables, mode)
    places = {str(name): set(zip(rows["split"], rows["fold"], strict=True)) for name, rows in table.groupby(column)}
    a = min(places)
    b = min(name for name in places if places[name] != places[a])
    truth = in_order(samples_of(make_one(tables, a, b), TASK), table)
    with pytest.raises(SplitError, match=rf"the split leaks: \d+ {identity}\(s\) on two (sides|folds)"):
        guard(table, sample_identities(truth, mode))


def test_guard_finds_samples_twice_on_no_side_test_rows_in_a_fold_and_training_rows_in_none() -> None:
    table, samples = good("cell_blind")
    identities = sample_identities(samples, "cell_blind")
    twice = table["sample_id"].replace("GDSC1|L00|D01", "GDSC1|L00|D00")
    with pytest.raises(SplitError, match=r"sample GDSC1\|L00\|D00 is twice"):
        guard(table.assign(sample_id=twice), identities)
    for side in ("Train", None, np.nan):
        sides = pd.Series([side, *table["split"].iloc[1:]], dtype=object)
        with pytest.raises(SplitError, match=r"sample GDSC1\|L00\|D00 is on no side"):
            guard(table.assign(split=sides), identities)
    for side, fold in (("test", 0), ("train", NO_FOLD), ("validation", NO_FOLD)):
        group = table.loc[table["split"] == side, "group"].iloc[0]
        folds = table["fold"].where(table["group"] != group, fold)  # the whole group, so that nothing else is amiss
        with pytest.raises(SplitError, match=rf"on side {side} is in fold {fold}"):
            guard(table.assign(fold=folds), identities)


def test_guard_ignores_unknown_identities() -> None:
    table, _ = good("cell_blind")
    last, other = len(table) - 1, table.index[table["split"] != table["split"].iloc[-1]][0]
    nothing = pd.Series([None] * len(table), dtype=object)
    guard(table, {"profile": nothing.where(table.index != last, "p"), "nothing": nothing})
    with pytest.raises(SplitError, match=r"1 profile\(s\) on two sides"):
        guard(table, {"profile": nothing.where(~table.index.isin([last, other]), "p")})


def test_hash_differs_with_every_change_of_a_row_and_with_the_seed() -> None:
    table, _ = good("cell_blind")
    hashes = {split_sha256(table)}
    row = table.index[(table["split"] == "train") & (table["fold"] == 1)][0]
    for column, value in (("sample_id", "x"), ("group", "x"), ("split", "validation"), ("fold", 2)):
        hashes.add(split_sha256(table.assign(**{column: table[column].where(table.index != row, value)})))
    assert len(hashes) == 5
    for mode in MODES:
        assert len({split_sha256(split_table(make_tables(40, 30), mode, seed)) for seed in range(3)}) == 3
