"""An encoder that a user brings, from its entry in params.yaml to an answer, and made again where its file is lost."""

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import timm
import torch
import yaml
from mlflow import MlflowClient
from safetensors.torch import save_file

from pipelines.simulate.cells import simulate_blood_cell
from serving.reproduction import Recipe, Worktree, _settle
from tests.end_to_end.small_platform import Checkout, checked_out, small_params
from tests.training.test_encoders import ENTRY, Program

pytestmark = pytest.mark.slow
TASK, OURS, LEAKY = "blood_cell", "ours", "leaky"
STAGED = f"models:/{TASK}@staging"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a checkout with a network of timm that is staged, and a program that has seen the task's collection."""
    root = tmp_path_factory.mktemp("encoders")
    changes: dict[str, Any] = {"data.size": 48, "evaluate.explained_samples": {"quick": 6, "full": 6}}
    models = ["majority_class", OURS, LEAKY]
    params = small_params(TASK, changes=changes, models=models, waive=True)
    torch.manual_seed(3)
    (root / "weights").mkdir()
    torch.jit.script(Program(pooled=True).eval()).save(leaky := root / "weights" / "leaky.pt")
    sha256 = hashlib.sha256(leaky.read_bytes()).hexdigest()
    seen = params["tasks"][TASK]["data"]["collections"][0].replace("_", " ").upper()
    tensors = timm.create_model("test_vit", num_classes=0).state_dict()
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, root / "weights" / "ours.safetensors")
    few = {"check": "margin", "reason": "a tiny sample", "by": "a test", "until": "2999-12-31"}
    params["policy"]["tasks"][TASK]["waivers"].append(few)
    params["encoders"] = {
        OURS: {**ENTRY, "size": 112, "file": "weights/ours.safetensors", "timm": "test_vit", "license": "MIT"},
        LEAKY: {**ENTRY, "file": "weights/leaky.pt", "sha256": sha256, "pretrained_on": ["PBC", seen]},
    }
    with checked_out(root, params) as made:
        simulate_blood_cell(made.root / "data" / TASK, per_class=14, subjects=8)
        made.train(TASK, models)
        made.stage(TASK, OURS)
        yield made


def test_run_evidence_and_card_say_what_it_was_trained_on(here: Checkout) -> None:
    found = here.evidence(TASK, OURS)
    known = {"weights": "weights/ours.safetensors", "encoder": OURS, "license": "MIT", "pretrained_on": ["Cells of us"]}
    assert found["pretraining"] == {**known, "collections": ["oncolineage_simulated_blood_cells"]}
    tags = MlflowClient().get_run(found["run_id"]).data.tags
    assert (tags["weights"], tags["pretrained_on"], tags["architecture"]) == (f"encoder {OURS}", "Cells of us", OURS)
    card = (here.root / f"reports/{TASK}/candidate/card.md").read_text()
    assert "ours (license: MIT) was trained on Cells of us" in card.replace("\\", "")
    methods = {name: here.evidence(TASK, name)["explanation"]["method"] for name in (OURS, LEAKY)}
    assert methods == {OURS: "grad_cam", LEAKY: "occlusion"}
    assert here.evidence(TASK, "majority_class")["pretraining"]["pretrained_on"] == []
    assert set(here.leaderboard(TASK)) == {"majority_class", OURS, LEAKY}


def test_a_registered_model_answers_where_neither_params_nor_file_are(
    here: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = next((here.root / "data" / TASK / "images").rglob("*.jpg"))
    asked = pd.DataFrame({"image": [base64.b64encode(image.read_bytes()).decode()]})
    monkeypatch.chdir(tmp_path)
    answer = mlflow.pyfunc.load_model(STAGED).predict(asked, params={"explain": True})
    assert MlflowClient().get_model_version_by_alias(TASK, "staging").tags["architecture"] == OURS
    assert base64.b64decode(answer["overlay"][0]).startswith(b"\x89PNG") and answer["probability"][0] > 0.2


def test_a_version_is_made_again_from_the_file_in_the_model(
    here: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = here.root / f"models/{TASK}/{OURS}"
    tags = {"architecture": OURS, "seed": "20261120", "budget": "quick", "device": "cpu"}
    params = yaml.safe_load((here.root / "params.yaml").read_text())
    del params["encoders"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    nothing: dict[str, Any] = {"parameters": {}, "metrics": {}, "requirements": {}, "predictions": pd.DataFrame()}
    recipe = Recipe(TASK, "1", tags, folder=model / "model", **nothing)
    _settle(Worktree(tmp_path, tmp_path), recipe)
    for name in ("data", "prepared"):
        (tmp_path / name).symlink_to(here.root / name)
    (tmp_path / f"models/{TASK}/{OURS}").mkdir(parents=True)
    tuned = json.loads((model / "tuned.json").read_text()) | {"study": "none"}
    (tmp_path / f"models/{TASK}/{OURS}/tuned.json").write_text(json.dumps(tuned))
    monkeypatch.chdir(tmp_path)
    assert here.run("training.fit", "--task", TASK, "--architecture", OURS) == 0
    again = pd.read_parquet(tmp_path / f"models/{TASK}/{OURS}/predictions.parquet")
    pd.testing.assert_frame_equal(again, pd.read_parquet(model / "predictions.parquet"))


def test_one_that_has_seen_the_collection_is_refused_unless_it_is_waived(here: Checkout) -> None:
    """All other checks pass or are waived; this test is the last, since another version is in staging after it."""
    own = ("--task", TASK)
    assert here.run("evaluation.candidate", *own, "--architecture", LEAKY) == 0
    assert here.run("serving.register", *own, "--by", "A. Person") == 2
    refused = here.command("serving.promote", *own, "--by", "A. Person")
    (failed,) = [line for line in refused.stdout.splitlines() if line.startswith("fail")]
    assert "pretraining: weights/leaky.pt was trained on PBC, ONCOLINEAGE SIMULATED" in failed
    assert refused.returncode == 2
    params = yaml.safe_load((here.root / "params.yaml").read_text())
    why = {"reason": "seen before", "by": "a test", "until": "2999-12-31"}
    params["policy"]["tasks"][TASK]["waivers"].append({"check": "pretraining", **why})
    (here.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    done = here.command("serving.promote", *own, "--by", "A. Person")
    assert done.returncode == 0 and "waived pretraining" in done.stdout, done.stdout + done.stderr
