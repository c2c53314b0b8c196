"""What `make train BUDGET=full` leaves in a checkout, for git and for DVC when the budget is another again."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.end_to_end.small_platform import TASK, Platform, make_platform

MODEL = f"{TASK}-mean_effects"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Return a platform whose one model was trained with the full budget."""
    made = make_platform(tmp_path_factory.mktemp("budget") / "platform", models=["mean_effects"])
    made.run("make", "train", f"TASK={TASK}", "ARCH=mean_effects", "BUDGET=full", env={"ONCOLINEAGE_READY": "Makefile"})
    return made


def recorded(platform: Platform, stage: str) -> dict[str, str]:
    """Return what dvc.lock says of a stage's budget."""
    params = yaml.safe_load((platform.root / "dvc.lock").read_text())["stages"][stage]["params"]
    return {"params.yaml": params["params.yaml"]["budget"], **params["budget.yaml"]}


def would_run(platform: Platform) -> set[str]:
    done = platform.dvc("repro", "--dry", f"evaluate@{MODEL}")
    return set(re.findall(r"Running stage '([^']+)'", done.stdout))


def test_git_sees_results_alone(platform: Platform) -> None:
    changed = platform.run("git", "status", "--porcelain").stdout.split("\n")
    assert [line for line in changed if line] == ["?? dvc.lock"]


def test_the_budget_is_that_of_the_result_and_dvc_records_it(platform: Platform) -> None:
    assert platform.read(f"models/{TASK}/mean_effects/fitted.json")["budget"] == "full"
    for stage in ("tune", "fit"):
        assert recorded(platform, f"{stage}@{MODEL}") == {"params.yaml": "quick", "budget": "full"}


def test_another_budget_makes_dvc_run_again_and_the_same_does_not(platform: Platform) -> None:
    assert would_run(platform) == set()
    chosen = platform.root / "budget.yaml"
    before = chosen.read_text()
    chosen.write_text("budget: quick\n")
    assert would_run(platform) == {"budget", f"tune@{MODEL}", f"fit@{MODEL}"}
    chosen.write_text(before)
    assert would_run(platform) == set()


def test_a_checkout_without_a_choice_has_the_budget_of_params(platform: Platform) -> None:
    (platform.root / "budget.yaml").unlink()
    platform.dvc("repro", "budget")
    assert (platform.root / "budget.yaml").read_text() == "{}\n"
    assert would_run(platform) >= {f"tune@{MODEL}", f"fit@{MODEL}"}
