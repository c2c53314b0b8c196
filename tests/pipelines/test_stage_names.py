"""A demo that downloads, leaves a task out, or names a stage that is not there does not run on a fresh machine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pipelines import stage_names
from pipelines.params import Params, TuneTransfer, read_params
from pipelines.stage_names import demo_targets

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def params() -> Params:
    return read_params(ROOT / "params.yaml")


@pytest.fixture(scope="module")
def stages() -> set[str]:
    """Return the stages of dvc.yaml as `dvc stage list` names them: what is looped over has ``@<key>``."""
    loops = yaml.safe_load((ROOT / "params.yaml").read_text())
    found = set()
    for name, stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"].items():
        if "foreach" not in stage:
            found.add(name)
            continue
        over = re.fullmatch(r"\$\{(\w+)\}", stage["foreach"])
        assert over is not None, stage["foreach"]
        found |= {f"{name}@{key}" for key in loops[over[1]]}
    return found


@pytest.mark.parametrize("which", ["--demo", "--leaderboards"])
def test_every_target_is_a_stage(
    which: str, stages: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"python -m pipelines.stage_names {which})" in (ROOT / "Makefile").read_text()
    monkeypatch.setattr("sys.argv", ["stage_names", which])
    monkeypatch.chdir(ROOT)
    assert stage_names.main() == 0
    (line,) = capsys.readouterr().out.splitlines()  # a shell takes it as arguments
    names = line.split()
    assert names and set(names) <= stages and len(set(names)) == len(names)


def test_no_model_of_the_demo_has_to_download_its_weights(params: Params) -> None:
    packaged = {"random_forest", "xgboost", "majority_class", "efficientnet_lite0"}
    for key, model in params.models.items():
        tune = params.tasks[model.task].tune
        if model.demo and isinstance(tune, TuneTransfer) and tune.weights != "none":
            assert model.architecture in packaged, key
        assert (f"evaluate@{key}" in demo_targets(params)) == model.demo


def test_the_demo_covers_every_task_from_its_checks_to_a_model_beside_the_baseline(params: Params) -> None:
    names = demo_targets(params)
    for task, decided in params.tasks.items():
        assert f"validate@{task}" in names and f"audit@{task}" in names
        models = {model.architecture for model in params.models.values() if model.task == task}
        shown = {name for name in models if f"evaluate@{task}-{name}" in names}
        assert decided.evaluate.baseline in shown
        assert len(shown) > 1, task
        assert f"leaderboard@{task}" not in names  # it depends on all models, those that need a download too
