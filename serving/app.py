"""MLflow's scoring application, which takes no middleware, with a bounded route ``/invocations``; uvicorn runs it.

The body is bounded and the shape of the JSON checked before MLflow's own function answers. Only `serving.limits` and
`serving.mlflow_private` may be imported from the platform: the code that the model was logged with must be found first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from mlflow.exceptions import MlflowException

from serving.limits import Limits, Refused, parsed
from serving.mlflow_private import answer, scoring_application, served_model

_JSON = "application/json"
_LONGEST = 2_000  # characters of a message: MLflow's repeat the request, which holds patient data
_WAITING = 8  # requests of the largest size that one process holds in memory
_logger = logging.getLogger(__name__)


def bounded(app: FastAPI, model: Any, limits: Limits) -> FastAPI:
    """Add the bounded route ``/invocations`` to MLflow's scoring application and return it."""
    turns = asyncio.Semaphore(limits.together)
    held = _Held(limits)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        arrived = monotonic()
        try:
            _check_headers(request)
            with held.share() as share:
                body = await asyncio.wait_for(_body(request, limits, share), limits.seconds / 2)
                async with turns:
                    # MLflow has answered 504, but does not end this.
                    if monotonic() - arrived > limits.seconds:
                        raise Refused(503, "server busy: the request waited too long; retry later")
                    result = await asyncio.to_thread(lambda: answer(parsed(body, limits), model))
        except Refused as refused:
            return _fault(refused.status, "BAD_REQUEST", str(refused))
        except TimeoutError:
            return _fault(408, "BAD_REQUEST", "the request did not arrive in time")
        except MlflowException as error:
            if error.get_http_status_code() >= 500:
                _logger.exception("the model failed")
            return _fault(error.get_http_status_code(), str(error.error_code), _shortened(error.message))
        return Response(result.response, result.status, media_type=result.mimetype)

    return app


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
    model = served_model()
    _import_explainers()
    globals()["app"] = made = bounded(scoring_application(model), model, Limits.from_environment())
    return made
