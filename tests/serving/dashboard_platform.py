"""A small platform for the tests of the dashboard: simulated data, fitted models that answer over HTTP, reports.

The models are real ones, fitted in a moment; what answers for them is a plain HTTP server that hands requests to
`training.model.predictor.Predictor` and errors on as the endpoint does. Real endpoints are tested in
`test_endpoint_fuzz`.
"""

import base64
import copy
import io
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server import predictions_to_json
from PIL import Image

from pipelines.datasets import prepare
from pipelines.files import write_json
from pipelines.params import read_params
from pipelines.policy import Waiver
from pipelines.simulate.response import simulate_drug_response
from pipelines.tasks.pairs_classification import Threshold
from serving import registry
from tests.empty_store import empty_store
from tests.servers import free_port
from tests.serving import served
from tests.serving.made_registry import BY, POLICY, made_version, prepare_folder, tracked
from tests.training.image_samples import draw, encoded, write_folder
from tests.training.profile_samples import gene_samples, labels_samples
from tests.training.tiny import ROOT, SIZE, response_task, sensitivity_task, tiny_params, tiny_prepared
from training.model.predictor import Predictor

RESPONSE, IMAGES, LABELS, GENES = "drug_response", "blood_cell", "tumor_type", "gene_expression"
UNSERVED = "leukemia_cell"
CALLS = "drug_calls"  # the same lines and drugs, as sensitive or resistant
GRAPH = "graph"  # under which alias a graph network answers for the task of responses
THRESHOLD = Threshold("waterfall", 5.0)
SLOW_SECONDS = 150  # at most: it ends with the platform


@dataclass
class Platform:
    """Folder (parameters, data, reports, MLflow's database) and environment of a dashboard, and its endpoints.

    The path after ``url`` names the model; ``asked`` are the requests so far, task and body.
    """

    folder: Path
    environment: dict[str, str]
    url: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


