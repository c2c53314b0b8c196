"""A table of scores that mixes rows, settings or runs: every cell is of its own mode, beside its own baseline."""

import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation import generalize as command
from evaluation.comparison.paired import paired_difference
from evaluation.generalization import page
from evaluation.generalization import table as tables
from evaluation.generalization.apart import Outcome, fit_apart, fit_here
from evaluation.generalization.new_drugs import kinase_inhibitors, new_drugs
from evaluation.generalization.table import Plan, generalize, in_mode, plans, results, task_of
from evaluation.modalities import modality_of
from evaluation.problems import measures_of
from pipelines.datasets import Prepared, prepare
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.formatting import interval
from pipelines.groups.pairs import cell_line_groups
from pipelines.params import UNSEEN_DRUGS, Params
from pipelines.report import as_markdown
from pipelines.samples import Kept
from pipelines.simulate.response import Size, simulate_drug_response
from tests.training.tiny import NAME, tiny_params, with_task
from training.architectures.mean_effects import MeanEffects
from training.studies.trials import fit_settings

MODES: tuple[str, ...] = ("random", "cell_blind", "drug_blind", "drug_pilot", "tissue_blind", "cross_study")
BASELINE, MODEL = "mean_effects", "elastic_net"


@pytest.fixture(scope="module")
def params() -> Params:
    params = tiny_params(epochs=2, rounds=5)
    task = task_of(NAME, params)
    return with_task(params, replace(task, evaluate=replace(task.evaluate, resamples=100)))


@pytest.fixture(scope="module")
def kept(place: Path, params: Params) -> Kept:
    """Return all samples of a simulated raw folder, which lies in ``data``."""
    folder = place / "data" / NAME
    simulate_drug_response(folder, Size(lines=48, molecules=14, genes=30, programs=2))
    lines = pd.read_csv(folder / "cell_lines.csv")  # of the few tissues that there are one alone would be tested
    lines["tissue"] += " " + (np.arange(len(lines)) % 4).astype(str).astype(object)
    lines.to_csv(folder / "cell_lines.csv", index=False)
    return params.task(NAME).read(folder)


def planned(params: Params, folder: Path, **given: Any) -> list[Plan]:
    usual: dict[str, Any] = {"modes": MODES, "architectures": (MODEL,)}
    return plans(NAME, params, folder=folder, **usual | {"data_sha256": "of the data"} | given)


@pytest.fixture(scope="module")
def done(place: Path, params: Params, kept: Kept) -> list[Plan]:
    every = planned(params, place / "done")
    assert generalize(NAME, params, every, kept, fit=fit_here) == []
    return every


def result(every: list[Plan], mode: str, architecture: str) -> Any:
    return plan_of(every, mode, architecture).read()


def plan_of(every: list[Plan], mode: str, architecture: str) -> Plan:
    return next(plan for plan in every if (plan.mode, plan.architecture) == (mode, architecture))


def read_of(plan: Plan) -> pd.DataFrame:
    return pd.read_parquet(plan.predictions)


def predictions(every: list[Plan], mode: str, architecture: str) -> pd.DataFrame:
    return pd.read_parquet(plan_of(every, mode, architecture).predictions)


