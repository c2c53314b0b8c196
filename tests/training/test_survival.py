"""What would make a model of survival wrong, and Cox models beside scikit-survival's on 198 real tumors (GSE7390)."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sksurv.ensemble import RandomSurvivalForest
from sksurv.linear_model import CoxnetSurvivalAnalysis
from sksurv.util import Surv

from evaluation.metrics import group_counts, percentile_interval
from pipelines.datasets import Prepared, prepare
from pipelines.errors import UserError
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.response import Kept
from pipelines.samples.survival import concordance, kaplan_meier, partial_loss
from pipelines.validate import validate_folder
from tests.training.survival_samples import NAME, follow_up, follow_up_samples, real_task, survival_params, write_real
from training.architectures import get_architecture, names
from training.architectures.cox_mlp import batch_loss
from training.architectures.cox_net import penalized_cox
from training.contract import contract_from, contract_text, make_contract
from training.estimator import Estimator, FitContext
from training.features.expression_profile import ProfileFeatures
from training.model.cross_fit import FinalFit, fit_final

BASELINE = "kaplan_meier"
ALL = names("profiles", "survival")
MODELS = [name for name in ALL if name != BASELINE]
SETTINGS: dict[str, Any] = {"rounds": 60, "epochs": 40, "seed": 3, "device": "cpu"}
RIVALS = ("scikit-survival Cox net", "scikit-survival forest")
Finals = Callable[[str], FinalFit]
_FOLDS = 3
_ALPHAS = [[0.02], [0.05], [0.1], [0.2], [0.5], [1.0]]


def _build(name: str, **others: int) -> Estimator:
    architecture = get_architecture(name, "profiles", "survival")
    return architecture.build(dict(architecture.defaults), **{**SETTINGS, **others})


# Invented samples


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    """Return invented samples, split as the task says."""
    samples = follow_up_samples(160)
    rows: dict[str, Any] = {"raw": 160, "kept": 160, "dropped": {}}
    return prepare(Kept(samples, {"rows": rows, "without": {}}), survival_params().task(NAME), 5)


@pytest.fixture(scope="module")
def final_of(prepared: Prepared) -> Finals:
    """Return a function that gives the final fit of an architecture, fitted once."""
    return cache(lambda name: _final(name, prepared))


def _final(name: str, prepared: Prepared, settings: Any = SETTINGS) -> FinalFit:
    architecture = get_architecture(name, "profiles", "survival")
    return fit_final(architecture, dict(architecture.defaults), prepared, members=3, settings=settings)


@pytest.fixture(scope="module")
def final(final_of: Finals) -> FinalFit:
    return final_of("cox_net")


def _contract(final: FinalFit, prepared: Prepared, name: str = "cox_net", **data: Any) -> Any:
    task: Any = survival_params().task(NAME)
    task = replace(task, data=replace(task.data, **{"horizons": (40.0, 80.0, 160.0), "horizon": 80.0, **data}))
    return make_contract(NAME, name, task, prepared=prepared, final=final)


@pytest.mark.parametrize("name", MODELS)
def test_the_time_that_a_sample_was_censored_at_carries_no_event(name: str) -> None:
    """Risks must not learn that a long follow-up without the event is one with it."""
    train, unseen = follow_up_samples(150), follow_up_samples(200, seed=2)
    turned = train.table.assign(event=1 - train.table["event"])
    right, wrong = (_build(name).fit(replace(train, table=table)) for table in (train.table, turned))
    scores = [float(concordance(*follow_up(unseen), model.outputs(unseen))) for model in (right, wrong)]
    assert scores[0] > scores[1] + 0.1


@pytest.mark.parametrize("name", MODELS)
def test_rows_without_any_event_are_no_reason_to_stop(name: str) -> None:
    validation, seen = follow_up_samples(40, seed=1), list[dict[str, float]]()
    context = FitContext(on_step=lambda step, metrics: seen.append(metrics))
    model = _build(name).fit(follow_up_samples(120), validation.take(validation.target[:, 1] == 0), context)
    assert np.isfinite(model.outputs(validation)).all() and model.outputs(validation).std() > 0.1
    assert all(np.isfinite(list(metrics.values())).all() for metrics in seen)


@pytest.mark.parametrize(("alpha", "l1_share"), [(0.5, 0.05), (0.1, 0.5), (0.05, 1.0)])
def test_the_penalized_likelihood_has_the_maximum_that_scikit_survival_finds(alpha: float, l1_share: float) -> None:
    samples = follow_up_samples(120)
    time, event = np.ceil(samples.target[:, 0] / 5), samples.target[:, 1]  # with ties
    features = ProfileFeatures().fit(samples).transform(samples).astype(np.float64)
    features -= features.mean(axis=0)
    theirs = CoxnetSurvivalAnalysis(alphas=[alpha], l1_ratio=l1_share, tol=1e-9)
    theirs.fit(features, Surv.from_arrays(event > 0, time))
    ours = penalized_cox(features, time, event, alpha, l1_share)
    np.testing.assert_allclose(ours, theirs.coef_[:, 0], rtol=0, atol=1e-3)


def test_the_loss_of_a_batch_is_the_partial_likelihood_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    time, event, risk = np.ceil(rng.exponential(5, 40)), rng.random(40) < 0.6, rng.normal(size=40)
    later = torch.as_tensor(time[None, :] >= time[:, None])
    loss = batch_loss(torch.as_tensor(risk), later, torch.as_tensor(event, dtype=torch.float64))
    assert float(loss) == pytest.approx(partial_loss(time, event, risk), abs=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_the_log_hazard_is_explained_by_the_genes_that_raise_it(name: str) -> None:
    model = _build(name).fit(follow_up_samples(120), follow_up_samples(60, seed=1))
    explained = model.attribute(follow_up_samples(60, seed=2))
    assert explained is not None
    number = np.array([int(gene.removeprefix("GENE")) for gene in explained.names])
    size = np.abs(explained.values).mean(axis=0)
    assert size[number < 8].mean() > 2 * size[number >= 8].mean()


@pytest.mark.parametrize("name", ALL)
def test_an_answer_holds_a_falling_curve_and_an_interval(name: str, prepared: Prepared, final_of: Finals) -> None:
    final, test = final_of(name), prepared.side("test")
    contract: Any = contract_from(json.loads(json.dumps(contract_text(_contract(final, prepared, name)))))
    answer = pd.DataFrame(contract.answer(contract.calibrated(final.estimator.outputs(test)), test))
    curves = np.array([list(each.values()) for each in answer["survival"]])
    assert list(answer["survival"][0]) == ["40", "80", "160"]
    assert (np.diff(curves, axis=1) <= 0).all() and ((curves >= 0) & (curves <= 1)).all()
    np.testing.assert_allclose(answer["prediction"], 1 - curves[:, 1], rtol=0, atol=1e-12)
    assert ((answer["low"] < answer["prediction"]) & (answer["prediction"] < answer["high"])).all()
    assert (answer["log_hazard"].rank() == answer["prediction"].rank()).all()
    assert answer["event_free_until"].between(0, contract.end).all()
    if name == "cox_net":
        base, rows = contract.explain(final.estimator, test).values()
        total = [start + sum(each["value"] for each in row) for start, row in zip(base, rows, strict=True)]
        np.testing.assert_allclose(total, answer["log_hazard"], rtol=0, atol=1e-6)
    withdrawn = pd.DataFrame(contract.withdrawn(dict(answer), np.ones(len(test), dtype=bool)))
    assert withdrawn[["low", "high", "event_free_until", "coverage"]].isna().all(axis=None)
    assert withdrawn["prediction"].notna().all()


def test_all_risks_alike_make_the_curve_of_kaplan_and_meier(prepared: Prepared, final_of: Finals) -> None:
    contract = _contract(final_of(BASELINE), prepared, BASELINE)
    expected = kaplan_meier(*follow_up(prepared.side("train", "validation")), np.array([40.0, 80.0, 160.0]))
    np.testing.assert_allclose(contract.naive, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(contract.calibrated(np.zeros(1))[0, 1:], expected, rtol=0, atol=0.02)


def test_too_large_log_hazards_are_scaled_and_wrong_ones_not_turned_round(final: FinalFit, prepared: Prepared) -> None:
    plain, humble, wrong = (
        _contract(replace(final, held_out=final.held_out * factor), prepared) for factor in (1, 4, -1)
    )
    assert humble.slope == pytest.approx(plain.slope / 4, rel=1e-3) and wrong.slope == 0
    given = np.linspace(-1, 1, 5)
    np.testing.assert_allclose(humble.calibrated(given * 4), plain.calibrated(given), rtol=0, atol=1e-3)
    said = pd.DataFrame(wrong.said(wrong.calibrated(given), np.zeros(5, dtype=bool)))
    assert said["prediction"].nunique() == 1
    assert np.isfinite(said[["low", "high", "event_free_until"]].to_numpy()).all()


def test_a_horizon_that_nobody_reaches_with_the_event_is_refused(final: FinalFit, prepared: Prepared) -> None:
    with pytest.raises(UserError, match="held-out sample has the event"):
        _contract(final, prepared, horizons=(0.5, 80.0), horizon=0.5)


def test_what_is_answered_holds_on_samples_that_no_fit_has_seen(final: FinalFit, prepared: Prepared) -> None:
    contract, many = _contract(final, prepared), follow_up_samples(3000, seed=9)
    answer = pd.DataFrame(contract.said(contract.calibrated(final.estimator.outputs(many)), contract.unseen(many)))
    time, event = many.target.T
    covered = kaplan_meier(time / answer["event_free_until"].to_numpy(), event, np.ones(1), before=True)[0]
    assert covered == pytest.approx(contract.coverage, abs=0.05)
    third = pd.qcut(answer["prediction"], 3, labels=False).to_numpy()
    for each in range(3):
        rows = third == each
        observed = 1 - kaplan_meier(time[rows], event[rows], np.array([80.0]))[0]
        assert observed == pytest.approx(answer["prediction"][rows].mean(), abs=0.1)


# Real tumors


@pytest.fixture(scope="module")
def tumors(tmp_path_factory: pytest.TempPathFactory) -> ExpressionSamples:
    folder = tmp_path_factory.mktemp("gse7390")
    write_real(folder)
    assert validate_folder(folder, NAME, real_task()).passed
    samples: ExpressionSamples = real_task().read(folder).samples
    assert (len(samples), samples.target[:, 1].sum()) == (198, 51)
    return samples


def _risk(name: str, train: ExpressionSamples, unseen: ExpressionSamples) -> np.ndarray:
    """Predict by a model, or scikit-survival's Cox net, its penalty chosen by cross-validation, or survival forest."""
    if name in MODELS:
        return _build(name, rounds=100, epochs=60, seed=0).fit(train).outputs(unseen)
    net = GridSearchCV(CoxnetSurvivalAnalysis(), {"alphas": _ALPHAS, "l1_ratio": [0.05, 0.5]}, cv=5)
    model = net if name == RIVALS[0] else RandomSurvivalForest(200, min_samples_leaf=10, random_state=0)
    features, (time, event) = ProfileFeatures().fit(train), train.target.T
    return model.fit(features.transform(train), Surv.from_arrays(event > 0, time)).predict(features.transform(unseen))


