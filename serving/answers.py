"""Whether a logged model loads and answers, tried as it would be served: in a process of its own, on its own code."""

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
    """Load the model behind ``uri``, ask it the input example that was logged with it, and return its rows.

    Raises
    ------
    UserError
        It does not load, does not answer each row, or takes longer than ``seconds``.
    """
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    with model_files(uri) as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-B", "-c", _PROGRAM, str(folder.resolve())],
                cwd=folder.parent,  # not the checkout: the model has to bring its code
                env=environment,
                capture_output=True,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"model {uri} does not answer within {seconds:g} s; nothing was changed") from error
    said = [line for line in done.stdout.splitlines() if line.startswith("answered ")]
    if done.returncode or not said:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise UserError(f"model {uri} does not load or answer: {last}; nothing was changed")
    return int(said[-1].split()[1])
