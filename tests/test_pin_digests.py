"""Digests are those that the registry answers, also after a challenge; without it nothing is changed."""

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from infra import pin_digests

DIGEST = "sha256:" + "ab" * 32


class Registry(BaseHTTPRequestHandler):
    """An image registry that gives anonymous clients a token, and knows one repository."""

    def do_HEAD(self) -> None:
        known = self.path == "/v2/base/python/manifests/3.12-slim"
        if self.headers.get("Authorization") != "Bearer t0ken":
            self.send_response(401)
            realm = (
                f'Bearer realm="http://{self.headers["Host"]}/token",service="here",scope="repository:base/python:pull"'
            )
            self.send_header("WWW-Authenticate", realm)
        else:
            assert "oci.image.index" in self.headers["Accept"]
            self.send_response(200 if known else 404)
            self.send_header("Docker-Content-Digest", DIGEST)
        self.end_headers()

    def do_GET(self) -> None:
        body = b'{"token": "t0ken"}' if "scope=repository" in self.path else b"{}"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def registry() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def run(root: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["pin_digests.py", "--root", str(root), "--registry", "127.0.0.1:9"])
    return pin_digests.main()


def test_every_file_is_pinned_once_and_again(registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "docker").mkdir()
    docker, compose = tmp_path / "docker" / "a.Dockerfile", tmp_path / "compose.yaml"
    docker.write_text(f"FROM {registry}/base/python:3.12-slim AS build\nFROM {registry}/base/python:3.12-slim\n")
    compose.write_text(
        f"  db:\n    image: {registry}/base/python:3.12-slim@sha256:{'00' * 32}\n    image: oncolineage:0.1.0\n"
    )
    for _ in range(2):  # a digest that is there is renewed
        assert run(tmp_path, monkeypatch) == 0
        assert docker.read_text().count(f"{registry}/base/python:3.12-slim@{DIGEST}") == 2
        assert (
            f"image: {registry}/base/python:3.12-slim@{DIGEST}\n    image: oncolineage:0.1.0\n" in compose.read_text()
        )
    compose.write_text(f"    image: {registry}/base/other:1\n")
    assert run(tmp_path, monkeypatch) == 1 and "@" not in compose.read_text()


def test_an_unreachable_registry_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose = tmp_path / "compose.yaml"
    compose.write_text("    image: 127.0.0.1:9/base:1\n")
    assert run(tmp_path, monkeypatch) == 1 and compose.read_text() == "    image: 127.0.0.1:9/base:1\n"


def test_names_are_read_as_docker_reads_them_and_every_image_of_ours_is_found() -> None:
    assert pin_digests.split("python:3.12", "hub") == ("hub", "library/python", "3.12")
    assert pin_digests.split("chrislusf/seaweedfs:3.97", "hub") == ("hub", "chrislusf/seaweedfs", "3.97")
    assert pin_digests.split("registry.example/a/b:1", "hub") == ("registry.example", "a/b", "1")
    files = [path for place in pin_digests.PLACES for path in pin_digests.HERE.glob(place)]
    found = {each["image"] for path in files for each in pin_digests.IMAGE.finditer(path.read_text())}
    assert {"chrislusf/seaweedfs:3.97"} < found and sum(
        each.startswith(("python:", "postgres:")) for each in found
    ) == 2
