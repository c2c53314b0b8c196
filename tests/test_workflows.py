"""What runs unwatched, with rights to write and promote: only verbs that people run too, and no text as code.

What would let data, weights, a large file or a subject that no log shows whole into the repository.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.params import read_params
from tests.empty_store import working_in

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.y*ml"))
NAMES = [path.stem for path in WORKFLOWS]
VERB = re.compile(r"make ([a-z]+)")

# For verbs that want more than the workflow's environment gives them.
GIVEN = {
    "TASK": "drug_response",
    "LOG": "predictions",
    "VERSION": "1",
    "WHY": "a test",
    "BY": "ada",
    "TO": "production",
}


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def triggers(workflow: dict[Any, Any]) -> Any:
    """Return what stands under `on`, which YAML 1.1 takes for a truth value."""
    return workflow[True]


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def verbs(name: str) -> list[str]:
    return [VERB.findall(step["run"])[0] for step in steps(read(name)) if "run" in step]


def test_the_workflows_are_there() -> None:
    assert NAMES == ["ci", "promote", "retrain", "weekly"]
    assert verbs("ci") == ["lint", "audit", "test"] and verbs("weekly") == ["audit", "coverage"]
    assert verbs("retrain") == ["monitor", "retrain", "propose"]
    assert verbs("promote") == ["promote", "verify"]


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_is_met_and_lint_looks(name: str, tmp_path: Path) -> None:
    check = ["check-jsonschema", "--builtin-schema", "vendor.github-workflows"]
    path = ROOT / ".github" / "workflows" / f"{name}.yml"
    assert subprocess.run([*check, str(path)]).returncode == 0
    broken = tmp_path / "broken.yml"
    broken.write_text(path.read_text().replace("runs-on:", "runs-off:"))
    assert subprocess.run([*check, str(broken)], capture_output=True).returncode == 1
    recipe = subprocess.run(["make", "-n", "lint"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert " ".join(check) + " .github/workflows/*.yml" in recipe


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_a_verb_or_a_pinned_action_and_a_workflow_has_few_rights_and_a_time_limit(name: str) -> None:
    workflow = read(name)
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step)
        if "run" in step:
            assert VERB.fullmatch(step["run"].strip()), "no expression becomes shell text"
            verb, env = VERB.findall(step["run"])[0], {**os.environ, **GIVEN}
            done = subprocess.run(["make", "-n", verb], cwd=ROOT, env=env, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        else:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"])
            if step["uses"].startswith("actions/checkout") and name != "retrain":  # which pushes a branch
                assert step["with"]["persist-credentials"] is False
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert 0 < job["timeout-minutes"] <= 1440
        writes = {key for key, value in job.get("permissions", {}).items() if value == "write"}
        assert writes == ({"contents", "pull-requests"} if name == "retrain" else set())
        concurrency = job.get("concurrency") or workflow["concurrency"]
        # A run of ci may be overtaken by a newer one; half a retraining or promotion may not be cut off.
        assert concurrency["cancel-in-progress"] is (name == "ci")
        assert ("task" in concurrency["group"]) == (name in ("promote", "retrain"))
    assert "pull_request_target" not in triggers(workflow)
    if "pull_request" in triggers(workflow):  # the code of strangers meets no secret
        text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
        assert "secrets." not in text and "self-hosted" not in text


def test_retraining_is_begun_by_clock_hand_and_data_for_every_task() -> None:
    workflow, tasks = read("retrain"), list(read_params(ROOT / "params.yaml").tasks)
    for each in (workflow, read("promote")):
        assert triggers(each)["workflow_dispatch"]["inputs"]["task"]["options"] == tasks
    assert re.findall(r"\"(\w+)\"", workflow["jobs"]["loop"]["strategy"]["matrix"]["task"]) == tasks
    assert set(triggers(workflow)) == {"schedule", "workflow_dispatch", "push"}
    assert triggers(workflow)["push"] == {"branches": ["main"], "paths": ["data.dvc", "params.yaml"]}
    job = workflow["jobs"]["loop"]
    assert {"self-hosted", "gpu"} <= set(job["runs-on"])
    upload = next(step for step in job["steps"] if "upload-artifact" in step.get("uses", ""))
    assert upload["if"] == "always()"  # a refusal is what one wants to read


def test_a_promotion_is_by_hand_and_approved() -> None:
    workflow = read("promote")
    assert set(triggers(workflow)) == {"workflow_dispatch"}
    assert all(given["required"] for given in triggers(workflow)["workflow_dispatch"]["inputs"].values())
    job = workflow["jobs"]["promote"]
    assert job["environment"] == job["env"]["TO"] == "production"
    assert "inputs.approved_by" in job["env"]["BY"] and "github.actor" in job["env"]["BY"]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the Makefile whose `python` writes down what it is given and does nothing else."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements.lock").write_text("")
    bin = tmp_path / ".venv" / "bin"
    bin.mkdir(parents=True)
    python = bin / "python"
    python.write_text(f'#!/bin/sh\nfor each in "$@"; do printf "%s\\n" "[$each]" >> {tmp_path}/given; done\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / ".ready").write_text("")
    return tmp_path


HOSTILE = [
    *("it's new; touch pwned", '" ; touch pwned ; "', "$(touch pwned)", "`touch pwned`", "$(shell touch pwned)"),
    *("${PATH} && touch pwned", "--to production", "two\nlines; touch pwned"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_people_type_is_an_argument_and_never_a_command(text: str, checkout: Path) -> None:
    (checkout / ".venv/bin/dvc").symlink_to("python")
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME")}
    for verb, names in {
        "data": "TASK FROM",
        "validate": "TASK",
        "train": "TASK ARCH",
        "promote": "TASK WHY BY",
    }.items():
        typed = dict.fromkeys(names.split(), text)
        for words, env in (([], typed), ([f"{name}={value}" for name, value in typed.items()], {})):
            (checkout / "given").write_text("")
            done = subprocess.run(["make", verb, *words], cwd=checkout, env=kept | env, capture_output=True, text=True)
            assert not list(checkout.rglob("pwned*")), (verb, words)
            assert done.returncode == 0 and text in (checkout / "given").read_text(), (verb, done.stderr)


def test_no_verb_puts_what_people_type_into_the_text_of_a_command() -> None:
    """Of make and of MLflow, which quotes a value itself: between quotation marks it would stand outside of them."""
    makefile, project = ((ROOT / name).read_text() for name in ("Makefile", "MLproject"))
    typed = set(
        re.findall(r"\b([A-Z][A-Z0-9_]*)=", "\n".join(re.findall(r"^[a-z]+: .*## (.*)$", makefile, re.MULTILINE)))
    )
    assert len(typed) > 20
    assert [name for name in sorted(typed) if re.search(rf"(?<!\$)\$[({{]{name}[)}}]", makefile)] == []
    entries = yaml.safe_load(project)["entry_points"]
    assert {each["type"] for entry in entries.values() for each in entry["parameters"].values()} == {"string"}
    assert [name for name, entry in entries.items() if set("\"'") & set(entry["command"])] == []


def test_mlflow_hands_what_people_type_on_as_an_argument(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    shutil.copy(ROOT / "MLproject", checkout)
    monkeypatch.setenv("PATH", f"{checkout}/.venv/bin", prepend=os.pathsep)
    typed = {"task": "t", "by": HOSTILE[0], "why": " ".join(HOSTILE)}
    with working_in(checkout):
        mlflow.projects.run(str(checkout), "promote", parameters=typed, env_manager="local", experiment_name="x")
    assert not list(checkout.rglob("pwned*"))
    given = (checkout / "given").read_text()
    assert f"[--why={typed['why']}]" in given and f"[--by={typed['by']}]" in given


# `make train BUDGET=...`


def train(folder: Path, budget: str | None, *, task: str = "drug_response", **env: str) -> tuple[int, str]:
    """Run `make train` where Python only writes down what it was to run, but for the choice of the budget."""
    python = folder / ".venv/bin/python"
    noted = python.read_text().rpartition("\n#\n")[2]
    chooses = f'case "$2" in (pipelines.budget) PYTHONPATH={ROOT} exec {sys.executable} "$@" ;; esac'
    python.write_text(f"#!/bin/sh\n{chooses}\n#\n{noted}")
    env |= {"PATH": os.environ["PATH"], "TASK": task} | ({} if budget is None else {"BUDGET": budget})
    done = subprocess.run(["make", "train"], cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_budget_holds_until_another_is_named_and_an_unknown_one_is_refused_before_anything_runs(
    checkout: Path,
) -> None:
    chosen, given = checkout / "budget.yaml", checkout / "given"
    shutil.copy(ROOT / "params.yaml", checkout)
    known = "it must be one of quick, full, small_images, small_descriptors"
    for budget in ("huge", "quick full", "full; touch pwned", "$(shell touch pwned)"):
        code, said = train(checkout, budget)
        assert code == 2 and f"BUDGET is '{budget}'; {known}" in said
        assert not {path.name for path in checkout.iterdir()} & {"given", "pwned", "budget.yaml"}
    for architecture in ("nosuch", "xgboost mlp", "$(shell touch pwned)"):
        code, said = train(checkout, "full", ARCH=architecture)
        assert code == 2
        assert f"ARCH is '{architecture}'; name one of those of drug_response in params.yaml: mean_effects" in said
        assert not {path.name for path in checkout.iterdir()} & {"given", "pwned", "budget.yaml"}
    code, said = train(checkout, "small_images")
    assert code == 2 and "small_images is for blood_cell, leukemia_cell, not for drug_response" in said
    assert train(checkout, None) == (0, "") and not chosen.exists()
    asked: list[tuple[str | None, str]] = [("full", "full"), (None, "full"), ("quick", "quick")]
    for named, held in asked:
        assert train(checkout, named) == (0, "") and chosen.read_text() == f"budget: {held}\n"
    assert train(checkout, "small_images", task="blood_cell")[0] == 0 and "small_images" in chosen.read_text()
    given.unlink()
    assert train(checkout, None)[0] == 2 and not given.exists()  # it would be `full` under another name
    side_by_side = {"SIDE_BY_SIDE": "2; touch pwned"}
    assert train(checkout, None, task="blood_cell", **side_by_side)[0] == 0
    assert "[pipelines.side_by_side]\n[--task]\n[blood_cell]\n[--at-once]\n[2; touch pwned]\n" in given.read_text()


# Hooks of commits.


def test_the_hooks_refuse_data_large_files_secrets_and_long_subjects(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".pre-commit-config.yaml", tmp_path)

    def hook(*arguments: str) -> str:
        command = [sys.executable, "-m", "pre_commit", "run", *arguments]
        env = {**os.environ, "SKIP": "lint"}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stdout

    def subject(text: str) -> str:
        (tmp_path / "message").write_text(text, encoding="utf-8")
        return hook("--hook-stage", "commit-msg", "--commit-msg-filename", "message")

    (tmp_path / "infra/dvc-remote").mkdir(parents=True)
    sizes = {"-x.bin": 1, "a.csv": 1, "b c.bin": 5_000_001, "fine.py": 5_000_000, "infra/dvc-remote/x.csv": 9}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(b"0" * size)
    for arguments in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    found = hook("--all-files")
    assert "a.csv" in found and "b c.bin" in found and "fine.py" not in found and "x.csv" not in found, found
    assert hook("--files", "fine.py", "infra/dvc-remote/x.csv") == ""
    (tmp_path / "config.py").write_text(f'key = "{"AKIA" + "Q3EGRZ7XN5WJ2KLM"}"\n')
    (tmp_path / "login.yaml").write_text(f"password: {'Tr0ub4dor' + '&3xy'}\n")
    for name, kind in (("config.py", "AWS Access Key"), ("login.yaml", "Secret Keyword")):
        assert kind in hook("secrets", "--files", name)
    assert subject("A" * 72 + "\n\n" + "body " * 40 + "\n") == subject("R²" + "A" * 70 + "\n") == ""
    assert "a subject of at most 72 characters" in subject("A" * 73 + "\n")
