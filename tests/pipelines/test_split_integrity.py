"""A cell line or a drug on two sides of the split makes every metric a lie: groups, identities, folds and the guard."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from pipelines.datasets import OFF_QUESTION, prepare, read_prepared, write_prepared
from pipelines.errors import UserError
from pipelines.groups import sample_identities
from pipelines.groups.pairs import cell_line_groups, drug_groups
from pipelines.modalities.pairs import PairsSplit
from pipelines.params import Split
from pipelines.samples.formats import ResponseTables
from pipelines.samples.response import ResponseSamples
from pipelines.split import NO_FOLD, SIDES, SplitError, guard, split_samples, split_sha256
from tests.pipelines.response_tables import (
    MODES,
    NAME,
    TISSUES,
    make_tables,
    profile,
    samples_of,
    shipped_task,
    shuffled,
    split_of,
    with_cell,
    with_profile,
    without_profile,
    write_response_folder,
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
    tables = make_tables(lines, drugs, tissues=[*TISSUES[:7], None], seed=draw(st.integers(0, 99)))
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


def split_soundly(samples: Any, mixed: Any, split: Split, seed: int) -> pd.DataFrame:
    """Split samples: each row is on a side, and in a fold unless it is a test row.

    ``mixed`` are the same samples in another order, whose split must have the same bytes.
    """
    try:
        table = split_samples(samples, split, seed)
    except SplitError as error:  # too few or too uneven after all the merging
        assert re.search(r"(finds|has) \d+ groups|the groups are too uneven|got no group", str(error))
        reject()
    assert table["sample_id"].is_monotonic_increasing and table["sample_id"].is_unique
    assert set(table["split"]) == set(SIDES)
    assert set(table.loc[table["split"] != "test", "fold"]) == set(range(split.folds))
    assert set(table.loc[table["split"] == "test", "fold"]) == {NO_FOLD}
    again = split_samples(mixed, split, seed)
    pd.testing.assert_frame_equal(again, table)
    assert split_sha256(again) == split_sha256(table)
    assert again.to_parquet(index=False) == table.to_parquet(index=False)
    return table


def assert_apart(table: pd.DataFrame, *keys: Any) -> None:
    """Check that nothing of one key, nor of one group, is on two sides or in two folds."""
    for key in (table["group"], *keys):
        assert (table.groupby(np.asarray(key))[["split", "fold"]].nunique() == 1).all(axis=None)


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(screen=screens(), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99))
def test_no_group_crosses_and_a_seed_gives_the_same_bytes(mode: str, screen: Screen, seed: int, order: int) -> None:
    samples, mixed = (samples_of(each, TASK) for each in (screen.tables, shuffled(screen.tables, order)))
    table = split_soundly(samples, mixed, split_of(mode), seed)
    assert table["sample_id"].tolist() == sorted(samples.pairs["sample_id"])
    # What is one in truth, whatever the group column says.
    line = table["cell_line_id"].replace({b: a for a, b in screen.same_lines})
    drug = table["drug_id"].replace({b: a for a, b in screen.same_drugs})
    tissue = table["cell_line_id"].map(samples.cell_lines["tissue"])
    truth = {"random": [line + "|" + drug], "cell_blind": [line], "drug_blind": [drug], "tissue_blind": [line, tissue]}
    assert_apart(table, *truth[mode])


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
    few = tables.response[of_one | ~tables.response["cell_line_id"].duplicated()]
    with pytest.raises(SplitError, match=r"too uneven, .* got none; bring more data or choose another mode"):
        split_table(replace(tables, response=few), "cell_blind")


def test_every_tissue_is_on_every_side_in_cell_blind() -> None:
    tables = make_tables(96, 3, tissues=[*TISSUES[:7], None])
    for seed in range(2):
        table = split_table(tables, "cell_blind", seed)
        tissue = table["cell_line_id"].map(samples_of(tables, TASK).cell_lines["tissue"])
        lines = pd.crosstab(tissue, table["split"]) / 3
        assert lines.index.tolist() == sorted([*TISSUES[:7], "unknown"])
        assert lines.min().min() >= 1 and lines["test"].between(1, 4).all()  # of 12 lines a tissue, 2.4 asked for


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


def test_unknown_names_profiles_and_omics_without_any_row_or_gene_make_no_two_lines_one() -> None:
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
    unnamed = with_cell(tables, "cell_lines", "L00 L01 L02 L03", "name", "N.A.")
    for number, changed in enumerate((make_tables(80), unnamed, no_column, unchanged, without_omics, few_in_common)):
        assert groups_of_lines(changed).is_unique, number
    task = replace(TASK, data=replace(TASK.data, missing=replace(TASK.data.missing, expression="impute")))
    empty = {name: table.iloc[:0] for name, table in tables.omics.items()}
    bare = {name: table[["cell_line_id"]] for name, table in tables.omics.items()}
    for omics in (empty, bare, {}):
        samples = samples_of(replace(tables, omics=omics), task)
        assert cell_line_groups(samples, 0.99).is_unique


def test_the_threshold_of_nearly_identical_is_the_one_asked_for() -> None:
    tables = make_tables(genes=200)
    source = profile(tables, "expression", "L03")
    noisy = source + np.random.default_rng(1).normal(0, 0.7 * source.std(), source.size)
    tables = with_profile(tables, "expression", "L12", noisy)
    correlation = np.corrcoef(source, noisy)[0, 1]
    assert 0.7 < correlation < 0.9
    assert groups_of_lines(tables, correlation + 0.001).is_unique
    assert groups_of_lines(tables, correlation - 0.001)["L12"] == "L03"


def with_smiles(values: Mapping[str, object]) -> ResponseTables:
    tables = make_tables()
    for drugs, value in values.items():
        tables = with_cell(tables, "drugs", drugs, "smiles", value)
    return tables


def test_one_molecule_written_in_two_ways_is_one_drug() -> None:
    own_alcohols = {"D00 D01": None}
    for first, second in (
        ("C1=CC=CC=C1O", "c1ccccc1O"),
        ("Cc1ccc2nc(NCCN)c3ncc(C)n3c2c1", "CC1=CC2=C(C=C1)N=C(C3=NC=C(N23)C)NCCN.Cl"),  # BMS-345541 and its salt
        *(("C[C@@H](N)C(=O)O", "C[C@H](N)C(=O)O"), ("C/C=C/CO", "C/C=C\\CO"), ("[13CH3]CO", "CCO")),
    ):
        assert groups_of_drugs(with_smiles({"D03": first, "D08": second, **own_alcohols}))["D08"] == "D03"


def test_salts_unreadable_molecules_and_drugs_without_structure_name_and_pubchem_id_merge_with_none() -> None:
    salts = {f"D{number:02d}": f"C{'C' * number}O.OS(=O)(=O)O.Cl" if number > 4 else None for number in range(12)}
    assert groups_of_drugs(with_smiles(salts)).is_unique
    for word in ("none", "several", "", "0", "²", "12, 34", None, np.nan):
        no_id = with_cell(make_tables(), "drugs", "D00 D01 D02 D03", "pubchem_id", word)
        assert groups_of_drugs(no_id).is_unique, word
    for smiles in ("", "C1CC", "not a molecule", "C" * 2001):
        assert groups_of_drugs(with_smiles({"D00 D01": smiles})).is_unique, smiles
    tables = make_tables()
    for column, value in (("smiles", None), ("name", None), ("pubchem_id", "none")):
        tables = with_cell(tables, "drugs", "D00 D01 D02", column, value)
    assert groups_of_drugs(tables).is_unique
    assert groups_of_drugs(replace(tables, drugs=make_tables().drugs[["drug_id", "smiles"]])).is_unique


def test_too_few_groups_are_refused_with_advice_and_random_needs_none() -> None:
    three_tissues = make_tables(24, tissues=["lung", "breast", "skin"])
    for mode, tables, found in (("tissue_blind", three_tissues, 3), ("cell_blind", make_tables(1, 40), 1)):
        with pytest.raises(SplitError, match=f"mode {mode} finds {found} groups; .* 3 folds need at least 4"):
            split_table(tables, mode)
    table = split_table(make_tables(), "random")  # where pairs of one line or drug spread
    for key in ("cell_line_id", "drug_id"):
        assert (table.groupby(key)[["split", "fold"]].nunique() > 1).any().all()


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


@pytest.mark.parametrize("mode", MODES)
def test_guard_finds_one_row_on_another_side_or_fold_and_what_the_group_column_hides(mode: str) -> None:
    table, samples = sound(mode)
    for origin, goal in (("train", "test"), ("test", "train"), ("train", "validation")):
        row, moved = table.index[table["split"] == origin][-1], table.copy()
        fold = NO_FOLD if goal == "test" else 0 if origin == "test" else table.loc[row, "fold"]
        moved.loc[row, ["split", "fold"]] = [goal, fold]
        named = rf"{re.escape(repr(table.loc[row, 'group']))}.* in {', '.join(sorted([origin, goal]))}"
        with pytest.raises(SplitError, match=rf"the split leaks: 1 group\(s\) on two sides.*{named}"):
            guard(moved, sample_identities(samples, mode))
    other = table.copy()
    other.loc[table.index[table["fold"] == 1][0], "fold"] = 2
    with pytest.raises(SplitError, match=r"1 group\(s\) on two folds.* in 1, 2;"):
        guard(other, sample_identities(samples, mode))
    other = table.copy()
    other.loc[table.index[table["split"] == "train"][0], ["group", "split"]] = ["a group of its own", "validation"]
    with pytest.raises(SplitError, match=r"the split leaks: 1 (cell line|molecule|cell line and molecule)\(s\) on two"):
        guard(other, sample_identities(samples, mode))


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


def test_guard_finds_samples_twice_on_no_side_or_in_a_wrong_fold_and_ignores_unknown_identities() -> None:
    table, samples = sound("cell_blind")
    identities = sample_identities(samples, "cell_blind")
    twice = table["sample_id"].replace("GDSC1|L00|D01", "GDSC1|L00|D00")
    with pytest.raises(SplitError, match=r"sample GDSC1\|L00\|D00 is twice"):
        guard(table.assign(sample_id=twice), identities)
    for side in ("Train", None, np.nan):
        with pytest.raises(SplitError, match=r"sample GDSC1\|L00\|D00 is on no side"):
            guard(table.assign(split=np.array([side, *table["split"].iloc[1:]], dtype=object)), identities)
    for side, fold in (("test", 0), ("train", NO_FOLD), ("validation", NO_FOLD)):
        group = table.loc[table["split"] == side, "group"].iloc[0]
        folds = table["fold"].where(table["group"] != group, fold)  # the whole group, so that nothing else is amiss
        with pytest.raises(SplitError, match=rf"on side {side} is in fold {fold}"):
            guard(table.assign(fold=folds), identities)
    last, other = len(table) - 1, table.index[table["split"] != table["split"].iloc[-1]][0]
    nothing = pd.Series([None] * len(table), dtype=object)
    guard(table, {"profile": nothing.where(table.index != last, "p"), "nothing": nothing})
    with pytest.raises(SplitError, match=r"1 profile\(s\) on two sides"):
        guard(table, {"profile": nothing.where(~table.index.isin([last, other]), "p")})


def test_hash_differs_with_every_change_of_a_row_and_with_the_seed() -> None:
    table, _ = sound("cell_blind")
    hashes = {split_sha256(table)}
    row = table.index[(table["split"] == "train") & (table["fold"] == 1)][0]
    for column, value in (("sample_id", "x"), ("group", "x"), ("split", "validation"), ("fold", 2)):
        hashes.add(split_sha256(table.assign(**{column: table[column].where(table.index != row, value)})))
    assert len(hashes) == 5
    for mode in MODES:
        assert len({split_sha256(split_table(make_tables(40, 30), mode, seed)) for seed in range(3)}) == 3


# Across studies: lines held out, studies unmixed.

FIRST, SECOND = "GDSC1", "GDSC2"


def across(**settings: Any) -> PairsSplit:
    return split_of("cross_study", **{"train_study": FIRST, "test_study": SECOND} | settings)


ACROSS = replace(TASK, split=across())


def measured_again(tables: ResponseTables, lines: int | None = None) -> ResponseTables:
    """Return the tables with the first ``lines`` lines in a second study too, and its drugs under ids of their own."""
    second, drugs = (frame.assign(drug_id="other " + frame["drug_id"]) for frame in (tables.response, tables.drugs))
    second = second.assign(study=SECOND, ln_ic50=second["ln_ic50"] + 1)
    if lines is not None:
        second = second[second["cell_line_id"].str[1:].astype(int) < lines]
    response = pd.concat([tables.response, second], ignore_index=True)
    return replace(tables, response=response, drugs=pd.concat([tables.drugs, drugs], ignore_index=True))


def table_across(tables: ResponseTables, seed: int = 5, **settings: Any) -> pd.DataFrame:
    return split_samples(samples_of(tables, ACROSS), across(**settings), seed)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(screen=screens(), seed=st.integers(0, 2**32 - 1), order=st.integers(0, 99), third=st.booleans())
def test_lines_stay_apart_and_only_the_question_is_kept(screen: Screen, seed: int, order: int, third: bool) -> None:
    response = screen.tables.response
    own = response[response["study"] == FIRST]
    again = own[np.random.default_rng(order).random(len(own)) < 0.7].assign(study=SECOND)
    others = [own.head(20).assign(study="GDSC3")] if third else []
    tables = replace(screen.tables, response=pd.concat([own, again, *others], ignore_index=True))
    samples, mixed = (samples_of(each, ACROSS) for each in (tables, shuffled(tables, order)))
    table = split_soundly(samples, mixed, across(), seed)
    assert set(table.loc[table["split"] == "test", "study"]) == {SECOND}
    assert set(table.loc[table["split"] != "test", "study"]) == {FIRST}
    pairs, one = samples.pairs, {b: a for a, b in screen.same_lines}
    line, true_line = table["cell_line_id"].replace(one), pairs["cell_line_id"].replace(one)
    assert_apart(table, line)
    # Every row of the question, and no other.
    held_out = set(line[table["split"] == "test"])
    tested = (pairs["study"] == SECOND) & true_line.isin(held_out)
    trained = (pairs["study"] == FIRST) & true_line.isin(set(line) - held_out)
    assert set(table["sample_id"]) == set(pairs.loc[tested | trained, "sample_id"])


def test_shares_are_those_of_the_lines_and_lines_of_both_studies_are_held_out_in_proportion_too() -> None:
    table = table_across(measured_again(make_tables(50, 3)), test=0.3, validation=0.1)
    counts = table.drop_duplicates("group")["split"].value_counts()
    for side, share in {"test": 0.3, "validation": 0.1, "train": 0.6}.items():
        assert abs(counts[side] - share * 50) <= 1
    tables = measured_again(make_tables(100, 4), lines=40)  # of 100 lines the second study has 40
    for seed in range(5):
        tested = table_across(tables, seed).query("split == 'test'")["cell_line_id"].nunique()
        assert 6 <= tested <= 10  # a fifth of 40


def test_a_study_that_is_not_there_is_named_with_those_that_are() -> None:
    for which, name in (("test_study", "CTRP"), ("train_study", "")):
        with pytest.raises(SplitError, match=f"'{name}', which is no study of the data; the studies are GDSC1, GDSC2"):
            split_samples(samples_of(measured_again(make_tables()), ACROSS), across(**{which: name}), 5)
    with pytest.raises(SplitError, match=r"study GDSC2 has 3 groups of cell lines, at least 4 are needed"):
        table_across(measured_again(make_tables(), lines=3))
    assert set(table_across(measured_again(make_tables(), lines=12))["split"]) == set(SIDES)


def test_guard_finds_a_row_of_the_other_study_and_a_test_line_among_the_training_rows() -> None:
    samples = samples_of(measured_again(make_tables(30, 4)), ACROSS)
    table = split_samples(samples, across(), 5)
    samples = in_order(samples, table)
    identities = sample_identities(samples, "cross_study")
    guard(table, identities, across())
    for side, study in (("train", SECOND), ("validation", SECOND), ("test", FIRST)):
        first = table.index == table.index[table["split"] == side][0]
        with pytest.raises(SplitError, match=rf"the split leaks: sample .* of study {study} is on side {side}"):
            guard(table.assign(study=table["study"].where(~first, study)), identities, across())
    row, pairs = table.index[table["split"] == "train"][0], samples.pairs.copy()
    pairs.loc[row, "cell_line_id"] = table.loc[table["split"] == "test", "cell_line_id"].iloc[0]
    with pytest.raises(SplitError, match=r"1 cell line\(s\) on two sides"):
        guard(table, sample_identities(replace(samples, pairs=pairs), "cross_study"), across())


def test_rows_left_out_are_counted_and_other_data_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_response_folder(Path("data", NAME)) / "response.parquet"
    table = pd.read_parquet(path).drop_duplicates(["cell_line_id", "drug_id"]).assign(study=FIRST)
    table = pd.concat([table, table.assign(study=SECOND)])
    table.to_parquet(path, index=False)
    written = prepare(ACROSS.read(path.parent), ACROSS, 3)
    write_prepared(written, Path("prepared", NAME), ACROSS, 3)
    read = read_prepared(NAME, ACROSS)
    rows = read.counts["rows"]
    assert rows["kept"] == len(read.samples) == len(read.table) == rows["raw"] - sum(rows["dropped"].values())
    assert rows["dropped"][OFF_QUESTION] > 0
    pd.testing.assert_frame_equal(read.samples.pairs, written.samples.pairs)
    assert read.sha256 == written.sha256
    more = pd.concat([table, table.head(1).assign(study="GDSC3")])  # of no side, so that no id of the split is missing
    for changed in (table.iloc[1:], more):
        changed.to_parquet(path, index=False)
        with pytest.raises(UserError, match="the split is not of the data in"):
            read_prepared(NAME, ACROSS)
    table.to_parquet(path, index=False)
    other = replace(ACROSS, split=across(train_study=SECOND, test_study=FIRST))
    with pytest.raises(SplitError, match="the split leaks"):
        read_prepared(NAME, other)
