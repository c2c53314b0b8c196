"""What would let files be served that are not those that were registered."""

import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from evaluation.promotion.registered_files import FILES_TAG, check_files, served_hashes
from evaluation.promotion.scoring import load
from pipelines.errors import UserError
from pipelines.file_hashes import HASHES_FILE, check_hashes, file_hashes, write_hashes
from pipelines.params import read_params
from serving import server_command
from tests.empty_store import working_in
from tests.servers import free_port
from tests.serving import served
from training.model.predictor import Predictor

TASK = served.PROFILES
MODEL = f"models:/{TASK}@production"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with a model in production, whose store and files are its own."""
    with working_in(tmp_path_factory.mktemp("checkout")) as folder:
        served.with_policy(folder)
        task, prepared = served.profiles_prepared()
        given = {"selection": "top_30"}
        contract = served.save_fitted(TASK, "logistic_regression", task, prepared, folder / "model", **given)
        served.register(TASK, contract, folder / "model", prepared.samples.take(np.arange(2)))
        yield folder


@pytest.fixture
def files(checkout: Path) -> Iterator[Path]:
    """Give the folder of the registered files, and put back what a test did to it."""
    folder = Path(mlflow.artifacts.download_artifacts(MODEL))
    assert folder.is_relative_to(checkout)  # the files themselves, no copy of them
    kept = checkout / "kept"
    shutil.copytree(folder, kept)
    yield folder
    shutil.rmtree(folder)
    kept.rename(folder)


def _flip(path: Path) -> None:
    """Change one bit in the middle of a file, or write a byte if it is empty."""
    content, middle = path.read_bytes(), path.stat().st_size // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :] if content else b"#")


def _command() -> dict[str, str]:
    serve = read_params().policy.serve
    return server_command.environment_of(TASK, "1", serve, Path("own"), 1)


def test_untouched_files_are_served_and_loaded_by_this_code(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    environment = _command()
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"  # as make sets it, however the server is started
    # A model is read by this code, whatever code was logged with it: one release would meet the other's in a process.
    assert load(MODEL).contract.task == TASK and load(MODEL, served=True).version == "1"
    other = tmp_path / "of another release"
    shutil.copytree(files, other)
    shutil.rmtree(other / "code")
    (other / "predictor.py").write_text("from training.of_another_release import Predictor\n")
    assert load(str(other)).contract == load(MODEL).contract
    contract = next(other.rglob("contract.json"))
    contract.write_text(json.dumps(json.loads(contract.read_text()) | {"of_another_release": 1}))
    write_hashes(contract.parent)
    with pytest.raises(UserError, match=r"by another release, which this checkout's code cannot read.*git\.commit"):
        load(str(other))


def test_a_byte_of_any_file_is_noticed_and_the_file_named(files: Path) -> None:
    version = mlflow.MlflowClient().get_model_version(TASK, "1")
    places = list(served_hashes(files))
    code = [place for place in places if place.startswith("code/")]
    changed = [files / place for place in places if place not in code or place in (code[0], code[-1])]
    names = {path.name for path in changed}
    assert {"MLmodel", "python_env.yaml", "predictor.py", "contract.json", "state.safetensors", HASHES_FILE} <= names
    for path in changed:
        content = path.read_bytes()
        _flip(path)
        place = path.relative_to(files).as_posix()
        with pytest.raises(UserError, match=f"registered: {re.escape(place)} was changed; it is not loaded"):
            check_files(version, files)
        path.write_bytes(content)
    check_files(version, files)


def test_an_endpoint_does_not_start_on_changed_files(files: Path) -> None:
    weights = next(files.rglob("state.safetensors"))
    _flip(weights)
    command = [sys.executable, "-m", "serving.endpoint", "--task", TASK, f"--port={free_port()}"]
    env = os.environ | {"PYTHONPATH": str(served.ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert f"{weights.relative_to(files)} was changed" in done.stderr and "make rollback" in done.stderr
    assert "Traceback" not in done.stderr and "at http" not in done.stdout
    with pytest.raises(UserError, match=r"state\.safetensors was changed"):
        load(MODEL)


def test_files_that_were_added_or_are_missing_are_named(files: Path) -> None:
    planted = files / "code" / "sitecustomize.py"
    planted.write_text("raise SystemExit('planted')\n")
    with pytest.raises(UserError, match=r"code/sitecustomize\.py was added"):
        _command()
    planted.unlink()
    next(files.rglob("contract.json")).unlink()
    with pytest.raises(UserError, match=r"contract\.json is missing"):
        _command()
    client = mlflow.MlflowClient()
    first = client.get_model_version(TASK, "1")
    other = client.create_model_version(TASK, source=first.source, run_id=first.run_id)
    with pytest.raises(UserError, match=rf"has no tag {FILES_TAG}.*make register"):
        check_files(client.get_model_version(TASK, other.version), files)
    with pytest.raises(UserError, match=rf"has no tag {FILES_TAG}"):  # bulk prediction is as strict as the endpoint
        load(f"models:/{TASK}/{other.version}", served=True)


def test_planted_bytecode_is_not_run(files: Path, tmp_path: Path) -> None:
    """Python prefers bytecode beside a file to the file itself, if it says that it is of this file."""
    code = files / "code" / "pipelines" / "errors.py"
    evil = tmp_path / "errors.py"
    evil.write_text(
        f"import pathlib; pathlib.Path({str(tmp_path / 'ran')!r}).touch()\nclass UserError(ValueError): ...\n"
    )
    cached = code.parent / "__pycache__" / f"errors.{sys.implementation.cache_tag}.pyc"
    cached.parent.mkdir(exist_ok=True)
    py_compile.compile(str(evil), str(cached), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    shown = f"import sys; sys.path.insert(0, {str(code.parent.parent)!r}); import pipelines.errors"
    run = [sys.executable, "-B", "-c", shown]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(run, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "ran").exists()  # so it would be run
    (tmp_path / "ran").unlink()
    _command()
    assert not cached.exists()
    subprocess.run(run, cwd=tmp_path, env=environment, check=True)
    assert not (tmp_path / "ran").exists()


def test_a_list_of_hashes_that_was_rewritten_does_not_help(files: Path) -> None:
    """Who changes a file, the model's own list and the run's list is still told by the tag, if without names."""
    _flip(next(files.rglob("state.safetensors")))
    write_hashes(next(files.rglob(HASHES_FILE)).parent)
    client = mlflow.MlflowClient()
    version = client.get_model_version(TASK, "1")
    kept = f"files/{version.tags[FILES_TAG]}.json"
    before = mlflow.artifacts.load_text(f"runs:/{version.run_id}/{kept}")
    client.log_text(version.run_id, json.dumps(served_hashes(files)), kept)
    try:
        with pytest.raises(UserError, match="not those that were registered; it is not loaded"):
            _command()
    finally:
        client.log_text(version.run_id, before, kept)


def test_a_model_that_is_not_registered_checks_its_own_files(files: Path, checkout: Path, tmp_path: Path) -> None:
    """``mlflow models serve`` and whoever loads a folder get here, without the registry."""
    own = shutil.copytree(checkout / "model", tmp_path / "model")

    def refused(says: str) -> None:
        with pytest.raises(UserError, match=says):
            Predictor().read(own)

    check_hashes(own)
    assert Predictor().read(own).contract.task == TASK
    for place in file_hashes(own, leave_out=(HASHES_FILE,)):
        _flip(own / place)
        refused(rf"not as it was saved: {place} was changed")
        _flip(own / place)
    (own / "more.json").write_text("{}")
    refused(r"more\.json was added")
    (own / "more.json").unlink()
    (own / HASHES_FILE).write_text("[]")
    refused("no map of file to hash")
    (own / HASHES_FILE).unlink()
    refused(f"has no {HASHES_FILE}")
    _flip(next((files / "artifacts").rglob("contract.json")))
    with pytest.raises(UserError, match=r"contract\.json was changed"):
        mlflow.pyfunc.load_model(mlflow.MlflowClient().get_model_version(TASK, "1").source)
