"""Who must not get an answer: a stranger, a wrong key, a header that nobody set, a client that asks too often."""

import base64
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from pipelines.errors import UserError
from serving.login import A_MINUTE, CLIENT, KEYS, PROXY, Login, guarded
from serving.server_command import check_access
from tests.servers import free_port
from tests.training.tiny import ROOT

SETTINGS = (A_MINUTE, KEYS, PROXY, "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def make_key(folder: Path, name: str) -> str:
    command = [sys.executable, str(ROOT / "infra" / "make_secrets.py"), "--to", str(folder), "--key", name]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[0]


def client(login: Login) -> TestClient:
    async def name(request: object) -> PlainTextResponse:
        return PlainTextResponse(str(request.scope[CLIENT]))  # type: ignore[attr-defined]

    async def connected(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(str(socket.scope[CLIENT]))
        await socket.close()

    paths = ("/invocations", "/metrics", "/static/a.js")
    routes = [WebSocketRoute("/_stcore/stream", connected), *(Route(path, name) for path in paths)]
    routes.append(Route("/ping", lambda request: PlainTextResponse("well")))
    return TestClient(guarded(Starlette(routes=routes), login), headers={"Host": "x"})


def test_a_key_opens_by_its_hash_alone_and_a_wrong_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, bob = make_key(tmp_path / "keys", "ada"), make_key(tmp_path / "keys", "bob")
    ada, file = make_key(tmp_path / "keys", "ada"), tmp_path / "keys" / "api_keys"
    text = file.read_text()
    assert ada not in text and hashlib.sha256(ada.encode()).hexdigest() in text
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    monkeypatch.setenv(KEYS, str(file))
    asked = client(Login.from_environment())

    def status(path: str, header: str | None) -> int:
        return asked.get(path, headers={} if header is None else {"Authorization": header}).status_code

    def basic(name: str, key: str) -> str:
        return "Basic " + base64.b64encode(f"{name}:{key}".encode()).decode()

    hashed = hashlib.sha256(ada.encode()).hexdigest()
    wrong = [None, "", "Bearer", "Bearer ", f"Bearer {old}", f"Bearer {hashed}", f"Bearer {ada}x", ada, basic(ada, "")]
    for header in [*wrong, "Basic %%%", "Basic " + base64.b64encode(b"\xff").decode(), f"Digest {ada}"]:
        for path in ("/invocations", "/metrics", "/static/a.js"):
            assert status(path, header) == 401, header
        with pytest.raises(WebSocketDisconnect), asked.websocket_connect("/_stcore/stream"):
            pass
    assert "Basic" in asked.get("/invocations").headers["WWW-Authenticate"]  # a browser asks for it
    assert status("/ping", None) == 200
    for key, name in ((ada, "ada"), (bob, "bob")):
        for header in (f"Bearer {key}", f"bearer {key}", basic("whoever", key)):
            assert asked.get("/invocations", headers={"Authorization": header}).text == name
            with asked.websocket_connect("/_stcore/stream", headers={"Authorization": header}) as socket:
                assert socket.receive_text() == name
    assert asked.get("/invocations", headers={"X-Forwarded-User": "eve"}).status_code == 401


def test_a_header_is_trusted_only_where_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    named = {"X-Forwarded-User": "eve"}
    assert client(Login.from_environment()).get("/invocations", headers=named).text == "None"
    monkeypatch.setenv(PROXY, "X-Forwarded-User")
    asked = client(Login.from_environment())
    assert asked.get("/invocations", headers=named).text == "eve"
    for headers in ({}, {"X-Forwarded-User": " "}, {"X-Other-User": "eve"}, {"Authorization": "Bearer x"}):
        assert asked.get("/invocations", headers=headers).status_code == 401
    twice = [("X-Forwarded-User", "eve"), ("X-Forwarded-User", "ada")]  # the client's own beside the proxy's
    assert asked.get("/invocations", headers=twice).status_code == 401


def test_who_asks_too_often_waits_and_nobody_else_does() -> None:
    now = [0.0]
    asked = client(Login(header="x-user", a_minute=3, clock=lambda: now[0]))

    def statuses(user: str, count: int) -> list[int]:
        return [asked.get("/invocations", headers={"X-User": user}).status_code for _ in range(count)]

    assert statuses("ada", 4) == [200, 200, 200, 429] and statuses("bob", 1) == [200]
    assert asked.get("/invocations", headers={"X-User": "ada"}).headers["Retry-After"] == "20"
    assert asked.get("/static/a.js", headers={"X-User": "ada"}).status_code == 200
    now[0] += 19.9
    assert statuses("ada", 1) == [429]
    now[0] += 0.1
    assert statuses("ada", 2) == [200, 429]
    now[0] += 1e6
    assert statuses("ada", 4) == [200, 200, 200, 429]
    nobody = client(Login(a_minute=1))  # without a login, by address
    assert [nobody.get("/invocations").status_code for _ in range(2)] == [200, 429]


def test_no_server_starts_where_others_can_ask_without_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost"):
        check_access(host)
    for host in ("0.0.0.0", "::", "10.1.2.3", "", "localhost.example.org", "models.example.org"):
        with pytest.raises(UserError, match=rf"(?s)refused to listen.*{KEYS}=.*{PROXY}"):
            check_access(host)
    options = ["run", "serving/dashboard_server.py", "--server.address=0.0.0.0", f"--server.port={free_port()}"]
    given = {"cwd": ROOT, "env": {**os.environ, "HOME": str(tmp_path)}, "timeout": 60}
    done = subprocess.run([sys.executable, "-m", "streamlit", *options], capture_output=True, text=True, **given)  # type: ignore[call-overload]
    assert done.returncode == 1 and "error: refused to listen on 0.0.0.0" in done.stderr, done.stderr
    monkeypatch.setenv(PROXY, "X-Forwarded-User")
    check_access("0.0.0.0")
    monkeypatch.setenv(PROXY, "")
    keys = tmp_path / "api_keys"
    monkeypatch.setenv(KEYS, str(keys))
    wrong = ((None, "cannot be read"), ("# none\n", "no key is in it"), ("ada s3cret\n", "line 1: not a new"))
    for text, told in wrong:
        if text is not None:
            keys.write_text(text)
        with pytest.raises(UserError, match=told) as refused:
            check_access("127.0.0.1")
        assert "s3cret" not in str(refused.value)
    keys.write_text(f"ada {'0' * 64}\n")
    check_access("0.0.0.0")


def test_traces_without_their_package_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setattr("serving.tracing.installed", lambda: False)
    with pytest.raises(UserError, match=r"OTEL_EXPORTER_OTLP_ENDPOINT asks for traces.*pip install"):
        check_access("127.0.0.1")
