"""Stage ``tune``: an Optuna study of one architecture, tracked trial by trial, that survives being killed."""

from collections.abc import Sequence
from dataclasses import asdict

from pipelines.command import architecture_parser, run_command
from pipelines.params import read_params
from pipelines.paths import FRONTS, MODELS, REPORTS
from training.studies.workers import add_worker_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m training.tune --task T --architecture A [--workers n] [--cluster ADDRESS]``."""
    parser = architecture_parser(__doc__ or "")
    add_worker_arguments(parser)
    arguments = parser.parse_args(argv)
    from pipelines.datasets import read_prepared
    from pipelines.files import write_json
    from pipelines.tune_metric import with_tune_metric
    from training.architectures import get_architecture
    from training.studies.study import follow, tune

    params, why = with_tune_metric(read_params(), arguments.task)
    task = params.task(arguments.task)
    architecture = get_architecture(arguments.architecture, task.modality, task.problem)
    prepared = read_prepared(arguments.task, task)
    if arguments.worker_of:
        follow(arguments.task, architecture, prepared, params, parent=arguments.worker_of, number=arguments.number)
        return 0
    if why:
        print(f"{arguments.task}: {why}")
    command = ("training.tune", "--task", arguments.task, "--architecture", arguments.architecture)
    how = {"workers": arguments.workers, "cluster": arguments.cluster, "command": command, "why": why}
    tuned = tune(arguments.task, architecture, prepared, params, **how)
    written = asdict(tuned)
    front, path = written.pop("front"), REPORTS / arguments.task / FRONTS / f"{architecture.name}.json"
    write_json(MODELS / arguments.task / architecture.name / "tuned.json", written)
    if front:
        write_json(path, written | front)
    else:
        path.unlink(missing_ok=True)  # of a study that had a cost
    which = "chosen" if front else "best"
    found = "the defaults" if tuned.value is None else f"{which} {tuned.metric} {tuned.value:.4f} on {tuned.objective}"
    print(f"{arguments.task} {architecture.name}: {found} after {tuned.trials} trials (run {tuned.run_id})")
    return 0


if __name__ == "__main__":
    run_command(main)
