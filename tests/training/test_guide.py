"""The examples of `docs/extend/architecture.md` have to run as they are: who adds an architecture copies them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest
import timm
from torch import nn

from pipelines.datasets import Prepared
from pipelines.params import Params
from pipelines.samples.response import ResponseSamples
from tests.training.tiny import NAME, ROOT
from training import architectures
from training.architectures import Architecture
from training.backbone import Backbone
from training.estimator import Estimator, FitContext
from training.networks import cell_network
from training.studies.study import tune

PAGE = "docs/extend/architecture.md"
GUIDE = (ROOT / PAGE).read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str, str], Architecture]:
    monkeypatch.setattr(architectures, "_registry", {})
    return architectures._registry


def test_the_first_example_is_an_architecture_that_a_study_tunes(
    registered: dict[tuple[str, str, str], Architecture], prepared: Prepared, params: Params, store: str
) -> None:
    exec(compile(EXAMPLES[0], PAGE, "exec", dont_inherit=True), {"__name__": "my_model"})
    shown = registered["my_model", "pairs", "regression"]
    assert not getattr(shown.estimator, "__abstractmethods__", None), "nothing that the contract asks for is left out"
    base: Any = shown.estimator
    built: list[Estimator] = []

    class Filled(base):
        """The example with bodies in the place of its dots."""

        def fit(self, train: Any, validation: Any = None, context: FitContext | None = None) -> Self:
            built.append(self)
            return self

        def predict(self, samples: ResponseSamples) -> np.ndarray:
            return np.zeros(len(samples))

    tuned = tune(NAME, replace(shown, estimator=Filled), prepared, params, progress=False)
    assert tuned.trials == len(built) == 3 and set(tuned.hyperparameters) == set(shown.defaults) == {"depth"}


def test_the_example_of_a_backbone_is_registered_for_images(
    registered: dict[tuple[str, str, str], Architecture],
) -> None:
    known = {"nn": nn, "timm": timm, "architecture": architectures.architecture, "Backbone": Backbone}
    of_images = {"space": cell_network.space, "CellNetwork": cell_network.CellNetwork}
    exec(compile(EXAMPLES[1], PAGE, "exec", dont_inherit=True), {"__name__": "resnet50", **known, **of_images})
    made = registered["resnet50", "images", "classification"].estimator
    backbone: Any = vars(made)["backbone"]
    assert [len(list(stage.parameters())) > 0 for stage in backbone.stages(backbone.create(False))] == [True] * 5
