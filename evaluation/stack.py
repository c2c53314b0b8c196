"""A stack of a task's architectures, weighted by out-of-fold outputs; kept if it is better than its best member."""

from collections.abc import Sequence

from pipelines.command import parser, run_command
from pipelines.params import read_params
from pipelines.paths import REPORTS


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m evaluation.stack --task T [--architectures A B ...]``."""
    options = parser((__doc__ or "").splitlines()[0])
    options.add_argument("--architectures", nargs="*", default=[], help="which (default: all tuned but baselines)")
    given = options.parse_args(argv)
    from evaluation import evaluate
    from evaluation.comparison.stacked import FILE, choose, compare, keep, log
    from pipelines.datasets import read_prepared
    from pipelines.tune_metric import with_tune_metric
    from training.architectures import STACK

    name = given.task
    params, _ = with_tune_metric(read_params(), name)
    prepared = read_prepared(name, params.task(name))
    named = " ".join(given.architectures).split()  # MLflow hands several on as one word
    found, stacked = compare(name, params, prepared, choose(name, params, named))
    metric = found["tuned_by"]
    for row in found["members"]:
        print(f"{row['architecture']}: weight {row['weight']:.3f}, {metric} {row['validation']:.4f} out of fold")
    print(f"stack: {metric} {found['validation']:.4f} out of fold")
    run_id = log(found, prepared)
    print(f"{name}: {found['said']} (run {run_id}); see {REPORTS / name / FILE}")
    if keep(found, stacked, params, prepared) is None:
        return 0
    return evaluate.main(["--task", name, "--architecture", STACK])


if __name__ == "__main__":
    run_command(main)
