"""Faulty raw data must not get past `pipelines.validate`, and the user must be told file, column and rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import Finding
from pipelines.modalities.pairs import PairsTask
from pipelines.params import ParamsError, read_params
from pipelines.validate import Validation, main, validate_folder
from tests.pipelines.response_folder import write_response_folder

ROOT = Path(__file__).parents[2]
REAL_DATA = ROOT.parent / "shared" / "data" / "drug_response"
NAME = "drug_response"

Damage = Callable[[Path], Any]


@pytest.fixture(scope="session")
def task() -> PairsTask:
    task = read_params(ROOT / "params.yaml").task(NAME)
    assert isinstance(task, PairsTask)
    return task


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_response_folder(tmp_path_factory.mktemp("clean"))


@pytest.fixture
def folder(clean: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clean, tmp_path / "data" / NAME)


def edited(file: str, edit: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Damage:
    """Return a damage that passes a table through ``edit``, which changes it in place or returns another."""

    def damage(folder: Path) -> None:
        path = folder / file
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        changed = edit(table)
        table = table if changed is None else changed
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)

    return damage


def cell(file: str, row: int, column: str, value: Any) -> Damage:
    """Return a damage that writes ``value`` into one cell; rows count from 1, as in findings."""

    def edit(table: pd.DataFrame) -> None:
        if isinstance(value, float) and not pd.api.types.is_float_dtype(table[column]):
            table[column] = table[column].astype(float)
        table.loc[row - 1, column] = value

    return edited(file, edit)


def text(file: str, old: str, new: str, encoding: str = "utf-8") -> Damage:
    """Return a damage that replaces the first ``old`` of a CSV file."""

    def damage(folder: Path) -> None:
        content = (folder / file).read_text()
        assert old in content
        (folder / file).write_bytes(content.replace(old, new, 1).encode(encoding))

    return damage


def cut(file: str, share: float) -> Damage:
    """Return a damage that keeps the first ``share`` of a file's bytes."""

    def damage(folder: Path) -> None:
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[: int(share * len(content))])

    return damage


def repeated(file: str, row: int) -> Damage:
    return edited(file, lambda table: pd.concat([table, table.iloc[[row - 1]]]))


def filled(file: str, column: str, value: Any) -> Damage:
    return edited(file, lambda table: table.assign(**{column: value}))


def headed(file: str, old: str, new: str) -> Damage:
    return edited(file, lambda table: table.rename(columns={old: new}))


def linear_expression(table: pd.DataFrame) -> None:
    table.iloc[:, 1:] = 2.0 ** table.iloc[:, 1:] - 1.0


@dataclass(frozen=True)
class Fault:
    """A damage and the finding that must name it."""

    id: str
    damage: Damage
    expectation: str
    file: str
    column: str | None = None
    rows: tuple[int, ...] = ()


R, E, M, C, B = (f"{name}.parquet" for name in ("response", "expression", "mutation", "copy_number", "methylation"))
L, D, K, T = "cell_lines.csv", "drugs.csv", "cell_line_id", "ln_ic50"
ALL_KEYS = "study, cell_line_id, drug_id"
PROMOTER = "MYC_1_1000_2000"

