"""Stage ``evaluate``: a fitted model becomes evidence, on the test split that nothing was chosen by."""

from collections.abc import Sequence

from pipelines.command import architecture_parser, run_command
from pipelines.errors import UserError
from pipelines.formatting import interval
from pipelines.params import read_params
from pipelines.paths import MODELS


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m evaluation.evaluate --task T --architecture A``."""
    arguments = architecture_parser(__doc__ or "").parse_args(argv)
    from evaluation.evidence.build import evaluate, logged_model_sha256, rotation_sha256
    from evaluation.evidence.evidence_file import evidence_path
    from evaluation.results import write_results
    from pipelines import tracking
    from pipelines.datasets import read_prepared
    from training.model.final_fit import read_fitted
    from training.model.rotation import ROTATION, Rotated, is_rotated

    params, name = read_params(), arguments.task
    task = params.task(name)
    left = MODELS / name / arguments.architecture
    fitted, model, predictions = read_fitted(left)
    if tracking.folder_sha256(left / "model") != logged_model_sha256(fitted.model_uri):
        raise UserError(f"{left / 'model'} is not what was logged as {fitted.model_uri}; run the fit stage again")
    prepared = read_prepared(name, task)
    if is_rotated(fitted.architecture, task, prepared):
        if tracking.folder_sha256(left / ROTATION) != rotation_sha256(fitted.run_id):
            raise UserError(f"{left / ROTATION} is not what run {fitted.run_id} fitted; run the fit stage again")
        model = Rotated.of(model.contract, model.baseline, left / ROTATION, prepared)
    folder = evidence_path(name, arguments.architecture).parent
    evidence = evaluate(fitted, model, predictions, prepared=prepared, params=params, folder=folder)
    write_results(evidence, folder)
    metric = task.evaluate.metric
    found, margin = (evidence["test"]["metrics"][key] for key in (metric, "margin"))
    over = f"margin over {evidence['baseline']} {interval(margin, sign='+')}"
    print(f"{name} {fitted.architecture}: test {metric} {interval(found)}, {over}")
    return 0


if __name__ == "__main__":
    run_command(main)
