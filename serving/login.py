"""Who may ask, and how often: one layer for the endpoint and the dashboard, both ASGI applications.

API keys (``Authorization: Bearer KEY``, or in a browser any name with the key as password), or a user whom a proxy
names. Without either everybody may ask, which `check_address` allows on this machine alone. Imports nothing of the
platform, as `serving.app`.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from time import monotonic

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

KEYS = "ONCOLINEAGE_LOGIN_KEYS"  # a file, a line each: name and SHA-256 of a key; `infra/make_secrets.py --key`
PROXY = "ONCOLINEAGE_BEHIND_PROXY"  # the header by which a proxy names its user
A_MINUTE = "ONCOLINEAGE_REQUESTS_A_MINUTE"  # of a client, to one process
CLIENT = "oncolineage.client"  # key of the client's name in the scope of a request
OPEN = {"/health", "/ping", "/_stcore/health"}  # asked by whatever watches the process
_FREE = "/static/"  # the dashboard's own files, which a page asks for by the dozen
_MOST_CLIENTS = 10_000  # remembered at a time
_LINE = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,64}) (?P<sha256>[0-9a-f]{64})")
_MAKE = "python infra/make_secrets.py --to DIR --key NAME"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="Oncolineage", charset="UTF-8"'}


def hashed(key: str) -> str:
    """Return the hash of a key, which needs no salt and no slow function: it is 32 random bytes, and no word."""
    return sha256(key.encode()).hexdigest()


def read_keys(text: str, where: str) -> dict[str, str]:
    """Return names and hashes of a file; ValueError names the line that is none."""
    lines = [line.strip() for line in text.splitlines()]
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            if match is None or match["name"] in found:
                raise ValueError(f"{where}, line {number}: not a new name and the SHA-256 of its key, in hex digits")
            found[match["name"]] = match["sha256"]
    return found


@dataclass
class Login:
    """Keys by name, the header that is trusted, and the limit of a client."""

    keys: Mapping[str, str] = field(default_factory=dict)
    header: str = ""
    a_minute: int = 0
    clock: Callable[[], float] = monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    @classmethod
    def from_environment(cls) -> Login:
        """Read the variables; ValueError says what is wrong with one."""
        keys, path, header = {}, os.environ.get(KEYS, ""), os.environ.get(PROXY, "").strip().lower()
        if path:
            try:
                keys = read_keys(Path(path).read_text(encoding="utf-8"), path)
            except OSError as error:
                raise ValueError(f"{KEYS} names {path}, which cannot be read ({error.strerror})") from error
            if not keys:
                raise ValueError(f"{path}: no key is in it; make one with {_MAKE}")
        if header and not re.fullmatch(r"[a-z0-9-]+", header):
            raise ValueError(f"{PROXY} is {header!r}; name the header by which the proxy names its user")
        limit = os.environ.get(A_MINUTE, "") or "0"
        if not limit.isdecimal():
            raise ValueError(f"{A_MINUTE} is {limit!r}; it must be a number of requests, 0 for no limit")
        return cls(keys, header, int(limit))

    @property
    def asked(self) -> bool:
        """Whether anybody has to log in."""
        return bool(self.keys or self.header)

    def check_address(self, host: str | None) -> None:
        """Refuse, by ValueError, to listen where others can ask without a login."""
        if self.asked or _is_this_machine(host or ""):
            return
        raise ValueError(
            f"refused to listen on {host or 'all addresses'}, where others can ask, without a login. Make an API key "
            f"({_MAKE}) and set {KEYS}=DIR/api_keys; or, behind a proxy with a login that alone reaches this port, "
            f"set {PROXY} to the header by which it names the user, such as X-Forwarded-User"
        )

    def who(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Return the client's name, or None for a stranger."""
        wanted = (self.header.encode(), b"authorization")
        users, keys = ([value.decode("latin-1").strip() for name, value in headers if name == each] for each in wanted)
        if self.header and len(users) == 1 and users[0]:  # a second one would be the client's own
            return users[0][:64]
        if given := _key_in(keys[0]) if keys else None:
            given, found = hashed(given), None
            for name, each in self.keys.items():  # all of them, and each in constant time
                found = name if hmac.compare_digest(each, given) else found
            return found
        return None

    def wait(self, client: str) -> int:
        """Take one request from a client's share; return 0, or the seconds until there is another."""
        if not self.a_minute:
            return 0
        now = self.clock()
        left, before = self._left.pop(client, (float(self.a_minute), now))
        left = min(float(self.a_minute), left + (now - before) * self.a_minute / 60)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)  # who has not asked for the longest time
        return 0 if left >= 1 else math.ceil((1 - left) * 60 / self.a_minute)


def _is_this_machine(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key_in(header: str) -> str | None:
    kind, _, given = header.partition(" ")
    if kind.lower() == "bearer":
        return given.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def guarded(app: ASGIApp, login: Login) -> ASGIApp:
    """Return ``app`` for those who may ask; the others get 401, and who asks too often 429."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in OPEN:
            await app(scope, receive, send)
            return
        client = login.who(scope["headers"]) if login.asked else None
        if login.asked and client is None:
            said = "log in: send the header Authorization: Bearer KEY"
            await _refuse(_fault(401, "UNAUTHENTICATED", said, _CHALLENGE), scope, receive, send)
            return
        address = scope["client"][0] if scope.get("client") else ""
        seconds = 0 if scope["path"].startswith(_FREE) else login.wait(client or address)
        if seconds:
            said = f"too many requests; retry after {seconds} s"
            response = _fault(429, "REQUEST_LIMIT_EXCEEDED", said, {"Retry-After": str(seconds)})
            await _refuse(response, scope, receive, send)
            return
        scope[CLIENT] = client
        await app(scope, receive, send)

    return application


def _fault(status: int, code: str, message: str, headers: Mapping[str, str]) -> Response:
    closing = {**headers, "Connection": "close"}  # the client may still be sending on this connection
    return JSONResponse({"error_code": code, "message": message}, status, closing)


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await response(scope, receive, send)
