"""Chains of stages side by side: ``python -m pipelines.side_by_side --task T --at-once 2`` trains a task.

Each chain has its share of the cores. What was killed goes on where it was.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.files import cores
from pipelines.params import Params, read_params
from pipelines.warm_process import forwarded, interrupt, warm_process

# DVC waits for its repository's lock as long as it takes, but 3 s for that of its list of who reads and writes which
# file, which another chain may hold for longer on a busy machine. Stages that have ended do not run again.
_GAVE_UP, _TRIES = "Unable to acquire lock", 5


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
    then: Mapping[str, Callable[[], None]] | None = None,
) -> None:
    """Run all stages of the models ``keys`` and of their tasks; `UserError` names those that failed.

    ``at_once`` chains of stages run side by side (default: one a core). What follows a chain that failed is left out,
    and all else runs. ``repro`` runs a chain, given its name and stages (default: DVC), and returns whether each stage
    ended well. ``then`` is what to call, by task, once its leaderboard is there.
    """
    of_task = {task: [key for key in keys if params.models[key].task == task] for task in params.tasks}
    needs: dict[str, list[str]] = {"budget": []}  # the chains before each, in the order in which they start
    chains: dict[str, Sequence[str] | Callable[[], None]] = {"budget": ["budget"]}
    chains |= (first := checks(task for task, own in of_task.items() if own))
    needs |= {task: ["budget"] for task in first}
    for task in first:
        own, last = of_task[task], f"leaderboard of {task}"
        chains |= {**fits(own), last: [f"leaderboard@{task}"]}
        needs |= {**{key: [task] for key in own}, last: own}
        if then and task in then:
            chains[f"after {last}"], needs[f"after {last}"] = then[task], [last]

    def run(name: str) -> bool:
        began, chain = time.monotonic(), chains[name]
        try:
            done = chain() is None if callable(chain) else (repro or _repro)(name, chain)
        except Exception as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            done = False
        if done:
            print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)
        return done

    if failed := [name for name, done in _in_order(needs, run, at_once or cores()).items() if done is False]:
        raise UserError(f"these failed, see above: {', '.join(failed)}")


def _in_order(needs: Mapping[str, Iterable[str]], run: Callable[[str], bool], at_once: int) -> dict[str, bool | None]:
    """Run each name after those that it ``needs``, of several the first; return whether it ended well, or None."""
    ended: dict[str, bool | None] = {}
    running: dict[Future[bool], str] = {}
    with ThreadPoolExecutor(at_once) as pool:
        while len(ended) < len(needs):
            for name in [name for name in needs if name not in ended and name not in running.values()]:
                before = [ended.get(each, name) for each in needs[name]]
                if False in before or None in before:
                    ended[name] = None
                elif len(running) < at_once and all(each is True for each in before):
                    running[pool.submit(run, name)] = name
            try:
                finished = wait(running, return_when=FIRST_COMPLETED).done
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                interrupt()
                raise
            ended |= {running.pop(future): future.result() for future in finished}
    return ended


def _repro(name: str, stages: Sequence[str]) -> bool:
    """Run stages by DVC, one after another, and print what they print when they have ended."""
    arguments = ["dvc", "--wait-for-lock", "repro", "--single-item", *stages]
    for _ in range(_TRIES):
        with tempfile.TemporaryFile() as output:
            code = forwarded(arguments, (0, output.fileno(), output.fileno()))
            if code is None:
                code = subprocess.run([sys.executable, "-m", *arguments], stdout=output, stderr=output).returncode
            output.seek(0)
            said = output.read().decode(errors="replace")
        print(f"== {name}\n{said}", end="", flush=True)
        if code == 0 or _GAVE_UP not in said:
            break
    return code == 0


if __name__ == "__main__":
    run_command(main)
