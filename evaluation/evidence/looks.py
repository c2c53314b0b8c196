"""How often the test rows of a task were scored, by whom and for which models: on the runs, where the registry is.

Who chooses by scores on the same rows fits these rows too, a little with every look (Dwork et al., 2015, Science 349).
"""

import getpass
import hashlib
import os
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import ViewType

from pipelines import tracking
from pipelines.datasets import Prepared
from pipelines.formatting import counted, listed

TEST_SHA256 = "test.sha256"  # tag of a run: the rows that its model was scored on
LOOKS = "test.looks"  # tag of a run: a line a look, with time and person
_LINES = 100  # of a run that are kept
COLUMNS = ("time", "by", "architecture", "run_id")


def sha256_of_tested(prepared: Prepared) -> str:
    """Return the hash of the names of the rows that models are tested on."""
    names = sorted(prepared.table["sample_id"].astype(str).iloc[prepared.tested])
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def record(run_id: str, prepared: Prepared) -> None:
    """Add a look of this person, now, to a run."""
    by = os.environ.get("MLFLOW_TRACKING_USERNAME") or tracking.git("config", "user.name") or getpass.getuser()
    rows = sha256_of_tested(prepared)
    client = MlflowClient()
    tags = client.get_run(run_id).data.tags
    lines = tags.get(LOOKS, "").splitlines() if tags.get(TEST_SHA256) == rows else []
    lines.append(f"{datetime.now(UTC).isoformat(timespec='seconds')} {' '.join(by.split())[:40]}")
    for key, value in {TEST_SHA256: rows, LOOKS: "\n".join(lines[-_LINES:])}.items():
        client.set_tag(run_id, key, value)


def ledger(task: str, rows: str) -> pd.DataFrame:
    """Return the looks at the test rows with this hash, the first one first: `COLUMNS`; deleted runs looked too."""
    client, found = MlflowClient(), list[dict[str, Any]]()
    experiment = client.get_experiment_by_name(task)
    token: str | None = None if experiment else ""
    while experiment and token != "":
        filters = f"tags.`{TEST_SHA256}` = '{rows}'"
        page = client.search_runs([experiment.experiment_id], filters, ViewType.ALL, 1000, page_token=token)
        for run in page:
            for line in run.data.tags.get(LOOKS, "").splitlines():
                time, _, by = line.partition(" ")
                about = {"architecture": run.data.tags.get("architecture", ""), "run_id": run.info.run_id}
                found.append({"time": time, "by": by, **about})
        token = page.token or ""
    return pd.DataFrame(found, columns=list(COLUMNS)).sort_values("time", ignore_index=True)


def told(looks: pd.DataFrame) -> str:
    """Return how often, for how many models and by whom, in words."""
    models = counted(looks["run_id"].nunique(), "model", "models")
    return f"scored {counted(len(looks), 'time', 'times')}, for {models}, by {listed(sorted(set(looks['by'])))}"
