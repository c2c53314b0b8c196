"""An architecture must not be lost from the comparison: `params.yaml` trains each for a task that it can do."""

from __future__ import annotations

import pytest

from pipelines.params import read_params
from tests.training.tiny import ROOT
from training.architectures import get_architecture, names

PARAMS = read_params(ROOT / "params.yaml")


@pytest.mark.parametrize("name", names())
def test_every_architecture_is_trained_for_a_task(name: str) -> None:
    assert any(name in PARAMS.architectures(task) for task in PARAMS.tasks)


@pytest.mark.parametrize("name", PARAMS.tasks)
def test_a_task_compares_its_baseline_simple_models_and_others(name: str) -> None:
    task = PARAMS.task(name)
    roles = {each: get_architecture(each, task.modality, task.problem).role for each in PARAMS.architectures(name)}
    assert roles[task.evaluate.baseline] == "baseline"
    assert set(roles.values()) == {"baseline", "simple", "model"}
