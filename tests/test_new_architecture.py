"""Adding an architecture is a file and a line in params.yaml: from the study to the dashboard, with no other edit."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.end_to_end.small_platform import TASK, Platform, make_platform

pytestmark = pytest.mark.slow
NAME, TITLE, BASELINE = "tissue_means", "Means of Tissues", "mean_effects"
FILE = f'''"""Means of drugs, and by how much the lines of a tissue lie above or below them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from pipelines.samples.response import ResponseSamples
from training.architectures import architecture
from training.estimator import Attribution, Estimator, FitContext
from training.features.drug import DrugFeatures

TITLE = "{TITLE}"


def space(trial: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {{"shrinkage": trial.suggest_float("shrinkage", 1.0, 100.0, log=True)}}


@architecture("pairs", "regression", space=space, role="simple")
@dataclass(eq=False, repr=False, kw_only=True)
class TissueMeans(Estimator):
    shrinkage: float = 5.0

    def fit(
        self, train: ResponseSamples, validation: ResponseSamples | None = None, context: FitContext | None = None
    ) -> Self:
        self.drug_ = DrugFeatures(bits=0, identity="none").fit(train)
        residual = train.target - self.drug_.offset(train.drugs)[train.drug]
        self.tissues_, code = np.unique(train.cell_lines["tissue"].astype(str).iloc[train.cell], return_inverse=True)
        self.effects_ = np.bincount(code, residual) / (np.bincount(code) + self.shrinkage)
        return self

    def _parts(self, samples: ResponseSamples) -> np.ndarray:
        effects = dict(zip(self.tissues_, self.effects_, strict=True))
        of_line = np.array([effects.get(str(tissue), 0.0) for tissue in samples.cell_lines["tissue"]])
        drug = self.drug_.offset(samples.drugs)[samples.drug] - self.drug_.overall
        return np.column_stack([drug, of_line[samples.cell]])

    def predict(self, samples: ResponseSamples) -> np.ndarray:
        return self.drug_.overall + self._parts(samples).sum(axis=1)

    def attribute(self, samples: ResponseSamples, output: np.ndarray | None = None) -> Attribution:
        base = np.full(len(samples), self.drug_.overall)
        names = ["drug:mean_response", "tissue:effect"]
        return Attribution(names, self._parts(samples), base, self.predict(samples), "exact")

    def cost(self) -> dict[str, float]:
        return {{"parameters": float(len(self.effects_))}}

    def state(self) -> dict[str, Any]:
        return {{"drug": self.drug_.state(), "tissues": self.tissues_.tolist(), "effects": self.effects_}}

    def restore(self, state: dict[str, Any]) -> Self:
        self.drug_ = DrugFeatures.from_state(state["drug"])
        self.tissues_, self.effects_ = np.array(state["tissues"]), state["effects"]
        return self
'''

COMPARE = """
import sys
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

at = AppTest.from_file(sys.argv[1], default_timeout=120).run()
at._page_hash = calc_hash("compare")
at.run()
assert not at.exception, at.exception
print([each.value for each in at.title])
print([str(cell) for table in at.table for cell in table.value["Architecture"]])

"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Return a copy of the repository with the file and the line, on which both architectures were trained."""
    made = make_platform(tmp_path_factory.mktemp("new") / "repo", models=[BASELINE])
    (made.root / f"training/architectures/{NAME}.py").write_text(FILE)
    params = made.root / "params.yaml"
    line = f"  {TASK}-{NAME}: {{task: {TASK}, architecture: {NAME}}}\n"
    params.write_text(params.read_text().replace("models:\n", f"models:\n{line}", 1))
    changed = made.run("git", "status", "--short").stdout.split()
    assert changed == ["M", "params.yaml", "??", f"training/architectures/{NAME}.py"]
    made.train([BASELINE, NAME])
    return made


def test_it_is_tuned_fitted_evaluated_and_on_the_leaderboard(platform: Platform) -> None:
    tuned = platform.read(f"models/{TASK}/{NAME}/tuned.json")
    assert set(tuned["hyperparameters"]) == {"shrinkage"}
    rows = {row["architecture"]: row for row in platform.leaderboard()}
    assert set(rows) == {BASELINE, NAME}
    assert rows[NAME]["low"] <= rows[NAME]["value"] <= rows[NAME]["high"]
    evidence = platform.read(f"reports/{TASK}/models/{NAME}/evidence.json")
    assert evidence["architecture"] == NAME


def test_it_has_a_card_and_is_what_candidates_are_compared_with(platform: Platform) -> None:
    platform.python("-m", "evaluation.candidate", "--task", TASK, "--architecture", NAME)
    assert NAME in (platform.root / f"reports/{TASK}/candidate/card.md").read_text()
    platform.python("-m", "evaluation.candidate", "--task", TASK, "--architecture", BASELINE)
    compared = platform.read(f"reports/{TASK}/candidate/evidence.json")["comparisons"]
    assert {each["with"]: each["kind"] for each in compared}[NAME] == "simple"


def test_the_dashboard_compares_it_under_its_title(platform: Platform) -> None:
    page = [sys.executable, "-c", COMPARE, str(platform.root / "serving" / "dashboard_app.py")]
    done = subprocess.run(page, cwd=platform.root, env=platform.env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    title, rows = done.stdout.strip().splitlines()[-2:]
    assert title == "['Compare']" and f"'{TITLE}'" in rows and "'Mean effects (baseline)'" in rows
