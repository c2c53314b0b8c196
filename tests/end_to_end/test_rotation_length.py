"""A task with few subjects, from image files to a staged model whose evidence is of every subject."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from pipelines.simulate.cells import simulate_leukemia_cell
from pipelines.tracking import ROTATION_SHA256
from tests.end_to_end.small_platform import Checkout, checked_out, small_params

pytestmark = pytest.mark.slow
TASK, SERVED = "leukemia_cell", "efficientnet_lite0"
SUBJECTS, PARTS = 15, 3


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Return a checkout in which the baseline and a network are evaluated, and the network is staged."""
    changes: dict[str, Any] = {"data.size": 48, "split.rotation": PARTS, "split.folds": 3, "split.validation": 0.25}
    changes |= {"tune.trials": {"quick": 1, "full": 2}, "tune.epochs": {"quick": 8, "full": 8}}
    changes |= {"fit.members": {"quick": 1, "full": 3}}
    changes["evaluate.explained_samples"] = changes["evaluate.stressed_samples"] = {"quick": 6, "full": 6}
    with checked_out(tmp_path_factory.mktemp("few"), small_params(TASK, changes=changes, waive=True)) as made:
        simulate_leukemia_cell(made.root / "data" / TASK, subjects=SUBJECTS, per_subject=5)
        made.train(TASK, ("majority_class", SERVED))
        made.stage(TASK, SERVED)
        yield made


def test_the_evidence_is_of_every_subject_and_says_how(here: Checkout) -> None:
    split = here.read(f"prepared/{TASK}/split.json")
    assert "test" not in split["samples"] and len(split["parts"]) == PARTS
    evidence, run = here.evidence(TASK, SERVED), MlflowClient().get_run(here.evidence(TASK, SERVED)["run_id"])
    assert evidence["test"]["groups"] == evidence["rotation"]["groups"] == SUBJECTS
    assert evidence["test"]["samples"] == split["rows"]["kept"] == sum(split["parts"].values())
    assert [each["part"] for each in evidence["rotation"]["parts"]] == list(range(PARTS))
    assert evidence["hashes"][ROTATION_SHA256] == run.data.tags[ROTATION_SHA256]
    assert evidence["explanation"]["method"] == "grad_cam" and evidence["coverage"]["by_novelty"]
    predictions = pd.read_parquet(here.root / f"reports/{TASK}/models/{SERVED}/predictions.parquet")
    assert predictions["sample_id"].is_unique and len(predictions) == split["rows"]["kept"]
    card = (here.root / f"reports/{TASK}/candidate/card.md").read_text()
    assert f"nested cross-validation over {SUBJECTS} groups in {PARTS} parts" in card
    assert "the registered model is a refit on all groups" in card and "no test rows" in card
    rows = here.leaderboard(TASK)
    assert set(rows) == {"majority_class", SERVED} and list(rows)[-1] == "majority_class"
    assert (rows["majority_class"]["value"], rows["majority_class"]["margin"]) == (0.5, 0)  # it is not rotated


def test_the_staged_version_is_the_refit_and_the_gate_knows_its_rotation(
    here: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    client = MlflowClient()
    version = client.get_model_version_by_alias(TASK, "staging")
    evidence = here.read(f"reports/{TASK}/candidate/evidence.json")
    assert version.source == evidence["model_uri"]
    assert here.score(TASK, here.root / "data", capsys)["n"] == evidence["test"]["samples"]
    for sha256, known in (("0" * 64, False), (evidence["hashes"][ROTATION_SHA256], True)):
        client.set_tag(evidence["run_id"], ROTATION_SHA256, sha256)
        done = here.command("serving.promote", "--task", TASK, "--to", "production", "--by", "A. Person")
        assert done.returncode == 2  # the gate refuses simulated cells
        assert ("not of this version: rotation" in done.stdout + done.stderr) is not known


def test_outer_models_that_were_changed_are_refused(here: Checkout) -> None:
    receipt: Path = here.root / f"models/{TASK}/{SERVED}/rotation/1.json"
    content = receipt.read_text()
    receipt.write_text(json.dumps(json.loads(content) | {"validation": 1.0}))
    try:
        done = here.command("evaluation.evaluate", "--task", TASK, "--architecture", SERVED)
        assert done.returncode == 1 and "rotation is not what run" in done.stderr
    finally:
        receipt.write_text(content)


def test_a_split_that_params_no_longer_ask_for_is_refused(here: Checkout) -> None:
    path = here.root / "params.yaml"
    content = path.read_text()
    path.write_text(content.replace("fewest_groups: 60", "fewest_groups: 0"))
    try:
        done = here.command("training.fit", "--task", TASK, "--architecture", SERVED)
        assert done.returncode == 1 and "split.fewest_groups in params.yaml asks for another split" in done.stderr
    finally:
        path.write_text(content)
    done = here.command("training.fit", "--task", TASK, "--architecture", SERVED, WORLD_SIZE="2")
    assert done.returncode == 1 and "several processes cannot share a rotation" in done.stderr
