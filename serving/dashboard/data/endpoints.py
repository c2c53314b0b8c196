"""Where the models of each task answer: ``policy.dashboard.endpoints`` in ``params.yaml``, or the environment.

``ONCOLINEAGE_ENDPOINTS="drug_response=http://models:5001 drug_response@staging=http://models:5011"`` takes the place of
all that ``params.yaml`` names, where the dashboard runs elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.errors import UserError
from pipelines.policy import Dashboard

ENDPOINTS = "ONCOLINEAGE_ENDPOINTS"
PRODUCTION = "production"
_ENTRY = re.compile(r"([^@=\s]+)(?:@([^@=\s]+))?=(https?://[^\s/]\S*)")


@dataclass(frozen=True)
class Endpoint:
    """A model that answers somewhere.

    Attributes
    ----------
    task, alias
        Which version it serves: that which the alias pointed to when it was started.
    url
        Without ``/invocations``.
    """

    task: str
    alias: str
    url: str

    @property
    def place(self) -> str:
        """Return host and port."""
        return urlsplit(self.url).netloc

    @property
    def how_to_start(self) -> str:
        """Return the command that would make it answer."""
        stage = "" if self.alias == PRODUCTION else f" STAGE={self.alias}"
        port = urlsplit(self.url).port
        return f"make serve TASK={self.task}{stage}" + (f" PORT={port}" if port else "")


def endpoints(dashboard: Dashboard, environment: Mapping[str, str] = os.environ) -> dict[str, list[Endpoint]]:
    """Return the endpoints of each task that has any, production first.

    Raises
    ------
    UserError
        The variable of the environment cannot be read.
    """
    text = environment.get(ENDPOINTS, "").strip()
    entries = _parsed(text.split()) if text else [(*_split(name), url) for name, url in dashboard.endpoints.items()]
    found: dict[str, list[Endpoint]] = {}
    for task, alias, url in entries:
        found.setdefault(task, []).append(Endpoint(task, alias, url.rstrip("/").removesuffix("/invocations")))
    return {task: sorted(each, key=lambda one: (one.alias != PRODUCTION, one.alias)) for task, each in found.items()}


def how_to_configure(task: str) -> str:
    """Return the lines of ``params.yaml`` that would give a task an endpoint."""
    return f"policy:\n  dashboard:\n    endpoints:\n      {task}: http://127.0.0.1:5001"


def _split(name: str) -> tuple[str, str]:
    task, _, alias = name.partition("@")
    return task, alias or PRODUCTION


def _parsed(entries: Iterable[str]) -> list[tuple[str, str, str]]:
    found = []
    for entry in entries:
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise UserError(f"{ENDPOINTS}: {entry!r} is not task=http://host:port or task@alias=http://host:port")
        found.append((match[1], match[2] or PRODUCTION, match[3]))
    return found
