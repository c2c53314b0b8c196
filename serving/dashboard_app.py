"""The dashboard: ``streamlit run serving/dashboard_app.py``, or ``make dashboard``.

It asks the served endpoints and reads the registry, the reports and the data; it writes nothing. Streamlit runs this
file from top to bottom whenever somebody does something. Pages import what they need when they are looked at, so that
the first one is there at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

# Streamlit puts the folder of its script first on the path: there `history` and `limits` would be ours, whichever
# library asks for its own. The checkout takes its place.
_ROOM = Path(__file__).resolve().parent
sys.path[:] = [
    str(_ROOM.parent),
    *(each for each in sys.path if Path(each or ".").resolve() not in (_ROOM, _ROOM.parent)),
]

import streamlit as st  # noqa: E402

from pipelines.errors import UserError  # noqa: E402
from serving.dashboard.data.loading import load  # noqa: E402

for _needed in ("numpy", "PIL.ImageFile"):  # by Streamlit, for the icon: see `load`
    load(_needed)
frame = load("serving.dashboard.pages.frame")


_PAGES = {  # with their icons
    "predict": "biotech",
    "compare": "leaderboard",
    "registry": "inventory_2",
    "monitoring": "monitoring",
    "glossary": "menu_book",
}


def _page(name: str, icon: str) -> Any:
    def draw() -> None:
        load(f"serving.dashboard.pages.{name}").page()

    return st.Page(draw, title=name.capitalize(), icon=f":material/{icon}:", url_path=name, default=name == "predict")


def main() -> None:
    """Draw the chosen page in its frame."""
    # A file, and none of Streamlit's symbols: as the icon of a window those are fetched from another machine.
    st.set_page_config("Oncolineage", page_icon=str(_ROOM / "dashboard" / "pages" / "icon.svg"), layout="wide")
    chosen = st.navigation([_page(*each) for each in _PAGES.items()])
    try:
        frame.choose_task()
        chosen.run()
    except UserError as error:
        frame.fault(str(error))


main()
