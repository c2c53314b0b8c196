"""``python -m tests.bench [NAME ...] [--small] [--report docs] [--accept]``: run all benchmarks, or those named.

A figure that misses its bound, or whose ratio is worse than the recorded one by more than noise explains, ends it with
an error; the latter does not replace the recorded one, unless you ``--accept`` it.
"""

import argparse
import importlib
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.files import cores, read_json
from tests.bench.measured import Record, Table, worse
from tests.bench.report import RECORDED, add, records_of

# A benchmark's name, and the module and function that run it; imported only when it runs.
BENCHES = {
    "loop": ("training_loop", "training_loop"),
    "head": ("frozen_head", "frozen_head_trials"),
    "gpu": ("gpu", "gpu"),
    "images": ("reading", "image_reading"),
    "tables": ("reading", "table_reading"),
    "pancan": ("reading", "pancan_reader"),
    "scoring": ("frozen_head", "image_scoring"),
    "workers": ("many_workers", "many_workers"),
    "row": ("served_endpoint", "one_row"),
    "endpoint": ("served_endpoint", "endpoint"),
    "observed": ("served_endpoint", "observed"),
    "crowd": ("served_endpoint", "crowd"),
    "predict": ("bulk_prediction", "bulk_prediction"),
    "baseline": ("waits", "baseline"),
    "demo": ("waits", "whole_demo"),
    "dvc": ("waits", "dvc_nothing_to_do"),
    "start": ("waits", "start_up"),
    "page": ("waits", "first_pages"),
}


def function(name: str) -> Any:
    module, inside = BENCHES[name]
    return getattr(importlib.import_module(f"tests.bench.{module}"), inside)


def run(name: str, *, small: bool) -> dict[str, Any]:
    """Run a benchmark; return its records, and what is to be known of the machine while it ran."""
    import torch

    print(f"\n{name}", flush=True)
    job, began = function(name), time.perf_counter()
    before = os.getloadavg()[0]
    found = job(small=small)
    took = time.perf_counter() - began
    records = [each for each in found if isinstance(each, Record)]
    print(*(", ".join(filter(None, each.cells)) for each in records), sep="\n")
    print(f"{name} took {took:.0f} s, load average {before:.1f} before and {os.getloadavg()[0]:.1f} after", flush=True)
    return {
        "about": (job.__doc__ or "").strip(),
        "small": small,
        "seconds": round(took, 1),
        "load": [round(before, 2), round(os.getloadavg()[0], 2)],
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}",
        "day": datetime.now(UTC).strftime("%Y-%m-%d"),
        "records": [asdict(each) for each in records],
        "tables": [asdict(each) for each in found if isinstance(each, Table)],
    }


def regressions(result: dict[str, Any], recorded: dict[str, Any] | None) -> list[str]:
    """Return what is worse in the result of `run` than in the recorded one of the same benchmark."""
    if recorded is None or any(result[key] != recorded[key] for key in ("small", "cores")):
        print("not compared: there are no recorded figures of this size and number of cores")
        return []
    before, now = ({(each.name, each.sides, each.unit): each for each in records_of(of)} for of in (recorded, result))
    for name, *_ in before.keys() ^ now.keys():
        print(f"not compared, since it is new, no longer measured or measured otherwise: {name}")
    found = (worse(now[each], before[each]) for each in now if each in before)
    return [line for line in found if line is not None]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmarks named, all of them without names; with ``--report`` write the figures into a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHES)}; all without a name")
    parser.add_argument("--small", action="store_true", help="at a size that only shows that it works")
    parser.add_argument("--report", type=Path, metavar="DIR", help="write performance.md, .json and the picture there")
    parser.add_argument("--accept", action="store_true", help="compare with no recorded figures, and replace them")
    given = parser.parse_args(argv)
    if unknown := [name for name in given.names if name not in BENCHES]:
        parser.error(f"no benchmark is called {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if given.accept and given.report is None:
        parser.error("--accept: name the folder of the figures with --report")
    kept = (given.report or Path("docs")) / RECORDED
    recorded, failed = read_json(kept) if kept.is_file() else {}, []
    for name in given.names or BENCHES:
        try:
            result = run(name, small=given.small)
        except Exception as error:  # the others are still worth their figures
            failed.append(f"{name} FAILED: {type(error).__name__}: {error}")
            print(failed[-1], file=sys.stderr, flush=True)
            continue
        slower = [] if given.accept else regressions(result, recorded.get(name))
        failed += [f"{name} is WORSE: {line}" for line in slower]
        failed += [f"{name}: {', '.join(each.cells)}" for each in records_of(result) if each.holds is False]
        of_full_size = given.small and not recorded.get(name, result)["small"]
        if given.report is not None and not slower and (given.accept or not of_full_size):
            add(given.report, name, result, order=list(BENCHES))
    if failed:
        sys.exit("\n".join(["", *failed]))


if __name__ == "__main__":
    main()
