"""The table of split modes on profiles: scores of classes that no row tested, and a change that is no change."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.evidence.build import PREDICTIONS, evaluate
from evaluation.generalization import page
from evaluation.generalization.apart import fit_here
from evaluation.generalization.table import Plan, generalize, plans, results
from evaluation.promotion.card import content
from pipelines.datasets import prepare
from pipelines.errors import UserError
from pipelines.params import Params, read_params
from pipelines.report import as_markdown
from pipelines.samples import Kept
from tests.evaluation.test_origins import samples
from tests.pipelines.expression_folder import ROOT
from training.architectures import get_architecture
from training.model.final_fit import fit, read_fitted

MODES = ("patient_blind", "site_blind", "plate_blind")
NAMES = ("logistic_regression", "logistic_regression+combat=site,c=0.01")


@pytest.fixture(scope="module")
def params() -> Params:
    params = read_params(ROOT / "params.yaml")
    task: Any = params.task("tumor_type")
    task = replace(task, data=replace(task.data, scale="log2"), evaluate=replace(task.evaluate, resamples=100))
    task = replace(task, split=replace(task.split, folds=2, near_identical=1.0))
    return replace(params, device="cpu", tasks={**params.tasks, "tumor_type": task})


@pytest.fixture(scope="module")
def kept() -> Kept:
    """Return two classes of sites that are tested, and one, c, of a single site."""
    given = samples(0.5)
    alone = given.table["site"].isin(["h0", "h2"]).to_numpy()
    target = np.where(alone, 2, given.table["target"])
    site = np.where(alone, "h0", given.table["site"] + (np.arange(360) // 6 % 5).astype(str).astype(object))
    label = np.array(["a", "b", "c"])[target]
    table = given.table.assign(target=target.astype(np.int64), label=label, site=site)
    return Kept(replace(given, table=table, classes=("a", "b", "c")), {"rows": {"kept": 360, "dropped": {}}})


def planned(params: Params, folder: Path, names: tuple[str, ...] = NAMES) -> list[Plan]:
    return plans("tumor_type", params, modes=MODES, architectures=names, data_sha256="of the data", folder=folder)


def test_each_mode_has_its_rows_its_untested_classes_and_what_a_change_brings(
    place: Path, params: Params, kept: Kept
) -> None:
    every = planned(params, place / "table")
    failed = generalize("tumor_type", params, every, kept, fit=fit_here)
    assert len(failed) == 1 and failed[0].startswith("plate_blind: split mode plate_blind: samples.csv has no column")
    found = results("tumor_type", params, every, failed, kept.samples)
    rows = {(row["mode"], row["architecture"]): row for row in found["rows"]}
    assert set(rows) == {(mode, name) for mode in MODES[:2] for name in ("majority_class", *NAMES)}
    assert rows["site_blind", NAMES[0]]["untested_classes"] == ["c"]
    assert rows["patient_blind", NAMES[0]]["untested_classes"] == []
    assert (
        rows["site_blind", NAMES[1]]["hyperparameters"] | {"combat": "site", "c": 0.01}
        == (rows["site_blind", NAMES[1]]["hyperparameters"])
    )
    for (mode, name), row in rows.items():
        table = pd.read_parquet(next(plan for plan in every if (plan.mode, plan.name) == (mode, name)).predictions)
        present = sorted(table["target"].unique())
        f1 = [
            2 * ((table["target"] == code) & (table["prediction"] == code)).sum()
            / ((table["target"] == code).sum() + (table["prediction"] == code).sum())
            for code in present
        ]  # fmt: skip
        assert row["metrics"]["macro_f1"]["value"] == pytest.approx(np.mean(f1))
        assert row["unit"] == "patient" and row["units"] == table["patient_id"].nunique()
        assert (row["metrics"]["recall_c"]["value"] is None) == (mode == "site_blind")
    assert [(each["mode"], each["network"], each["rival"]) for each in found["contests"]] == [
        (mode, NAMES[1], NAMES[0]) for mode in MODES[:2]
    ]
    text = as_markdown(page.content(found))
    assert "Not tested in `site_blind`" in text and f"`{NAMES[1]}` is" in text and "unseen hospitals" in text


def test_a_hyperparameter_that_there_is_not_is_refused(place: Path, params: Params) -> None:
    with pytest.raises(UserError, match="logistic_regression has no hyperparameter kombat"):
        planned(params, place, ("logistic_regression+kombat=site",))


def test_the_stage_resamples_patients_of_unseen_hospitals_as_the_table_does(
    place: Path, params: Params, kept: Kept
) -> None:
    task: Any = params.task("tumor_type")
    task = replace(task, split=replace(task.split, mode="site_blind"))
    named = {**params.tasks, "tumor_type": task}
    prepared, own = prepare(kept, task, params.seed), replace(params, tasks=named)
    architecture = get_architecture("logistic_regression", "profiles", "classification")
    how: dict[str, Any] = {"prepared": prepared, "params": own}
    fitted = fit("tumor_type", architecture, dict(architecture.defaults), folder=place / "fitted", **how)
    (place / "fitted" / "fitted.json").write_text(json.dumps(asdict(fitted)), encoding="utf-8")
    evidence = evaluate(*read_fitted(place / "fitted"), folder=place / "evidence", **how)
    test, table = evidence["test"], pd.read_parquet(place / "evidence" / PREDICTIONS)
    assert (test["unit"], test["groups"]) == ("patient", table["patient_id"].nunique())
    assert test["groups"] > evidence["data"]["groups"]["test"] == prepared.side("test").table["site"].nunique()
    every = planned(params, place / "alike", NAMES[:1])
    generalize("tumor_type", params, [each for each in every if each.mode == "site_blind"], kept, fit=fit_here)
    row = next(each for each in every if (each.mode, each.name) == ("site_blind", NAMES[0])).read()
    assert row is not None and test["metrics"]["accuracy"] == row["metrics"]["accuracy"]
    assert test["metrics"]["recall_c"] == {"value": None, "low": None, "high": None}
    text = as_markdown(content(evidence | {"comparisons": []}, []))
    assert f"{test['groups']:,} patients" in text and "other groups would differ by more" in text
