"""Asking an endpoint: rows in, answers out, and every way in which that can go wrong told in a sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError
from serving.dashboard.data.endpoints import Endpoint
from serving.dashboard.data.loading import load

if TYPE_CHECKING:
    import requests

Row = dict[str, Any]
CONNECT_SECONDS = 3.05
ROWS_AT_ONCE = 64  # so that a page can tell how far it is, and stop
BYTES_AT_ONCE = 8_000_000
_ROW = re.compile(r"\brow (\d+)\b")
_ANOTHER_MODEL = re.compile(r"schema|missing inputs|unknown field|field \w+ is missing", re.IGNORECASE)


class NoAnswer(UserError):
    """Nothing answers there, or not in time, or not what an endpoint of the platform answers.

    Attributes
    ----------
    command
        What would help, for a terminal; empty where nothing of the kind would.
    """

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command


class Refused(UserError):
    """The model cannot take what it was asked; says which sample and which field."""


def ask(
    endpoint: Endpoint,
    rows: Sequence[Row],
    names: Sequence[str],
    *,
    explain: bool = False,
    seconds: float = 60.0,
    rows_at_once: int = ROWS_AT_ONCE,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> list[Row]:
    """Ask an endpoint, a few rows at a time.

    Parameters
    ----------
    endpoint
        Who is asked.
    rows
        As the contract of the task's family has them; values that JSON has no number for must be None.
    names
        Of the rows, by which messages speak of them.
    explain
        Whether the answers are to say why.
    seconds
        That the answer to one part may take.
    rows_at_once
        Of a part.
    tell
        Called with the rows answered and the rows in all; may raise to stop.

    Returns
    -------
    list of dict
        An answer a row, in their order.

    Raises
    ------
    NoAnswer
        Says what to do.
    Refused
        Names the sample and the field.
    """
    answers: list[Row] = []
    tell(0, len(rows))
    for body, start, count in _bodies(rows, explain, rows_at_once):
        answers += _answers(endpoint, body, names[start : start + count], seconds)
        tell(len(answers), len(rows))
    return answers


def _bodies(rows: Sequence[Row], explain: bool, rows_at_once: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the bodies of requests, with the first row and the number of rows of each."""
    params = ', "params": {"explain": true}' if explain else ""
    texts: list[str] = []
    size, start = 0, 0

    def body() -> bytes:
        return f'{{"dataframe_records": [{", ".join(texts)}]{params}}}'.encode()

    maps: dict[int, str] = {}  # hundreds of drugs are asked about one profile, which is written once
    for row in rows:
        text = _text(row, maps)
        if texts and (len(texts) >= rows_at_once or size + len(text) > BYTES_AT_ONCE):
            yield body(), start, len(texts)
            start, size, texts = start + len(texts), 0, []
        texts.append(text)
        size += len(text)
    if texts:
        yield body(), start, len(texts)


def _text(row: Row, maps: dict[int, str]) -> str:
    """Return a row as JSON; ``maps`` keeps what its maps look like, by identity."""
    parts = []
    for name, value in row.items():
        if isinstance(value, dict):
            if id(value) not in maps:
                maps[id(value)] = json.dumps(value, allow_nan=False)
            text = maps[id(value)]
        else:
            text = json.dumps(value, allow_nan=False)
        parts.append(f"{json.dumps(name)}: {text}")
    return f"{{{', '.join(parts)}}}"


def _answers(endpoint: Endpoint, body: bytes, names: Sequence[str], seconds: float) -> list[Row]:
    requests = load("requests")  # the first page is drawn before anybody is asked
    try:
        response = requests.post(
            f"{endpoint.url}/invocations",
            data=body,
            headers={"Content-Type": "application/json"},
            timeout=(CONNECT_SECONDS, seconds),
            allow_redirects=False,
        )
    except requests.Timeout as error:
        raise _too_slow(endpoint, f"within {seconds:g} s") from error
    except requests.ConnectionError as error:
        told = f"No model answers at {endpoint.place}. Start it in a terminal, and try again:"
        raise NoAnswer(told, endpoint.how_to_start) from error
    except requests.RequestException as error:
        raise NoAnswer(f"The address {endpoint.url} cannot be asked ({type(error).__name__}).") from error
    if response.status_code == 200:
        return _read(endpoint, response, len(names))
    raise _refusal(endpoint, response, names)


def _too_slow(endpoint: Endpoint, when: str) -> NoAnswer:
    return NoAnswer(f"The model at {endpoint.place} did not answer {when}. Try fewer rows, or try again later.")


def _read(endpoint: Endpoint, response: requests.Response, count: int) -> list[Row]:
    try:
        answers = response.json()["predictions"]
        if not isinstance(answers, list) or not all(isinstance(row, dict) for row in answers):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"What answers at {endpoint.place} is no endpoint of this platform.") from error
    if len(answers) != count:
        raise NoAnswer(f"The model at {endpoint.place} gave {len(answers)} answers to {count} rows.")
    return answers


def _refusal(endpoint: Endpoint, response: requests.Response, names: Sequence[str]) -> UserError:
    try:
        message = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        message = ""
    if response.status_code == 504:
        return _too_slow(endpoint, "in the time that it gives itself")
    if response.status_code == 503:
        return NoAnswer(f"The model at {endpoint.place} is busy with other questions. Try again in a while.")
    if response.status_code >= 500 or not message:
        return NoAnswer(
            f"The model at {endpoint.place} failed (HTTP {response.status_code}). Its terminal says why; nothing is "
            "wrong with your file as far as this page can tell."
        )
    told = _ROW.sub(lambda match: _name(int(match[1]), names), message)
    told = told[:1].upper() + told[1:]
    if _ANOTHER_MODEL.search(message):
        told += f". Is it a model of {endpoint.task} that is served at {endpoint.place}?"
    return Refused(f"The model cannot take this: {told}")


def _name(row: int, names: Sequence[str]) -> str:
    return f"“{names[row]}”" if row < len(names) else f"row {row}"
