"""The effect of the order of genes: the tuned network fitted again on genes in random order."""

from collections.abc import Sequence

from pipelines.command import architecture_parser, run_command
from pipelines.params import read_params
from pipelines.paths import MODELS


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m evaluation.ablate --task T --architecture A [--permutations N]``."""
    options = architecture_parser(__doc__ or "")
    options.add_argument("--permutations", type=int, default=3, help="random orders (default: %(default)s)")
    given = options.parse_args(argv)
    from evaluation.permuted_genes import ablate, ablation_path, permutable, write_ablation
    from pipelines.datasets import read_prepared
    from training.model.final_fit import read_fitted

    params = read_params()
    task = params.task(given.task)
    permutable(given.architecture, task)
    fitted, model, predictions = read_fitted(MODELS / given.task / given.architecture)
    prepared = read_prepared(given.task, task)
    found = ablate(fitted, model, predictions, prepared=prepared, params=params, orders=given.permutations)
    path = ablation_path(given.task, given.architecture)
    print(f"{write_ablation(found, path)}; see {path}")
    return 0


if __name__ == "__main__":
    run_command(main)
