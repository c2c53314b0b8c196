"""A risk that is shown without its interval, a curve that rises, or labels of the monitor that are guessed at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pipelines.errors import DataError, UserError
from pipelines.samples.survival import concordance
from serving.dashboard.data.tables import survival_curve as curve_of
from serving.drift.watch import measure, read_labels
from serving.problems import get_problem
from tests.serving.served import save_fitted, split
from tests.training.survival_samples import NAME, follow_up, follow_up_samples, real_task
from training.model.predictor import Predictor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    task = real_task()
    task = replace(task, data=replace(task.data, time="days", event="relapse", horizons=(40.0, 80.0), horizon=80.0))
    folder = tmp_path_factory.mktemp("model")
    save_fitted(NAME, "cox_net", task, split(follow_up_samples(150)), folder)
    return Predictor().read(folder)


@pytest.fixture(scope="module")
def answers(model: Predictor) -> list[dict[str, Any]]:
    request = model.contract.request(follow_up_samples(40, seed=3))
    return model.predict(None, request, {"explain": True}).to_dict("records")  # type: ignore[return-value]


def _table(answers: list[dict[str, Any]]) -> pd.DataFrame:
    return get_problem("survival").table(answers, pd.DataFrame({"sample": [f"S{row}" for row in range(len(answers))]}))


def test_the_download_holds_risk_interval_and_curve(answers: list[dict[str, Any]]) -> None:
    table = _table(answers)
    familiar = table["familiar"].astype(bool)
    promised = table[familiar]
    assert len(promised) > 20 and promised["prediction"].between(promised["low"], promised["high"], "neither").all()
    assert table.loc[~familiar, ["low", "high"]].isna().all(axis=None)
    np.testing.assert_allclose(table["survival_80"], 1 - table["prediction"], rtol=0, atol=1e-12)
    assert {"familiar", "version", "note", "event_free_until"} <= {*table}
    points = curve_of(answers[0])
    assert points["time"].tolist() == [0.0, 40.0, 80.0]
    assert points["survival"].tolist()[0] == 1.0 and points["survival"].is_monotonic_decreasing


def page(answers: list) -> None:
    import pandas as pd
    import streamlit as st

    from serving.dashboard.pages import frame
    from serving.problems import get_problem

    problem = get_problem("survival")
    table = problem.table(answers, pd.DataFrame({"sample": [f"S{row}" for row in range(len(answers))]}))
    frame.rows(problem.columns(table), "Predicted risks")
    st.write(problem.heading(answers[0]))
    held = problem.held(answers[0])
    st.write("nothing" if held is None else held[0])
    problem.show(answers[0], table[table["sample"] == "S0"], "S0", "S0")
    st.write(problem.wording(answers[0], table, "key").of)


def test_a_page_shows_the_risk_with_its_horizon(answers: list[dict[str, Any]]) -> None:
    unknown = {**answers[0], "low": None, "high": None, "event_free_until": None}
    for first, promised in ((answers[0], True), (unknown, False)):
        assert np.isnan(_table([first])["low"]).all() != promised
        at = AppTest.from_function(page, args=([first, *answers[1:4]],), default_timeout=60).run()
        heading = at.subheader[0].value
        assert not at.exception and "Risk until 80 days" in heading
        assert ("to" in heading.split("days")[1]) == promised
        assert any("no event in the first" in each.value for each in at.markdown) == promised
        assert len(at.dataframe) >= 2


def _labels(folder: Path, **changes: Any) -> Path:
    samples = follow_up_samples(40, seed=3).table
    table = pd.DataFrame({"sample_id": samples["sample_id"], "days": samples["time"], "relapse": samples["event"]})
    path = folder / "labels.csv"
    table.assign(**changes).to_csv(path, index=False)
    return path


def test_logged_risks_are_measured_as_the_model_would_be(
    model: Predictor, answers: list[dict[str, Any]], tmp_path: Path
) -> None:
    samples = follow_up_samples(40, seed=3)
    logged = pd.DataFrame(answers)[["prediction"]].assign(sample_sha256=samples.table["sample_id"])
    labels = read_labels(_labels(tmp_path), model.contract, str)
    metrics = {"concordance": {"value": 0.7, "low": 0.6, "high": 0.8}}
    evidence = {"test": {"metrics": metrics, "confidence": 0.95}}
    settings: dict[str, Any] = {"metric": "concordance", "least": 10, "drop": 0.0, "resamples": 100}
    found = measure(model.contract, logged, labels, evidence, **settings)
    assert found.now is not None
    expected = float(concordance(*follow_up(samples), model.estimator.outputs(samples)))
    assert found.now.value == pytest.approx(expected, abs=1e-9)
    assert found.status == "held"
    wrong = logged.assign(prediction=logged["prediction"].to_numpy()[::-1])
    assert measure(model.contract, wrong, labels, evidence, **settings).status == "dropped"
    contract: Any = model.contract  # a logged risk implies the curve that was answered
    np.testing.assert_allclose(
        contract.of_risk(logged["prediction"].to_numpy()), model.outputs(samples), rtol=0, atol=1e-6
    )


def test_labels_that_are_no_follow_up_are_refused_and_events_may_be_words_of_truth(
    model: Predictor, tmp_path: Path
) -> None:
    for changes, message in (
        ({"days": 0.0}, "must be above 0"),
        ({"days": "soon"}, "must be a finite number"),
        ({"relapse": 3}, "must be 1 or true"),
    ):
        with pytest.raises(DataError, match=message):
            read_labels(_labels(tmp_path, **changes), model.contract, str)
    event = follow_up_samples(40, seed=3).table["event"] == 1
    path = _labels(tmp_path, relapse=event)
    np.testing.assert_array_equal(read_labels(path, model.contract, str)["measured_1"], event.astype(float))
    pd.read_csv(path).rename(columns={"relapse": "event"}).to_csv(path, index=False)
    with pytest.raises(UserError, match="relapse"):
        read_labels(path, model.contract, str)
