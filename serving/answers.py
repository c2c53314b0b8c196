"""A test that a logged model loads and answers in a process of its own, with its own code, as it is served."""

from __future__ import annotations

import os
import subprocess
import sys

from pipelines.errors import UserError
from serving.gate_context import model_files

SECONDS = 300

_PROGRAM = """
import sys
import mlflow
from mlflow.models import Model

folder = sys.argv[1]
example = Model.load(folder).load_input_example(folder)
answer = mlflow.pyfunc.load_model(folder).predict(example)
if len(answer) != len(example):
    sys.exit(f"{len(answer)} answers to {len(example)} rows")
columns = [name for name in ("prediction", "label") if name in answer] or list(answer)[:1]
if answer[columns].isna().any().any():
    sys.exit(f"an answer without {' or '.join(columns)}")
print(f"answered {len(answer)}")
"""


def answer_example(uri: str, seconds: float = SECONDS) -> int:
    """Predict a logged model's input example and return its number of rows; `UserError` if it does not answer each."""
    with model_files(uri) as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-c", _PROGRAM, str(folder.resolve())],
                cwd=folder.parent,  # not the checkout: the model brings its code
                env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"model {uri} does not answer within {seconds:g} s; nothing was changed") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith("answered ")]
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"model {uri} does not load or answer: {last}; nothing was changed")
    return int(lines[-1].split()[1])
