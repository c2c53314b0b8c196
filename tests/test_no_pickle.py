"""What would let a file run code when it is loaded: a pickle, planted on every path that a file takes."""

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib  # type: ignore[import-untyped]
import mlflow
import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml
from mlflow.exceptions import MlflowException
from PIL import Image
from pyarrow import feather, parquet
from safetensors.numpy import save_file

from evaluation.promotion.scoring import load
from pipelines.errors import UserError
from pipelines.samples.formats import read_table
from pipelines.samples.images import ImagesData, load_pixels
from serving.dashboard.data.uploads import read_profiles
from serving.gate_context import answer_example
from tests.training.tiny import ROOT
from training.backbone import load_weights
from training.estimator import load_state
from training.model.novelty import Novelty
from training.networks.loop import _Checkpoint
from training.trees.boosters import from_array


@dataclass
class _Evil:
    """Makes a file where it is unpickled."""

    path: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def ran(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "the code of a pickle was run"
    yield path
    assert not path.exists()


def test_the_setting_holds_whatever_the_environment_says() -> None:
    program = "import os, pipelines.tracking; print(os.environ['MLFLOW_ALLOW_PICKLE_DESERIALIZATION'])"
    environment = os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "false"


def _plant(folder: Path, flavor: str, ran: Path) -> None:
    python = {"python_version": "3.11.0"}
    if flavor == "pyfunc":
        own = {"loader_module": "mlflow.pyfunc.model", "python_model": "model.pkl", "cloudpickle_version": "3.0.0"}
        flavors = {"python_function": python | own}
    else:
        about = {"pickled_model": "model.pkl", "serialization_format": flavor, "sklearn_version": "1.7.0"}
        own = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"}
        flavors = {"python_function": python | own, "sklearn": about}
    folder.mkdir()
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "model_uuid": "0" * 32}))
    (folder / "model.pkl").write_bytes(pickle.dumps(_Evil(ran)))


@pytest.mark.parametrize("flavor", ["pyfunc", "pickle", "cloudpickle"])
def test_a_logged_model_that_is_a_pickle_is_refused(tmp_path: Path, ran: Path, flavor: str) -> None:
    folder = tmp_path / "model"
    _plant(folder, flavor, ran)
    with pytest.raises(UserError, match="not logged by this platform"):
        load(str(folder))
    with pytest.raises(MlflowException, match="PICKLE"):
        mlflow.pyfunc.load_model(str(folder))
    if flavor == "pyfunc":
        with pytest.raises(UserError, match="does not load or answer"):
            answer_example(str(folder))  # in a process of its own
    assert not ran.exists()
    with pytest.MonkeyPatch.context() as patch:  # it is the setting that keeps it from running
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
        with contextlib.suppress(Exception):
            mlflow.pyfunc.load_model(str(folder))
    assert ran.exists()
    ran.unlink()


def test_a_checkpoint_that_is_a_pickle_is_refused(tmp_path: Path, ran: Path) -> None:
    path, network = tmp_path / "checkpoint.pt", torch.nn.Linear(1, 1)
    torch.save({"epoch": 1, "network": _Evil(ran)}, path)
    optimizer = torch.optim.SGD(network.parameters())
    parts = {"network": network, "optimizer": optimizer}
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        _Checkpoint(path, parts, torch.Generator(), torch.device("cpu")).load()


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_that_are_a_pickle_are_refused(tmp_path: Path, ran: Path, name: str, zipped: bool) -> None:
    path = tmp_path / name
    torch.save({"weight": _Evil(ran)}, path, _use_new_zipfile_serialization=zipped)
    network = torch.nn.Linear(1, 1)
    with pytest.raises(UserError, match=r"holds more than tensors|cannot be read as weights"):
        load_weights(network, [network], path, "linear")


def test_the_state_of_an_estimator_and_trees_that_are_a_pickle_are_refused(tmp_path: Path, ran: Path) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "state.safetensors")
    (tmp_path / "state.json").write_bytes(pickle.dumps(_Evil(ran)))
    with pytest.raises(ValueError, match=r"decode|JSON|Expecting"):
        load_state(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    (tmp_path / "state.safetensors").write_bytes(pickle.dumps(_Evil(ran)))
    with pytest.raises(Exception, match="header"):
        load_state(tmp_path)
    with pytest.raises(Exception, match=r"XGBoost|json|JSON|model"):  # trees
        from_array(np.frombuffer(pickle.dumps(_Evil(ran)), np.uint8))


def _objects(path: Path) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array([_Evil(path)], dtype=object), allow_pickle=True)
    return file.getvalue()


def test_arrays_of_objects_are_refused(tmp_path: Path, ran: Path) -> None:
    (tmp_path / "novelty.json").write_text(json.dumps({"threshold": 0.5, "share": 0.95, "parts": []}))
    with zipfile.ZipFile(tmp_path / "novelty.npz", "w") as archive:
        archive.writestr("0.center.npy", _objects(ran))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Novelty.load(tmp_path)


@pytest.mark.parametrize("content", [_objects, lambda path: pickle.dumps(_Evil(path))], ids=["objects", "pickle"])
def test_a_cache_of_pixels_that_is_a_pickle_is_made_anew(tmp_path: Path, ran: Path, content: Any) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (8, 8), "red").save(image)
    data = ImagesData(classes=("a", "b"), size=8, crop=1.0)
    first = np.array(load_pixels([image], ["digest"], data, tmp_path / "cache"))
    (cached,) = (tmp_path / "cache").rglob("*.npy")
    cached.write_bytes(content(ran))
    assert (load_pixels([image], ["digest"], data, tmp_path / "cache") == first).all()


def _pickled_type(path: Path) -> pa.Table:
    """Return a table whose column says that it is of a Python type, which older versions of Arrow unpickled."""
    told = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(_Evil(path))}
    field = pa.field("gene", pa.float64(), metadata=told)
    return pa.table([pa.array(["a"]), pa.array([1.0])], schema=pa.schema([pa.field("sample_id", pa.string()), field]))


def test_a_table_with_a_pickle_in_its_description_is_read_without_it(tmp_path: Path, ran: Path) -> None:
    path = tmp_path / "expression.parquet"
    parquet.write_table(_pickled_type(ran), path)
    assert read_table(path, text=("sample_id",), all_other_numbers=True)["gene"].tolist() == [1.0]
    assert read_profiles(path.name, path.read_bytes()).values.shape == (1, 1)


@pytest.mark.parametrize("written", ["pickle", "joblib", "feather", "npy"])
def test_a_table_that_is_something_else_is_refused(tmp_path: Path, ran: Path, written: str) -> None:
    path = tmp_path / "expression.parquet"
    {
        "pickle": lambda: path.write_bytes(pickle.dumps(_Evil(ran))),
        "joblib": lambda: joblib.dump(_Evil(ran), path),
        "feather": lambda: feather.write_feather(_pickled_type(ran), str(path)),
        "npy": lambda: path.write_bytes(_objects(ran)),
    }[written]()
    with pytest.raises(UserError, match="not a readable parquet file"):
        read_table(path, text=("sample_id",))
    for name in ("profiles.parquet", "profiles.csv", "profiles.pkl"):
        with pytest.raises(UserError, match=name):
            read_profiles(name, path.read_bytes())
