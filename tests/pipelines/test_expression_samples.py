"""Which profiles are kept and which genes are chosen: a rule that fails or a look at test rows spoils all scores.

A gene that is taken for another gives a wrong answer that nothing shows: names are matched one to one, or not.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.datasets import prepare, read_prepared, write_prepared
from pipelines.errors import DataError, UserError
from pipelines.params import read_params
from pipelines.samples.expression import ExpressionSamples, ExpressionTables, aim, is_one_of, keep_profiles, to_log2
from pipelines.samples.gene_names import (
    find_gene,
    match_genes,
    parts_of,
    several_genes,
    spreadsheet_names,
)
from pipelines.samples.survival import read_follow_up
from pipelines.tasks.profiles_classification import ProfilesClassification
from tests.pipelines.expression_folder import (
    GENES,
    LABELS,
    LANDMARKS,
    ROOT,
    gene_task,
    label_task,
    make_tables,
    samples_of,
    with_cells,
    write_expression_folder,
)

SEED = 20261120


def with_rules(**rules: Any) -> ProfilesClassification:
    task = label_task()
    return replace(task, data=replace(task.data, **rules))


def with_samples(tables: ExpressionTables, **columns: Any) -> ExpressionTables:
    return replace(tables, samples=tables.samples.assign(**columns))


def rare(tables: ExpressionTables, count: int) -> ExpressionTables:
    rest = tables.samples["patient_id"].str[1:].astype(int) >= count
    return with_samples(tables, label=tables.samples["label"].where(rest, "RARE"))


def test_profiles_are_kept_in_the_order_of_the_file_with_what_is_known_of_them() -> None:
    tables = make_tables()
    kept = keep_profiles(tables, label_task())
    samples, primary = kept.samples, tables.samples["sample_type"] != 11
    nothing = dict.fromkeys(("not_in_samples_csv", "without_label", "small_class"), 0)
    dropped = nothing | {"sample_type_11": int((~primary).sum())}
    assert kept.counts["rows"] == {"raw": len(primary), "kept": int(primary.sum()), "dropped": dropped}
    assert kept.counts["classes"] == dict.fromkeys(LABELS, 20)
    assert samples.table["sample_id"].tolist() == tables.samples.loc[primary, "sample_id"].tolist()
    assert samples.classes == LABELS
    assert [samples.classes[code] for code in samples.target] == samples.table["label"].tolist()
    np.testing.assert_array_equal(samples.values, tables.expression.loc[primary, GENES].to_numpy())
    assert samples.values.dtype == np.float32
    assert samples.inputs == samples.genes == tuple(GENES)


def test_the_order_of_samples_csv_and_its_columns_named_as_those_of_splits_change_nothing() -> None:
    tables = make_tables()
    mixed = with_samples(tables, group="case", split="test", fold=1, digest="x", target=np.nan)
    mixed = replace(mixed, samples=mixed.samples.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(samples_of(mixed).table, samples_of(tables).table)
    nothing = keep_profiles(mixed, with_rules(exclude={"group": ("case",)}))
    with pytest.raises(UserError, match=r"no sample is left after the rules .*'group_case': 66"):
        prepare(nothing, label_task(), SEED)


@pytest.mark.parametrize(
    ("held", "rule"),
    [(["01", "06", "11"], "11"), ([1.0, np.nan, 11.0], "11"), ([1, 6, 11], "011"), ([1, 6, 11], "11.0"),
     ([False, False, True], "TRUE"), (["tumor", None, "normal"], "normal")],
)  # fmt: skip
def test_a_rule_finds_its_value_in_text_and_numbers(held: list[Any], rule: str) -> None:
    for values, found in ((["nothing", rule], True), (["nothing"], False), ([], False)):
        assert is_one_of(pd.Series(held), values).tolist() == [False, False, found]


@pytest.mark.parametrize("codes", [{1: True, 6: True, 11: False}, {1: 0.5, 6: 2.0, 11: 3.0}])
def test_a_rule_applies_also_where_profiles_have_no_row(codes: dict[int, Any]) -> None:
    """Rows that are missing turn a column of truth values or whole numbers into another type."""
    tables = make_tables()
    kinds, value = tables.samples["sample_type"], str(codes[11])
    fewer = replace(tables, samples=tables.samples.assign(code=kinds.map(codes)).drop(index=[0, 2]))
    kept = keep_profiles(fewer, with_rules(exclude={"code": (value,)}))
    assert (kept.samples.table["sample_type"] != 11).all()
    dropped = kept.counts["rows"]["dropped"]
    assert (dropped[f"code_{value}"], dropped["not_in_samples_csv"]) == ((kinds == 11).sum(), 2)


def test_several_rules_each_count_what_they_are_the_first_to_drop() -> None:
    tables = make_tables()
    kept = keep_profiles(tables, with_rules(exclude={"sample_type": ("11", "06"), "label": ("RED",)}))
    types, red = tables.samples["sample_type"] != 1, tables.samples["label"] == "RED"
    nothing = dict.fromkeys(("not_in_samples_csv", "without_label", "small_class"), 0)
    counted = {"sample_type_11_06": int(types.sum()), "label_RED": int((red & ~types).sum())}
    assert kept.counts["rows"]["dropped"] == nothing | counted
    assert kept.samples.classes == ("BLUE", "GREEN")
    with pytest.raises(DataError, match=r"samples.csv, column purity"):
        keep_profiles(tables, with_rules(exclude={"purity": ("low",)}))


def test_small_classes_are_dropped_or_refused_by_patients_and_not_by_samples() -> None:
    tables = rare(make_tables(), 9)  # with metastases they have more than ten samples
    kept = keep_profiles(tables, label_task())
    assert kept.counts["small_classes"] == {"RARE": 9}
    assert kept.counts["rows"]["dropped"]["small_class"] > 9
    assert "RARE" not in {*kept.samples.classes, *kept.samples.table["label"]}
    assert keep_profiles(rare(make_tables(), 10), label_task()).samples.classes == ("BLUE", "GREEN", "RARE", "RED")
    with pytest.raises(DataError, match=r"samples.csv, column label: .*fewer than 10 patients: RARE \(9\); add"):
        keep_profiles(tables, with_rules(small_classes="refuse"))


def test_a_model_that_is_scored_brings_its_classes() -> None:
    tables = rare(make_tables(), 4)
    kept = keep_profiles(tables, with_rules(small_classes="refuse"), classes=("RARE", "RED", "VIOLET"))
    assert kept.samples.classes == ("RARE", "RED", "VIOLET")  # in the model's order, whatever the data hold
    assert set(kept.samples.table["label"]) == {"RARE", "RED"} and kept.samples.target.max() == 1
    assert kept.counts["rows"]["dropped"]["unknown_label"] > 0 and kept.counts["classes"]["VIOLET"] == 0


def test_samples_without_a_label_are_dropped_only_where_it_is_asked_for() -> None:
    tables = make_tables()
    for empty in (None, "  "):
        unlabelled = replace(tables, samples=with_cells(tables.samples, "label", {0: empty, 1: empty}))
        kept = keep_profiles(unlabelled, label_task())
        assert kept.counts["rows"]["dropped"]["without_label"] == 2
        assert len(keep_profiles(unlabelled, label_task(), labelled=False).samples) == len(kept.samples) + 2
    nothing = replace(tables, samples=tables.samples.drop(columns="label"))
    unlabelled = keep_profiles(nothing, label_task(), labelled=False, classes=LABELS).samples
    assert unlabelled.classes == LABELS
    assert "target" not in unlabelled.table


@pytest.mark.parametrize("file", ["expression", "samples"])
def test_unknown_patients_are_alone_and_unknown_or_doubled_ids_are_refused(file: str) -> None:
    tables = make_tables()
    for words, count in (({0: None, 1: " "}, 2), (dict.fromkeys(range(6), "Not Reported"), 5)):
        unknown = samples_of(replace(tables, samples=with_cells(tables.samples, "patient_id", words))).table
        assert unknown["patient_id"][:count].tolist() == tables.samples["sample_id"][:count].tolist()
    for value, says in ((None, "row 2: the key is empty"), ("P000-01", "rows 1, 2: duplicate id")):
        changed: dict[str, Any] = {file: with_cells(getattr(tables, file), "sample_id", {1: value})}
        with pytest.raises(DataError, match=says):
            keep_profiles(replace(tables, **changed), label_task())


def test_equal_profiles_have_one_digest_and_a_missing_value_is_a_value() -> None:
    tables = make_tables()
    expression = tables.expression.copy()
    expression.loc[[1, 2], GENES] = expression.loc[[0, 0], GENES].to_numpy()
    expression.loc[[0, 1, 2], GENES[0]] = [0.0, -0.0, np.nan]
    digest = samples_of(replace(tables, expression=expression), gene_task()).table["digest"]
    assert digest[0] == digest[1] != digest[2]
    assert digest[2:].nunique() == len(digest) - 2


def test_values_are_logged_once_and_taking_rows_keeps_values_and_rows_together() -> None:
    linear, logged = samples_of(make_tables("linear")), samples_of(make_tables("log2"), gene_task())
    np.testing.assert_allclose(linear.logged(), logged.logged(), rtol=1e-5)
    np.testing.assert_array_equal(logged.logged(), logged.values)
    standard = make_tables("as_is").expression[GENES].to_numpy()
    np.testing.assert_array_equal(to_log2(standard, "as_is"), standard)
    np.testing.assert_array_equal(linear.logged([GENES[3], GENES[1]]), linear.logged()[:, [3, 1]])
    with pytest.raises(KeyError, match="no column for gene 'TP53'"):
        linear.logged(["TP53"])
    samples, mask = samples_of(make_tables()), np.isin(np.arange(60), [3, 7])
    for taken, rows in ((samples.take(np.array([7, 3, 3])), [7, 3, 3]), (samples.take(mask), [3, 7])):
        assert taken.table["sample_id"].tolist() == samples.table["sample_id"].iloc[rows].tolist()
        np.testing.assert_array_equal(taken.logged(), samples.logged()[rows])
        assert taken.values is samples.values


def of_genes(scale: str = "log2") -> ExpressionSamples:
    return samples_of(make_tables(scale), gene_task())


TRAIN = np.arange(0, 40)


def test_the_most_variable_genes_are_the_targets_and_landmarks_the_predictors() -> None:
    samples = of_genes()
    aimed = aim(samples, gene_task(count=6).data, TRAIN)
    assert aimed.predictors == aimed.inputs == tuple(LANDMARKS)
    variance = pd.Series(samples.take(TRAIN).logged().astype(float).var(axis=0), GENES).drop(LANDMARKS)
    assert list(aimed.targets) == variance.nlargest(6).index.tolist()
    assert aimed.target.shape == (len(samples), 6)
    np.testing.assert_allclose(aimed.target, samples.logged(aimed.targets))
    assert aimed.take(TRAIN).targets == aimed.targets


@pytest.mark.parametrize("scale", ["linear", "log2"])
def test_test_rows_do_not_change_targets_or_predictors(scale: str) -> None:
    samples, data = of_genes(scale), gene_task().data
    outside = np.setdiff1d(np.arange(len(samples)), TRAIN)
    plain_aim = aim(samples, data, TRAIN)
    rng = np.random.default_rng(0)
    for _ in range(3):
        values = samples.values.copy()
        values[outside] = rng.permutation(values[outside].ravel()).reshape(len(outside), -1) * rng.uniform(0, 3)
        values[outside[0]] = np.nan
        other = aim(replace(samples, values=values), data, TRAIN)
        assert (other.targets, other.predictors) == (plain_aim.targets, plain_aim.predictors)
    values[TRAIN, -1] = np.tile([0, 1e6], len(TRAIN) // 2)
    assert GENES[-1] == aim(replace(samples, values=values), data, TRAIN).targets[0]


def test_prepared_targets_do_not_change_with_test_rows() -> None:
    tables, task = make_tables("log2"), gene_task()
    prepared = prepare(keep_profiles(tables, task), task, SEED)
    expression = tables.expression.copy()
    rows = expression["sample_id"].isin(prepared.table.loc[prepared.table["split"] != "train", "sample_id"])
    expression.loc[rows, GENES] = np.random.default_rng(1).uniform(0, 20, (rows.sum(), len(GENES))).astype(np.float32)
    again = prepare(keep_profiles(replace(tables, expression=expression), task), task, SEED)
    pd.testing.assert_frame_equal(again.table[["sample_id", "split"]], prepared.table[["sample_id", "split"]])
    assert again.samples.targets == prepared.samples.targets
    assert again.counts["targets"] == list(prepared.samples.targets)


def test_a_gene_that_does_not_vary_on_training_rows_is_no_target_and_none_predicts_itself() -> None:
    samples = of_genes()
    values = samples.values.copy()
    values[np.ix_(TRAIN, np.arange(13, 30))] = np.float32(0.1)  # whose mean is not exactly 0.1
    values[TRAIN, 12] = np.nan
    aimed = aim(replace(samples, values=values), gene_task(count=50).data, TRAIN)
    assert set(aimed.targets) == {GENES[10], GENES[11]}
    assert aim(samples, gene_task("SIM03").data, TRAIN).predictors == (*LANDMARKS[:2], *LANDMARKS[3:])
    everything = aim(samples, replace(gene_task(count=5).data, predictors="all"), TRAIN)
    assert set(everything.targets).isdisjoint(everything.predictors)
    assert set(everything.targets) | set(everything.predictors) == set(GENES)


def test_landmarks_are_read_however_they_are_written_and_no_target_or_predictor_is_refused() -> None:
    samples = of_genes()
    for written in (["True", "False"], ["TRUE", None], [1.0, np.nan]):
        about = pd.DataFrame({"is_l1000_landmark": written * 15}, index=pd.Index(GENES))
        assert aim(replace(samples, about_genes=about), gene_task().data, TRAIN).predictors == tuple(GENES[::2])
    for mark, what in ((True, "target"), (False, "predictor")):
        about = pd.DataFrame({"is_l1000_landmark": mark}, index=pd.Index(GENES))
        with pytest.raises(DataError, match=f"no {what} gene is left"):
            aim(replace(samples, about_genes=about), gene_task().data, TRAIN)
    with pytest.raises(UserError, match="'TP53' is not among the genes"):
        aim(samples, gene_task("TP53").data, TRAIN)


@pytest.mark.parametrize("kind", ["labels", "genes"])
def test_prepared_samples_are_read_back(kind: str, tmp_path: Any) -> None:
    task, tables = (label_task(), make_tables()) if kind == "labels" else (gene_task(), make_tables("log2"))
    write_expression_folder(tmp_path / "data" / "t", tables)
    prepared = prepare(keep_profiles(tables, task), task, SEED)
    write_prepared(prepared, tmp_path / "prepared" / "t", task, SEED)
    again = read_prepared("t", task, data=tmp_path / "data", prepared=tmp_path / "prepared")
    assert again.sha256 == prepared.sha256
    assert (again.samples.targets, again.samples.predictors) == (prepared.samples.targets, prepared.samples.predictors)
    np.testing.assert_array_equal(again.samples.target, prepared.samples.target)
    np.testing.assert_array_equal(again.samples.logged(), prepared.samples.logged())
    tables.expression[GENES[0]] += np.arange(len(tables.expression)) == 3
    write_expression_folder(tmp_path / "data" / "t", tables)
    with pytest.raises(UserError, match="the samples are not those in"):
        read_prepared("t", task, data=tmp_path / "data", prepared=tmp_path / "prepared")


SURVIVAL: Any = read_params(ROOT / "params.yaml").task("breast_survival")
TIME, EVENT = SURVIVAL.data.time, SURVIVAL.data.event


def test_events_may_be_truth_values_and_samples_without_follow_up_are_counted(tmp_path: Path) -> None:
    tables = make_tables("log2")
    with pytest.raises(DataError, match=TIME):
        SURVIVAL.read(write_expression_folder(tmp_path, tables))
    number = np.arange(len(tables.samples))
    followed = with_samples(tables, **{TIME: (number + 1).astype(str), EVENT: np.where(number % 2, "1", "0")})
    whole = keep_profiles(followed, SURVIVAL).samples
    words = with_samples(followed, **{EVENT: np.where(number % 2, "TRUE", "False")})
    np.testing.assert_array_equal(keep_profiles(words, SURVIVAL).samples.target, whole.target)
    for column, word in ((TIME, ""), (EVENT, "not reported")):
        kept = keep_profiles(with_samples(followed, **{column: [*followed.samples[column][:-1], word]}), SURVIVAL)
        assert kept.counts["rows"]["dropped"]["without_follow_up"] == 1 and len(kept.samples) == len(whole) - 1


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_every_cell_of_a_follow_up_is_read_or_dropped_and_never_guessed(time: str, event: str) -> None:
    found = read_follow_up(pd.DataFrame({TIME: [time], EVENT: [event]}, dtype=object), SURVIVAL.data)
    assert found.known.shape == (1,)
    if found.known[0]:
        assert float(time) > 0 and np.isfinite(float(time))
        assert event.strip().lower() in ("1", "0", "1.0", "0.0", "true", "false")


# Names of genes.

# Few symbols and numbers, so that names collide all the time.
_symbols = st.sampled_from(["A", "B", "C", "?"])
_numbers = st.sampled_from(["1", "2", "3"])
_names = st.one_of(
    st.builds("{}|{}".format, _symbols, _numbers), _symbols.filter(lambda symbol: symbol != "?"), _numbers
)


def _number(name: str) -> str:
    return name.partition("|")[2]


@given(st.lists(_names, max_size=8), st.lists(_names, max_size=8, unique=True))
def test_no_name_is_of_two_genes_or_lost_and_no_number_contradicts(given_names: list[str], wanted: list[str]) -> None:
    match = match_genes(given_names, wanted)
    assert len(set(match.found.values())) == len(match.found)
    assert sorted([*match.found, *match.missing]) == sorted(wanted)
    assert sorted([*match.found.values(), *match.unknown]) == sorted(set(given_names))
    for gene, name in match.found.items():
        assert set(parts_of(gene)) & set(parts_of(name)) or gene == name
        assert "" in (_number(gene), _number(name)) or _number(gene) == _number(name)
    for gene in set(given_names) & set(wanted):  # a whole name is always found
        assert match.found[gene] == gene


@given(st.lists(_names, max_size=8, unique=True), st.lists(_names, max_size=8, unique=True), st.randoms())
def test_the_order_of_a_profiles_genes_does_not_matter(given_names: list[str], wanted: list[str], rng: object) -> None:
    match = match_genes(given_names, wanted)
    rng.shuffle(given_names)  # type: ignore[attr-defined]
    mixed = match_genes(given_names, wanted)
    assert (set(mixed.missing), mixed.found) == (set(match.missing), match.found)


def test_names_of_one_gene_are_found_and_a_symbol_of_two_stands_for_neither() -> None:
    for given_names, gene, found in (
        (["TP53|7157", "TP53", "7157", "P53|7157"], "TP53|7157", True),  # renamed since; the number stays
        *((["TP53|7157"], "TP53", True), (["TP53|7157"], "7157", True), (["?|653553"], "653553", True)),
        (["TP53|9999", "tp53"], "TP53|7157", False),  # Trp53 of a mouse is another gene
        (["?", "?|1"], "?|653553", False),
    ):
        for name in given_names:
            assert match_genes([name], [gene]).found == ({gene: name} if found else {})
    wanted = ["SLC35E2|728661", "SLC35E2|9906"]
    assert match_genes(["SLC35E2"], wanted).missing == wanted
    assert match_genes(["SLC35E2", "9906"], wanted).found == {"SLC35E2|9906": "9906"}
    assert match_genes(wanted, ["SLC35E2"]).missing == ["SLC35E2"]
    with pytest.raises(UserError, match=r"is the name of 2 genes: SLC35E2\|728661, SLC35E2\|9906; name it as"):
        find_gene("SLC35E2", wanted)
    assert find_gene("9906", wanted) == find_gene("SLC35E2|9906", wanted) == "SLC35E2|9906"


MADE_OF_GENES = (
    *("1-Mar", "01-Mar", "15-Sept", "1-MAR", "1-Mar-2020", "Mar-01", "Sep-2", "1. Mar", "2/Sep", "2001-03-01"),
    *("2001-03-01 00:00:00", "2001-03-01T00:00:00", "3/1/2001", "01.03.2001", "2.31E+13", "2,31E+13", "7157.0"),
)
NAMES_OF_GENES = (
    *("TP53", "MARCH1", "MARCHF1", "SEPTIN2", "SEP15", "DEC1", "MARC1", "OCT4", "7157", "ENSG00000141510.16"),
    *("HLA-A", "NKX2-1", "TP53|7157", "?|100130426", "2310009E13Rik", "hsa-mir-9-1", "MAR-1A", "RP11-34P13.7"),
    *("1-Mar-A", "AC000012.1", "E2F1", "", "5S_rRNA", "MT-ND1", "H3.3"),
)


def test_what_a_spreadsheet_made_of_a_gene_is_told_and_names_of_genes_are_no_dates() -> None:
    for name in MADE_OF_GENES:
        assert spreadsheet_names([name, "TP53", "MYC"]) == [name], name
    for name in NAMES_OF_GENES:
        assert spreadsheet_names([name]) == [] and not several_genes(name), name


def test_a_day_as_a_number_is_told_among_symbols_alone_and_so_are_several_genes_under_one_name() -> None:
    for names, days in (
        (["TP53", "43891", "MYC", "KRAS", "7157", "43900", "EGFR"], ["43891", "43900"]),  # the 1st and 10th of March
        (["TP53", "43831", "MYC", "43902", "KRAS"], []),  # the 1st of January, the 12th of March
        (["43891", "7157", "4609"], []),  # Entrez ids
    ):
        assert spreadsheet_names(names) == days
    assert all(map(several_genes, ("A;B", "A /// B", "A // B", "A///B", "A, B", "A / B")))
    assert not any(map(several_genes, ("A;", "A;A", "A /// ---", "A/B", "A|12", "H2A-B")))
