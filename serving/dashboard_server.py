"""The dashboard behind its login: ``streamlit run serving/dashboard_server.py``, or ``make dashboard``.

The pages are those of `serving.dashboard_app`; this file is loaded once, as the server starts.
"""

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

# Streamlit puts the folder of its script first on the path, where `history` would shadow that of a library.
_ROOM = Path(__file__).resolve().parent
sys.path[:] = [str(_ROOM.parent), *(each for each in sys.path if Path(each or ".").resolve() != _ROOM)]

from serving.login import Login, guarded  # noqa: E402


def _login() -> Login:
    try:
        login = Login.from_environment()
        login.check_address(st.get_option("server.address"))
    except ValueError as error:
        sys.exit(f"error: {error}")
    return login


app = st.App(_ROOM / "dashboard_app.py", middleware=[Middleware(guarded, _login())])
