"""Cox models on real tumors beside those of scikit-survival, on the same folds: 198 patients of GSE7390."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from evaluation.metrics import group_counts, percentile_interval
from pipelines.datasets import prepare
from pipelines.samples.expression import ExpressionSamples
from pipelines.samples.survival import concordance
from pipelines.validate import validate_folder
from tests.training.survival_samples import NAME, follow_up, real_task, write_real
from training.architectures import get_architecture, names
from training.contract import make_contract
from training.features.expression_profile import ProfileFeatures
from training.model.cross_fit import fit_final

sksurv = pytest.importorskip("sksurv")

MODELS = [name for name in names("profiles", "survival") if name != "kaplan_meier"]
RIVALS = ("scikit-survival Cox net", "scikit-survival forest")
_FOLDS = 5
_ALPHAS = [[0.02], [0.05], [0.1], [0.2], [0.5], [1.0]]


@pytest.fixture(scope="module")
def tumors(tmp_path_factory: pytest.TempPathFactory) -> ExpressionSamples:
    folder = tmp_path_factory.mktemp("gse7390")
    write_real(folder)
    assert validate_folder(folder, NAME, real_task()).passed
    samples: ExpressionSamples = real_task().read(folder).samples
    assert (len(samples), samples.target[:, 1].sum()) == (198, 51)
    return samples


def _ours(name: str, train: ExpressionSamples, unseen: ExpressionSamples) -> np.ndarray:
    architecture = get_architecture(name, "profiles", "survival")
    model = architecture.build(dict(architecture.defaults), rounds=100, epochs=60, seed=0, device="cpu")
    return model.fit(train).outputs(unseen)


def _theirs(name: str, train: ExpressionSamples, unseen: ExpressionSamples) -> np.ndarray:
    """Predict by scikit-survival's Cox net, whose penalty is chosen by cross-validation, or its survival forest."""
    from sksurv.ensemble import RandomSurvivalForest
    from sksurv.linear_model import CoxnetSurvivalAnalysis
    from sksurv.util import Surv

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
            risk = (_ours if name in MODELS else _theirs)(name, tumors.take(train), tumors.take(unseen))
            of_folds.append(concordance(*follow_up(tumors.take(unseen)), risk, weights[:, unseen]))
        found[name] = np.mean(of_folds, axis=0)
        interval = percentile_interval(found[name][0], found[name][1:])
        print(f"GSE7390, {name}: concordance {interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
    return found


@pytest.mark.parametrize("name", MODELS)
def test_concordance_is_above_chance_and_not_below_scikit_survival_s_by_more_than_its_interval(
    name: str, scores: dict[str, np.ndarray]
) -> None:
    assert percentile_interval(scores[name][0], scores[name][1:]).low > 0.5
    for rival in RIVALS:
        difference = scores[name] - scores[rival]
        interval = percentile_interval(difference[0], difference[1:])
        print(f"GSE7390, {name} over {rival}: {interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]")
        assert interval.high > 0


def test_a_model_of_real_tumors_answers(tmp_path: Path) -> None:
    write_real(tmp_path)
    task, architecture = real_task(), get_architecture("cox_net", "profiles", "survival")
    prepared = prepare(task.read(tmp_path), task, 0)
    events = prepared.table.groupby("split")["event"].mean()
    assert events.max() - events.min() < 0.1  # dealt evenly
    final = fit_final(architecture, dict(architecture.defaults), prepared, members=5, settings={})
    contract: Any = make_contract(NAME, "cox_net", task, prepared=prepared, final=final)
    test = prepared.side("test")
    answer = contract.answer(contract.calibrated(final.estimator.outputs(test)), test)
    assert 0.1 < answer["prediction"].mean() < 0.5  # 26 % have a metastasis within ten years or so
    assert (answer["low"] < answer["high"]).all()
    assert contract.slope > 0.1
