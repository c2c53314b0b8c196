"""A federated final fit: logged like any other, with a child run for each site and round."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import mlflow
from flwr.serverapp import Grid
from mlflow.entities import Metric

from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.files import read_json, write_json
from pipelines.params import Params, Task
from pipelines.paths import MODELS
from training.architectures import FEDERATED, Architecture, get_architecture
from training.estimator import FitContext
from training.federated.plan import Plan
from training.federated.secure import ROWS
from training.federated.server import Federated, federate, weighted
from training.federated.site import hashed
from training.federated.statistics import agreeable
from training.model.cross_fit import FinalFit, held_out_outputs
from training.model.final_fit import Fitted, fit

logging.getLogger("flwr").setLevel(logging.ERROR)  # what it says of each round is in the runs


def told(prepared: Prepared, task: Task) -> dict[str, Any]:
    """Return the fields of `Plan` that tell the sites of the coordinator's rows.

    They are the hashes of what it tests and calibrates on, which no site may train on, and the classes.
    """
    hidden = set().union(*hashed(prepared.side("validation", "test"), task.split.mode))
    return {"left_out": sorted(hidden), "classes": list(getattr(prepared.samples, "classes", ()))}


def tuned(name: str, architecture: Architecture) -> dict[str, Any]:
    """Return the hyperparameters that a study of the coordinator's own rows found, else the architecture's own.

    Those that sites cannot agree on are as they can.
    """
    path = MODELS / name / architecture.name / "tuned.json"
    return agreeable(architecture, read_json(path)["hyperparameters"] if path.is_file() else architecture.defaults)


def fit_federated(grid: Grid, plan: Plan, prepared: Prepared, params: Params) -> Fitted:
    """Fit at the sites of ``grid``, log the model and leave it in ``models/<task>/federated_<architecture>``.

    It is calibrated and tested on the rows of ``prepared``, the coordinator's own.
    """
    task = params.task(plan.task)
    architecture = get_architecture(plan.architecture, task.modality, task.problem)
    metric, results = plan.metric or task.tune.metric, list[Federated]()

    def elsewhere(architecture: Architecture, *, prepared: Prepared, context: FitContext, **asked: Any) -> FinalFit:
        run = mlflow.active_run()
        assert run is not None

        def on_round(number: int, rounds: list[dict[str, Any]]) -> None:
            for row in rounds:
                tracking.patiently(lambda row=row: _log_site(plan, run.info, number, row))  # type: ignore[misc]
            known = {f"validation_{metric}": ("score", "validation_rows"), "train_loss": ("train_loss", ROWS)}
            found = {
                name: weighted([(row[value], row[weight]) for row in rounds if value in row])
                for name, (value, weight) in known.items()
                if any(value in row for row in rounds)
            }
            if context.on_step is not None and found:
                context.on_step(number - 1, found)

        results.append(federate(grid, plan, params, on_round))
        about = results[0].about()
        tags = {"federated": "true", "federated.sites": str(len(about["sites"])), "federated.strategy": plan.strategy}
        tracking.patiently(lambda: mlflow.set_tags(tags))
        if about["privacy"] is not None:
            tracking.patiently(lambda: mlflow.log_metrics({"federated/epsilon": about["privacy"]["epsilon"]}))
        watched, own = prepared.rows("validation"), results[0].estimator
        outputs = held_out_outputs([own], [prepared.samples.take(watched)])[0]
        return FinalFit(own, watched, outputs, ((own, prepared.rows("train"), watched),))

    folder = MODELS / plan.task / f"{FEDERATED}{plan.architecture}"
    how: dict[str, Any] = {"prepared": prepared, "params": params, "folder": folder, "elsewhere": elsewhere}
    how["called"] = f"{FEDERATED}{plan.architecture}"
    fitted = fit(plan.task, architecture, dict(plan.hyperparameters), **how)
    fitted = replace(fitted, federated=results[0].about())
    write_json(folder / "fitted.json", asdict(fitted))
    return fitted


def _log_site(plan: Plan, parent: Any, number: int, row: Mapping[str, Any]) -> None:
    """Log what a site measured in a round as a run of its own."""
    client, now = mlflow.MlflowClient(), int(time.time() * 1000)
    tags = {"mlflow.parentRunId": parent.run_id, "task": plan.task, "stage": "federate"}
    tags |= {"architecture": f"{FEDERATED}{plan.architecture}", "federated.site": row["site"]}
    made = client.create_run(
        parent.experiment_id, tags=tags | {"federated.round": str(number)}, run_name=f"{row['site']} round {number}"
    )
    measured = {"rows" if key == ROWS else key: value for key, value in row.items() if key != "site"}
    metrics = [Metric(f"federated/{key}", float(value), now, number) for key, value in measured.items()]
    client.log_batch(made.info.run_id, metrics=metrics)
    client.set_terminated(made.info.run_id)