@pytest.fixture(scope="module")
def scores(tumors: ExpressionSamples) -> dict[str, np.ndarray]:
    """Return for each model the mean concordance over the folds: of all patients first, then of resampled ones."""
    splits = list(StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(tumors.values, tumors.target[:, 1]))
    weights = np.vstack([np.ones(len(tumors)), group_counts(len(tumors), 1000, 0)])
    found = {}
    for name in (*MODELS, *RIVALS):
        of_folds = []
        for train, unseen in splits:
            risk = _risk(name, tumors.take(train), tumors.take(unseen))
            of_folds.append(concordance(*follow_up(tumors.take(unseen)), risk, weights[:, unseen]))
        found[name] = np.mean(of_folds, axis=0)
        interval = percentile_interval(found[name][0], found[name][1:])
        print(f"GSE7390, {name}: concordance {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    return found


@pytest.mark.parametrize("name", MODELS)
def test_concordance_is_above_chance_and_not_below_scikit_survival_s(name: str, scores: dict[str, np.ndarray]) -> None:
    assert percentile_interval(scores[name][0], scores[name][1:]).low > 0.5
    for rival in RIVALS:
        difference = scores[name] - scores[rival]
        interval = percentile_interval(difference[0], difference[1:])
        print(f"GSE7390, {name} over {rival}: {interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]")
        assert interval.high > 0


def test_a_model_of_real_tumors_answers(tmp_path: Path) -> None:
    write_real(tmp_path)
    task = real_task()
    prepared = prepare(task.read(tmp_path), task, 0)
    events = prepared.table.groupby("split")["event"].mean()
    assert events.max() - events.min() < 0.1  # dealt evenly
    final = _final("cox_net", prepared, {})
    contract: Any = make_contract(NAME, "cox_net", task, prepared=prepared, final=final)
    test = prepared.side("test")
    answer = pd.DataFrame(contract.answer(contract.calibrated(final.estimator.outputs(test)), test))
    assert 0.1 < answer["prediction"].mean() < 0.5  # 26 % have a metastasis within ten years or so
    assert (answer["low"] < answer["high"]).all()
    assert contract.slope > 0.1
