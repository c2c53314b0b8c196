"""Modules that take seconds to load, imported by one thread at a time.

On Python 3.11 two threads (of pages and jobs) that import parts of the same package may wait for each other for ever
(python/cpython#106176). A module that imports more at its first use is imported together with that (`registry`,
`tables` and `charts` of this folder).
"""

from __future__ import annotations

import sys
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Any

_ONE_AT_A_TIME = threading.RLock()


def load(module: str) -> Any:
    """Return a module, imported if it is not yet; one that is loaded is returned at once, whatever others import."""
    found = sys.modules.get(module)
    if found is not None and not getattr(found.__spec__, "_initializing", False):
        return found
    with _ONE_AT_A_TIME:
        return import_module(module)


class _Late:
    def __init__(self, name: str) -> None:
        self._name = f"serving.dashboard.data.{name}"

    def __getattr__(self, name: str) -> Any:
        return getattr(load(self._name), name)


# Modules of this folder, each imported by `load` when something of it is first used.
if TYPE_CHECKING:
    from serving.dashboard.data import charts, registry, tables, uploads
else:
    charts, registry, tables, uploads = map(_Late, ("charts", "registry", "tables", "uploads"))