FAULTS = [
    # files
    Fault("missing file", lambda folder: (folder / C).unlink(), "file_exists", C),
    Fault("zero-byte parquet", cut(M, 0.0), "file_readable", M),
    Fault("zero-byte csv", cut(D, 0.0), "file_readable", D),
    Fault("truncated parquet", cut(R, 0.6), "file_readable", R),
    Fault("truncated csv", cut(D, 0.96), "row_width", D, None, (6,)),
    Fault("wrong encoding", text(L, "breast", "s\xe9in", "latin-1"), "file_encoding", L, None, (2,)),
    Fault("overlong csv row", text(D, "C1CCCCC1", "C1CCCCC1,surplus"), "row_width", D, None, (4,)),
    # columns
    Fault("missing target", headed(R, T, "auc"), "column_exists", R, T),
    Fault("missing key", headed(B, K, "sample"), "column_exists", B, K),
    Fault("doubled column", text(L, "tissue", "cell_line_id"), "column_unique", L, K),
    Fault("text for numbers", edited(E, lambda t: t.astype({"MYC": str})), "column_type", E, "MYC"),
    Fault("a word among numbers", edited(R, lambda t: t.assign(ln_ic50=["high", *t[T].astype(str)[1:]])),
          "column_type", R, T, (1,)),
    Fault("numbers for keys", filled(C, K, 7), "column_type", C, K, tuple(range(1, 11))),
    Fault("unnamed column", headed(E, "MYC", " "), "column_named", E, "number 5"),
    Fault("saved index", filled(M, "Unnamed: 0", range(10)), "column_named", M, "Unnamed: 0"),
    Fault("no feature column", edited(B, lambda t: t[[K]]), "has_features", B),
    Fault("genes that differ", headed(C, "EGFR", "ERBB1"), "genes_agree", C, "EGFR"),
    Fault("missing genes", edited(E, lambda t: t.drop(columns=["KRAS", "MYC"])), "genes_agree", E,
          "KRAS, MYC"),
    # rows and keys
    Fault("empty response", edited(R, lambda t: t.iloc[:0]), "minimum_rows", R),
    Fault("empty cell lines", edited(L, lambda t: t.iloc[:0]), "minimum_rows", L),
    Fault("empty omics", edited(E, lambda t: t.iloc[:0]), "minimum_rows", E),
    Fault("too few rows", edited(R, lambda t: t.iloc[:49]), "minimum_rows", R),
    Fault("duplicate measurement", repeated(R, 5), "measurement_unique", R, ALL_KEYS, (5, 73)),
    Fault("duplicate cell line", repeated(L, 3), "key_unique", L, K, (3, 13)),
    Fault("duplicate drug", repeated(D, 1), "key_unique", D, "drug_id", (1, 7)),
    Fault("duplicate profile", repeated(M, 2), "key_unique", M, K, (2, 11)),
    Fault("null key", cell(R, 9, "drug_id", None), "key_filled", R, "drug_id", (9,)),
    Fault("empty key", cell(R, 9, "study", ""), "key_filled", R, "study", (9,)),
    Fault("blank key", text(D, "DRUG-2", "  "), "key_filled", D, "drug_id", (2,)),
    Fault("null key of a profile", cell(B, 4, K, None), "key_filled", B, K, (4,)),
    Fault("unknown cell line", cell(R, 8, K, "LINE-99"), "cell_lines_known", R, K, (8,)),
    Fault("unknown drug", cell(R, 8, "drug_id", "DRUG-99"), "drugs_known", R, "drug_id", (8,)),
    Fault("profile of unknown line", cell(E, 6, K, "LINE-99"), "cell_lines_known", E, K, (6,)),
    # values
    Fault("unparsable smiles", text(D, "C1CCCCC1", "C1CCCCC("), "smiles_parses", D, "smiles", (4,)),
    Fault("infinite target", cell(R, 3, T, np.inf), "target_finite", R, T, (3,)),
    Fault("infinite expression", cell(E, 3, "MYC", -np.inf), "values_finite", E, "MYC", (3,)),
    Fault("infinite copy number", cell(C, 3, "MYC", np.inf), "values_finite", C, "MYC", (3,)),
    Fault("infinite mutation", cell(M, 3, "MYC", np.inf), "values_finite", M, "MYC", (3,)),
    Fault("absurd target", cell(R, 4, T, 1e6), "target_in_range", R, T, (4,)),
    Fault("every target missing", filled(R, T, np.nan), "target_measured", R, T),
    Fault("every target null", filled(R, T, None), "target_measured", R, T),
    Fault("constant target", filled(R, T, 1.5), "target_varies", R, T),
    Fault("negative expression", cell(E, 7, "KRAS", -0.5), "values_not_below", E, "KRAS", (7,)),
    Fault("linear expression", edited(E, linear_expression), "scale_fits", E),
    Fault("absurd copy number", cell(C, 2, "BRAF", 1e4), "values_not_above", C, "BRAF", (2,)),
    Fault("logarithmic copy number", cell(C, 2, "BRAF", -1.0), "values_not_below", C, "BRAF", (2,)),
    Fault("percent methylation", cell(B, 1, PROMOTER, 40.0), "values_not_above", B, PROMOTER, (1,)),
    Fault("negative methylation", cell(B, 1, PROMOTER, -0.1), "values_not_below", B, PROMOTER, (1,)),
    Fault("counted mutations", cell(M, 10, "PTEN", 2), "values_binary", M, "PTEN", (10,)),
    Fault("constant column", filled(E, "TP53", 3.0), "column_varies", E, "TP53"),
    Fault("column without values", filled(C, "TP53", None), "column_varies", C, "TP53"),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault_is_refused_by_file_column_and_rows(fault: Fault, folder: Path, task: PairsTask) -> None:
    fault.damage(folder)
    validation = validate_folder(folder, NAME, task)
    assert not validation.passed
    finding = only(validation, fault.expectation, fault.file)
    assert (finding.column, finding.severity) == (fault.column, "error")
    assert finding.rows == fault.rows
    assert len(str(finding).splitlines()) == 1


def only(validation: Validation, expectation: str, file: str) -> Finding:
    found = [one for one in validation.findings if (one.expectation, one.file) == (expectation, file)]
    assert len(found) == 1, "\n".join(map(str, validation.findings))
    return found[0]


def test_clean_folder_passes_without_a_finding(folder: Path, task: PairsTask) -> None:
    validation = validate_folder(folder, NAME, task)
    assert validation.passed
    assert validation.findings == ()
    assert validation.counts["rows"][R] == 72
    assert validation.counts["cell_lines"]["without_expression"] == 2
    assert validation.counts["drugs"]["without_smiles"] == 1


def test_unreadable_file_hides_no_fault_of_another(folder: Path, task: PairsTask) -> None:
    cut(M, 0.5)(folder)
    (folder / D).unlink()
    cell(E, 7, "KRAS", -0.5)(folder)
    cell(R, 8, K, "LINE-99")(folder)
    validation = validate_folder(folder, NAME, task)
    assert {finding.file for finding in validation.errors} == {M, D, E, R}


def test_missing_folder_is_a_finding_for_each_file(tmp_path: Path, task: PairsTask) -> None:
    validation = validate_folder(tmp_path / "nowhere", NAME, task)
    assert {finding.file for finding in validation.errors} == {R, L, D, E, M, C, B}


def test_unknown_names_up_to_the_share_are_a_warning_that_lists_them(folder: Path, task: PairsTask) -> None:
    tolerant = replace(task, validate=replace(task.validate, unknown_cell_line_share=1 / 12))
    cell(L, 12, K, "LINE-13")(folder)  # LINE-12 has six measurements and is now unknown
    validation = validate_folder(folder, NAME, tolerant)
    assert validation.passed
    finding = only(validation, "cell_lines_known", R)
    assert finding.severity == "warning"
    assert "1 of 12 cell lines are not in cell_lines.csv ('LINE-12')" in finding.message
    assert finding.rows == (12, 24, 36, 48, 60, 72)
    assert not validate_folder(folder, NAME, task).passed


def test_gaps_that_training_can_take_are_warnings(folder: Path, task: PairsTask) -> None:
    cell(R, 5, T, None)(folder)
    cell(C, 2, "KRAS", None)(folder)  # a gap in a row is nothing to report
    edited(E, lambda table: table.where(table[K] != "LINE-03", table[[K]]))(folder)
    validation = validate_folder(folder, NAME, task)
    assert validation.passed
    assert only(validation, "target_present", R).rows == (5,)
    assert only(validation, "row_measured", E).rows == (3,)
    assert len(validation.warnings) == 2


def test_constant_columns_up_to_the_share_are_a_warning(folder: Path, task: PairsTask) -> None:
    filled(E, "TP53", 3.0)(folder)
    tolerant = replace(task, validate=replace(task.validate, constant_column_share=1 / 6))
    validation = validate_folder(folder, NAME, tolerant)
    assert validation.passed
    assert only(validation, "column_varies", E).column == "TP53"


def test_any_expression_scale_may_be_negative_but_not_infinite(folder: Path, task: PairsTask) -> None:
    scaled = replace(task, validate=replace(task.validate, expression_scale="any"))
    cell(E, 7, "KRAS", -0.5)(folder)
    assert validate_folder(folder, NAME, scaled).passed
    cell(E, 7, "KRAS", np.inf)(folder)
    assert not validate_folder(folder, NAME, scaled).passed


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``params.yaml``, shared since MLflow takes seconds to make its database."""
    workplace = tmp_path_factory.mktemp("workplace")
    shutil.copy(ROOT / "params.yaml", workplace)
    return workplace


@pytest.fixture
def command(workplace: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workplace / 'mlflow.db'}")
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    reports = folder.parents[1] / "reports" / NAME
    reports.mkdir(parents=True)
    (reports / "leaderboard.json").write_text('[{"model": "of the last good data"}]\n')
    yield lambda: main(["--task", NAME, "--data", str(folder), "--reports", str(reports)])


def bytes_below(folder: Path) -> dict[str, bytes]:
    """Return every file below ``folder`` that validation does not own."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.stem != "validation" and "data_docs" not in path.parts
    }


