"""How far models carry: every architecture in every split mode, scored on rows of groups never met.

Fits that are finished are kept: a run that was killed goes on with those that are missing.
"""

import functools
import sys
from collections.abc import Sequence

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.paths import DATA, REPORTS


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m evaluation.generalize --task T [--architectures A ...] [--modes M ...] [--pilot N]``."""
    options = parser((__doc__ or "").splitlines()[0])
    options.add_argument(
        "--architectures",
        nargs="+",
        help="which (default: all of the task), perhaps changed, as in xgboost+combat=site; the baseline is added",
    )
    options.add_argument("--modes", nargs="+", help="split modes (default: all)")
    options.add_argument("--pilot", type=int, help="lines that a new drug is measured on in the mode drug_pilot")
    given = options.parse_args(argv)
    from evaluation.generalization import page
    from evaluation.generalization.table import FOLDER, generalize, plans, results, task_of, with_pilot
    from pipelines import tracking
    from pipelines.report import as_markdown

    params = read_params()
    name = given.task
    if given.pilot is not None:
        params = with_pilot(name, params, given.pilot)
    task = task_of(name, params)
    if unknown := [mode for mode in given.modes or () if mode not in task.modes]:
        raise UserError(f"--modes {unknown[0]}: no split mode of {name}; they are {', '.join(task.modes)}")
    if not (DATA / name).is_dir():
        raise UserError(f"{DATA / name} is not there; bring data in with `make data FROM=DIR TASK={name}`")
    folder = REPORTS / name / FOLDER
    of = functools.partial(plans, name, params, data_sha256=tracking.folder_sha256(DATA / name), folder=folder)
    every = params.architectures(name)
    wanted = of(modes=given.modes or task.modes, architectures=given.architectures or every)
    kept = task.read(DATA / name)
    failed = generalize(name, params, wanted, kept)
    # The table shows all that is there, so that a run of a few architectures completes it.
    names = list(dict.fromkeys([*every, *(plan.name for plan in wanted)]))
    found = results(name, params, of(modes=task.modes, architectures=names), failed, kept.samples)
    page.write(found, folder)
    print(as_markdown(page.content(found)))
    print(f"see {folder / 'generalization.md'}")
    for sentence in failed:
        print(f"error: {sentence}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    run_command(main)