class Recorded:
    """A fit that answers at once, and knows what it was asked."""

    def __init__(self, faults: dict[tuple[str, str], BaseException] | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.faults = faults or {}

    def __call__(self, architecture: str, task: Any, chosen: Any, prepared: Prepared, *_: Any, **__: Any) -> Outcome:
        mode = "cell_blind" if prepared.table["group"].isin(prepared.table["cell_line_id"]).all() else "drug_blind"
        self.asked.append((mode, architecture))
        if fault := self.faults.get((mode, architecture)):
            raise fault
        test, held = prepared.rows("test"), prepared.rows("validation")
        return Outcome(np.full(len(test), 1.0), np.full(len(held), 1.0), held, 0.5, 100.0)


@pytest.mark.parametrize("mode", MODES)
def test_a_cell_is_of_the_test_rows_of_its_mode(mode: str, done: list[Plan], kept: Kept, params: Params) -> None:
    prepared = prepare(kept, in_mode(task_of(NAME, params), mode), params.seed)
    trained = prepared.table[prepared.table["split"] != "test"]
    for architecture in (BASELINE, MODEL):
        table = predictions(done, mode, architecture)
        assert table["sample_id"].tolist() == prepared.table.loc[prepared.rows("test"), "sample_id"].tolist()
        assert not set(table["sample_id"]) & set(trained["sample_id"])
        if mode in ("cell_blind", "tissue_blind", "cross_study"):
            assert not set(table["cell_line_id"]) & set(trained["cell_line_id"])
        if mode == "cross_study":
            assert set(table["study"]) == {"SIM2"} and set(trained["study"]) == {"SIM1"}
        if mode == "tissue_blind":
            tissue = prepared.table["cell_line_id"].map(prepared.samples.cell_lines["tissue"])
            tested = prepared.table["split"] == "test"
            assert len(set(tissue[tested])) > 1 and not set(tissue[tested]) & set(tissue[~tested])
        if mode in UNSEEN_DRUGS:
            assert not set(table["drug_id"]) & set(trained["drug_id"])
        assert result(done, mode, architecture)["split.sha256"] == prepared.sha256


@pytest.mark.parametrize("mode", MODES)
def test_scores_are_those_of_the_kept_predictions_beside_the_baseline_of_the_mode(
    mode: str, done: list[Plan], params: Params
) -> None:
    task, table, said = task_of(NAME, params), predictions(done, mode, MODEL), result(done, mode, MODEL)
    np.testing.assert_array_equal(predictions(done, mode, BASELINE)["prediction"], table["baseline"])
    assert result(done, mode, BASELINE)["metrics"]["margin"]["value"] == 0
    measured = table["target"].to_numpy(np.float64)
    r2 = 1 - ((measured - table["prediction"]) ** 2).sum() / ((measured - measured.mean()) ** 2).sum()
    assert said["metrics"]["r2"]["value"] == pytest.approx(r2)
    naive = measures_of(task.problem).naive(table)
    paired = paired_difference(task, table, naive, "r2", resamples=100, seed=params.seed)
    margin = said["metrics"]["margin"]
    assert list(margin.values()) == pytest.approx([paired.difference, paired.low, paired.high])
    assert margin["low"] < margin["high"] and said["seconds"] > 0 and said["peak_megabytes"] > 50
    assert said["rows"]["test"] == len(table) and said["units"] == table["group"].nunique()


def test_what_is_resampled_is_what_varies_independently(done: list[Plan], kept: Kept, params: Params) -> None:
    shown = {mode: result(done, mode, MODEL)["unit"] for mode in MODES}
    drugs = {"drug_blind": "drug", "drug_pilot": "drug"}
    assert shown == dict.fromkeys(MODES, "cell line") | drugs | {"tissue_blind": "tissue"}
    task = in_mode(task_of(NAME, params), "random")
    prepared = prepare(kept, task, params.seed)
    line = cell_line_groups(prepared.samples, task.split.near_identical)
    expected = prepared.table["cell_line_id"].map(line)
    unit, told = modality_of("pairs").resampled(prepared.table, prepared, task.split)
    assert unit == "cell line" and told["group"].tolist() == expected.tolist()
    assert prepared.table["group"].nunique() > expected.nunique()  # pairs, which are not independent
    alone = tables.measure(predictions(done, "random", MODEL).assign(group="one"), task, params.seed)
    assert all(np.isfinite(each.value) and np.isnan([each.low, each.high]).all() for each in alone.values())


def test_a_broken_run_goes_on_with_what_is_missing(tmp_path: Path, place: Path, kept: Kept, params: Params) -> None:
    every = planned(params, tmp_path, modes=("cell_blind",), architectures=(MODEL, "xgboost"))
    broken = Recorded({("cell_blind", "xgboost"): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        generalize(NAME, params, every, kept, fit=broken)
    assert [plan.read() is not None for plan in every] == [True, True, False]
    again = Recorded()
    assert generalize(NAME, params, every, kept, fit=again) == []
    assert again.asked == [("cell_blind", "xgboost")]
    table = predictions(every, "cell_blind", "xgboost")  # its baseline was read, not fitted again
    np.testing.assert_array_equal(table["baseline"], predictions(every, "cell_blind", BASELINE)["prediction"])
    every[1].predictions.unlink()
    every[0].result.write_text("{ cut short")
    assert generalize(NAME, params, every, kept, fit=again) == []
    assert [name for _, name in again.asked[1:]] == [BASELINE, MODEL]


def test_other_data_or_settings_make_every_cell_stale(done: list[Plan], place: Path, params: Params) -> None:
    task = task_of(NAME, params)
    shares = with_task(params, replace(task, split=replace(task.split, test=0.3)))
    seed = replace(params, seed=params.seed + 1)
    for changed, data in ((params, "other data"), (seed, "of the data"), (shares, "of the data")):
        assert all(plan.read() is None for plan in planned(changed, place / "done", data_sha256=data))
    assert all(plan.read() is not None for plan in done)


def test_tuned_hyperparameters_are_used_and_a_new_study_makes_its_cells_stale(
    tmp_path: Path, place: Path, done: list[Plan], params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {plan.origin for plan in done} == {"defaults"}
    monkeypatch.setattr("evaluation.generalization.table.MODELS", tmp_path)
    write_json(tmp_path / NAME / MODEL / "tuned.json", {"hyperparameters": {"alpha": 0.3}})
    again = planned(params, place / "done")
    changed = [plan for plan in again if plan.architecture == MODEL]
    assert all((plan.hyperparameters, plan.origin) == ({"alpha": 0.3}, "tuned") for plan in changed)
    assert [plan for plan in again if plan.read() is None] == changed


def test_a_fit_that_fails_or_a_mode_that_cannot_be_split_holds_up_no_other_but_for_a_baseline(
    tmp_path: Path, place: Path, kept: Kept, params: Params
) -> None:
    every = planned(params, tmp_path, modes=("cell_blind", "drug_blind"), architectures=(MODEL, "xgboost"))
    faults: dict[tuple[str, str], BaseException] = {
        ("cell_blind", MODEL): UserError("it diverged"),
        ("drug_blind", BASELINE): UserError("there was no memory"),
    }
    failed = generalize(NAME, params, every, kept, fit=Recorded(faults))
    assert failed[:2] == ["cell_blind elastic_net: it diverged", "drug_blind mean_effects: there was no memory"]
    assert all("there is no fit of mean_effects, over which every margin is taken" in each for each in failed[2:])
    assert [plan.read() is not None for plan in every] == [True, False, True, False, False, False]
    text = as_markdown(page.content(results(NAME, params, every, failed, kept.samples)))
    assert "Failed: cell_blind elastic_net: it diverged" in text
    assert "Not run yet, or made from other data or settings: `cell_blind` elastic_net, `drug_blind` " in text
    task: Any = task_of(NAME, params)
    nowhere = with_task(params, replace(task, split=replace(task.split, test_study="nowhere")))
    every = planned(nowhere, tmp_path / "nowhere", modes=("cross_study", "cell_blind"))
    (told,) = generalize(NAME, nowhere, every, kept, fit=Recorded())
    assert told.startswith("cross_study: split.test_study is 'nowhere'")
    assert [plan.mode for plan in every if plan.read() is not None] == ["cell_blind"] * 2


class Deadly:  # kills the process that reads it, as one dies that has no memory left
    def __reduce__(self) -> Any:
        return signal.raise_signal, (signal.SIGKILL,)


def test_a_fit_apart_is_the_same_fit_and_one_that_is_killed_or_diverges_is_told(
    kept: Kept, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, settings = params.task(NAME), fit_settings(params, params.task(NAME))
    prepared = prepare(kept, in_mode(task_of(NAME, params), "cell_blind"), params.seed)
    here, apart = (fit(BASELINE, task, {}, prepared, settings) for fit in (fit_here, fit_apart))
    np.testing.assert_array_equal(here.predicted, apart.predicted)
    np.testing.assert_array_equal(here.held_out, apart.held_out)
    assert apart.peak_megabytes > 50
    deadly: Any = Deadly()
    with pytest.raises(UserError, match="the process that fitted mean_effects was killed"):
        fit_apart(BASELINE, task, {}, deadly, settings)
    monkeypatch.setattr(MeanEffects, "predict", lambda self, samples: np.full(len(samples), np.nan))
    with pytest.raises(UserError, match="the fit of mean_effects diverged"):
        fit_here(BASELINE, task, {}, prepared, settings)


def test_new_drugs_are_scored_beside_the_baseline_and_kinase_inhibitors_by_themselves(
    done: list[Plan], kept: Kept, params: Params
) -> None:
    task, tables = task_of(NAME, params), {(plan.mode, plan.architecture): read_of(plan) for plan in done}
    drugs = kept.samples.drugs.copy()
    drugs["pathway"] = np.where(np.arange(len(drugs)) % 2, "Apoptosis regulation", "RTK signaling")
    samples = replace(kept.samples, drugs=drugs)
    rows = new_drugs(task, tables, samples, resamples=50, confidence=0.95, seed=0)
    assert {row["mode"] for row in rows} == set(UNSEEN_DRUGS)
    for row in rows:
        table, naive = tables[row["mode"], row["architecture"]], tables[row["mode"], BASELINE]
        own = set(drugs.index if row["part"] == "all drugs" else drugs.index[::2])
        both = [each[each["drug_id"].isin(own)] for each in (table, naive)]
        expected = [measures_of(task.problem).alone(each, task)["within_drug_pearson"] for each in both]
        assert row["within"]["value"] == pytest.approx(expected[0], abs=1e-6)
        assert row["over_baseline"]["value"] == pytest.approx(expected[0] - expected[1], abs=1e-6)
    told = pd.DataFrame({"target": ["Retinoic acid", "AURKB, KSP", None], "pathway": ["Other", "Mitosis", None]})
    assert list(kinase_inhibitors(told)) == [1]


def test_across_studies_the_drugs_that_both_have_are_scored_by_themselves(
    done: list[Plan], kept: Kept, params: Params
) -> None:
    plan = plan_of(done, "cross_study", MODEL)
    table, drugs = pd.read_parquet(plan.predictions), kept.samples.drugs
    lost = drugs["name"] == "simulated drug 2"  # one molecule under two ids; the first study is made to lack it
    assert drugs.index[lost].tolist() == ["SIM1:02", "SIM2:02"]
    samples = kept.samples.take((kept.samples.pairs["drug_id"] != "SIM1:02").to_numpy())
    part = tables.of_known_drugs(NAME, params, plan, samples)
    assert part is not None
    known = table[~table["drug_id"].isin(drugs.index[lost])]
    assert 0 < part["rows"] == len(known) < len(table)
    assert part["drugs"] == known["drug_id"].nunique()
    alone = tables.measure(known, task_of(NAME, params), params.seed)["r2"]
    assert part["metrics"]["r2"] == alone.as_dict()
    assert tables.of_known_drugs(NAME, params, done[0], kept.samples) is None  # of another mode


def test_network_and_simple_model_of_a_contest_are_chosen_by_validation(
    tmp_path: Path, done: list[Plan], params: Params, place: Path
) -> None:
    with pytest.raises(UserError, match="blood_cell is images x classification, of which no table is made"):
        task_of("blood_cell", params)
    every = planned(params, tmp_path, modes=("cell_blind",), architectures=("xgboost", "mlp"))
    every = [*every, replace(every[-1], name="cnn1d"), replace(every[-1], name="elastic_net")]
    truth = predictions(done, "cell_blind", MODEL)
    shifts = {BASELINE: 3.0, "xgboost": 1.0, "elastic_net": 0.2, "mlp": 0.4, "cnn1d": 0.1}
    validation = {BASELINE: 9.0, "xgboost": 0.5, "elastic_net": 0.6, "mlp": 1.0, "cnn1d": 2.0}  # RMSE
    for plan in every:
        shift = shifts[plan.architecture] * np.where(np.arange(len(truth)) % 2, 1, -1)
        plan.predictions.parent.mkdir(parents=True, exist_ok=True)
        truth.assign(prediction=truth["target"] + shift).to_parquet(plan.predictions)
        own = {"metric": "rmse", "value": validation[plan.architecture]}
        write_json(plan.result, {"fingerprint": plan.fingerprint, "architecture": plan.architecture, "validation": own})
    (found,) = tables.contests(NAME, params, every)
    assert (found["network"], found["rival"]) == ("mlp", "xgboost")  # others are better on the test rows alone
    assert found["low"] > 0


def test_the_table_has_a_row_an_architecture_a_column_a_mode_and_says_that_data_is_simulated(
    tmp_path: Path, done: list[Plan], kept: Kept, params: Params
) -> None:
    found = results(NAME, params, done, [], kept.samples)
    contest = {"mode": "random", "network": "mlp", "rival": "xgboost", "difference": 0.2, "low": 0.1, "high": 0.3}
    found["contests"].append(contest)
    page.write(found, tmp_path)
    text = (tmp_path / "generalization.md").read_text()
    assert "The data is simulated" in text and "R² +0.200 [+0.100, +0.300]" in text
    for architecture in (BASELINE, MODEL):
        (line,) = [line for line in text.splitlines() if line.startswith(f"| `{architecture}`")]
        cells = line.strip("| ").split(" | ")[1:]
        assert len(cells) == len(MODES) + 1
        for mode, cell in zip(MODES, cells, strict=False):
            scores = result(done, mode, architecture)["metrics"]
            assert cell.startswith(interval(scores["r2"]))
            assert (interval(scores["margin"], sign="+") in cell) == (architecture != BASELINE)
    assert "<table" in (tmp_path / "generalization.html").read_text()


def test_the_command_makes_the_table_and_says_where_it_is(
    place: Path, kept: Kept, params: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "read_params", lambda: params)
    monkeypatch.setattr(tables, "generalize", partial(generalize, fit=fit_here))
    arguments = ["--task", NAME, "--modes", "cell_blind", "--architectures", MODEL]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "`drug_blind` elastic_net" in printed
    assert (place / "reports" / NAME / "generalization" / "cell_blind" / f"{MODEL}.json").is_file()
    monkeypatch.setattr(tables, "generalize", partial(generalize, fit=pytest.fail))  # nothing is left to fit
    assert command.main(arguments) == 0
    with pytest.raises(UserError, match="the architecture 'no_such' is none"):
        command.main(["--task", NAME, "--architectures", "no_such"])
