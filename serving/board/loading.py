"""Modules that take seconds to load, by one thread at a time.

Pages and jobs run on threads of their own. Where two of them import pandas or MLflow at once, each waits for parts that
the other is loading, and on Python 3.11 an import was once seen to wait for ever.
"""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

_ONE_AT_A_TIME = threading.RLock()


def load(module: str) -> Any:
    """Return a module, imported if it is not yet."""
    with _ONE_AT_A_TIME:
        return import_module(module)
