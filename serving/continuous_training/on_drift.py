"""Whether the monitor's last report calls for a retraining that has not been done."""

import json
from pathlib import Path

from pipelines.paths import REPORTS

DONE = "retrained"  # a file beside the report: what it called for has been done


def called_for(task: str, reports: Path = REPORTS) -> Path | None:
    """Return the folder of the last report of the monitor, if it says ``retrain`` and nobody has; else None."""
    found = sorted((reports / task / "monitor").glob("*/monitor.json"))
    if not found or (found[-1].parent / DONE).exists():
        return None
    decided = json.loads(found[-1].read_text(encoding="utf-8"))["decision"]
    return found[-1].parent if decided == "retrain" else None
