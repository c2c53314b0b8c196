"""The dashboard's pages; `serving.dashboard_server` serves them, by ``make dashboard``.

It asks the served endpoints and reads the registry, the reports and the data; it writes nothing but decisions on
labels. Pages are imported when they are opened: the first is there at once.
"""

import sys
from functools import partial
from pathlib import Path

# Streamlit puts the folder of its script first on the path, where `history` and `limits` would shadow those of
# libraries. The checkout takes its place.
_ROOM = Path(__file__).resolve().parent
_OTHERS = [each for each in sys.path if Path(each or ".").resolve() not in (_ROOM, _ROOM.parent)]
sys.path[:] = [str(_ROOM.parent), *_OTHERS]

import streamlit as st  # noqa: E402

from pipelines.errors import UserError  # noqa: E402
from serving.dashboard.data.loading import load  # noqa: E402

for _needed in ("numpy", "PIL.ImageFile"):  # by Streamlit, for the icon: see `load`
    load(_needed)
frame = load("serving.dashboard.pages.frame")

_ICONS = {
    "predict": "biotech",
    "compare": "leaderboard",
    "registry": "inventory_2",
    "monitoring": "monitoring",
    "labels": "label",
    "glossary": "menu_book",
}


def _draw(name: str) -> None:
    load(f"serving.dashboard.pages.{name}").page()


def main() -> None:
    """Draw the chosen page in its frame."""
    # The icon is a file: Streamlit's symbols would be fetched from another machine.
    st.set_page_config("Oncolineage", page_icon=str(_ROOM / "dashboard" / "pages" / "icon.svg"), layout="wide")
    pages = [
        st.Page(
            partial(_draw, name),
            title=name.capitalize(),
            icon=f":material/{icon}:",
            url_path=name,
            default=name == "predict",
        )
        for name, icon in _ICONS.items()
    ]
    chosen = st.navigation(pages)
    try:
        frame.choose_task()
        chosen.run()
    except UserError as error:
        frame.fault(str(error))


main()
