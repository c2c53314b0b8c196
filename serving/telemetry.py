"""The outer layer of the endpoint: a request's id, its line in the log, its metrics and its trace.

Nothing that a request holds gets into them: no value, no field, no path, no text of an error. Imports nothing of the
platform, as `serving.app`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.beside import RECORD
from serving.endpoint_metrics import Metrics
from serving.login import CLIENT
from serving.request_record import CURRENT, RequestRecord
from serving.tracing import Traces

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_QUIET = {"/ping", "/health", "/metrics"}  # asked every few seconds; only their failures are worth a line
_ROUTES = _QUIET | {"/invocations", "/version"}
_OWN = ("serving.", "uvicorn")  # whose messages hold nothing of a request
_LISTENS = 0.1  # seconds after its start in which a server listens
_logger = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """Formats records as a JSON object a line; an exception by its types and places, whose texts may repeat values.

    Of what libraries say while requests are answered only the constant part is kept: the rest may repeat values too.
    """

    answering = False

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": time, "level": record.levelname, "logger": record.name}
        if record.name.startswith(_OWN) or not self.answering:
            line["message"] = record.getMessage()
        else:
            line["message"] = str(record.msg) if record.args else f"withheld, see {record.pathname}:{record.lineno}"
        asked = CURRENT.get(None)
        line |= getattr(record, "fields", None) or ({"request_id": asked.id} if asked else {})
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _shown(record.exc_info[1])
        return json.dumps(line)


def _shown(error: BaseException) -> list[str]:
    """Return types and places of an exception and of those that it came from, the last one first."""
    found: list[str] = []
    seen: BaseException | None = error
    while seen is not None and len(found) < 100:
        frames = traceback.extract_tb(seen.__traceback__)
        found += [type(seen).__name__, *(f"  {each.filename}:{each.lineno} in {each.name}" for each in frames)]
        seen = seen.__cause__ or seen.__context__
    return found


def living(app: ASGIApp, opened: Callable[[], None], close: Callable[[], None]) -> ASGIApp:
    """Return ``app`` with ``opened`` called as the server begins to listen, and ``close`` as it stops.

    Where workers are many, none runs its `atexit`.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.shutdown.complete":
                close()
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                asyncio.get_running_loop().call_later(_LISTENS, opened)

        await app(scope, receive, sent if scope["type"] == "lifespan" else send)

    return application


def observed(app: ASGIApp, metrics: Metrics, traces: Traces | None, **about: str) -> ASGIApp:
    """Return ``app`` with a record of each request; ``about`` (task, version) stands in each one's line of the log."""
    JsonLines.answering = True

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        given = {name: value for name, value in scope["headers"] if name in (b"x-request-id", b"traceparent")}
        record = RequestRecord(_id_of(given), arrived=perf_counter())
        scope[RECORD] = record
        asks = (scope["method"], scope["path"]) == ("POST", "/invocations")

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", record.id.encode())]
            await send(message)

        if asks:
            metrics.in_progress.inc()
        try:
            await app(scope, receive, sent)
        finally:
            record.client = scope.get(CLIENT)
            record.read()
            if asks:
                metrics.in_progress.dec()
                metrics.count(record)
                if traces is not None:
                    traces.write(record, given.get(b"traceparent", b"").decode("latin-1"))
            if scope["path"] not in _QUIET or record.status != 200:
                _write(record, scope["path"], about)

    return application


def _write(record: RequestRecord, path: str, about: dict[str, str]) -> None:
    took = round(1e3 * (perf_counter() - record.arrived), 2)
    fields = {"request_id": record.id, "route": path if path in _ROUTES else "other", **about, "rows": record.rows}
    fields |= {"status": record.status, "ms": took}
    fields |= {name: each for name, each in (("client", record.client), ("reason", record.reason)) if each}
    _logger.info("request", extra={"fields": fields})


def _id_of(headers: dict[bytes, bytes]) -> str:
    """Return the client's id of a request, if it is one, or a new one."""
    given = headers.get(b"x-request-id", b"")
    return given.decode() if _ID.fullmatch(given) else uuid.uuid4().hex
