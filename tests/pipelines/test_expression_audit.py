"""What neither validation nor a score of profiles shows: each planted fault is found, and clean data raises none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import pytest

from pipelines import audit as stage
from pipelines.audits import profiles as audits_of_profiles
from pipelines.audits.profiles import profile_confounders
from pipelines.audits.run import Audit, audit_samples
from pipelines.files import read_json
from pipelines.modalities.profiles import ProfilesTask
from pipelines.paths import AUDIT_FILE
from pipelines.probes import GROUPS, thinned
from pipelines.samples.expression import ExpressionTables
from tests.empty_store import empty_store
from tests.pipelines.expression_folder import (
    GENES,
    ROOT,
    gene_task,
    label_task,
    make_tables,
    samples_of,
    with_cells,
    write_expression_folder,
)

Scale = Literal["linear", "log2", "as_is"]
SEED = 20261120
REAL_DATA = ROOT.parent / "shared" / "data"
PROBES = ["library_size", "missing", "metadata"]


def audited(tables: ExpressionTables, task: ProfilesTask | None = None) -> Audit:
    task = task or label_task()
    return audit_samples(samples_of(tables, task), Path("nowhere"), "profiles", task, SEED)


def in_mode(mode: str) -> ProfilesTask:
    task = label_task()
    return replace(task, split=replace(task.split, mode=mode))


def names(audit: Audit) -> set[str]:
    return {finding.name for finding in audit.findings}


def probe(audit: Audit, name: str) -> dict[str, Any]:
    return next(one for one in audit.shortcuts if one["probe"] == name)


def with_samples(tables: ExpressionTables, **columns: Any) -> ExpressionTables:
    return replace(tables, samples=tables.samples.assign(**columns))


def with_values(tables: ExpressionTables, rows: Any, values: np.ndarray) -> ExpressionTables:
    expression = tables.expression.copy()
    expression.loc[rows, GENES] = values.astype(np.float32)
    return replace(tables, expression=expression)


def barcoded(tables: ExpressionTables, plate: list[str], site: list[str]) -> ExpressionTables:
    """Return the tables with barcodes of TCGA for ids."""
    patients = tables.samples["patient_id"].str.removeprefix("P").astype(int)
    codes = tables.samples["sample_type"]
    ids = pd.Series(
        [
            f"TCGA-{where}-A{patient:03d}-{code:02d}A-11R-{batch}-07"
            for where, patient, code, batch in zip(site, patients, codes, plate, strict=True)
        ]
    )
    return replace(
        tables, samples=tables.samples.assign(sample_id=ids), expression=tables.expression.assign(sample_id=ids)
    )


@pytest.fixture
def no_probes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the probes out where something else is tested."""
    monkeypatch.setattr(audits_of_profiles, "profile_confounders", lambda samples: {})
    yield


# Clean data.


@pytest.mark.parametrize("seed", [7, 8])
def test_clean_profiles_raise_no_finding(seed: int) -> None:
    audit = audited(make_tables(seed=seed))
    assert [finding.message for finding in audit.findings] == []
    assert audit.passed
    assert [one["probe"] for one in audit.shortcuts] == PROBES
    assert audit.duplicates["counts"]["pairs"] == 0
    assert (audit.groups["unit"], audit.groups["groups"], audit.groups["unknown"]) == ("patient", 48, 0)
    assert audit.groups["labels"]["RED"]["groups"] == 16


def test_clean_genes_raise_no_finding_and_their_labels_are_probed() -> None:
    audit = audited(make_tables("log2"), gene_task())
    assert audit.findings == ()
    assert [one["probe"] for one in audit.shortcuts] == PROBES


def test_without_labels_nothing_is_probed() -> None:
    tables = make_tables("log2")
    audit = audited(replace(tables, samples=tables.samples.drop(columns="label")), gene_task())
    assert (audit.findings, audit.shortcuts, audit.groups["labels"]) == ((), (), {})


def test_standardized_profiles_have_no_library_size() -> None:
    task = label_task()
    samples = samples_of(make_tables("as_is"), replace(task, data=replace(task.data, scale="as_is")))
    assert list(profile_confounders(samples)) == PROBES[1:]


# Shortcuts.


def test_a_platform_confounded_with_the_label_is_found() -> None:
    tables = make_tables()
    rng = np.random.default_rng(1)
    told = tables.samples["label"].map({"BLUE": "SEQ 1", "GREEN": "SEQ 1", "RED": "SEQ 2"}).to_numpy()
    platform = np.where(rng.random(len(told)) < 0.95, told, "SEQ 1")
    audit = audited(with_samples(tables, platform=platform))
    assert names(audit) == {"shortcut_metadata"}
    found = probe(audit, "metadata")
    assert found["low"] <= found["score"] <= found["high"]
    told_apart = {tuple(pair["classes"]): pair["roc_auc"] for pair in found["pairs"]}
    assert min(told_apart["BLUE", "RED"], told_apart["GREEN", "RED"]) > 0.85 > told_apart["BLUE", "GREEN"]
    assert "without what it is meant to look at" in audit.findings[0].message
    mixed = audited(with_samples(tables, platform=rng.permutation(platform)))
    assert not probe(mixed, "metadata")["finding"]


