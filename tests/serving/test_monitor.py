"""Drift that is none, or that nobody is told of; labels that are joined or read otherwise than they are meant."""

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from pipelines import tracking
from pipelines.command import run_command
from pipelines.environment import LOG_SALT
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.params import read_params, task_text
from pipelines.policy import Monitor
from pipelines.samples.response import ResponseSamples
from pipelines.simulate.response import Size, simulate_drug_response
from serving import monitor as monitor_command
from serving.drift import distribution
from serving.drift import report as monitoring
from serving.drift.distribution import Drift, column_drifts, corrected, independent_rows
from serving.drift.report import monitor
from serving.drift.watch import (
    NOVELTY,
    Logged,
    Performance,
    Reference,
    measure,
    read_labels,
    read_log,
    since_time,
    watch,
)
from tests.empty_store import working_in
from tests.training.tiny import response_task, tiny_params
from training.contract import Contract, contract_class, contract_text
from training.features.summaries import DRUG_COLUMNS, choose_panels
from training.modalities.pairs import EXPRESSION
from training.model.prediction_log import PredictionLog

ROOT = Path(__file__).parents[2]
TASK, VERSION, SALT = "leukemia_cell", "3", "a salt of the laboratory"
CLASSES = ["all", "hem"]
POLICY = Monitor(50, 0.01, 0.2, 0.1, 0.0)
EFFECT = POLICY.significance, POLICY.population_stability
PARAMS = read_params(ROOT / "params.yaml")


def contract_of(modality: str, problem: str, task: str, **said: Any) -> Any:
    about = {"task": task, "architecture": "any", "baseline": "any", "task_text": task_text(PARAMS.task(task))}
    return contract_class(modality, problem)(**about, coverage=0.9, **said)


IMAGES = contract_of("images", "classification", TASK, classes=CLASSES, temperature=1.0, threshold=0.5)
OF_RESPONSES: dict[str, Any] = {"required": [], "target": "ln_ic50", "half_width": 1.0}
OF_GENES: dict[str, Any] = {"genes": ["A"], "known": ["A"], "spreads": [1.0, 2.0], "half_widths": [None, None]}
TARGETS = ["X|1", "Y|2"]
RESPONSES = contract_of("pairs", "regression", "drug_response", features={}, **OF_RESPONSES)
GENES = contract_of("profiles", "multi_target", "gene_expression", targets=TARGETS, **OF_GENES)


