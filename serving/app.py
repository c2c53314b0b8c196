"""MLflow's scoring application, which takes no middleware, with a bounded route ``/invocations``; uvicorn runs it.

The body is bounded and the shape of the JSON checked before a table is made of it and MLflow's own function answers.
Of the platform only modules of this room that import nothing else of it may be imported: the model's own code must be
found first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from importlib import import_module
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from mlflow.exceptions import MlflowException
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.beside import RECORD, Beside, beside
from serving.endpoint_metrics import CONTENT_TYPE, Metrics
from serving.joined import WAITING, join_passes
from serving.login import Login, guarded
from serving.mlflow_private import answer, model_folder, scoring_application, served_model
from serving.request_record import CURRENT, RequestRecord, watch
from serving.serving_state import FAILED, READY, tell
from serving.telemetry import living, observed
from serving.tracing import Traces

PREFIX = "ONCOLINEAGE_SERVE_"
FORMATS = ("dataframe_records", "dataframe_split", "inputs", "instances")
COLUMNS = 64  # fields of a request; no model has so many
_MAPS_A_ROW = 64  # opening brackets in the text of a row; a SMILES has a few
_VALUES = 5_000_000
_JSON = "application/json"
_LONGEST = 2_000  # characters of a message: MLflow's repeat the request, which holds patient data
_WAITING = 8  # requests of the largest size that one process holds in memory
_logger = logging.getLogger(__name__)


class Refused(Exception):
    """A request is refused with an HTTP status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """Limits of one request."""

    rows: int = 512
    explained_rows: int = 32  # with ``explain``
    request_bytes: int = 64_000_000
    seconds: int = 60  # for a body to arrive, and for an answer
    together: int = 2  # requests that one process reads and computes at a time; the others wait

    def environment(self) -> dict[str, str]:
        """Return the limits as environment variables."""
        return {PREFIX + each.name.upper(): str(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def from_environment(cls) -> Limits:
        """Read the variables that `environment` returns."""
        found = {each.name: os.environ.get(PREFIX + each.name.upper()) for each in fields(cls)}
        return cls(**{name: int(value) for name, value in found.items() if value})


def parsed(body: bytes, limits: Limits) -> dict[str, Any]:
    """Return the JSON of a body; `Refused` if it is none of MLflow's formats within the limits.

    A few hundred kilobytes of JSON can ask for a table of gigabytes: thousands of rows that each name another column.
    """
    if body.count(b"{") + body.count(b"[") > _MAPS_A_ROW * (limits.rows + 1):
        raise Refused(400, f"the request has too many lists and maps; send at most {limits.rows} rows at a time")
    if body.count(b",") > _VALUES:
        raise Refused(400, f"the request has more than {_VALUES} values; send fewer rows at a time")
    try:
        content = json.loads(body)
    except RecursionError as error:
        raise Refused(400, "the request is nested too deeply to be JSON of rows") from error
    except ValueError as error:  # also of text that is not UTF-8, and of integers with thousands of digits
        raise Refused(400, f"the request is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict):
        raise Refused(400, f"the request must be a dictionary with one of {', '.join(FORMATS)}")
    check_shape(content, limits)
    if b"\\ud" in body or b"\\uD" in body:
        _check_characters(content)
    return content


def _check_characters(content: Mapping[str, Any]) -> None:
    """Refuse a lone surrogate, which JSON can write and no table can hold."""
    for name in FORMATS:
        for number, row in enumerate(content.get(name) or []):
            for field, value in row.items() if isinstance(row, dict) else ():
                if _halved([field, value]):
                    shown = str(field)[:60].encode("ascii", "backslashreplace").decode()
                    raise Refused(400, f"row {number}, field {shown}: holds half a character (a lone surrogate)")
    if _halved(content):
        raise Refused(400, "the request holds half a character (a lone surrogate)")


def _halved(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def check_shape(content: Mapping[str, Any], limits: Limits) -> None:
    """Refuse a request that is no table of rows, or too large."""
    given = [name for name in FORMATS if name in content]
    if len(given) != 1:
        raise Refused(400, f"the request must be a dictionary with one of {', '.join(FORMATS)}")
    if unknown := [str(key)[:60] for key in content if key not in (*FORMATS, "params")]:
        raise Refused(400, f"the request has the unknown key {', '.join(unknown[:5])}")
    if not isinstance(content.get("params") or {}, dict):
        raise Refused(400, "params must be a dictionary")
    count, columns = _size(given[0], content[given[0]])
    if count > limits.rows:
        raise Refused(400, f"the request has {count} rows; send at most {limits.rows} at a time")
    if len(columns) > COLUMNS:
        raise Refused(400, f"the request names more than {COLUMNS} fields")
    if (content.get("params") or {}).get("explain") and count > limits.explained_rows:
        message = f"params, explain: the request has {count} rows; with explain send at most {limits.explained_rows}"
        raise Refused(400, f"{message} at a time")


def _size(name: str, value: Any) -> tuple[int, Collection[str]]:
    """Return the number of rows and the columns of a table in one of the formats."""
    if name == "dataframe_split":
        return _size_of_split(value)
    if name == "inputs" and isinstance(value, dict):
        if not all(isinstance(column, list) for column in value.values()):
            raise Refused(400, "inputs must be a dictionary of field to a list with a value a row")
        lengths = {len(column) for column in value.values()}
        if len(lengths) > 1:
            raise Refused(400, "inputs: the fields have different numbers of rows")
        return max(lengths, default=0), value
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise Refused(400, f"{name} must be a list of rows, each a dictionary of field to value")
    return len(value), {field for row in value for field in row}


def _size_of_split(value: Any) -> tuple[int, Collection[str]]:
    if not isinstance(value, dict) or not {"columns", "data"} <= set(value) <= {"columns", "data", "index"}:
        raise Refused(400, "dataframe_split must be a dictionary with columns and data")
    columns, data = value["columns"], value["data"]
    if not isinstance(columns, list) or not all(isinstance(column, str) for column in columns):
        raise Refused(400, "dataframe_split, columns: must be a list of names")
    if not isinstance(data, list) or not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        raise Refused(400, "dataframe_split, data: must be a list of rows, each a list with a value a column")
    index = value.get("index", [])
    if "index" in value and (not isinstance(index, list) or len(index) != len(data)):
        raise Refused(400, "dataframe_split, index: must be a list with a value a row")
    return len(data), columns


def bounded(app: FastAPI, model: Any, limits: Limits) -> ASGIApp:
    """Return MLflow's scoring application behind a bounded route ``/invocations``."""
    turns = threading.BoundedSemaphore(limits.together)
    threads = ThreadPoolExecutor(limits.together + WAITING, "request")
    held = _Held(limits)
    join_passes(model, turns)
    running: set[asyncio.Task[Response]] = set()

    def computed(bodies: list[bytes], arrived: float, record: RequestRecord) -> str:
        CURRENT.set(record)
        with turns:
            record.begin()
            if monotonic() - arrived > limits.seconds:  # 504 was answered, which does not end this
                raise Refused(503, "server busy: the request waited too long; retry later")
            return answer(parsed(bodies.pop(), limits), model)  # no request holds its body while it waits for a pass

    async def invocations(request: Request) -> Response:
        arrived, loop = monotonic(), asyncio.get_running_loop()
        record = request.scope.get(RECORD) or RequestRecord()
        try:
            _check_headers(request)
            with held.share() as share:
                async with asyncio.timeout(limits.seconds / 2):
                    bodies = [await _body(request, limits, share)]
                text = await loop.run_in_executor(threads, computed, bodies, arrived, record)
                return Response(text, media_type=_JSON)
        except Refused as refused:
            record.unreadable = True
            return _fault(refused.status, "BAD_REQUEST", str(refused))
        except TimeoutError:
            return _fault(408, "BAD_REQUEST", "the request did not arrive in time")
        except MlflowException as error:
            if error.get_http_status_code() >= 500:
                _logger.exception("the model failed", extra={"fields": {"request_id": record.id}})
            return _fault(error.get_http_status_code(), str(error.error_code), _shortened(error.message))

    app.post("/invocations")(invocations)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        """Answer questions to the model at once: MLflow's middleware takes a quarter of their time."""
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/invocations"):
            await app(scope, receive, send)
            return
        running.add(task := asyncio.create_task(invocations(Request(scope, receive))))
        task.add_done_callback(running.discard)
        # It is not cancelled, since its thread goes on: what it holds in memory counts until that ends.
        done, _ = await asyncio.wait({task}, timeout=limits.seconds)
        late = Response("Request processing time exceeded limit", 504, media_type=_JSON)  # as MLflow's
        await (task.result() if done else late)(scope, receive, send)

    return application


class _Held:
    """The bytes of all requests that arrive or wait; at most `_WAITING` times the largest request."""

    def __init__(self, limits: Limits) -> None:
        self._most = _WAITING * limits.request_bytes
        self._bytes = 0

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yield a function that counts the bytes of one request; they are released at the end of the block."""
        own = 0

        def count(size: int) -> None:
            nonlocal own
            if self._bytes + size > self._most:
                raise Refused(503, "server busy: too many large requests wait; retry later")
            own += size
            self._bytes += size

        try:
            yield count
        finally:
            self._bytes -= own


def _check_headers(request: Request) -> None:
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    charset = rest.strip().lower()
    if kind.strip().lower() != _JSON or charset not in ("", "charset=utf-8", 'charset="utf-8"'):
        raise Refused(415, f"send the header Content-Type: {_JSON}, and JSON in UTF-8")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "a body must not be compressed")


async def _body(request: Request, limits: Limits, share: Callable[[int], None]) -> bytes:
    """Return the body, refused above the limit whatever its header says."""
    too_large = Refused(413, f"the request is larger than {limits.request_bytes / 1e6:g} MB; send fewer rows at a time")
    declared = request.headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.request_bytes:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limits.request_bytes:
            raise too_large
        share(len(part))
        parts.append(part)
    return b"".join(parts)


def _shortened(message: str) -> str:
    """Return a message of MLflow without the request that it repeats."""
    text = message.rsplit("\nError: ", 1)[-1]
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."


def _fault(status: int, code: str, message: str) -> Response:
    # The client may still be sending on this connection.
    headers = {"Connection": "close"} if status in (408, 413, 503) else None
    return Response(json.dumps({"error_code": code, "message": message}), status, headers, media_type=_JSON)


def _import_explainers() -> None:
    """Import the explainers now, so that the first request with ``explain`` does not wait seconds for them."""
    networks = any(name.startswith("training.networks") for name in sys.modules)
    for needed, name in (("training.trees.responses" in sys.modules, "shap"), (networks, "captum.attr")):
        if needed:
            with contextlib.suppress(ImportError):
                import_module(name)


def __getattr__(name: str) -> Any:
    """Create ``app`` when uvicorn asks for it, not when this module is imported."""
    if name != "app":
        raise AttributeError(name)
    try:
        model = served_model()
        _import_explainers()
        _answer_own_example(model)
    except Exception as error:
        tell(FAILED, f"{type(error).__name__}, see the log")
        raise
    _log_through_the_root()
    globals()["app"] = made = application(model)
    return made


def _answer_own_example(model: Any) -> None:
    """Answer the input example that was logged with a model: what cannot do that is not served."""
    predictor = model.unwrap_python_model()
    log, predictor.log = predictor.log, None  # where nobody has asked
    try:
        answer(parsed((model_folder() / "serving_input_example.json").read_bytes(), Limits.from_environment()), model)
    finally:
        predictor.log = log


def application(model: Any) -> ASGIApp:
    """Return what serves a loaded model: bounded, for those who may ask, with metrics, a log and traces."""
    predictor = model.unwrap_python_model()
    about = {"task": predictor.contract.task, "version": predictor.version}
    metrics, app = Metrics(**about), scoring_application(model)
    app.add_route("/metrics", lambda request: Response(metrics.text(), media_type=CONTENT_TYPE))
    watch(model)
    limits = Limits.from_environment()
    inner = bounded(app, model, limits)
    if (other := Beside.from_environment(metrics.count_beside, limits.request_bytes)) is not None:
        inner = beside(inner, other)
    inner = guarded(inner, Login.from_environment())
    traces = Traces.from_environment(**about)

    def close() -> None:
        for each in (predictor.log and predictor.log.close, traces and traces.provider.shutdown):
            if each:
                each()

    return living(observed(inner, metrics, traces, **about), lambda: tell(READY), close)


def _log_through_the_root() -> None:
    """Let MLflow's messages and warnings take the way of all others, see `serving.telemetry.JsonLines`."""
    mlflow = logging.getLogger("mlflow")
    mlflow.handlers, mlflow.propagate = [], True
    logging.captureWarnings(True)
