"""The coordinator as Flower starts it, in a checkout with the task's own rows; see `infra/flower`."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pipelines.datasets import read_prepared
from pipelines.params import read_params
from pipelines.problems import WORST_STRESS
from pipelines.tune_metric import with_tune_metric
from training.architectures import get_architecture
from training.federated.final import fit_federated, told, tuned
from training.federated.plan import Plan
from training.model.final_fit import Fitted

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Fit by the configuration of the run."""
    run(grid, context.run_config)


def run(grid: Grid, given: Mapping[str, Any]) -> Fitted:
    """Fit as ``given``, fields of `Plan`, with the hyperparameters of the coordinator's study, if there is one."""
    name = str(given["task"])
    params, _ = with_tune_metric(read_params(), name)
    task = params.task(name)
    prepared = read_prepared(name, task)
    architecture = get_architecture(str(given["architecture"]), task.modality, task.problem)
    asked = {each.name: given[each.name] for each in fields(Plan) if each.name in given}
    asked |= {"hyperparameters": tuned(name, architecture), **told(prepared, task)}
    asked["metric"] = task.tune.metric.removeprefix(WORST_STRESS)
    return fit_federated(grid, Plan(**asked), prepared, params)