def inputs(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    numbers = {"brightness": rng.normal(120, 20, rows), "mean_red": rng.normal(150, 15, rows)}
    numbers |= {"sharpness": rng.lognormal(2, 0.5, rows), "foreground": rng.beta(4, 2, rows)}
    return pd.DataFrame(numbers | {"scanner": rng.choice(["one", "two", "three"], rows, p=[0.5, 0.4, 0.1])})


def answers(rows: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame({"label": rng.choice(CLASSES, rows, p=[0.6, 0.4]), "probability": rng.beta(8, 2, rows)})


def log_rows(rows: int, seed: int = 1, version: str = VERSION) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    about = pd.DataFrame({"sample_sha256": [hashed(f"S{row}") for row in range(rows)]})
    about["time"] = pd.date_range("2026-11-01", periods=rows, freq="min", tz="UTC")
    about["model_version"], about[NOVELTY], about[f"{NOVELTY}_threshold"] = version, rng.gamma(2, 0.15, rows), 1.0
    return pd.concat([about, answers(rows, rng), inputs(rows, rng).add_prefix("input_")], axis=1)


def hashed(sample_id: str) -> str:
    return hmac.digest(SALT.encode(), sample_id.encode(), hashlib.sha256).hex()


def reference(seed: int = 0) -> Reference:
    rng = np.random.default_rng(seed)
    return Reference(TASK, VERSION, IMAGES, inputs(1_500, rng), answers(1_500, rng), 1.0)


def test_a_log_like_the_reference_is_fine() -> None:
    decisions = [watch(reference(100 + seed), Logged(log_rows(200, seed)), POLICY) for seed in range(10)]
    assert sum(bool(each.findings) for each in decisions) <= 1
    rows = log_rows(200)
    rows.loc[:99, NOVELTY] = 3.0  # a hundred rows of one new cell line are one new cell line
    found = watch(reference(), Logged(rows), POLICY)
    assert found.novelty.value >= 0.5 and found.findings == []


@pytest.mark.parametrize(
    ("planted", "told"),
    [
        (lambda rows, fourth: {"input_brightness": rows["input_brightness"] - 25}, "input brightness drifted"),
        (lambda rows, fourth: {"input_scanner": rows["input_scanner"].replace("one", "four")}, "input scanner drifted"),
        (lambda rows, fourth: {"input_sharpness": rows["input_sharpness"].where(~fourth)}, "(missing values)"),
        (lambda rows, fourth: {"label": np.where(fourth & (rows.index % 3 == 0), "hem", "all")}, "prediction label"),
        (lambda rows, fourth: {NOVELTY: rows[NOVELTY] + fourth * 2.0}, "out of distribution"),
        (lambda rows, fourth: {NOVELTY: rows[NOVELTY].where(~fourth)}, "out of distribution"),  # not measurable
    ],
)
def test_planted_drift_calls_for_retraining_and_is_named(planted: Any, told: str) -> None:
    rows = log_rows(200)
    rows = rows.assign(**planted(rows, rows.index % 4 == 0))
    found = watch(reference(), Logged(rows), POLICY)
    assert found.decision == "retrain"
    (finding,) = found.findings
    assert told in finding


def test_every_predicted_gene_is_watched() -> None:
    rng = np.random.default_rng(0)

    def said(rows: int, shift: float) -> pd.DataFrame:
        values = zip(rng.normal(5, 1, rows), rng.normal(7 + shift, 1, rows), strict=True)
        return pd.DataFrame({"prediction": [json.dumps({"X|1": one, "Y|2": two}) for one, two in values]})

    old = monitoring.predictions_of(GENES, said(1_000, 0))
    kept = Reference("gene_expression", VERSION, GENES, inputs(1_000, rng), old, 1.0)
    rows = log_rows(200).drop(columns=["label", "probability"]).assign(**said(200, 1.5))
    found = watch(kept, Logged(rows), POLICY)
    assert [told.split(" drifted")[0] for told in found.findings] == ["prediction prediction_Y|2"]


Screen = tuple[ResponseSamples, ResponseSamples, Any]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Screen:
    """Return what a version was trained on, what it is asked about lines of the same kind, and its contract."""
    folder = tmp_path_factory.mktemp("screen")
    simulate_drug_response(folder, Size(lines=600, molecules=12, genes=60, programs=4))
    samples = response_task(tiny_params()).read(folder).samples
    assert isinstance(samples, ResponseSamples)
    trained, asked = (samples.take(np.flatnonzero(samples.cell % 3 // 2 == side)) for side in (0, 1))
    lines = np.unique(trained.cell)
    genes = [str(gene) for gene in samples.omics[EXPRESSION]]
    contract = contract_of(
        *("pairs", "regression", "drug_response"),
        **OF_RESPONSES,
        features={omics: [str(column) for column in table] for omics, table in samples.omics.items()},
        panels=choose_panels(samples.omics[EXPRESSION].iloc[lines].dropna(how="all").to_numpy(), genes),
        tissues=sorted({str(each) for each in samples.cell_lines["tissue"].iloc[lines]}),
    )
    return trained, asked, contract


def drifted(screen: Screen, asked: ResponseSamples | None = None) -> list[str]:
    """Return the inputs that a watch names, the farthest first, if a version is ``asked`` so; nothing else may be."""
    trained, usual, contract = screen
    old, new = (pd.DataFrame(contract.describe(each)) for each in (trained, asked or usual))
    rng = np.random.default_rng(0)
    said, rows = (pd.DataFrame({"prediction": rng.choice(np.linspace(-3, 6, 99), len(each))}) for each in (old, new))
    kept = Reference("drug_response", "1", contract, old, monitoring.predictions_of(contract, said), 1.0)
    rows = rows.assign(time=pd.Timestamp("2026-11-01"), model_version="1", **{NOVELTY: rng.uniform(0, 1, len(new))})
    found = watch(kept, Logged(pd.concat([rows, new.add_prefix("input_")], axis=1)), POLICY).findings
    assert all(each.startswith("input ") for each in found), found
    return [each.removeprefix("input ").split(" drifted")[0] for each in found]


def test_a_panel_of_genes_that_shifts_and_other_drugs_are_named(screen: Screen) -> None:
    _, asked, contract = screen
    assert drifted(screen) == []  # lines and drugs of the same kind
    for panel, genes in contract.panels.items():
        table = asked.omics[EXPRESSION].copy()
        table[genes] += 3.0
        found = drifted(screen, replace(asked, omics={**asked.omics, EXPRESSION: table}))
        assert f"{EXPRESSION}_{panel}" in found, (panel, found)
        assert all(each.startswith(f"{EXPRESSION}_") for each in found), found
    chains = [f"CC{'C' * length}C(=O)O{'C' * length}" for length in range(8, 8 + len(asked.drugs))]
    found = drifted(screen, replace(asked, drugs=asked.drugs.assign(smiles=chains)))
    assert {"molecular_weight", "rotatable_bonds"} <= set(found) <= {*DRUG_COLUMNS, "drug"}, found


def written(folder: Path, rows: pd.DataFrame, name: str = "one") -> Path:
    place = folder / TASK / "2026-11-01" / f"{name}.parquet"
    place.parent.mkdir(parents=True, exist_ok=True)
    rows.to_parquet(place, index=False)
    return folder


def test_files_that_cannot_be_read_are_named_and_counted(tmp_path: Path) -> None:
    day = written(tmp_path, log_rows(60), "good") / TASK / "2026-11-01"
    whole = (day / "good.parquet").read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("noise", b"no parquet" * 50)):
        (day / f"{name}.parquet").write_bytes(content)
    log_rows(9).drop(columns="model_version").to_parquet(tmp_path / TASK / "other.parquet")
    (day / ".half.tmp").write_bytes(whole[:100])
    written(tmp_path, log_rows(70, 2, version="2"), "of_another_version")
    found = read_log(tmp_path, TASK, VERSION, least=50)
    assert len(found.rows) == 60 and set(found.rows["model_version"]) == {VERSION}
    assert found.other_versions == {"2": 70}
    broken = [f"2026-11-01/{name}.parquet" for name in ("cut", "empty", "noise")]
    assert sorted(found.skipped) == [*broken, "other.parquet"]
    assert "model_version" in found.skipped["other.parquet"]


def test_too_few_rows_allow_no_statement(tmp_path: Path) -> None:
    def refused(says: str, version: str = VERSION, folder: Path = tmp_path, since: str | None = None) -> None:
        with pytest.raises(UserError, match=says):
            read_log(folder, TASK, version, least=50, since=None if since is None else since_time(since))

    refused("no such folder", folder=tmp_path / "nowhere")
    refused("no prediction log")
    written(tmp_path, log_rows(49))
    refused(r"49 logged rows .* at least 50")
    written(tmp_path, log_rows(200))
    refused(r"0 logged rows .*there are 200 of version 3", version="4")
    refused("20 logged rows", since="2026-11-01T03:00")
    refused("no date", since="yesterday")


def evidence(**metrics: tuple[float, float, float]) -> dict[str, Any]:
    found = {name: dict(zip(("value", "low", "high"), ends, strict=True)) for name, ends in metrics.items()}
    return {"test": {"confidence": 0.95, "metrics": found}}


def labels_csv(folder: Path, labels: dict[str, Any]) -> Path:
    ids = [f"S{row}" for row in range(len(next(iter(labels.values()))))]
    pd.DataFrame({"sample_id": ids, **labels}).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


def measured(
    contract: Contract, folder: Path, rows: pd.DataFrame, labels: dict[str, Any], then: dict[str, Any], **changed: Any
) -> Performance:
    metric = next(iter(then["test"]["metrics"]))
    settings = {"metric": metric, "least": 50, "drop": 0.0, "resamples": 100, **changed}
    return measure(contract, rows, read_labels(labels_csv(folder, labels), contract, hashed), then, **settings)


def other_label(rows: pd.DataFrame, wrong: np.ndarray) -> np.ndarray:
    return np.where(wrong, rows["label"].map({"all": "hem", "hem": "all"}), rows["label"])


def test_labels_that_agree_hold_and_labels_that_do_not_drop(tmp_path: Path) -> None:
    rows, contract = log_rows(300), IMAGES

    def right(share: float, **changed: Any) -> Performance:
        labels = {"label": other_label(rows, np.random.default_rng(0).random(300) >= share)}
        return measured(contract, tmp_path, rows, labels, evidence(macro_f1=(0.9, 0.87, 0.93)), **changed)

    held, dropped = right(0.93), right(0.7)
    assert (held.status, held.rows, dropped.status) == ("held", 300, "dropped")
    assert dropped.now is not None
    assert 0.5 < dropped.now.low < dropped.now.value < dropped.now.high < 0.8
    assert right(0.7, drop=0.3).status == "held"
    assert right(0.7, least=301).status == "unknown"
    found = watch(reference(), Logged(log_rows(200)), POLICY, dropped)
    assert found.decision == "retrain" and "macro_f1 of 300 labelled rows" in found.findings[0]
    assert watch(reference(), Logged(log_rows(200)), POLICY, held).decision == "fine"


def test_the_last_answer_counts_and_unknown_samples_are_counted(tmp_path: Path) -> None:
    once = log_rows(100).assign(label="all")
    rows = pd.concat([once, once.assign(label="hem")], ignore_index=True)
    labels, then = {"label": ["hem", "all"] * 52}, evidence(accuracy=(0.5, 0.4, 0.6))
    found = measured(IMAGES, tmp_path, rows, labels, then)
    assert found.rows == 100 and found.now is not None and found.now.value == 0.5
    # A metric that a log cannot tell gives way to one that it can.
    then = evidence(roc_auc=(0.9, 0.8, 0.95), balanced_accuracy=(0.9, 0.85, 0.95))
    found = measured(IMAGES, tmp_path, log_rows(60), {"label": CLASSES}, then)
    assert (found.metric, found.status) == ("balanced_accuracy", "unknown")


def test_numbers_drop_in_the_metrics_own_direction(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = log_rows(200).assign(prediction=rng.normal(2, 1.5, 200))
    for noise, then, status in (
        (0.3, {"rmse": (0.32, 0.28, 0.36)}, "held"),
        (2.5, {"r2": (0.95, 0.93, 0.97)}, "dropped"),
        (2.5, {"rmse": (0.32, 0.28, 0.36)}, "dropped"),
    ):
        labels = {"target": rows["prediction"] + rng.normal(0, noise, 200)}
        assert measured(RESPONSES, tmp_path, rows, labels, evidence(**then)).status == status, (noise, then)
    predicted = pd.DataFrame(rng.normal(5, 1, (80, 2)), columns=["prediction_X|1", "prediction_Y|2"])
    rows = pd.concat([log_rows(80)[["sample_sha256"]], predicted], axis=1)
    values = dict(zip(TARGETS, (predicted.to_numpy() + rng.normal(0, 0.1, (80, 2))).T, strict=True))
    found = measured(GENES, tmp_path, rows, values, evidence(r2=(0.95, 0.9, 0.99)))
    assert found.now is not None and found.now.value > 0.95


def test_labels_at_fault_are_refused_by_row(tmp_path: Path) -> None:
    for contract, text, told in (
        (IMAGES, "sample_id\na\n", "lacks the column label"),
        (IMAGES, "sample_id,label\na,all\nb,hem\na,all\n", "column sample_id, row 3: duplicate sample"),
        (IMAGES, "sample_id,label\na,all\nb,AL\n", "column label, row 2: must be one of all, hem, not 'AL'"),
        (IMAGES, "sample_id,label\na,all\n,hem\n", "column sample_id, row 2"),
        (RESPONSES, "sample_id,target\na,much\n", r"target, row 1: must be a finite number"),
        (RESPONSES, "sample_id,target\nS0,0.5\nS1,85.3\n", "target.*micromolar"),
        (RESPONSES, "sample_id,target\nS0,1,5\nS1,2,5\n", "'sample_id' are numbers"),  # decimal commas
    ):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(UserError, match=told):
            read_labels(tmp_path / "labels.csv", contract, hashed)


def test_labels_are_read_as_people_write_them_and_what_is_not_joined_is_told(tmp_path: Path) -> None:
    path, notes = tmp_path / "labels.csv", list[str]()
    text = "Sample_ID;label\n S1;ALL\nS2 ;hem\nS3;hem \nS8;not reported\nS9;all\n"
    path.write_bytes(text.encode("utf-8-sig"))
    logged = {hashed(name) for name in ("S1", "S2 ", "s3", "S8")}
    found = read_labels(path, IMAGES, hashed, logged=logged, tell=notes.append)
    assert found["sample_sha256"].isin(logged).tolist() == [True, True, False, False]
    assert found["measured"].tolist() == ["all", "hem", "hem", "all"]
    told = "; ".join(notes)
    for kind in ("'ALL' as all", "without a label .*rows 4", "no logged prediction .*rows 3, 5"):
        assert re.search(kind, told), (kind, told)
    assert not any(name in told for name in ("S1", "S3", "S9")), "no id of a sample in a report"
    path.write_text("sample_id;target\na;1,5\nb;-0,25\nc;n/a\n")
    assert read_labels(path, RESPONSES, hashed)["measured"].tolist() == [1.5, -0.25]


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registered version with a reference, in staging, in a checkout with ``params.yaml``; its number is 1."""
    with working_in(tmp_path_factory.mktemp("registered")) as folder:
        text = (ROOT / "params.yaml").read_text()
        (folder / "params.yaml").write_text(re.sub(r"resamples: \d+", "resamples: 100", text))
        made, place = reference(), folder / "files" / "artifacts" / "any" / "reference"
        place.mkdir(parents=True)  # what a logged model keeps, but for what it predicts with
        kept = "flavors: {python_function: {artifacts: {model: {path: artifacts/any}}}}\n"
        (folder / "files" / "MLmodel").write_text(kept)
        write_json(place.parent / "contract.json", {**contract_text(made.contract), "cross_fitted": False})
        made.inputs.to_parquet(place / "inputs.parquet")
        made.predictions.assign(target="all").to_parquet(place / "predictions.parquet")
        write_json(place / "novelty.json", {"threshold": 1.0, "parts": []})
        client = MlflowClient()
        client.create_registered_model(TASK)
        tags = {"simulated": "true", "architecture": "resnet50"}
        version = client.create_model_version(TASK, source=str(folder / "files"), tags=tags)
        client.set_registered_model_alias(TASK, "staging", version.version)
        yield folder


def test_the_report_is_written_and_logged(
    registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(rows: pd.DataFrame) -> object:
        monkeypatch.setattr("sys.argv", ["monitor", "--task", TASK, "--log", str(written(tmp_path, rows))])
        with pytest.raises(SystemExit) as raised:
            run_command(monitor_command.main)
        return raised.value.code

    for rows, code, told in ((200, 0, "200 rows: fine;"), (20, 1, "error: ")):
        assert ended(log_rows(rows, version="1")) == code
        assert told in "".join(capsys.readouterr())
    before = set((registered / "reports" / TASK / "monitor").iterdir())
    darker = log_rows(200, version="1").assign(input_brightness=lambda rows: rows["input_brightness"] - 25)
    assert ended(darker) == monitor_command.RETRAIN
    said = capsys.readouterr().out
    assert "200 rows: retrain;" in said and "input brightness drifted" in said
    (folder,) = set((registered / "reports" / TASK / "monitor").iterdir()) - before
    assert json.loads((folder / "monitor.json").read_text())["decision"] == "retrain"
    page = (folder / "monitor.html").read_text()
    assert "input brightness drifted" in page and "simulated data" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("data:image", "")  # nothing is fetched
    client = MlflowClient()
    run = client.search_runs([tracking.experiment(TASK)])[0]
    assert (run.data.tags["stage"], run.data.tags["decision"]) == ("monitor", "retrain")
    assert run.data.metrics["drift/rows"] == 200 and run.data.metrics["drift/columns"] == 1
    kept = {each.path for each in client.list_artifacts(run.info.run_id, "monitor")}
    assert kept == {"monitor/monitor.json", "monitor/monitor.html"}


def test_labels_are_joined_by_the_salt_of_the_log(
    registered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = evidence(macro_f1=(0.9, 0.87, 0.93), weighted_f1=(0.9, 0.87, 0.93))
    monkeypatch.setattr(monitoring, "evidence_of", lambda *_: kept)
    rows = log_rows(200, version="1")
    # The hash is the endpoint's own, not this file's.
    prediction_log = PredictionLog(tmp_path / "unused", TASK, SALT.encode())
    rows["sample_sha256"] = [prediction_log._hash(f"S{row}".encode()) for row in range(200)]
    prediction_log.close()
    log = written(tmp_path / "log", rows)
    path = labels_csv(tmp_path, {"label": other_label(rows, np.arange(200) % 3 == 0)})
    monkeypatch.delenv(LOG_SALT, raising=False)
    with pytest.raises(UserError, match=LOG_SALT):
        monitor(TASK, read_params(), log, labels=path)
    for salt, decision, counted in (
        (SALT, "retrain", {"status": "dropped", "rows": 200}),
        ("another", "fine", {"status": "unknown", "rows": 0}),
    ):
        monkeypatch.setenv(LOG_SALT, salt)
        report, _ = monitor(TASK, read_params(), log, labels=path)
        assert report["decision"] == decision
        assert {key: report["performance"][key] for key in counted} == counted


def test_what_cannot_be_watched_is_said(registered: Path, tmp_path: Path) -> None:
    log = written(tmp_path, log_rows(200, version="1"))

    def refused(says: str, task: str = TASK, **given: Any) -> None:
        with pytest.raises(UserError, match=says):
            monitor(task, PARAMS, log, **given)

    refused("make register TASK=blood_cell", "blood_cell")
    refused("no version '7'", version="7")
    for path in (registered / "files").rglob("inputs.parquet"):
        path.unlink()
    refused("keeps no reference")
    MlflowClient().delete_registered_model_alias(TASK, "staging")
    refused("in production or staging")


TISSUES = ("lung", "skin", "blood", "breast", "colon")


def sample(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(rows, 12)), columns=[f"component_{place}" for place in range(12)])
    table["sharpness"] = rng.lognormal(size=rows)
    table["rings"] = rng.poisson(3, size=rows)
    table["flag"] = rng.integers(0, 2, size=rows)
    table["sometimes"] = np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows))
    table["tissue"] = rng.choice(TISSUES, size=rows, p=[0.4, 0.3, 0.2, 0.07, 0.03])
    return table


def alarms(drifts: list[Drift]) -> set[tuple[str, str]]:
    return {(each.column, each.kind) for each in corrected(drifts) if each.drifted(*EFFECT)}


def test_tests_alone_alarm_as_seldom_as_significance_says() -> None:
    # Without the effect size, which would hide a test that alarms too often.
    level, repeats = 0.1, 40
    drawn = ((sample(400, 5_000 + seed), sample(100, 9_000 + seed)) for seed in range(repeats))
    alarmed = sum(any(each.adjusted < level for each in corrected(column_drifts(*both))) for both in drawn)
    allowed = level * repeats + 2.6 * np.sqrt(level * (1 - level) * repeats)
    assert alarmed <= allowed
    reference, logged = sample(2_000, 1), sample(20_000, 2)
    logged["component_3"] += 0.15  # a trifle in a large log is no alarm: it is there, and does not matter
    drift = next(each for each in corrected(column_drifts(reference, logged)) if each.column == "component_3")
    assert drift.adjusted < POLICY.significance and not drift.drifted(*EFFECT)


def pairs(lines: int, drugs: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    of_line = pd.DataFrame({name: rng.normal(size=lines) for name in ("expression_mean", "expression_spread")})
    of_line["detected"], of_line["tissue"] = rng.integers(900, 1000, size=lines), rng.choice(TISSUES, size=lines)
    of_drug = pd.DataFrame({"weight": np.random.default_rng(0).lognormal(size=drugs)})
    return of_line.merge(of_drug, how="cross")


def test_fifty_rows_of_a_cell_line_are_one_cell_line_and_an_atom_is_no_entity() -> None:
    worth = independent_rows(pairs(40, 50, 1), pairs(8, 50, 2))
    of_line = dict.fromkeys(("expression_mean", "expression_spread", "detected", "tissue"), 8)
    assert {column: round(rows[1]) for column, rows in worth.items()} == {**of_line, "weight": 50}
    # Eight new lines of the same kind, in 400 rows: counted as rows they would be another population every time.
    assert not any(alarms(column_drifts(pairs(40, 50, 100 + seed), pairs(8, 50, seed))) for seed in range(10))
    # An atom is no entity: half of the images are all foreground, and count as images of their own.
    table = sample(300, 1).assign(foreground=lambda table: np.minimum(1.0, table["sharpness"] + 0.5))
    assert independent_rows(table, table)["foreground"] == (300, 300)


_COUNTS = st.lists(st.integers(0, 500), min_size=2, max_size=12)


@given(old=_COUNTS, new=_COUNTS)
@settings(max_examples=60, deadline=None)
def test_stability_is_finite_and_never_negative(old: list[int], new: list[int]) -> None:
    bins = min(len(old), len(new))
    first, second = np.array(old[:bins]), np.array(new[:bins])
    if first.sum() and second.sum():
        index = distribution.population_stability(first, second, (first.sum(), second.sum()))
        assert 0 <= index < np.inf
        assert distribution.population_stability(first, first, (first.sum(), first.sum())) == 0


def test_columns_without_a_value_or_a_variation_do_not_stop_the_report() -> None:
    reference = sample(200, 1).assign(never=np.nan, always=1.0, one="x")
    logged = sample(100, 2).assign(never=np.nan, always=1.0, one="x")
    found = {(each.column, each.kind): each for each in column_drifts(reference, logged)}
    assert found["always", "number"].p == 1
    assert found["one", "category"].p == 1
    assert ("never", "number") not in found
    assert alarms(list(found.values())) == set()
    gone = logged.assign(component_0=np.nan)
    assert alarms(column_drifts(reference, gone)) == {("component_0", "missing")}


def test_numbers_and_categories_agree_with_their_textbook_tests() -> None:
    from scipy import stats

    rng = np.random.default_rng(0)
    one, two = rng.normal(size=300), rng.normal(0.3, 1.2, size=200)
    assert distribution.number_drift("x", one, two).p == pytest.approx(stats.ks_2samp(one, two, method="asymp").pvalue)
    first, second = (pd.Series(rng.choice(["a", "b", "c"], 300, p=p)) for p in ([0.3, 0.3, 0.4], [0.5, 0.2, 0.3]))
    table = np.stack([each.value_counts().sort_index() for each in (first, second)])
    assert distribution.category_drift("x", first, second).p == pytest.approx(stats.chi2_contingency(table).pvalue)
