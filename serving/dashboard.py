"""The dashboard: ``streamlit run serving/dashboard.py``, or ``make dashboard``.

It asks the served endpoints and reads the registry, the reports and the data; it writes nothing. Streamlit runs this
file from top to bottom whenever somebody does something. Pages import what they need when they are looked at, so that
the first one is there at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Streamlit puts the folder of its script first on the path: there `history` and `limits` would be ours, whichever
# library asks for its own. The checkout takes its place.
_ROOM = Path(__file__).resolve().parent
sys.path[:] = [
    str(_ROOM.parent),
    *(each for each in sys.path if Path(each or ".").resolve() not in (_ROOM, _ROOM.parent)),
]

import streamlit as st  # noqa: E402

from pipelines.faults import UserError  # noqa: E402
from serving.board.loading import load  # noqa: E402

for _needed in ("numpy", "PIL.ImageFile"):  # by Streamlit, for the icon: see `load`
    load(_needed)
frame = load("serving.screens.frame")


def _predict() -> None:
    load("serving.screens.predict").page()


def _compare() -> None:
    load("serving.screens.compare").page()


def _registry() -> None:
    load("serving.screens.registry").page()


def _monitoring() -> None:
    load("serving.screens.monitoring").page()


def _glossary() -> None:
    load("serving.screens.glossary").page()


def main() -> None:
    """Draw the chosen page in its frame."""
    # A file, and none of Streamlit's symbols: as the icon of a window those are fetched from another machine.
    st.set_page_config("Oncolineage", page_icon=str(_ROOM / "screens" / "icon.svg"), layout="wide")
    chosen = st.navigation(
        [
            st.Page(_predict, title="Predict", icon=":material/biotech:", url_path="predict", default=True),
            st.Page(_compare, title="Compare", icon=":material/leaderboard:", url_path="compare"),
            st.Page(_registry, title="Registry", icon=":material/inventory_2:", url_path="registry"),
            st.Page(_monitoring, title="Monitoring", icon=":material/monitoring:", url_path="monitoring"),
            st.Page(_glossary, title="Glossary", icon=":material/menu_book:", url_path="glossary"),
        ]
    )
    try:
        frame.choose_task()
        chosen.run()
    except UserError as error:
        frame.fault(str(error))


main()