COMMAND_FAULTS = ("missing file", "truncated parquet", "wrong encoding", "null key", "unknown cell line",
                  "negative expression", "every target missing")  # fmt: skip


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.id in COMMAND_FAULTS], ids=lambda fault: fault.id)
def test_command_refuses_and_changes_nothing_downstream(
    fault: Fault, folder: Path, command: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    fault.damage(folder)
    before = bytes_below(folder.parents[1])
    assert command() == 1
    assert bytes_below(folder.parents[1]) == before

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("refused: ")]
    where = fault.file if fault.column is None else f"{fault.file}, column {fault.column}"
    assert any(line.startswith(f"refused: {where}") for line in lines)
    report = json.loads((folder.parents[1] / "reports" / NAME / "validation.json").read_text())
    assert (report["task"], report["passed"]) == (NAME, False)
    assert len(report["failed"]) == len(lines)
    assert (fault.file, fault.column, list(fault.rows)) in [
        (finding["file"], finding["column"], finding["rows"]) for finding in report["failed"]
    ]


def test_command_passes_clean_data_and_logs_it(
    folder: Path, workplace: Path, command: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    assert command() == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert len(printed.out.splitlines()) == 1
    reports = folder.parents[1] / "reports" / NAME
    assert json.loads((reports / "validation.json").read_text())["passed"] is True
    assert (reports / "data_docs" / "index.html").is_file()
    assert {path.name for path in workplace.iterdir()} <= {"params.yaml", "mlflow.db", "mlruns"}

    runs = mlflow.search_runs(experiment_names=[NAME], output_format="list")
    run = next(run for run in runs if run.data.tags["validation.passed"] == "true")
    assert run.data.tags["stage"] == "validate"
    assert run.data.metrics == {"validation_errors": 0.0, "validation_warnings": 0.0}
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert logged == {"validation.json", "data_docs"}


def test_unknown_task_is_refused_before_any_work(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    with pytest.raises(ParamsError, match="no task 'drug_respose'"):
        main(["--task", "drug_respose"])
    assert not (workplace / "reports").exists()


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="../shared/data/drug_response is not there")
def test_real_data_passes_with_its_unannotated_cell_lines_listed(task: PairsTask) -> None:
    validation = validate_folder(REAL_DATA, NAME, task)
    assert validation.passed
    (warning,) = validation.findings
    assert (warning.expectation, warning.file, warning.column) == ("cell_lines_known", R, K)
    assert f"{validation.counts['cell_lines']['unknown']} of " in warning.message
    assert warning.count > 0
