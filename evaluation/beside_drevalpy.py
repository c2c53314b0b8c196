"""Drug response beside drevalpy: its models, tuned and fitted on our rows and features, in one table with ours."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.command import parser, run_command
from pipelines.params import read_params
from pipelines.paths import REPORTS


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m evaluation.beside_drevalpy --task T --drevalpy PROGRAM [--models M ...] [--transformation N]``."""
    options = parser(__doc__ or "")
    options.add_argument("--drevalpy", type=Path, help="ENV/bin/drevalpy; without it, what it left before is shown")
    options.add_argument("--models", nargs="+", default=["GradientBoosting"], help="of drevalpy, which tunes each")
    options.add_argument("--transformation", default="None", help="of the response, by drevalpy's name: drug_mean")
    options.add_argument("--against", help="our model that others are compared with (default: best on validation rows)")
    given = options.parse_args(argv)
    from evaluation.comparison.drevalpy import content, run, write_data
    from evaluation.generalization.table import task_of
    from evaluation.promotion.candidate_run import choose
    from pipelines.datasets import read_prepared
    from pipelines.report import as_markdown

    params, name = read_params(), given.task
    task = task_of(name, params)
    against = given.against or choose(name, params)["architecture"]
    prepared = read_prepared(name, task)
    folder = write_data(prepared, REPORTS / name / "drevalpy")
    if given.drevalpy:
        run(given.drevalpy, folder, task.split.mode, given.models, given.transformation)
    said = as_markdown(content(name, params, prepared, folder, against))
    (folder / "beside_drevalpy.md").write_text(said, encoding="utf-8")
    print(said)
    print(f"see {folder}")


if __name__ == "__main__":
    run_command(main)
