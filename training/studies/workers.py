"""Worker processes on one machine, each with a GPU where there are GPUs; a killed one is replaced."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

import psutil

from pipelines.errors import UserError
from pipelines.files import cores

_WATCH_SECONDS = 1.0
_STOP_SECONDS = 10.0
_KILLED_IN_VAIN = 5  # workers, by their number, that may be killed while no trial ends


def add_worker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--workers`` and ``--cluster``, and the hidden options of a worker."""
    parser.add_argument("--workers", type=_count, default=1, help="processes that share the trials (default 1)")
    parser.add_argument("--cluster", default="", help="ray://HOST:PORT, or local: let Ray place the workers")
    parser.add_argument("--worker-of", default="", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of workers; it must be 1 or more")
    return int(text)


def gpus() -> list[str]:
    """Return the GPUs of this machine, or those that ``CUDA_VISIBLE_DEVICES`` names."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [each for each in (part.strip() for part in named.split(",")) if each and each != "-1"]
    import pynvml

    try:
        pynvml.nvmlInit()
        return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def worker_environment(number: int, workers: int, devices: list[str]) -> dict[str, str]:
    """Return the environment of worker ``number``, from 1, with its GPU and its share of the cores."""
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // workers)))
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[(number - 1) % len(devices)]
    return environment


def run_processes(command: Sequence[str], workers: int, watch: Callable[[], int]) -> None:
    """Run processes ``python -m *command --number n``; a killed one is replaced, a failed one is an error."""
    devices = gpus()

    def start(number: int) -> psutil.Popen:
        environment = worker_environment((number - 1) % workers + 1, workers, devices)
        return psutil.Popen([sys.executable, "-m", *command, "--number", str(number)], env=environment)

    running = {number: start(number) for number in range(1, workers + 1)}
    following, in_vain, done = workers + 1, 0, watch()
    try:
        while running:
            time.sleep(_WATCH_SECONDS)
            now = watch()
            in_vain, done = (0 if now > done else in_vain), now
            stopped = {number: code for number, each in running.items() if (code := each.poll()) is not None}
            for number, code in stopped.items():
                del running[number]
                if code == 0:
                    continue
                if code > 0:
                    raise UserError(
                        f"worker {number} ended with exit status {code}, see its message above; run the same command "
                        "to go on"
                    )
                in_vain += 1
                if in_vain > _KILLED_IN_VAIN * workers:
                    raise UserError(
                        f"workers were killed {in_vain} times (last by {signal.Signals(-code).name}) and no trial "
                        "ended; give them more memory, or run fewer at once"
                    )
                running[following] = start(following)  # a new number, which draws other points
                following += 1
        watch()
    finally:
        _stop(list(running.values()))


def _stop(processes: list[psutil.Popen]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    _, left = psutil.wait_procs(processes, _STOP_SECONDS)
    for alive in left:
        alive.kill()
        alive.wait()
