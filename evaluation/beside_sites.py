"""A federated model beside the same network at each site alone and on all rows pooled."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.command import architecture_parser, run_command
from pipelines.params import read_params
from pipelines.paths import REPORTS


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m evaluation.beside_sites --task T --architecture A --sites DIR ...``."""
    options = architecture_parser(__doc__ or "")
    options.add_argument("--sites", nargs="+", type=Path, required=True, help="raw folders, one a site")
    given = options.parse_args(argv)
    import mlflow

    from evaluation.comparison.sites import content
    from pipelines import tracking
    from pipelines.datasets import read_prepared
    from pipelines.files import read_json
    from pipelines.paths import MODELS
    from pipelines.report import as_markdown
    from pipelines.tune_metric import with_tune_metric
    from training.architectures import FEDERATED

    params, _ = with_tune_metric(read_params(), given.task)
    prepared = read_prepared(given.task, params.task(given.task))
    said = as_markdown(content(given.task, params, prepared, given.architecture, given.sites))
    path = REPORTS / given.task / "sites" / "beside_sites.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(said, encoding="utf-8")
    run_id = read_json(MODELS / given.task / f"{FEDERATED}{given.architecture}" / "fitted.json")["run_id"]
    tracking.patiently(lambda: mlflow.MlflowClient().log_artifact(run_id, str(path)))
    print(said)
    print(f"see {path}")


if __name__ == "__main__":
    run_command(main)
