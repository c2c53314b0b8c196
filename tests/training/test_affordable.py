"""A model too large to be served must not be found out after a night of fitting: fewer members, or a refusal."""

from __future__ import annotations

import pytest

from pipelines.errors import UserError
from training.architectures import get_architecture
from training.model.final_fit import LARGEST_MODEL, _refuse_large, affordable


@pytest.mark.parametrize(
    ("name", "kind", "members"),
    [
        ("resnet50", "images classification", 1),  # 94 MB each
        ("efficientnet_lite0", "images classification", 5),  # 14 MB each
        ("random_forest", "images classification", 5),
    ],
)
def test_as_many_members_are_fitted_as_can_be_served_together(
    name: str, kind: str, members: int, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = get_architecture(name, *kind.split())
    assert affordable(architecture, 5) == members
    said = capsys.readouterr().out
    assert (f"{name}: 5 members of" in said and "one model is fitted" in said) is (members == 1)
    assert affordable(architecture, 1) == 1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "densenet121"])
def test_the_size_that_is_reckoned_with_is_that_of_the_saved_weights(name: str) -> None:
    estimator = get_architecture(name, "images", "classification").estimator
    stages = estimator.backbone.build(name, "none")
    saved = sum(tensor.numel() * tensor.element_size() for stage in stages for tensor in stage.state_dict().values())
    assert estimator.expected_megabytes() == pytest.approx(saved / 1e6, rel=1e-3)


def test_a_model_that_grew_too_large_is_refused_with_what_to_do() -> None:
    _refuse_large({"cost_model_megabytes": float(LARGEST_MODEL)}, "resnet50")
    with pytest.raises(UserError, match=r"resnet50: the model has 151 MB, at most 150 .*lower fit\.members in params"):
        _refuse_large({"cost_model_megabytes": 150.6}, "resnet50")
