"""Stage ``inputs`` of a task: the parameters and the code of each of its other stages in ``dvc.yaml``, a file a stage.

DVC compares that file, in place of dozens of files and parameters a stage.
"""

from dataclasses import asdict
from functools import reduce
from typing import Any

from pipelines.code_closure import closure
from pipelines.command import parser, run_command
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
    "training.fit": (
        *("seed", "budget", "device", "fit", "evaluate.baseline", "evaluate.interval_coverage"),
        *("evaluate.intervals", "evaluate.intervals_by"),
    ),
    "evaluation.evaluate": ("evaluate",),
}


def inputs(params: Params, name: str) -> dict[str, dict[str, Any]]:
    """Return parameters and hashes of code of each stage of a task: ``validate``, ``tune-<architecture>``."""
    task = params.task(name)
    own = f"pipelines.tasks.{task.modality}_{task.problem}"  # `pipelines.params` imports it, which is not followed
    every = {
        "seed": params.seed,
        "budget": params.budget,
        "device": params.device,
        **asdict(task),
        "tune": task.tune.keys(),
    }
    stages = [(module, "") for module in OF_TASKS]
    stages += [(module, architecture) for module in OF_MODELS for architecture in params.architectures(name)]
    found = {}
    for module, architecture in stages:
        names = [architecture] if architecture else []
        if module == "training.fit":  # which fits the baseline beside the model
            names.append(task.evaluate.baseline)
        keys = (OF_TASKS | OF_MODELS)[module]
        decided = {key: reduce(lambda content, part: content[part], key.split("."), every) for key in keys}
        if architecture in params.encoders:
            decided["encoder"] = params.encoders[architecture].known()
        found["-".join([module.partition(".")[2], *names[:1]])] = {
            "params": decided,
            "code": closure(module, own, task=task, architectures=names),
        }
    return found


def main() -> None:
    """Write the files; DVC has removed those of before."""
    name = parser(__doc__ or "").parse_args().task
    for stage, content in inputs(read_params(), name).items():
        write_json(INPUTS / name / f"{stage}.json", content)


if __name__ == "__main__":
    run_command(main)
