"""Stage ``fit``: the tuned architecture is fitted for good, logged as a model, and predicts the test rows."""

import os
from dataclasses import asdict

from pipelines.command import architecture_parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.paths import MODELS


def main() -> int:
    """``python -m training.fit --task T --architecture A``."""
    arguments = architecture_parser(__doc__ or "").parse_args()
    from pipelines.datasets import read_prepared
    from pipelines.files import read_json, write_json
    from pipelines.tune_metric import with_metric, with_tune_metric
    from training.architectures import get_architecture
    from training.model.final_fit import fit, follow
    from training.studies.study import tune

    params = read_params()
    task = params.task(arguments.task)
    architecture = get_architecture(arguments.architecture, task.modality, task.problem)
    prepared = read_prepared(arguments.task, task)
    folder = MODELS / arguments.task / architecture.name
    if not (folder / "tuned.json").is_file():
        raise UserError(
            f"{folder / 'tuned.json'} is not there; run `dvc repro tune@{arguments.task}-{architecture.name}`"
        )
    tuned = read_json(folder / "tuned.json")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:  # a launcher has started several processes
        if prepared.parts:
            raise UserError(
                f"{arguments.task}: several processes cannot share a rotation over all groups; run the stage in one "
                "process, or set split.fewest_groups: 0"
            )
        from training.networks import distributed

        distributed.start(params.device)
        if distributed.rank():
            follow(architecture, tuned, prepared, params, task)
            return 0
    if "metric" in tuned:  # with `auto` what the study was told; else the audit decides, as it did then
        params = with_metric(params, arguments.task, tuned["metric"])
    else:
        params, _ = with_tune_metric(params, arguments.task)
    how = {"prepared": prepared, "params": params, "folder": folder, "study": tuned["study"], "tune": tune}
    fitted = fit(arguments.task, architecture, tuned["hyperparameters"], **how)
    write_json(folder / "fitted.json", asdict(fitted))
    print(
        f"{arguments.task} {architecture.name}: {fitted.metric} {fitted.validation:.4f} on held-out rows, "
        f"{fitted.seconds:.1f} s (run {fitted.run_id})"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
