"""The table of split modes on profiles: scores of classes that no row tested, and a change that is no change."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluation.generalization import page
from evaluation.generalization.apart import fit_here
from evaluation.generalization.table import Plan, generalize, plans, results
from pipelines.errors import UserError
from pipelines.params import Params, read_params
from pipelines.report import as_markdown
from pipelines.samples import Kept
from tests.evaluation.test_origins import samples
from tests.pipelines.expression_folder import ROOT

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
