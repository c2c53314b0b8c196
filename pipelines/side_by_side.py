"""Chains of stages side by side: ``python -m pipelines.side_by_side --task T --at-once 2`` trains a task.

Each chain has its share of the cores. What was killed goes on where it was.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.files import cores
from pipelines.params import Params, read_params
from pipelines.warm_process import forwarded, interrupt, warm_process


def main() -> None:
    """Train every architecture of a task, and make its leaderboard."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--at-once", type=int, required=True, help="chains side by side")
    given = arguments.parse_args()
    if not 1 <= given.at_once <= cores():
        raise UserError(f"{given.at_once} chains side by side; this machine has cores for 1 to {cores()}")
    params = read_params()
    params.task(given.task)
    # Before the warm process imports libraries, which read it then alone.
    os.environ.setdefault("OMP_NUM_THREADS", str(cores() // given.at_once))
    with warm_process():
        run_chains(params, [key for key, model in params.models.items() if model.task == given.task], given.at_once)


def checks(tasks: Iterable[str]) -> dict[str, list[str]]:
    """Return the stages over the data of each task."""
    return {task: [f"{stage}@{task}" for stage in ("inputs", "validate", "audit", "prepare")] for task in tasks}


def fits(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the stages of each model."""
    return {key: [f"{stage}@{key}" for stage in ("tune", "fit", "evaluate")] for key in keys}


def run_chains(
    params: Params,
    keys: Collection[str],
    at_once: int | None = None,
    repro: Callable[[str, Sequence[str]], bool] | None = None,
) -> None:
    """Run all stages of the models ``keys`` and of their tasks; `UserError` names those that failed.

    ``at_once`` chains of stages run side by side (default: one a core). What follows a chain that failed is left out,
    and all else runs. ``repro`` runs a chain, given its name and stages (default: DVC), and returns whether each stage
    ended well.
    """
    tasks = dict.fromkeys(params.models[key].task for key in keys)
    failed: list[str] = []

    def run(name: str, stages: Sequence[str], after: Sequence[Future[bool]] = ()) -> bool:
        began = time.monotonic()
        if not all(each.result() for each in after):
            return False
        try:
            done = (repro or _repro)(name, stages)
        except Exception as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            done = False
        if done:
            print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
        else:
            failed.append(name)
        return done

    # A chain waits for chains that were submitted before it alone, so one that waits never holds up what it waits for.
    with ThreadPoolExecutor(at_once or cores()) as pool:
        first = pool.submit(run, "budget", ["budget"])
        checked = {task: pool.submit(run, task, stages, [first]) for task, stages in checks(tasks).items()}
        fitted = {
            key: pool.submit(run, key, stages, [checked[params.models[key].task]]) for key, stages in fits(keys).items()
        }
        for task in tasks:
            of_task = [future for key, future in fitted.items() if params.models[key].task == task]
            last = pool.submit(run, f"leaderboard of {task}", [f"leaderboard@{task}"], of_task)
        try:
            wait([*fitted.values(), last])
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            interrupt()
            raise
    if failed:
        raise UserError(f"these failed, see above: {', '.join(failed)}")


def _repro(name: str, stages: Sequence[str]) -> bool:
    """Run stages by DVC, one after another, and print what they print when they have ended."""
    arguments = ["dvc", "--wait-for-lock", "repro", "--single-item", *stages]
    with tempfile.TemporaryFile() as output:
        code = forwarded(arguments, (0, output.fileno(), output.fileno()))
        if code is None:
            code = subprocess.run([sys.executable, "-m", *arguments], stdout=output, stderr=output).returncode
        output.seek(0)
        print(f"== {name}\n{output.read().decode(errors='replace')}", end="", flush=True)
    return code == 0


if __name__ == "__main__":
    run_command(main)
