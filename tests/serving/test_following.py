"""An alias that moves is served without a restart, and no request fails for it; a version that cannot answer is not."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from mlflow import MlflowClient

from tests.empty_store import working_in
from tests.serving import served

TASK = served.PROFILES
SOON = 0.2  # seconds between two looks at the alias
ROWS = {"1": 1, "2": 1, "3": 2}  # of the input examples of versions, where more than one row is refused


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Register three versions; the first is in production. Return the folder and a request."""
    folder = tmp_path_factory.mktemp("following")
    with working_in(folder):
        task, prepared = served.profiles_prepared()
        contract = served.save_fitted(TASK, "majority_class", task, prepared, folder / "model")
        for number, rows in ROWS.items():
            few = prepared.samples.take(np.arange(rows))
            assert served.register(TASK, contract, folder / "model", few, alias=f"of_{number}") == number
        MlflowClient().set_registered_model_alias(TASK, "production", "1")
        served.with_policy(folder, follow_seconds=SOON, rows=1)
        asked = contract.request(prepared.samples.take(np.arange(1)))
        yield folder, json.dumps({"dataframe_records": json.loads(asked.to_json(orient="records"))})


def within(seconds: float, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_version_takes_over_without_a_failed_request_and_one_that_cannot_answer_does_not(
    body: tuple[Path, str],
) -> None:
    folder, text = body
    client = MlflowClient()
    answered: list[tuple[int, Any]] = []
    ended = threading.Event()
    with served.serving(folder, TASK) as (url, server):

        def metrics() -> str:
            return requests.get(f"{url}/metrics", timeout=20).text

        def ask() -> None:
            while not ended.wait(0.05):
                answer = requests.post(
                    f"{url}/invocations", data=text, headers={"Content-Type": "application/json"}, timeout=60
                )
                answered.append((answer.status_code, answer.json()["predictions"][0]["model_version"]))

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            within(20, lambda: len(answered) > 3)
            client.set_registered_model_alias(TASK, "production", "2")
            within(90, lambda: answered[-1][1] == "2")
            client.set_registered_model_alias(TASK, "production", "3")
            within(90, lambda: f'oncolineage_takeover_failures_total{{task="{TASK}"}} 1.0' in metrics())
            assert f'oncolineage_alias_version{{task="{TASK}"}} 3.0' in metrics()
            assert f'oncolineage_model_info{{task="{TASK}",version="2"}} 1.0' in metrics()
            client.set_registered_model_alias(TASK, "production", "2")
            within(20, lambda: f'oncolineage_alias_version{{task="{TASK}"}} 2.0' in metrics())
        finally:
            ended.set()
            asking.join()
        assert {status for status, _ in answered} == {200}
        assert {version for _, version in answered} == {"1", "2"}
        server.terminate()
        assert server.wait(20) == 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/ping", timeout=5)
    said = next(folder.glob("server-*.log")).read_text()
    assert "version 2 took over from version 1" in said
    assert "version 3 does not take over, version 2 stays" in said
