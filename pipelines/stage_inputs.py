"""Stage ``inputs``: the parameters and the code of each other stage of ``dvc.yaml``, a file a stage.

DVC compares that file, in place of dozens of files and parameters a stage.
"""

import argparse
from dataclasses import asdict
from functools import reduce
from typing import Any

from pipelines.code_closure import closure
from pipelines.command import run_command
from pipelines.files import write_json
from pipelines.params import Params, read_params
from pipelines.paths import INPUTS

# The module of a stage, and what of params.yaml decides its result: seed, budget, device, and keys of the task.
OF_TASKS: dict[str, tuple[str, ...]] = {
    "pipelines.validate": ("data", "validate", "split"),
    "pipelines.audit": ("seed", "data", "split"),
    "pipelines.prepare": ("seed", "data", "split"),
    "evaluation.leaderboard": ("evaluate.metric",),
}
OF_MODELS: dict[str, tuple[str, ...]] = {
    "training.tune": ("seed", "budget", "device", "tune"),
    "training.fit": ("seed", "budget", "device", "fit", "evaluate.baseline", "evaluate.interval_coverage"),
    "evaluation.evaluate": ("evaluate",),
}


def inputs(params: Params) -> dict[str, dict[str, Any]]:
    """Return parameters and hashes of code of every stage, by the name of its file: ``tune/<task>-<architecture>``."""
    found = {}
    for module, keys in (OF_TASKS | OF_MODELS).items():
        for key in params.models if module in OF_MODELS else params.tasks:
            model = params.models.get(key)
            task = params.task(model.task if model else key)
            names = [model.architecture] if model else []
            if module == "training.fit":  # which fits the baseline beside the model
                names.append(task.evaluate.baseline)
            every = {"seed": params.seed, "budget": params.budget, "device": params.device, **asdict(task)}
            found[f"{module.partition('.')[2]}/{key}"] = {
                "params": {each: reduce(lambda content, part: content[part], each.split("."), every) for each in keys},
                "code": closure(module, task=task, architectures=names),
            }
    return found


def main() -> None:
    """Write the files; DVC has removed those of before."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, content in inputs(read_params()).items():
        write_json(INPUTS / f"{name}.json", content)


if __name__ == "__main__":
    run_command(main)
