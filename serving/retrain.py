"""Run the loop from new data to a version in staging: ``python -m serving.retrain --task T``.

Exit codes: 0 done, or nothing new; 1 error; 2 the gate refused; 3 another loop is running in this checkout. An
interrupted loop is continued when the command is given again.
"""

import functools
import os
import sys

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.params import read_params

BUSY = 3


def main() -> int:
    """Run the loop."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--architectures", nargs="*", default=[], help="train these only, and the baseline")
    arguments.add_argument("--by", default="", help="your name, for the history")
    asked = "only if the last report of the monitor calls for it, once"
    arguments.add_argument("--on-drift", action="store_true", help=asked)
    given = arguments.parse_args()
    if os.environ.get("MLFLOW_TRACKING_URI", "set") == "":
        raise UserError("MLFLOW_TRACKING_URI is empty: name the tracking server that holds the registry")
    from serving.continuous_training.loop import BusyError
    from serving.continuous_training.on_drift import DONE, called_for
    from serving.continuous_training.steps import retrain
    from serving.registry import whoever

    params = read_params()
    params.task(given.task)
    report = called_for(given.task) if given.on_drift else None
    if given.on_drift and report is None:
        print(f"{given.task}: the monitor calls for no retraining")
        return 0
    tell = functools.partial(print, flush=True)  # DVC writes between the lines
    by = whoever(given.by or os.environ.get("BY", ""))
    try:
        outcome = retrain(given.task, params, by=by, architectures=given.architectures, tell=tell)
    except BusyError as error:
        print(error, file=sys.stderr)
        return BUSY
    if report is not None and outcome.code == 0:
        (report / DONE).touch()
    print(f"{given.task}: {outcome.sentence}")
    if outcome.report is not None:
        print(f"report: {outcome.report}")
    return outcome.code


if __name__ == "__main__":
    run_command(main)
