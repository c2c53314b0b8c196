"""A command that loads what it does not need yet lets people wait seconds for its help, and for a word misspelt."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("pipelines", "training", "evaluation", "serving", "infra")
HEAVY = (
    *("mlflow", "torch", "pandas", "sklearn", "optuna", "matplotlib", "great_expectations", "xgboost", "dvc"),
    *("streamlit", "ray", "captum", "shap", "scipy", "pyarrow", "rdkit", "sqlalchemy", "PIL"),
)
HELP = """
import contextlib, io, runpy, sys
heavy, commands = (each.split() for each in sys.argv[1:])
for module in commands:
    sys.argv, out = [module, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code or not out.getvalue().startswith("usage: "):
            print(module, "ended with", ended.code, out.getvalue()[:200])
    for name in heavy:
        if sys.modules.pop(name, None) is not None:
            print(module, "loads", name)
"""


def commands() -> list[str]:
    return sorted(
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"^    run_command\(main\)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    )


def test_every_command_that_files_name_is_among_them() -> None:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("MLproject", "dvc.yaml", "Makefile"))
    named = set(re.findall(rf"-m ((?:{'|'.join(ROOMS)})(?:\.\w+)+)", text))
    assert len(named) > 15
    assert {name for name in named if not name.startswith("infra.")} <= set(commands())


def python(*arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", *arguments]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def test_help_loads_no_library_of_the_work() -> None:
    """One process for all commands, each of which loads little; a library that one loads is forgotten after it."""
    assert python(HELP, " ".join(HEAVY), " ".join(commands())) == "", "import it in main, behind the arguments"
    assert "training.tune loads json" in python(HELP, "json", "training.tune")


TABLES = """
import sys
from training.architectures import get_architecture
import training.model.predictor

for kind in sys.argv[1:]:
    for name in ("xgboost", "random_forest"):
        get_architecture(name, *kind.split())
print("torch" in sys.modules)
"""


def test_trees_are_loaded_and_served_without_pytorch() -> None:
    """It takes longer to load than most of them to fit, and hundreds of megabytes of an endpoint."""
    kinds = ["pairs regression", *(f"{each} classification" for each in ("pairs", "profiles", "images"))]
    assert python(TABLES, *kinds, "profiles multi_target").split() == ["False"]
