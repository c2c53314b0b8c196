"""A training that is killed is continued, and is done once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.files import read_json
from tests.end_to_end.small_platform import TASK, Platform, make_platform

pytestmark = [pytest.mark.slow, pytest.mark.soak]

LOOP = ("-m", "serving.retrain", "--task", TASK, "--architectures", "elastic_net", "--by", "ada")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Platform:
    """Return a platform whose loop was killed in the midst of a fit."""
    platform = make_platform(tmp_path_factory.mktemp("retraining") / "platform")
    log = platform.root.parent / "log"
    with log.open("w") as file:
        loop = subprocess.Popen(
            [sys.executable, *LOOP],
            cwd=platform.root,
            env=platform.env,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 900
        while f"Running stage 'fit@{TASK}-elastic_net'" not in log.read_text():
            assert loop.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
            time.sleep(0.1)
        os.killpg(loop.pid, signal.SIGKILL)  # as a machine or a container ends
        loop.wait()
    return platform


def test_a_killed_loop_ends_in_staging_and_is_done_once(platform: Platform) -> None:
    assert list(read_json(platform.root / ".retrain" / f"{TASK}.json")["steps"]) == ["look", "check"]
    done = platform.python(*LOOP)
    assert "going on with the loop" in done.stdout
    assert f"Stage 'tune@{TASK}-elastic_net' didn't change, skipping" in done.stdout  # DVC went on, too
    assert f"{TASK}: version 1 is in staging" in done.stdout
    report = (platform.root / "reports" / TASK / "retraining.md").read_text()
    assert "The data is simulated." in report and "- `staging`: nothing → version 1" in report
    entries = [
        (entry["alias"], entry["to_version"], entry["by"])
        for entry in read_output(platform, "-m", "serving.history", "--task", TASK, "--json")
    ]
    assert entries == [("candidate", 1, "ada"), ("staging", 1, "ada")]
    platform.python("-m", "serving.verify", "--task", TASK)

    files = snapshot(platform.root)
    assert "nothing new" in platform.python(*LOOP).stdout
    assert snapshot(platform.root) == files
    # Where no loop is remembered, the registry is.
    (platform.root / ".retrain" / f"{TASK}.json").unlink()
    assert "nothing new: version 1 was made of this data" in platform.python(*LOOP).stdout


def read_output(platform: Platform, *arguments: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(platform.python(*arguments).stdout)
    return found


def snapshot(root: Path) -> dict[str, int]:
    """Return when what a loop makes was last written."""
    made = [path for each in ("reports", "models", "prepared") for path in (root / each).rglob("*")]
    return {path.as_posix(): path.stat().st_mtime_ns for path in [*made, root / "dvc.lock"]}