@pytest.mark.parametrize("scale", ["linear", "log2"])
def test_a_library_size_that_tells_the_label_is_found(scale: str) -> None:
    tables = make_tables(scale)
    red = (tables.samples["label"] == "RED").to_numpy()
    values = tables.expression.loc[red, GENES].to_numpy()
    deeper = with_values(tables, red, values * 4 if scale == "linear" else np.log2((2.0**values - 1) * 4 + 1))
    task = label_task()
    audit = audited(deeper, replace(task, data=replace(task.data, scale=cast("Scale", scale))))
    assert names(audit) == {"shortcut_library_size"}
    assert probe(audit, "library_size")["score"] > 0.5


def test_gaps_that_tell_the_label_are_found() -> None:
    tables = make_tables()
    red = np.flatnonzero(tables.samples["label"] == "RED")
    expression = tables.expression.copy()
    expression.iloc[red, 1:3] = np.nan
    assert "shortcut_missing" in names(audited(replace(tables, expression=expression)))


def test_a_batch_confounded_with_the_label_is_found_in_the_barcodes() -> None:
    tables = make_tables()
    label, rng = tables.samples["label"], np.random.default_rng(2)
    patient = tables.samples["patient_id"].str.removeprefix("P").astype(int)
    plates = [f"A{label_code}{number % 2:02d}" for label_code, number in zip(label.str[0], patient, strict=True)]
    sites = rng.choice(["AA", "BB", "CC"], 48)[patient].tolist()
    audit = audited(barcoded(tables, plates, sites))
    assert [one["probe"] for one in audit.shortcuts] == [*PROBES, "barcode_plate", "barcode_site", "barcode_center"]
    assert names(audit) == {"shortcut_barcode_plate"}
    assert "a plate holds few kinds of tumors" in audit.findings[0].message
    assert probe(audit, "barcode_center")["note"] == "the same for all samples"
    logged = barcoded(make_tables("log2"), plates, sites)
    assert "cannot be separated from that of the label" in audited(logged, gene_task()).findings[0].message


@pytest.mark.parametrize(
    ("ids", "parts"),
    [
        (["TCGA-OR-A5J1-01A-11R-A29W-13", "TCGA-OS-A5J2-01A-11R-A29X-07"], {"plate": 2, "site": 2, "center": 2}),
        (["TCGA-OR-A5J1-01A-11R-A29W-13", "TCGA-OS-A5J2-01A"], {"plate": 1, "site": 2, "center": 1}),
        (["TCGA-OR-A5J1", "TCGA-OS-A5J2"], {"site": 2}),
        (["TCGA-OR-A5J1-01", "P1"], {}),
        (["P1-01", "P2-01"], {}),
        (["TCGA_OR_1", "TCGA-OR"], {}),
    ],
)
def test_barcodes_are_read_as_far_as_they_go(ids: list[str], parts: dict[str, int]) -> None:
    samples = samples_of(make_tables()).take(np.array([0, 1]))
    named = replace(samples, table=samples.table.assign(sample_id=ids))
    found = {name: table for name, table in profile_confounders(named).items() if name.startswith("barcode_")}
    assert {name.removeprefix("barcode_"): table.shape[1] for name, table in found.items()} == parts
    assert all(len(table) == 2 and table.isin([0, 1]).all(axis=None) for table in found.values())


# Copies and patients.


def twin(tables: ExpressionTables, of: str, to: str, digits: int | None = None) -> ExpressionTables:
    """Return the tables in which sample ``to`` shows what ``of`` does."""
    ids = tables.expression["sample_id"]
    values = tables.expression.loc[ids == of, GENES].to_numpy()
    return with_values(tables, ids == to, values if digits is None else np.round(values, digits))


@pytest.mark.usefixtures("no_probes")
@pytest.mark.parametrize(("digits", "how"), [(None, "identical"), (0, "near")])
def test_copies_across_patients_are_listed_and_their_patients_joined(digits: int | None, how: str) -> None:
    audit = audited(twin(make_tables(), "P000-01", "P003-01", digits))  # both are BLUE
    assert names(audit) == {"copies_across_groups"}
    (pair,) = audit.duplicates["pairs"]
    assert (pair["a"], pair["b"], pair["how"], pair["groups"]) == ("P000-01", "P003-01", how, ["P000", "P003"])
    assert audit.duplicates["merged_groups"] == [{"members": ["P000", "P003"], "samples": 2}]
    assert audit.groups["groups"] == 47
    assert "profiles are of different patients: 2 patients become 1" in audit.findings[0].message


