"""Where the models of each task are served: ``policy.dashboard.endpoints`` in ``params.yaml``, or the environment.

``ONCOLINEAGE_ENDPOINTS="drug_response=http://models:5001 drug_response@staging=http://models:5011"`` replaces all that
``params.yaml`` names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipelines.errors import UserError
from pipelines.policy import Dashboard

ENDPOINTS = "ONCOLINEAGE_ENDPOINTS"
PRODUCTION = "production"
_ENTRY = re.compile(r"([^@=\s]+(?:@[^@=\s]+)?)=(https?://[^\s/]\S*)")


@dataclass(frozen=True)
class Endpoint:
    """The address of a served model, without ``/invocations``; its version is that of ``alias`` when it was started."""

    task: str
    alias: str
    url: str

    @property
    def place(self) -> str:
        """Return host and port."""
        return urlsplit(self.url).netloc

    @property
    def how_to_start(self) -> str:
        """Return the command that starts it."""
        stage = "" if self.alias == PRODUCTION else f" STAGE={self.alias}"
        port = urlsplit(self.url).port
        return f"make serve TASK={self.task}{stage}" + (f" PORT={port}" if port else "")


def endpoints(dashboard: Dashboard, environment: Mapping[str, str] = os.environ) -> dict[str, list[Endpoint]]:
    """Return the endpoints of each task that has any, production first; a malformed variable is a UserError."""
    entries = list(dashboard.endpoints.items())
    if given := environment.get(ENDPOINTS, "").split():
        matches = [(entry, _ENTRY.fullmatch(entry)) for entry in given]
        if wrong := [entry for entry, match in matches if match is None]:
            expected = "task=http://host:port or task@alias=http://host:port"
            raise UserError(f"{ENDPOINTS}: {wrong[0]!r} is not {expected}")
        entries = [(match[1], match[2]) for _, match in matches if match is not None]
    found: dict[str, list[Endpoint]] = {}
    for name, url in entries:
        task, _, alias = name.partition("@")
        made = Endpoint(task, alias or PRODUCTION, url.rstrip("/").removesuffix("/invocations"))
        found.setdefault(task, []).append(made)
    return {task: sorted(each, key=lambda one: (one.alias != PRODUCTION, one.alias)) for task, each in found.items()}
