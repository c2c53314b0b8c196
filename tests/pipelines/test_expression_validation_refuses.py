"""Faulty profiles must not get past `pipelines.validate`, and the user must be told file, column and rows."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import Finding
from pipelines.modalities.profiles import ProfilesTask
from pipelines.params import Task, read_params
from pipelines.samples.expression import EXPRESSION_FILE as EXPRESSION
from pipelines.samples.expression import GENES_FILE as DESCRIBED
from pipelines.samples.expression import SAMPLES_FILE as SAMPLES
from pipelines.tasks.profiles_classification import ProfilesClassification
from pipelines.validate import Validation, main, validate_folder
from tests.empty_store import empty_store
from tests.pipelines.expression_folder import (
    GENES,
    LANDMARKS,
    ROOT,
    edited,
    gene_task,
    label_task,
    make_tables,
    write_expression_folder,
)

Scale = Literal["linear", "log2", "as_is"]
REAL_DATA = ROOT.parent / "shared" / "data"
NAME = "tumor_type"
Damage = Callable[[Path], Any]
Change = Callable[[pd.DataFrame], pd.DataFrame | None]


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("clean")
    return {scale: write_expression_folder(root / scale, make_tables(scale)) for scale in ("linear", "log2", "as_is")}


@pytest.fixture
def folder(clean: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(clean["linear"], tmp_path / "data" / NAME)


@pytest.fixture
def logged(clean: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(clean["log2"], tmp_path / "data" / "gene_expression")


def scaled(scale: str) -> ProfilesClassification:
    task = label_task()
    return replace(task, data=replace(task.data, scale=cast("Scale", scale)))


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str, str | None]]:
    return [(finding.expectation, finding.file, finding.column) for finding in findings]


def checked(folder: Path, task: Task | None = None) -> Validation:
    return validate_folder(folder, NAME, task or label_task())


# Clean data.


def test_clean_folder_has_no_finding_and_is_counted(folder: Path) -> None:
    validation = checked(folder)
    assert [str(finding) for finding in validation.findings] == []
    rows = len(make_tables().samples)
    assert validation.counts["rows"] == {EXPRESSION: rows, SAMPLES: rows, DESCRIBED: len(GENES)}
    assert validation.counts["columns"][EXPRESSION] == len(GENES) + 1
    assert validation.counts["kept"] == {"samples": 60, "patients": 48}
    assert validation.counts["labels"] == {"GREEN": 20, "BLUE": 20, "RED": 20}
    assert validation.counts["missing_values"] == validation.counts["without_patient"] == 0
    assert validation.counts["landmarks"] == len(LANDMARKS)


@pytest.mark.parametrize("task", [gene_task(), gene_task(GENES[12]), gene_task("SIM13"), gene_task("13")])
def test_clean_logged_folder_passes_whatever_the_target(task: ProfilesTask, logged: Path) -> None:
    assert [str(finding) for finding in checked(logged, task).findings] == []


@pytest.mark.parametrize("scale", ["log2", "as_is"])
def test_clean_folder_passes_on_its_scale(scale: str, clean: dict[str, Path]) -> None:
    assert [str(finding) for finding in checked(clean[scale], scaled(scale)).findings] == []


def test_genes_need_no_description(folder: Path) -> None:
    (folder / DESCRIBED).unlink()
    assert checked(folder).findings == ()


# Faults of the values.


def cell(row: int, column: str, value: Any) -> Change:
    def change(table: pd.DataFrame) -> None:
        table.loc[row, column] = value

    return change


def cells(rows: slice, columns: slice, value: float) -> Change:
    def change(table: pd.DataFrame) -> None:
        table.iloc[rows, columns] = value

    return change


def times(row: int, factor: float) -> Change:
    def change(table: pd.DataFrame) -> None:
        table.iloc[row, 1:] = table.iloc[row, 1:].astype(float) * factor

    return change


@dataclass(frozen=True)
class Fault:
    """A change of a table, and the one finding that must name file, column and rows."""

    id: str
    file: str
    change: Change
    expectation: str
    column: str | None
    rows: tuple[int, ...]
    says: str
    scale: str = "linear"
    severity: str = "error"


FIRST = GENES[0]
VALUES = [
    Fault("infinite", EXPRESSION, cell(4, FIRST, np.inf), "values_finite", FIRST, (5,), "must be finite"),
    Fault("minus infinite", EXPRESSION, cell(4, FIRST, -np.inf), "values_finite", FIRST, (5,), "finite", "as_is"),
    Fault("negative", EXPRESSION, cell(4, FIRST, -0.5), "values_not_negative", FIRST, (5,),
          "below 0 (found -0.5), which linear values never are; undo an offset"),
    Fault("negative log2", EXPRESSION, cell(4, FIRST, -0.5), "values_not_negative", FIRST, (5,),
          "which log2(x + 1) never is", "log2"),
    Fault("linear value in log2", EXPRESSION, cell(4, FIRST, 4000), "values_not_above", FIRST, (5,),
          "above 30 (found 4000)", "log2"),
    Fault("gene missing", EXPRESSION, cells(slice(0, 20), slice(1, 2), np.nan), "gene_measured", FIRST, (),
          "more than 20% of the values are missing"),
    Fault("sample missing", EXPRESSION, cells(slice(3, 4), slice(1, 9), np.nan), "sample_measured", None, (4,),
          "more than 20% of the values are missing (found 27%)"),
    Fault("sample wholly missing", EXPRESSION, cells(slice(3, 4), slice(1, None), np.nan), "sample_measured", None,
          (4,), "found 100%"),
    Fault("some missing", EXPRESSION, cells(slice(3, 5), slice(1, 4), np.nan), "values_complete",
          ", ".join(GENES[:3]), (), "6 values are missing, of 2 samples and 3 genes; they are imputed",
          severity="warning"),
    Fault("sample of zeros", EXPRESSION, cells(slice(3, 4), slice(1, None), 0), "sample_expressed", None, (4,),
          "all values are 0"),
    Fault("standardized sample of zeros", EXPRESSION, cells(slice(3, 4), slice(1, None), 0), "sample_expressed", None,
          (4,), "all values are 0", "as_is"),
    Fault("too deep", EXPRESSION, times(7, 1000), "library_size", None, (8,), "more than 50 times above or below"),
    Fault("too shallow", EXPRESSION, times(7, 1e-3), "library_size", None, (8,), "raise validate.library_size_factor"),
    Fault("too deep in log2", EXPRESSION, times(7, 2), "library_size", None, (8,), "more than 50 times", "log2"),
    Fault("constant gene", EXPRESSION, cells(slice(None), slice(1, 2), 3.5), "gene_varies", FIRST, (),
          "has one value in all samples", severity="warning"),
    Fault("gene of zeros", EXPRESSION, cells(slice(None), slice(1, 2), 0), "gene_varies", FIRST, (), "one value",
          severity="warning"),
    Fault("constant genes", EXPRESSION, cells(slice(None), slice(1, 7), 3.5), "gene_varies", ", ".join(GENES[:6]), (),
          "6 of 30 columns: has one value in all samples"),
    Fault("logged values called linear", EXPRESSION, lambda table: table.iloc[:, 1:].apply(np.log2).clip(0)
          .assign(sample_id=table["sample_id"]), "scale_fits", None, (), "set data.scale: log2", severity="warning"),
    Fault("linear values called log2", EXPRESSION, lambda table: table.iloc[:, 1:].apply(np.exp2).clip(upper=1e9)
          .assign(sample_id=table["sample_id"]), "values_not_above", None, (), "the table looks linear", "log2"),
    Fault("unnamed gene", EXPRESSION, lambda table: table.rename(columns={FIRST: " "}), "column_named", "number 2", (),
          "the column has no name"),
    Fault("symbol of two", EXPRESSION, lambda table: table.rename(columns={FIRST: "SIM02|99"}), "symbol_alone",
          "SIM02|99, SIM02|2", (), "bear a symbol that another bears too (SIM02)", severity="warning"),
    Fault("few genes", EXPRESSION, lambda table: table.iloc[:, :12], "minimum_genes", None, (), "11 genes, 20 are"),
    Fault("few samples", EXPRESSION, lambda table: table.iloc[:48], "minimum_samples", None, (), "48 samples, 50 are"),
    Fault("no id", EXPRESSION, cell(4, "sample_id", None), "key_filled", "sample_id", (5,), "the key is empty"),
    Fault("blank id", EXPRESSION, cell(4, "sample_id", " "), "key_filled", "sample_id", (5,), "the key is empty"),
    Fault("an id twice", EXPRESSION, cell(1, "sample_id", "P000-01"), "key_unique", "sample_id", (1, 2),
          "stands more than once (found 'P000-01')"),
]  # fmt: skip


@pytest.mark.parametrize("fault", VALUES, ids=lambda fault: fault.id)
def test_faulty_values_are_told_by_column_and_row(fault: Fault, clean: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(clean[fault.scale], tmp_path / NAME)
    edited(fault.file, fault.change)(folder)
    validation = checked(folder, scaled(fault.scale))
    gravest = validation.errors if fault.severity == "error" else validation.findings
    found = [finding for finding in gravest if finding.expectation == fault.expectation]
    assert [finding.severity for finding in found] == [fault.severity], told(validation.findings)
    assert found[0].file == fault.file
    if fault.column is not None or fault.rows:
        assert (found[0].column, found[0].rows) == (fault.column, fault.rows)
    assert fault.says in found[0].message
    assert len(str(found[0]).splitlines()) == 1
    # The fault is told once: what follows from it (an id that is gone from the other file) is a warning.
    assert {finding.expectation for finding in validation.errors} <= {fault.expectation}


def test_what_is_refused_for_one_cell_is_not_refused_again_for_its_gaps(folder: Path) -> None:
    edited(EXPRESSION, cells(slice(0, 20), slice(1, 2), np.nan))(folder)
    assert [finding.expectation for finding in checked(folder).findings] == ["gene_measured"]


def test_missing_share_is_the_tasks(folder: Path) -> None:
    edited(EXPRESSION, cells(slice(0, 20), slice(1, 2), np.nan))(folder)
    task = label_task()
    lenient = replace(task, validate=replace(task.validate, missing_share=0.5))
    assert [finding.expectation for finding in checked(folder, lenient).findings] == ["values_complete"]


def test_many_faulty_genes_share_a_finding_that_counts_them(folder: Path) -> None:
    edited(EXPRESSION, cells(slice(2, 3), slice(1, 21), -1))(folder)
    (finding,) = checked(folder).errors
    assert finding.message.startswith("20 of 30 columns: below 0")
    assert finding.rows == (3,)


def test_many_faulty_samples_share_a_finding_that_counts_them(folder: Path) -> None:
    edited(EXPRESSION, cells(slice(0, 25), slice(1, None), 0))(folder)
    finding = next(finding for finding in checked(folder).errors if finding.expectation == "sample_expressed")
    assert (len(finding.rows), finding.count) == (20, 25)


# Faults of samples.csv.


def keep(rows: slice) -> Change:
    return lambda table: table.iloc[rows]


SAMPLES_FAULTS = [
    Fault("no id", SAMPLES, cell(4, "sample_id", None), "key_filled", "sample_id", (5,), "the key is empty"),
    Fault("an id twice", SAMPLES, cell(1, "sample_id", "P000-01"), "key_unique", "sample_id", (1, 2),
          "stands more than once"),
    Fault("sample without a profile", EXPRESSION, lambda table: table.drop(index=3), "samples_known", "sample_id", (4,),
          "1 of 66 samples are not in expression.parquet ('P002-01'); they are not used", severity="warning"),
    Fault("profile without a row", SAMPLES, lambda table: table.drop(index=3), "samples_known", "sample_id", (4,),
          "1 of 66 samples are not in samples.csv ('P002-01'); they are dropped", severity="warning"),
    Fault("nothing in common", SAMPLES, lambda table: table.assign(sample_id="x" + table["sample_id"]),
          "samples_common", "sample_id", (), "not one sample is in expression.parquet too"),
    Fault("few in common", SAMPLES, lambda table: table.assign(sample_id=[
          name if at < 30 else f"x{name}" for at, name in enumerate(table["sample_id"])]), "samples_left", None, (),
          "of 30 samples are left after the rules of data in params.yaml, 50 are needed"),
    Fault("unknown patient", SAMPLES, cell(4, "patient_id", None), "patient_known", "patient_id", (5,),
          "the sample stands alone", severity="warning"),
    Fault("blank patient", SAMPLES, cell(4, "patient_id", "  "), "patient_known", "patient_id", (5,),
          "the sample stands alone", severity="warning"),
    Fault("no label", SAMPLES, cell(4, "label", None), "label_known", "label", (5,), "dropped", severity="warning"),
    Fault("blank label", SAMPLES, cell(4, "label", " "), "label_known", "label", (5,), "dropped", severity="warning"),
    Fault("two labels", SAMPLES, cell(2, "label", "RED"), "patient_one_label", "label", (2, 3),
          "1 patients have samples of several labels: 'P001' ('GREEN' and 'RED')", severity="warning"),
    Fault("rare label", SAMPLES, lambda table: table.assign(label=[
          "RARE" if patient in ("P000", "P010") else label
          for patient, label in zip(table["patient_id"], table["label"], strict=True)]), "class_large_enough", "label",
          (), "1 classes have fewer than 10 patients: 'RARE' (2); they are dropped", severity="warning"),
    Fault("one label", SAMPLES, lambda table: table.assign(label="RED"), "classes_enough", "label", (),
          "1 classes have at least 10 patients, 2 are needed"),
    Fault("no rule's column", SAMPLES, lambda table: table.drop(columns="sample_type"), "exclude_column",
          "sample_type", (), "data.exclude in params.yaml names it; the file has sample_id"),
    Fault("no rule's value", SAMPLES, lambda table: table.assign(sample_type="01"), "exclude_value", "sample_type", (),
          "rules out '11', which occurs nowhere", severity="warning"),
    Fault("a label of excluded samples only", SAMPLES, lambda table: table.assign(label=[
          "GBM" if kind == "11" else label
          for kind, label in zip(table["sample_type"], table["label"], strict=True)]), "labels_left", "label", (),
          "no sample is left of 'GBM'", severity="warning"),
    Fault("no samples", SAMPLES, keep(slice(0, 0)), "minimum_rows", None, (), "the table has no row"),
]  # fmt: skip


@pytest.mark.parametrize("fault", SAMPLES_FAULTS, ids=lambda fault: fault.id)
def test_faulty_samples_are_told_by_column_and_row(fault: Fault, folder: Path) -> None:
    edited(fault.file, fault.change)(folder)
    validation = checked(folder)
    (finding,) = [finding for finding in validation.findings if finding.expectation == fault.expectation]
    assert finding.severity == fault.severity
    told_of = SAMPLES if fault.expectation != "samples_known" or fault.file == EXPRESSION else EXPRESSION
    assert (finding.file, finding.column, finding.rows) == (told_of, fault.column, fault.rows)
    assert fault.says in finding.message
    if fault.severity == "warning":
        assert validation.passed
        assert len(label_task().read(folder).samples) > 0


def test_small_classes_are_refused_by_name_where_the_rule_says_so(folder: Path) -> None:
    rare = next(fault for fault in SAMPLES_FAULTS if fault.id == "rare label")
    edited(SAMPLES, rare.change)(folder)
    task = label_task()
    strict = replace(task, data=replace(task.data, small_classes="refuse"))
    (finding,) = checked(folder, strict).errors
    assert told((finding,)) == [("class_large_enough", SAMPLES, "label")]
    assert "'RARE' (2); add patients, exclude the classes" in finding.message


def test_labels_do_not_matter_where_genes_are_predicted(logged: Path) -> None:
    edited(SAMPLES, lambda table: table.drop(columns="label"))(logged)
    assert checked(logged, gene_task()).findings == ()
    assert ("column_exists", SAMPLES, "label") in told(checked(logged, scaled("log2")).errors)


def test_codes_of_a_rule_are_found_however_the_file_writes_them(folder: Path) -> None:
    for written in ("11", "11.0", "011"):
        codes = {"11": written, "11.0": written, "011": written}

        def recoded(table: pd.DataFrame, codes: dict[str, str] = codes) -> pd.DataFrame:
            return table.assign(sample_type=table["sample_type"].replace(codes))

        edited(SAMPLES, recoded)(folder)
        assert [str(finding) for finding in checked(folder).findings] == []
        assert len(label_task().read(folder).samples) == 60


# Faults of genes.csv.


GENES_FAULTS = [
    Fault("a gene twice", DESCRIBED, cell(1, "gene", FIRST), "key_unique", "gene", (1, 2), "stands more than once"),
    Fault("no gene", DESCRIBED, cell(1, "gene", None), "key_filled", "gene", (2,), "the key is empty"),
    Fault("a gene more", DESCRIBED, lambda table: pd.concat([table, pd.DataFrame(
          {"gene": ["MORE|1000"], "is_l1000_landmark": ["False"]})]), "genes_known", "gene", (31,),
          "1 of 31 genes are not in expression.parquet ('MORE|1000'); the rows are not used", severity="warning"),
    Fault("a gene less", DESCRIBED, lambda table: table.drop(index=20), "genes_described", GENES[20], (),
          "1 genes of expression.parquet have no row", severity="warning"),
    Fault("nothing in common", DESCRIBED, lambda table: table.assign(gene="x" + table["gene"]), "genes_common", "gene",
          (), "not one gene is a column"),
    Fault("no landmark", DESCRIBED, lambda table: table.assign(is_l1000_landmark="False"), "landmarks_present",
          "is_l1000_landmark", (), "no landmark is a column of expression.parquet; mark some, or set"),
    Fault("all landmarks", DESCRIBED, lambda table: table.assign(is_l1000_landmark="1"), "targets_left",
          "is_l1000_landmark", (), "all genes are landmarks"),
    Fault("a landmark that says neither", DESCRIBED, cell(1, "is_l1000_landmark", "yes"), "landmark_says",
          "is_l1000_landmark", (2,), "must be true or false (found 'yes')"),
    Fault("no column of landmarks", DESCRIBED, lambda table: table[["gene"]], "column_exists", "is_l1000_landmark", (),
          "add it, or set predictors: all"),
]  # fmt: skip


@pytest.mark.parametrize("fault", GENES_FAULTS, ids=lambda fault: fault.id)
def test_faulty_genes_are_told_by_column_and_row(fault: Fault, logged: Path) -> None:
    edited(fault.file, fault.change)(logged)
    validation = checked(logged, gene_task())
    (finding,) = [finding for finding in validation.findings if finding.expectation == fault.expectation]
    assert finding.severity == fault.severity
    assert (finding.file, finding.column, finding.rows) == (DESCRIBED, fault.column, fault.rows)
    assert fault.says in finding.message
    assert validation.passed == (fault.severity == "warning")


def test_landmarks_do_not_matter_where_all_genes_predict(logged: Path) -> None:
    edited(DESCRIBED, lambda table: table.assign(is_l1000_landmark="False"))(logged)
    task = gene_task()
    assert checked(logged, replace(task, data=replace(task.data, predictors="all"))).findings == ()


@pytest.mark.parametrize(
    ("target", "says"),
    [("TP53", "'TP53' is not among the genes"), ("SIM02", "'SIM02' is the name of 2 genes: SIM02|99")],
)
def test_target_that_is_no_gene_or_two_is_refused(target: str, says: str, logged: Path) -> None:
    for file, column in ((EXPRESSION, None), (DESCRIBED, "gene")):

        def renamed(table: pd.DataFrame, column: str | None = column) -> pd.DataFrame:
            if column is None:
                return table.rename(columns={FIRST: "SIM02|99"})
            return table.assign(gene=table["gene"].replace(FIRST, "SIM02|99"))

        edited(file, renamed)(logged)
    (finding,) = checked(logged, gene_task(target)).errors
    assert told((finding,)) == [("target_gene", EXPRESSION, None)]
    assert says in finding.message and "data.targets in params.yaml" in finding.message


# Files.


@pytest.mark.parametrize("file", [EXPRESSION, SAMPLES])
def test_missing_file_is_told_and_hides_no_fault_of_others(file: str, folder: Path) -> None:
    (folder / file).unlink()
    edited(DESCRIBED, cell(1, "gene", FIRST))(folder)
    assert told(checked(folder).errors) == [("file_exists", file, None), ("key_unique", DESCRIBED, "gene")]


def test_missing_folder_is_two_findings(tmp_path: Path) -> None:
    assert told(checked(tmp_path / "nowhere").errors) == [
        ("file_exists", EXPRESSION, None),
        ("file_exists", SAMPLES, None),
    ]


def test_text_among_the_values_is_told(folder: Path) -> None:
    edited(EXPRESSION, lambda table: table.astype({FIRST: str}).replace({FIRST: {table[FIRST].astype(str)[3]: "low"}}))(
        folder
    )
    (finding,) = checked(folder).errors
    assert (finding.expectation, finding.column, finding.rows) == ("column_type", FIRST, (4,))


@pytest.fixture
def command(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path))
    yield lambda: main(["--task", NAME])


def test_command_refuses_faulty_profiles_with_exit_1(
    command: Callable[[], int], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (folder / EXPRESSION).read_bytes()
    edited(EXPRESSION, cell(4, FIRST, -0.5))(folder)
    assert command() == 1
    assert f"refused: {EXPRESSION}, column {FIRST}, row 5: below 0" in capsys.readouterr().err
    report = json.loads((folder.parents[1] / "reports" / NAME / "validation.json").read_text())
    assert [one["expectation"] for one in report["failed"]] == ["values_not_negative"]
    (folder / EXPRESSION).write_bytes(before)
    assert command() == 0
    assert "in 3 files are valid, warnings: 0" in capsys.readouterr().out


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "warnings"), [("tumor_type", {"gene_varies", "labels_left"}), ("gene_expression", set())]
)
def test_real_profiles_pass_in_less_than_two_minutes(name: str, warnings: set[str]) -> None:
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not there")
    before = time.monotonic()
    validation = validate_folder(REAL_DATA / name, name, read_params(ROOT / "params.yaml").task(name))
    assert validation.errors == ()
    assert {finding.expectation for finding in validation.warnings} == warnings
    assert time.monotonic() - before < 120
