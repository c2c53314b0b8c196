"""What the tests of the endpoint share: simulated models, fitted as the fit stage does, registered and served."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient

from evaluation.promotion.registered_files import FILES_TAG, keep_hashes
from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.params import Task, read_params
from serving.gate_context import hashes
from tests.servers import free_port, listening
from tests.training.image_samples import image_task
from tests.training.image_samples import in_memory as images_in_memory
from tests.training.profile_samples import labels_samples
from tests.training.tiny import ROOT
from training.architectures import get_architecture
from training.contract import Contract, make_contract
from training.model.cross_fit import fit_final
from training.model.track import log_model, make_reference, save_model

PROFILES, IMAGES = "tumor_type", "blood_cell"
SETTINGS: dict[str, Any] = {"rounds": 20, "epochs": 2, "seed": 3, "device": "cpu"}


def split(samples: Any, *, groups: np.ndarray | None = None) -> Prepared:
    """Return samples split in turn: a fifth to the test split, a fifth to validation, the rest to training."""
    place = np.arange(len(samples)) if groups is None else groups
    side = np.array(["test", "validation", "train", "train", "train"], dtype=object)[place % 5]
    table = pd.DataFrame({"sample_id": samples.table["sample_id"], "group": [f"group:{each}" for each in place]})
    table["split"], table["fold"] = side, place % 4
    return Prepared(samples, table, "0" * 64, {"rows": {"dropped": {}}, "without": {}})


def profiles_prepared(count: int = 150, seed: int = 0) -> tuple[Task, Prepared]:
    return read_params(ROOT / "params.yaml").task(PROFILES), split(labels_samples(count, seed=seed))


def images_prepared(count: int = 60, side: int = 32, first: int = 0) -> tuple[Task, Prepared]:
    task = image_task(side)
    return task, split(images_in_memory(count, side, first=first))


def save_fitted(name: str, architecture: str, task: Task, prepared: Prepared, folder: Path, **given: Any) -> Contract:
    """Fit an architecture and save the model with contract and reference; returns the contract."""
    found = get_architecture(architecture, task.modality, task.problem)
    final = fit_final(found, given, prepared, members=1, settings=SETTINGS)
    baseline = get_architecture(task.evaluate.baseline, task.modality, task.problem)
    naive = fit_final(baseline, {}, prepared, members=1, settings=SETTINGS).estimator
    contract = make_contract(name, architecture, task, prepared=prepared, final=final)
    save_model(final.estimator, naive, contract, folder, make_reference(contract, prepared, final))
    return contract


def register(name: str, contract: Contract, folder: Path, example: Any, alias: str = "production") -> str:
    """Log a saved model, make a version of it and give it an alias; returns the version."""
    with tracking.run(name, "fit", contract.architecture) as run:
        uri = log_model(folder, contract, example)
    client = MlflowClient()
    with contextlib.suppress(Exception):
        client.create_registered_model(name)
    files = hashes(uri)
    keep_hashes(run.info.run_id, files.each)
    tags = {FILES_TAG: str(files.files)}
    version = client.create_model_version(name, source=uri, run_id=run.info.run_id, tags=tags).version
    client.set_registered_model_alias(name, alias, version)
    return str(version)


def with_policy(folder: Path, **changes: Any) -> None:
    """Write the repository's ``params.yaml`` into ``folder`` with other limits of serving."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    content["policy"]["serve"] |= changes
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@contextlib.contextmanager
def serving(
    folder: Path, name: str, *options: str, env: Mapping[str, str] | None = None
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start the endpoint in ``folder``, which holds ``params.yaml``; give its URL and process, and stop it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(env or {})
    command = [sys.executable, "-m", "serving.endpoint", "--task", name, "--port", str(port), *options]
    with listening(command, f"{url}/ping", folder / f"server-{port}.log", environment) as server:
        yield url, server