@contextmanager
def platform(folder: Path) -> Iterator[Platform]:
    """Make the platform, and let its models answer as long as the block lasts."""
    database, hurry = empty_store(folder), threading.Event()
    made = Platform(folder, {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": database, "OMP_NUM_THREADS": "1"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(_models(folder), made.asked, hurry))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    _data(folder)
    _reports(folder)
    _params(folder, made.url)
    _registry(folder, database)
    try:
        yield made
    finally:
        hurry.set()
        server.shutdown()
        server.server_close()


def one_image(code: int = 0, side: int = 64) -> bytes:
    return base64.b64decode(encoded(Image.fromarray(draw(code, 7_000, side))))


def _models(folder: Path) -> dict[str, Predictor]:
    params = tiny_params(epochs=2, rounds=10)
    response = params.task(RESPONSE), tiny_prepared(folder / "raw")
    calls = sensitivity_task(response_task(params), THRESHOLD)
    made: dict[str, tuple[Any, Any, str, dict[str, Any]]] = {
        RESPONSE: (*response, "elastic_net", {}),
        GRAPH: (*response, "gnn", {"batch_size": 64, "units": 32, "width": 16, "depth": 2}),
        CALLS: (calls, prepare(calls.read(folder / "raw"), calls, params.seed), "elastic_net", {}),
        LABELS: (*served.profiles_prepared(90), "logistic_regression", {"selection": "top_30"}),
        IMAGES: (*served.images_prepared(30, 64), "efficientnet_lite0", {"views": 1, "isolation": "cell"}),
        GENES: (read_params(ROOT / "params.yaml").task(GENES), served.split(gene_samples(100)), "ridge", {}),
    }
    found = {}
    for name, (task, prepared, architecture, given) in made.items():
        served.save_fitted(name, architecture, task, prepared, folder / "fitted" / name, **given)
        found[name] = Predictor().read(folder / "fitted" / name)
        found[name].version = "1"
    return found


def _data(folder: Path) -> None:
    data = folder / "data"
    simulate_drug_response(data / RESPONSE, SIZE)
    shutil.copytree(data / RESPONSE, data / CALLS)
    for name, samples in ((LABELS, labels_samples(30)), (GENES, gene_samples(30))):
        (data / name).mkdir(parents=True)
        table = pd.DataFrame(samples.values, columns=list(samples.genes))
        table.insert(0, "sample_id", samples.table["sample_id"].to_numpy())
        table.to_parquet(data / name / "expression.parquet", index=False)
        samples.table[["sample_id", "patient_id", "label"]].to_csv(data / name / "samples.csv", index=False)
    write_folder(data / IMAGES, 2)


def _params(folder: Path, url: str) -> None:
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    down = f"http://127.0.0.1:{free_port()}"
    content["policy"]["dashboard"] = {
        "endpoints": {
            **{name: f"{url}/{name}" for name in (RESPONSE, IMAGES, LABELS, GENES, CALLS)},
            f"{RESPONSE}@{GRAPH}": f"{url}/{GRAPH}",
            f"{RESPONSE}@staging": f"{url}/slow",
            f"{RESPONSE}@previous": down,
        },
        "seconds": 120.0,
        "mlflow_ui": "http://127.0.0.1:5000",
    }
    content["tasks"][IMAGES]["data"]["classes"] = ["blue", "green", "red"]
    calls = copy.deepcopy(content["tasks"][RESPONSE]) | {"problem": "classification"}
    calls["data"] |= {"threshold": {"method": THRESHOLD.method, "prior_rows": THRESHOLD.prior_rows}}
    calls["tune"] |= {"metric": "log_loss"}
    calls["evaluate"] |= {"metric": "within_drug_roc_auc"}
    content["tasks"][CALLS] = calls
    content["models"][f"{CALLS}-mean_effects"] = {"task": CALLS, "architecture": "mean_effects"}
    content["policy"]["tasks"] = {}
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    shutil.copytree(ROOT / ".streamlit", folder / ".streamlit")


def _registry(folder: Path, database: str) -> None:
    """Put a version of the task of responses into production, with a second one as the candidate."""
    waiver = Waiver("simulated", "a test of the dashboard", BY, "2999-12-31")
    policy = replace(POLICY, tasks={RESPONSE: replace(POLICY.tasks[RESPONSE], waivers=(waiver,))})
    with pytest.MonkeyPatch.context() as patch, tracked(database) as client:
        prepare_folder(folder, patch)
        first = made_version(client, simulated=True)
        for to in ("staging", "production"):
            registry.promote(RESPONSE, to, first, by=BY, why="the tests", policy=policy)
        made_version(client, "other weights", simulated=True)


def _reports(folder: Path) -> None:
    reports = folder / "reports" / RESPONSE
    write_json(reports / "leaderboard.json", [_row("elastic_net", 0.86), _row("mlp", 0.81), _row("mean_effects", 0.7)])
    for name in ("elastic_net", "mlp"):
        (models := reports / "models" / name).mkdir(parents=True)
        rng = np.random.default_rng(len(name))
        genes = [f"SIMG{number:04d}" for number in rng.permutation(12)]
        table = pd.DataFrame({"gene": genes, "omics": "expression", "mean_abs": np.linspace(0.3, 0.01, 12)})
        table.assign(mean=table["mean_abs"]).to_csv(models / "top_genes.csv", index=False)
        table = pd.concat([table.assign(drug_id=f"SIM1:0{k}", drug=f"simulated drug {k}") for k in range(2)])
        table.assign(mean=table["mean_abs"], rank=1, rows=8).to_csv(models / "top_genes_by_drug.csv", index=False)
    write_json(reports / "fronts" / "elastic_net.json", front())
    for hour, share in ((10, 0.02), (15, 0.4)):
        monitor = reports / "monitor" / f"2026-11-20T{hour}-55-12-258605Z"
        write_json(monitor / "monitor.json", _monitored(share))
        (monitor / "monitor.html").write_text("<h1>report</h1>")
    broken = reports / "monitor" / "2026-11-20T16-55-12-258605Z"
    broken.mkdir()
    (broken / "monitor.json").write_text("{")
    reports = folder / "reports" / IMAGES  # two networks with Grad-CAM, and a baseline without
    rows = [_row(name, value, "accuracy") for name, value in (("resnet50", 0.9), ("vgg16", 0.88))]
    rows[0]["worst_stress"] = {"kind": "slide_and_stain", "value": 0.6, "low": 0.5, "high": 0.7}
    write_json(reports / "leaderboard.json", [*rows, _row("majority_class", 0.7, "accuracy")])
    for code, name in enumerate(("resnet50", "vgg16")):
        (models := reports / "models" / name).mkdir(parents=True)
        (models / "grad_cam.png").write_bytes(one_image(code, 128))


def _row(architecture: str, value: float, metric: str = "r2") -> dict[str, Any]:
    margin = dict(zip(("margin", "margin_low", "margin_high"), value - np.array([0.7, 0.73, 0.67]), strict=True))
    return {
        **{"architecture": architecture, "metric": metric, "validation": value, "simulated": True, "seconds": 1.5},
        **{"value": value, "low": value - 0.02, "high": value + 0.02, **margin},
        **{"run_id": f"run of {architecture}", "model_uri": "models:/m-1"},
        "baseline": architecture in ("mean_effects", "majority_class"),
        "cost": {"cost_latency_ms_batch_1": 10 * value, "cost_fit_seconds": 1.5, "cost_model_megabytes": 0.2},
        "agreement": {"mlp": 0.4} if architecture == "elastic_net" else {},
    }


def front() -> dict[str, Any]:
    """Return what a study with a cost leaves."""
    found = {3: (1.3, 0.5, "front"), 1: (1.01, 2.0, "chosen"), 0: (1.2, 8.0, "beaten"), 2: (1.0, 9.0, "front")}
    points = [
        {"trial": trial, "value": value, "cost": cost, "place": place, "hyperparameters": {"alpha": trial / 10}}
        for trial, (value, cost, place) in found.items()
    ]
    about = {"metric": "rmse", "objective": "validation", "cost_label": "ms to answer one row", "tolerance": 0.02}
    return {**about, "points": points}


def _monitored(share: float) -> dict[str, Any]:
    strange = share > 0.1
    drifted = {"expression_level": strange, "spread": False, "prediction": False}
    columns = [{"column": column, "drifted": each} for column, each in drifted.items()]
    return {
        **{"task": RESPONSE, "version": "1", "architecture": "elastic_net", "simulated": True},
        "decision": "retrain" if strange else "fine",
        "findings": [f"{share:.1%} of the rows are out of distribution"] if strange else [],
        **{"notes": [], "log": {"rows": 100}, "inputs": columns[:2], "predictions": columns[2:], "performance": None},
        "out_of_distribution": {"value": share, "low": share / 2, "high": min(1.0, share * 1.5), "limit": 0.1},
    }


def _handler(
    models: dict[str, Predictor], asked: list[tuple[str, dict[str, Any]]], hurry: threading.Event
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            name = self.path.strip("/").split("/")[0]
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((name, body))
            if name == "slow":
                hurry.wait(SLOW_SECONDS)
                name = RESPONSE
            try:
                self._send(200, _answer(models[name], body))
            except MlflowException as error:
                self._send(error.get_http_status_code(), json.dumps({"message": error.message}))

        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    return Handler


def _answer(model: Predictor, body: dict[str, Any]) -> str:
    frame = pd.DataFrame(body["dataframe_records"])
    out = io.StringIO()
    predictions_to_json(model.predict(None, frame, body.get("params")), out)
    return out.getvalue()
