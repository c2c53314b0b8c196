"""The dashboard's first page, from the start of its process to a button that can be pressed, in a real browser."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.measured import Record
from tests.serving.browser_window import CHROMIUM, NO_CHROMIUM, chromium, first_page, streamlit
from tests.serving.dashboard_platform import platform
from tests.training.tiny import ROOT

SECONDS = 3.0  # at most
BARE = 'import streamlit as st\n\nst.title("Predict")\nst.button("Predict")\n'


def first_pages(small: bool = False) -> list[Record]:
    """Time the first page beside that of a Streamlit script of two lines: new processes, new windows, one by one."""
    if CHROMIUM is None:
        raise SystemExit(NO_CHROMIUM)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    with tempfile.TemporaryDirectory() as name, chromium() as browser, platform(Path(name)) as made:
        bare = Path(name) / "bare.py"
        bare.write_text(BARE)
        scripts = {"ours": ROOT / "serving" / "dashboard_app.py", "bare": bare}
        for _ in range(1 if small else 8):
            for side, script in scripts.items():
                with streamlit(script, made.folder, made.environment) as server:
                    context = browser.new_context(viewport={"width": 1440, "height": 1000})
                    first_page(context.new_page(), server.url)
                    times[side].append(time.monotonic() - server.started)
                    context.close()
    print(f"the longest of {len(times['ours'])}: {max(times['ours']):.2f} s", flush=True)
    ours, other = times["ours"], times["bare"]
    record = Record(
        *("first page after the start of the process", statistics.median(ours), statistics.median(other)),
        *(statistics.median(a / b for a, b in zip(ours, other, strict=True)), "s"),
        bound=SECONDS,
        bound_on="ours",
        higher_is_better=False,
        sides=("the dashboard", "a Streamlit script of two lines"),
    )
    return [record]
