"""An architecture that the comparison is about must not be lost from it: `params.yaml` trains each for its task."""

from __future__ import annotations

import pytest

from pipelines.params import read_params
from tests.training.tiny import ROOT
from training.architectures import get_architecture

TREES = {"random_forest", "xgboost"}
ASKED = {
    "blood_cell": {
        *("vgg16", "resnet50", "xception", "densenet201", "efficientnet_b3", "efficientnet_lite0"),
        *TREES,
        "majority_class",
    },
    "leukemia_cell": {
        *("vgg16", "efficientnet_b0", "resnet50", "densenet121", "alexnet", "efficientnet_lite0"),
        *TREES,
        "majority_class",
    },
    "tumor_type": {
        *("vgg19", "xception", "densenet169", "resnet50"),
        *TREES,
        *("logistic_regression", "majority_class"),
    },
    "gene_expression": {
        *("dnn", "lstm", "gru", "attention_lstm", "attention_gru"),
        *TREES,
        *("ridge", "mean_expression"),
    },
    "drug_response": {
        *("mlp", "cnn1d", "transformer", "multi_omics", "gnn"),
        *TREES,
        *("elastic_net", "mean_effects"),
    },
}


@pytest.mark.parametrize("task", ASKED)
def test_every_architecture_that_a_task_compares_is_trained(task: str) -> None:
    params = read_params(ROOT / "params.yaml")
    trained = params.architectures(task)
    assert sorted(trained) == sorted(ASKED[task])
    assert params.task(task).evaluate.baseline in trained
    for name in trained:
        assert get_architecture(name, params.task(task).modality, params.task(task).problem).name == name
