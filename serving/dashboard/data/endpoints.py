"""Where the models of each task are served (``policy.dashboard.endpoints`` of ``params.yaml``), and requests to them.

``ONCOLINEAGE_ENDPOINTS="drug_response=http://models:5001 drug_response@staging=http://models:5011"`` replaces all that
``params.yaml`` names. Every failure of a request is an error with a sentence for people.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipelines.errors import UserError
from pipelines.policy import Dashboard
from serving.dashboard.data.loading import load

if TYPE_CHECKING:
    import requests

Row = dict[str, Any]

ENDPOINTS = "ONCOLINEAGE_ENDPOINTS"
LOGIN = "ONCOLINEAGE_ENDPOINT_API_KEY"  # by which the dashboard asks endpoints that have a login
PRODUCTION = "production"
ROWS_AT_ONCE = 64  # so that a page can show how far it is, and stop
_CONNECT_SECONDS = 3.05
_BYTES_AT_ONCE = 8_000_000
_ROW = re.compile(r"\brow (\d+)\b")
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


class NoAnswer(UserError):
    """No endpoint of the platform answers there in time; ``command`` is what would help in a terminal, or empty."""

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command


class Refused(UserError):
    """The model refuses the request; says which sample and which field."""


def ask(
    endpoint: Endpoint,
    rows: Sequence[Row],
    names: Sequence[str],
    *,
    explain: bool = False,
    seconds: float = 60.0,
    rows_at_once: int = ROWS_AT_ONCE,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[Row]:
    """Return an answer for each row, or raise `NoAnswer` or `Refused`; ``progress`` may raise to stop it."""
    answers: list[Row] = []
    progress(0, len(rows))
    for body, count in _bodies(rows, explain, rows_at_once):
        answers += _answers(endpoint, body, names[len(answers) : len(answers) + count], seconds)
        progress(len(answers), len(rows))
    return answers


def _bodies(rows: Sequence[Row], explain: bool, rows_at_once: int) -> Iterator[tuple[bytes, int]]:
    """Yield the bodies of requests with their numbers of rows."""
    params = ', "params": {"explain": true}' if explain else ""
    profiles: dict[int, str] = {}  # hundreds of drugs are asked about one profile, which is written once
    texts: list[str] = []

    def text(value: Any) -> str:
        if not isinstance(value, dict):
            return json.dumps(value, allow_nan=False)
        return profiles.get(id(value)) or profiles.setdefault(id(value), json.dumps(value, allow_nan=False))

    def body() -> tuple[bytes, int]:
        return f'{{"dataframe_records": [{", ".join(texts)}]{params}}}'.encode(), len(texts)

    for row in rows:
        written = f"{{{', '.join(f'{json.dumps(name)}: {text(value)}' for name, value in row.items())}}}"
        if texts and (len(texts) >= rows_at_once or sum(map(len, texts)) + len(written) > _BYTES_AT_ONCE):
            yield body()
            texts.clear()
        texts.append(written)
    if texts:
        yield body()


def _answers(endpoint: Endpoint, body: bytes, names: Sequence[str], seconds: float) -> list[Row]:
    requests = load("requests")  # the first page is drawn before anybody is asked
    url, headers = f"{endpoint.url}/invocations", {"Content-Type": "application/json"}
    if key := os.environ.get(LOGIN):
        headers["Authorization"] = f"Bearer {key}"
    timeout = (_CONNECT_SECONDS, seconds)
    try:
        response = requests.post(url, data=body, headers=headers, timeout=timeout, allow_redirects=False)
    except requests.Timeout as error:
        raise _too_slow(endpoint, f"within {seconds:g} s") from error
    except requests.ConnectionError as error:
        message = f"No model answers at {endpoint.place}. Start it in a terminal, and try again:"
        raise NoAnswer(message, endpoint.how_to_start) from error
    except requests.RequestException as error:
        raise NoAnswer(f"The address {endpoint.url} cannot be asked ({type(error).__name__}).") from error
    if response.status_code != 200:
        raise _refusal(endpoint, response, names)
    try:
        answers = response.json()["predictions"]
        if not isinstance(answers, list) or not all(isinstance(row, dict) for row in answers):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"The server at {endpoint.place} is no endpoint of this platform.") from error
    if len(answers) != len(names):
        raise NoAnswer(f"The model at {endpoint.place} gave {len(answers)} answers to {len(names)} rows.")
    return answers


def _too_slow(endpoint: Endpoint, when: str) -> NoAnswer:
    return NoAnswer(f"The model at {endpoint.place} did not answer {when}. Try fewer rows, or try again later.")


def _refusal(endpoint: Endpoint, response: requests.Response, names: Sequence[str]) -> UserError:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = ""
    if response.status_code == 504:
        return _too_slow(endpoint, "within the time limit of its server")
    if response.status_code == 401:
        return NoAnswer(f"The model at {endpoint.place} does not let the dashboard in: {LOGIN} has no key of its.")
    if response.status_code in (429, 503):
        return NoAnswer(f"The model at {endpoint.place} is busy with other requests. Try again in a while.")
    if response.status_code >= 500 or not message:
        failed = f"The model at {endpoint.place} failed (HTTP {response.status_code})"
        return NoAnswer(f"{failed}. Its terminal shows why; your file may be right.")

    def name(match: re.Match[str]) -> str:
        return f"“{names[int(match[1])]}”" if int(match[1]) < len(names) else match[0]

    text = _ROW.sub(name, message)
    return Refused(f"The model cannot take this: {text[:1].upper()}{text[1:]}")
