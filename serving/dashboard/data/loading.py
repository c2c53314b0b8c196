"""Modules that take seconds to load, by one thread at a time.

Pages and jobs run on threads of their own. Where two of them import pandas or MLflow at once, each waits for parts that
the other is loading, and on Python 3.11 an import was once seen to wait for ever (python/cpython#106176). So whatever a
page or job imports late goes through `load`, and modules that import more when they are first used are imported with it
(`serving.dashboard.data.registry`, `serving.dashboard.data.measured`, `serving.dashboard.data.charts`).
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import Any

_ONE_AT_A_TIME = threading.RLock()


def load(module: str) -> Any:
    """Return a module, imported if it is not yet; one that is there at once, whatever others are loading."""
    found = sys.modules.get(module)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    with _ONE_AT_A_TIME:
        return import_module(module)