@pytest.mark.usefixtures("no_probes")
def test_copies_with_different_labels_and_within_a_patient_are_findings_of_their_own() -> None:
    audit = audited(twin(make_tables(), "P000-01", "P002-01"))
    assert names(audit) == {"copies_across_groups", "copies_with_different_labels"}
    assert audit.duplicates["pairs"][0]["labels"] == ["BLUE", "RED"]
    within = audited(twin(make_tables(), "P001-01", "P001-06"))
    assert names(within) == {"copies_within_groups"}
    assert within.groups["groups"] == 48


@pytest.mark.usefixtures("no_probes")
def test_unknown_patients_are_found() -> None:
    tables = make_tables()
    audit = audited(replace(tables, samples=with_cells(tables.samples, "patient_id", {0: None})))
    assert names(audit) == {"patient_unknown"}
    assert audit.groups["unknown"] == 1


@pytest.mark.usefixtures("no_probes")
def test_a_dominating_patient_and_few_patients_are_found() -> None:
    tables = make_tables()
    few = with_samples(tables, patient_id=["P" + str(min(number, 8)) for number in range(len(tables.samples))])
    audit = audited(few, gene_task())
    assert {"dominating_group", "few_groups"} <= names(audit)
    assert audit.groups["largest"] == "P8"


@pytest.mark.usefixtures("no_probes")
def test_one_label_a_patient_matters_only_where_patients_are_not_kept_apart() -> None:
    assert audited(make_tables()).groups["one_label_each"]
    assert names(audited(make_tables(), in_mode("patient_blind"))) == set()
    assert names(audited(make_tables(), in_mode("random"))) == {"one_label_per_group"}


def test_audit_does_not_depend_on_the_order_of_rows() -> None:
    tables = twin(make_tables(), "P000-01", "P002-01")
    mixed = replace(
        tables,
        expression=tables.expression.sample(frac=1, random_state=1),
        samples=tables.samples.sample(frac=1, random_state=2),
    )
    assert audited(mixed).as_dict() == audited(tables).as_dict()


# Thinning.


def test_large_labels_are_thinned_and_rare_ones_stay() -> None:
    rng = np.random.default_rng(3)
    labels = rng.permutation(np.repeat([0, 1, 2], [4000, 900, 12]))
    groups = np.arange(len(labels)).astype(str)
    rows = thinned(labels, groups, SEED)
    held = np.bincount(labels[rows])
    assert len(rows) <= GROUPS
    assert held[2] == 12 and held[1] == 900
    assert held[0] >= GROUPS - 912 - 1
    assert rows.tolist() == sorted(rows)
    np.testing.assert_array_equal(rows, thinned(labels, groups, SEED))
    assert not np.array_equal(rows, thinned(labels, groups, SEED + 1))


def test_groups_are_kept_whole() -> None:
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 300, 900).astype(str)
    rows = thinned(rng.integers(0, 3, 900), groups, SEED, most=100)
    kept = set(groups[rows])
    assert len(kept) <= 100
    assert rows.tolist() == np.flatnonzero(np.isin(groups, list(kept))).tolist()


# The stage.


def test_stage_writes_a_report_that_reads_back_and_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = twin(make_tables(), "P000-01", "P002-01")
    data = write_expression_folder(tmp_path / "data", with_samples(tables, platform=tables.samples["label"]))
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri := empty_store(tmp_path))
    monkeypatch.setenv("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false")
    import mlflow

    from pipelines import validate

    mlflow.set_tracking_uri(uri)
    reports = tmp_path / "reports"
    given = ["--task", "tumor_type", "--data", str(data), "--reports", str(reports)]
    assert validate.main(given) == 0
    assert stage.main(given) == 0
    report = read_json(reports / AUDIT_FILE)
    found = {finding["name"] for finding in report["findings"]}
    assert {"shortcut_metadata", "copies_across_groups", "copies_with_different_labels"} <= found
    assert "shortcut_metadata" in (reports / "validation.html").read_text()
    assert "60 samples audited" in capsys.readouterr().out


@pytest.mark.real_data
@pytest.mark.usefixtures("no_probes")
def test_tumors_that_were_sequenced_under_two_patients_are_found() -> None:
    """13 pairs of ovarian tumors of plates 1566 and 1567, more alike than any two samples of one patient."""
    if not (REAL_DATA / "tumor_type").is_dir():
        pytest.skip("../shared/data/tumor_type is not there")
    task = label_task()
    samples = task.read(REAL_DATA / "tumor_type").samples
    audit = audit_samples(samples, REAL_DATA / "tumor_type", "tumor_type", task, SEED)
    assert names(audit) == {"copies_across_groups"}
    assert audit.duplicates["counts"]["across_groups"] == 13
    assert {tuple(pair["labels"]) for pair in audit.duplicates["pairs"]} == {("OV", "OV")}
    plates = {pair[side].split("-")[5] for pair in audit.duplicates["pairs"] for side in ("a", "b")}
    assert plates == {"1566", "1567"}
