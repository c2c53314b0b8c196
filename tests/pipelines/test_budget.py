"""What would train with another budget than was asked for, or leave a checkout that git calls changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.params import read_params
from pipelines.typed_yaml import ParamsError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    """Return a copy of ``params.yaml``, whose budget is quick."""
    path = shutil.copy(ROOT / "params.yaml", tmp_path)
    assert read_params(path).budget == "quick"
    return Path(path)


def test_the_checkout_chooses_the_budget(params_file: Path) -> None:
    chosen = params_file.with_name("budget.yaml")
    for text, budget in {"budget: full\n": "full", "{}\n": "quick", "": "quick"}.items():
        chosen.write_text(text)
        assert read_params(params_file).budget == budget
    for text, message in {
        "\nbudget: huge\n": r"budget.yaml, line 2: params.budget is 'huge'; it must be one of quick, full",
        "seed: 1\n": r"budget.yaml, line 1: unknown key params.seed",
        "full\n": r"budget.yaml, line 1: params must be a mapping",
        "budget: [\n": r"budget.yaml: not YAML",
    }.items():
        chosen.write_text(text)
        with pytest.raises(ParamsError, match=message):
            read_params(params_file)


def make(folder: Path, *, budget: str | None) -> tuple[int, str]:
    """Run `make train` in a folder where DVC and Python only write down that they ran."""
    shutil.copy(ROOT / "Makefile", folder)
    (folder / "bin").mkdir(exist_ok=True)
    for name in ("dvc", "python"):
        (folder / "bin" / name).write_text(f"#!/bin/sh\necho {name} >> '{folder}/ran'\n")
        (folder / "bin" / name).chmod(0o755)
    env = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "ONCOLINEAGE_READY": "Makefile"}
    env |= {} if budget is None else {"BUDGET": budget}
    done = subprocess.run(["make", "train", "TASK=drug_response"], cwd=folder, env=env, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_a_budget_holds_until_another_is_named(tmp_path: Path) -> None:
    chosen = tmp_path / "budget.yaml"
    assert make(tmp_path, budget=None) == (0, "") and not chosen.exists()
    for budget, held in (("full", "full"), (None, "full"), ("quick", "quick")):
        assert make(tmp_path, budget=budget) == (0, "") and chosen.read_text() == f"budget: {held}\n"


@pytest.mark.parametrize(
    "budget", ["huge", "quick full", "full; touch pwned", "$(touch pwned)", "$(shell touch pwned)"]
)
def test_an_unknown_budget_is_refused_before_anything_runs(tmp_path: Path, budget: str) -> None:
    code, said = make(tmp_path, budget=budget)
    assert code == 2 and f"BUDGET is '{budget}'; it is quick or full" in said
    assert {path.name for path in tmp_path.iterdir()} == {"Makefile", "bin"}
