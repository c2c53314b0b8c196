"""The endpoint without login, metrics, log of requests and traces: what they cost is timed beside it."""

from typing import Any

from serving.app import Limits, bounded
from serving.mlflow_private import scoring_application, served_model


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    model = served_model()
    return bounded(scoring_application(model), model, Limits.from_environment())
