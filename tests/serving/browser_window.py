"""A Streamlit server and a real Chromium that looks at it, for tests and for the bench."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers import free_port, listening

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NO_CHROMIUM = "there is no Chromium; Debian has it as `chromium`"


@dataclass
class Server:
    """The address, and the moment when the process was started."""

    url: str
    started: float


@contextlib.contextmanager
def streamlit(script: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run a script in ``folder`` as `make dashboard` does; a traceback in its terminal is a failure."""
    port = free_port()
    url, log = f"http://127.0.0.1:{port}", folder / f"streamlit-{port}.log"
    command = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(port)]
    started = time.monotonic()
    with listening(command, f"{url}/_stcore/health", log, os.environ | dict(environment), folder):
        yield Server(url, started)
    assert "Traceback" not in log.read_text(errors="replace"), log.read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


def first_page(page: Any, url: str) -> None:
    """Open the dashboard and wait until its first page can be used."""
    page.goto(url)
    page.get_by_role("heading", name="Predict", exact=True).wait_for()
    page.get_by_role("button", name="Predict", exact=True).wait_for()
