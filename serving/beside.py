"""A second version beside the served one: asked too (shadow), or by a share of the clients in its place (canary).

It answers in a server of its own on a socket of this machine, see `serving.following`, and writes to the same
prediction log under the same request ids; `serving.trial` compares the two. Imports nothing of the platform, as
`serving.app`.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.login import CLIENT
from serving.request_record import RequestRecord

SOCKET = "ONCOLINEAGE_SERVE_BESIDE"  # path of the other server's socket
CANARY = "ONCOLINEAGE_SERVE_CANARY"  # the share of clients that it answers, 0..1; none: it is asked too
RECORD = "oncolineage.record"  # key of the request's record in its scope
_AT_ONCE = 8  # requests to the other version; beyond that shadow requests are dropped, and others stay here
_HELD = 64_000_000  # bytes of bodies that wait for it
_SECONDS = 70.0
_logger = logging.getLogger(__name__)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("beside", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def is_canary(client: str, share: float) -> bool:
    """Return whether a client is one of the share that the other version answers: always the same ones."""
    return int.from_bytes(sha256(client.encode()).digest()[:8], "big") < share * 2**64


@dataclass
class Beside:
    """The other version's server, and how it is asked."""

    path: str
    canary: float  # share of the clients; 0 is a shadow
    count: Callable[[str], None]  # of outcomes: answered, failed, dropped
    most: int  # bytes of a request
    _threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, "beside"))
    _busy: int = 0
    _bytes: int = 0

    @classmethod
    def from_environment(cls, count: Callable[[str], None], most: int) -> Beside | None:
        """Return what the environment asks for, or None."""
        path = os.environ.get(SOCKET)
        return cls(path, float(os.environ.get(CANARY) or 0), count, most) if path else None

    def _ask(self, body: bytes, request_id: str) -> tuple[int, bytes]:
        connection = _Connection(self.path)
        try:
            headers = {"Content-Type": "application/json", "X-Request-Id": request_id}
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    async def ask(self, body: bytes, request_id: str) -> tuple[int, bytes] | None:
        """Return the other version's status and answer; None where it is busy, or cannot be reached."""
        if self._busy >= _AT_ONCE or self._bytes + len(body) > _HELD:
            self.count("dropped")
            return None
        self._busy += 1
        self._bytes += len(body)
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, body, request_id)
        except (OSError, http.client.HTTPException) as error:
            _logger.warning("the version beside this one cannot be asked: %s", type(error).__name__)
            self.count("failed")
            return None
        finally:
            self._busy -= 1
            self._bytes -= len(body)
        self.count("answered" if found[0] < 500 else "failed")
        return found


def beside(app: ASGIApp, other: Beside) -> ASGIApp:
    """Return ``app``, whose questions are also, or for some clients only, answered by another version."""
    waiting: set[asyncio.Task[object]] = set()

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", "/invocations"):
            await app(scope, receive, send)
            return
        record: RequestRecord = scope.get(RECORD) or RequestRecord()
        client = scope.get(CLIENT) or (scope.get("client") or ("",))[0]
        taken = _Taken(receive, other.most)
        if other.canary and is_canary(client, other.canary):
            await taken.all()
            found = await other.ask(taken.body, record.id) if taken.whole else None
            if found is None:  # the served version answers instead
                await app(scope, taken.again, send)
                return
            await Response(found[1], found[0], media_type="application/json")(scope, receive, send)
            return
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        await app(scope, receive if other.canary else taken.read, sent)
        if not other.canary and status == 200 and taken.whole:  # what is refused here says nothing of the other
            waiting.add(task := asyncio.create_task(other.ask(taken.body, record.id)))
            task.add_done_callback(waiting.discard)

    return application


class _Taken:
    """The body of a request, kept while it is read, up to ``most`` bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        self._messages: list[Message] = []
        self._size, self._ended = 0, False

    async def read(self) -> Message:
        """Return the next message, and keep it."""
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
            if self._size <= self._most:
                self._messages.append(message)
        return message

    async def all(self) -> None:
        """Read to the end of the body, or to the first byte beyond what is kept."""
        while not self._ended and self._size <= self._most:
            if (await self.read())["type"] != "http.request":
                return

    async def again(self) -> Message:
        """Return the messages that were kept, and then those that follow."""
        return self._messages.pop(0) if self._messages else await self._receive()

    @property
    def whole(self) -> bool:
        """Return whether all of the body was kept."""
        return self._ended and self._size <= self._most

    @property
    def body(self) -> bytes:
        """Return the body."""
        return b"".join(message.get("body", b"") for message in self._messages)
