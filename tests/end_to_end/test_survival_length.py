"""A problem that came as new files goes the whole length: from times and events to an answer and the monitor."""

import time
from collections.abc import Iterator

import pandas as pd
import pytest
from mlflow import pyfunc
from mlflow.exceptions import MlflowException

from pipelines.simulate.survival import simulate_breast_survival
from tests.end_to_end.small_platform import Checkout, checked_out, small_params

pytestmark = pytest.mark.slow
NAME, SERVED = "breast_survival", "cox_net"
MODELS = ("kaplan_meier", "cox_net", "cox_xgboost")
STAGED = f"models:/{NAME}@staging"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a checkout in which models of survival have been evaluated, and one is in staging."""
    changes = {"split.folds": 3, "fit.members": {"quick": 3, "full": 3}}
    params = small_params(NAME, models=MODELS, changes=changes, waive=True)
    params["policy"]["monitor"]["minimum_rows"] = 20
    with checked_out(tmp_path_factory.mktemp("survival"), params) as made:
        simulate_breast_survival(made.root / "data" / NAME, patients=150)
        made.train(NAME, MODELS)
        made.stage(NAME, SERVED)
        yield made


def test_a_model_beats_the_curve_of_all_shows_risk_groups_and_calibration_and_scores_a_cohort(
    here: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, folder = here.leaderboard(NAME), here.root / "reports" / NAME / "models" / SERVED
    assert rows["kaplan_meier"]["value"] == 0.5 and rows[SERVED]["margin_low"] > 0 and set(rows) == set(MODELS)
    found, naive = (here.evidence(NAME, name) for name in (SERVED, "kaplan_meier"))
    brier = [each["test"]["metrics"]["integrated_brier"]["value"] for each in (found, naive)]
    assert brier[0] < brier[1]
    figures = {path.stem for path in folder.glob("*.png")}
    assert figures >= {"curves_by_risk_group", "calibration_at_horizon", "genes_by_class"}
    assert found["coverage"]["observed"] > 0.7 and found["explanation"]["checks"][0]["value"] < 0.01
    assert found["test"]["log_rank"]["p"] < 0.05 and naive["test"]["risk_groups"][0]["group"] == "all"
    card = (here.root / "reports" / NAME / "candidate" / "card.md").read_text()
    assert "survival curve" in card and "curves_by_risk_group.png" in card
    cohort = here.root / "cohort"
    simulate_breast_survival(cohort, patients=150)  # the same tumors, of which only the first are kept
    kept = pd.read_csv(cohort / "samples.csv").iloc[:60].assign(relapse=lambda table: table["relapse"] == 1)
    kept.to_csv(cohort / "samples.csv", index=False)  # true and false are 1 and 0
    scored = here.score(NAME, cohort, capsys)
    assert scored["n"] == 60 and (concordance := scored["metrics"]["concordance"]["value"]) > 0.6
    assert scored["metrics"]["margin"]["value"] == pytest.approx(concordance - 0.5, abs=1e-9)


def test_it_answers_explains_and_is_watched(
    here: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log, data = here.root / "log", here.root / "data" / NAME
    table = pd.read_parquet(data / "expression.parquet").iloc[:60].set_index("sample_id").astype(float)
    rows = pd.DataFrame({"sample_id": table.index, "expression": table.to_dict("records")})
    monkeypatch.setenv("ONCOLINEAGE_LOG_SALT", "salt")
    with monkeypatch.context() as patch:  # as the endpoint has it
        patch.setenv("ONCOLINEAGE_PREDICTION_LOG", str(log))
        patch.setenv("ONCOLINEAGE_MODEL_VERSION", "1")
        served = pyfunc.load_model(STAGED)
    first = served.predict(rows).to_dict("records")[0]
    why = served.predict(rows.iloc[:1], params={"explain": True}).to_dict("records")[0]
    with pytest.raises((MlflowException, ValueError), match="SIMG0001"):
        served.predict(pd.DataFrame({"expression": [{**rows["expression"][0], "SIMG0001": "high"}]}))
    until = time.monotonic() + 60
    while not list(log.rglob("*.parquet")) and time.monotonic() < until:  # written within seconds
        time.sleep(0.2)
    assert first["low"] < first["prediction"] < first["high"]
    assert (first["horizon"], first["time_unit"]) == (1825.0, "days")
    assert first["survival"]["1825"] == pytest.approx(1 - first["prediction"], abs=1e-9)
    total = why["base"] + sum(each["value"] for each in why["attributions"])
    assert total == pytest.approx(why["log_hazard"], abs=1e-6)
    capsys.readouterr()
    watched = ("--task", NAME, "--log", str(log), "--labels", str(data / "samples.csv"))
    assert here.run("serving.monitor", *watched) == 0
    assert "concordance of 60 labelled rows" in capsys.readouterr().out
