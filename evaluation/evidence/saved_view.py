"""A saved view of MLflow's table of runs: test scores in order. Its tags are private to MLflow's pages."""

import base64
import json
import time
import zlib

SEEN_WITH = "3.17.2"  # the release of MLflow whose pages were seen to read these tags
KIND = "mlflow.experimentKind"
KEY = "test_scores"


def page(experiment: str) -> str:
    """Return the address, below that of MLflow's pages, of the saved view."""
    return f"#/experiments/{experiment}/runs?viewStateShareKey={KEY}"


def view_tags(metric: str, *, higher_is_better: bool) -> dict[str, str]:
    """Return tags of an experiment: that it trains models, and the saved view of its evaluated runs by ``metric``."""
    tests = [f"test/{metric}", "test/margin", f"test/worst_stress_{metric}"]
    metrics = [*tests, f"interval/{metric}_low", f"interval/{metric}_high", "cost/latency_ms_batch_1"]  # few fit a page
    state = {
        "searchFilter": "tags.stage = 'evaluate'",
        "orderByKey": f"metrics.`test/{metric}`",
        "orderByAsc": not higher_is_better,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [
            "attributes.`Models`",
            *(f"metrics.`{each}`" for each in metrics),
            "tags.`budget`",
            "tags.`simulated`",
        ],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": "Test scores", "createdAt": int(time.time() * 1000), "state": f"deflate;{packed}"}
    return {KIND: "custom_model_development", f"mlflow.sharedViewState.{KEY}": json.dumps(view)}
