"""What would bring the endpoint down, make it answer 500 or tell a secret: whatever a stranger sends, over real HTTP.

``ONCOLINEAGE_FUZZ=5000`` (``make soak``) sends so many requests instead of 150.
"""

import base64
import contextlib
import errno
import hashlib
import hmac
import json
import os
import socket
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.errors import UserError
from serving.server_command import served_version
from tests.empty_store import working_in
from tests.pipelines.image_samples import png
from tests.serving import served
from tests.test_secrets import SALT, SECRETS, leaked, search
from tests.training.image_samples import draw, encoded
from tests.training.tiny import NAME as PAIRS
from tests.training.tiny import tiny_params, tiny_prepared

REQUESTS = int(os.environ.get("ONCOLINEAGE_FUZZ", "150"))
ROWS, MEGABYTES, PIXELS = 40, 1.0, 300_000
SLOWEST = 30  # seconds; of an answer on a busy machine
GROWTH = 400  # megabytes that a server may have grown by
JSON = {"Content-Type": "application/json"}
FUZZ = settings(
    max_examples=max(1, 2 * REQUESTS // 5),
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
    database=None,
)
FUZZ_OF_PAIRS = settings(FUZZ, max_examples=max(1, REQUESTS // 5))  # its bodies are the longest


@dataclass
class Endpoint:
    """A served model, a request that it answers, and what it was when it started."""

    url: str
    process: subprocess.Popen[bytes]
    good: dict[str, Any]
    session: requests.Session
    first: Any = None
    megabytes: float = 0.0

    def post(self, body: bytes | str, headers: dict[str, str] | None = None) -> requests.Response:
        began = time.monotonic()
        answer = self.session.post(
            f"{self.url}/invocations", data=body, headers=JSON if headers is None else headers, timeout=SLOWEST
        )
        assert time.monotonic() - began < SLOWEST
        assert answer.status_code < 500, (answer.status_code, answer.text[:500], body[:500], headers)
        most = 10_000 if answer.status_code != 200 else 300_000 if "explain" in str(body) else 100_000
        assert len(answer.content) < most
        assert leaked(answer.content) == leaked(str(answer.headers)) == []
        return answer

    def ask(self) -> Any:
        answer = self.post(json.dumps(self.good))
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    def resident(self) -> float:
        family = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in [family, *family.children(recursive=True)]) / 1e6

    def still_well(self) -> None:
        assert self.process.poll() is None
        assert self.ask() == self.first
        assert self.resident() < self.megabytes + GROWTH


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Endpoint]]:
    """Serve classifiers of profiles and of images, and a model of responses, each with a small bound on everything."""
    with working_in(tmp_path_factory.mktemp("served")) as folder, ExitStack() as stack:
        served.with_policy(folder, rows=ROWS, request_megabytes=MEGABYTES, image_pixels=PIXELS)
        started = {}
        for name, architecture, (task, prepared), given in (
            (served.PROFILES, "logistic_regression", served.profiles_prepared(), {"selection": "top_30"}),
            (served.IMAGES, "majority_class", served.images_prepared(), {}),
            (PAIRS, "elastic_net", (tiny_params().task(PAIRS), tiny_prepared(folder / "raw")), {}),
        ):
            contract = served.save_fitted(name, architecture, task, prepared, folder / name, **given)
            served.register(name, contract, folder / name, prepared.samples.take(np.arange(2)))
            rows = contract.request(prepared.side("test").take(np.arange(2))).to_dict("records")
            env = {**SECRETS, "ONCOLINEAGE_PREDICTION_LOG": str(folder / "log")}
            url, process = stack.enter_context(served.serving(folder, name, env=env))
            session = stack.enter_context(requests.Session())
            started[name] = endpoint = Endpoint(url, process, {"dataframe_records": rows}, session)
            endpoint.first, endpoint.megabytes = endpoint.ask(), endpoint.resident()
        yield started


# Values that JSON can hold, and many that it should not.
_ODD: st.SearchStrategy[Any] = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30)),
    st.sampled_from([10**400, -(10**400), 2**63, 2**64, -(2**63) - 1, 1e308, -1e308, 5e-324]),
    st.sampled_from(["x" * 100_000, "\u0000", "\ud800", "NaN", "' OR 1=1 --", "../../etc/passwd", "{}", "1" * 500]),
)
_ANY = st.recursive(
    _ODD,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)),
    max_leaves=12,
)
_FORMATS = ["dataframe_records", "dataframe_split", "inputs", "instances", "messages", "prompt", "params", "columns"]
_KINDS = [
    *("application/json", "application/json; charset=utf-8", "application/json; charset=latin-1", "text/csv"),
    *("application/x-parquet", "multipart/form-data", "application/json; format=pandas-split", "", ";;;"),
]
_HEADERS = st.one_of(
    st.just(JSON),
    st.fixed_dictionaries(
        {"Content-Type": st.sampled_from(_KINDS)},
        optional={
            "Content-Encoding": st.sampled_from(["gzip", "br", "identity", "nonsense"]),
            "X-Long": st.just("x" * 3000),
            "Accept": st.sampled_from(["text/html", "nonsense"]),
            "Expect": st.just("nonsense"),
        },
    ),
)


def _text(value: Any) -> bytes:
    return json.dumps(value).encode()


@st.composite
def _bodies(draw_: st.DrawFn, rows: st.SearchStrategy[Any], good: dict[str, Any]) -> bytes:
    kind = draw_(st.integers(0, 9))
    if kind <= 3:
        some = draw_(st.lists(rows, max_size=3)) * draw_(st.sampled_from([1, 1, 1, 2, 20]))
        name = draw_(st.sampled_from(_FORMATS[:4]))
        table: Any = some
        if name == "dataframe_split":
            columns = list(some[0]) if some else []
            table = {"columns": columns, "data": [[row.get(name) for name in columns] for row in some]}
        elif name == "inputs" and draw_(st.booleans()):
            table = {key: [row.get(key) for row in some] for row in some[:1] for key in row}
        content = {name: table}
        if draw_(st.booleans()):
            content["params"] = draw_(st.one_of(st.just({"explain": True}), st.dictionaries(st.text(), _ANY), _ANY))
        return _text(content)
    if kind <= 5:
        return _text(draw_(st.dictionaries(st.sampled_from(_FORMATS), _ANY, max_size=2)))
    if kind == 6:
        return _text(draw_(_ANY))
    whole = _text(good)
    if kind == 7:
        return whole[: draw_(st.integers(0, len(whole)))]
    if kind == 8:
        return _mangled(draw_, whole)
    return draw_(st.binary(max_size=200))


def _mangled(draw_: st.DrawFn, content: bytes) -> bytes:
    mangled = bytearray(content)
    for place in draw_(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        mangled[place] = draw_(st.integers(0, 255))
    return bytes(mangled)


def _spoiled(draw_: st.DrawFn, values: dict[str, Any]) -> Any:
    spoiled = dict(values)
    for feature in draw_(st.lists(st.sampled_from(list(values)), max_size=3)):
        spoiled[feature] = draw_(_ANY)
    for feature in draw_(st.lists(st.sampled_from(list(values)), max_size=2)):
        spoiled.pop(feature, None)
    spoiled |= draw_(st.dictionaries(st.text(max_size=20), _ODD, max_size=2))
    return draw_(st.one_of(st.just(spoiled), st.just(spoiled), st.none(), _ANY))


@st.composite
def _profiles(draw_: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"expression": _spoiled(draw_, good["expression"])}
    if draw_(st.booleans()):
        row["sample_id"] = draw_(st.one_of(st.text(max_size=20), _ODD))
    return row | draw_(st.dictionaries(st.text(max_size=10), _ODD, max_size=1))


def _file(image: Image.Image, kind: str, **options: object) -> bytes:
    return base64.b64decode(encoded(image, kind, **options))


_FILES = [_file(Image.fromarray(draw(1, 3, 32)), kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")]
_FRAMES = [Image.fromarray(np.full((20, 20, 3), shade, np.uint8)) for shade in range(60)]
_BOMBS = [
    png(60_000, 60_000, zlib.compress(b"\0" * 1_000_000)),
    png(2**31 - 1, 2**31 - 1),
    png(500, 500, zlib.compress(b"\0" * 40_000_000)),
    png(0, 0),
    png(32, 32, b"nonsense"),
    png(32, 32, zlib.compress(bytes(32 * 97)), depth=16),
    *(_file(_FRAMES[0], kind, save_all=True, append_images=_FRAMES[1:]) for kind in ("GIF", "TIFF", "PNG", "WEBP")),
]


@st.composite
def _images(draw_: st.DrawFn) -> dict[str, Any]:
    content = draw_(st.sampled_from([*_FILES, *_BOMBS]))
    if draw_(st.booleans()):
        content = _mangled(draw_, content)[: draw_(st.integers(len(content) // 2, len(content)))]
    text = base64.b64encode(content).decode()
    image = draw_(st.one_of(*[st.just(text)] * 4, st.just(f"data:image/png;base64,{text}"), st.just(text[:-1]), _ANY))
    return {"image": image} | ({"sample_id": draw_(_ODD)} if draw_(st.booleans()) else {})


_SMILES = st.one_of(
    st.sampled_from(
        [
            *("CCO", "c1ccccc1", "C1CC(", "", " ", "[U+99]", "*", "C" * 3_000, "(" * 2_000, "C1" * 99, "[C@@H](N)(O)C"),
            *("c1ccc2" * 200, "CC.[Na+]", "C>>O", "CCO\n\nCC", "[Zz]", "C%99", "\u00e9", "CCO | id"),
            "C[" + "9" * 500 + "H]",
        ]
    ),
    st.text("CNOcnos[]()=#@+-.123%/\\", max_size=60),
    _ANY,
)


@st.composite
def _pairs(draw_: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    row = dict(good)
    tables = [name for name, values in good.items() if isinstance(values, dict)]
    for name in draw_(st.lists(st.sampled_from(tables), max_size=2, unique=True)):
        row[name] = _spoiled(draw_, good[name])
    row["smiles"] = draw_(st.one_of(st.just(good["smiles"]), _SMILES, _SMILES))
    for name in draw_(st.lists(st.sampled_from(["drug_id", "tissue", "sample_id"]), max_size=2, unique=True)):
        row[name] = draw_(_ODD)
    for name in draw_(st.lists(st.sampled_from(list(row)), max_size=1)):
        row.pop(name)
    return row | draw_(st.dictionaries(st.text(max_size=10), _ODD, max_size=1))


def test_pairs_of_strangers_are_answered_or_refused(endpoints: dict[str, Endpoint]) -> None:
    endpoint = endpoints[PAIRS]
    good = endpoint.good["dataframe_records"][0]
    statuses: Counter[int] = Counter()

    @FUZZ_OF_PAIRS
    @given(_bodies(_pairs(good), endpoint.good), _HEADERS)
    def send(body: bytes, headers: dict[str, str]) -> None:
        statuses[endpoint.post(body, headers).status_code] += 1

    @FUZZ_OF_PAIRS
    @given(_SMILES)
    @example("\ud800")  # half a character, which 5,000 requests found once
    def ask(smiles: Any) -> None:
        answer = endpoint.post(_text({"dataframe_records": [{**good, "smiles": smiles}]}))
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            (row,) = answer.json()["predictions"]
            assert np.isfinite(row["prediction"])
        else:
            assert "row 0" in answer.text and "smiles" in answer.text

    send()
    ask()
    assert statuses[200] and statuses[400], statuses
    endpoint.still_well()


@pytest.mark.parametrize("name", [served.PROFILES, served.IMAGES])
def test_requests_of_strangers_are_answered_or_refused(endpoints: dict[str, Endpoint], name: str) -> None:
    endpoint = endpoints[name]
    rows = _images() if name == served.IMAGES else _profiles(endpoint.good["dataframe_records"][0])

    @FUZZ
    @given(_bodies(rows, endpoint.good), _HEADERS)
    def send(body: bytes, headers: dict[str, str]) -> None:
        endpoint.post(body, headers)

    send()
    endpoint.still_well()


def test_a_request_that_would_fill_the_memory_is_refused(endpoints: dict[str, Endpoint]) -> None:
    endpoint, good = endpoints[PAIRS], endpoints[PAIRS].good
    rows, wide = good["dataframe_records"], [{f"c{n}_{m}": 1 for m in range(1_000)} for n in range(ROWS)]
    bombs: dict[str, tuple[bytes | dict[str, Any], int]] = {
        "deep lists": (b'{"inputs": ' + b"[" * 2_000 + b"]" * 2_000 + b"}", 400),
        "deep maps": (b'{"a":' * 2_000 + b"1" + b"}" * 2_000, 400),
        "a number of 200,000 digits": (b'{"inputs": [' + b"9" * 200_000 + b"]}", 400),
        "another column in each row": ({"dataframe_records": [{f"c{n}": 1} for n in range(20_000)]}, 400),
        "another column in each of few rows": ({"dataframe_records": wide}, 400),
        "one row too many": ({"dataframe_records": rows[:1] * (ROWS + 1)}, 400),
        "many values": (b'{"inputs": [' + b"0," * 400_000 + b"0]}", 400),
        "one field twice": (b'{"dataframe_records": [], "dataframe_records": 5}', 400),
        "two formats": ({**good, "inputs": []}, 400),
        "columns twice": ({"dataframe_split": {"columns": ["image"] * 2, "data": [["a", "b"]]}}, 400),
        "too long": (b" " * int(MEGABYTES * 1e6 + 1), 413),
        "much too long": (b'{"dataframe_records": "' + b"x" * int(20 * MEGABYTES * 1e6) + b'"}', 413),
    }
    for what, (body, status) in bombs.items():
        try:
            answer = endpoint.post(body if isinstance(body, bytes) else _text(body))
        except requests.ConnectionError:  # closed while the rest was sent, once too much had come
            assert status == 413, what
            continue
        assert answer.status_code == status, (what, answer.status_code, answer.text[:300])
        assert answer.json()["message"], what
    endpoint.still_well()


def test_images_together_are_bounded_too(endpoints: dict[str, Endpoint]) -> None:
    """Each of them is small enough, and each of a few hundred bytes; all together would take minutes."""
    side, endpoint = int(PIXELS**0.5) - 1, endpoints[served.IMAGES]

    def ask(count: int, width: int) -> requests.Response:
        text = encoded(Image.new("RGB", (width, width), "white"), "PNG")
        return endpoint.post(_text({"dataframe_records": [{"image": text}] * count}))

    assert ask(4, side).status_code == 200
    for refused, says in ((ask(5, side), "row 4, field image"), (ask(1, side + 2), f"more than {PIXELS}")):
        assert refused.status_code == 400
        assert says in refused.json()["message"]


def test_many_clients_at_once_get_their_own_answers(endpoints: dict[str, Endpoint]) -> None:
    """Their images share forward passes; one of them is broken, and one is explained."""
    endpoint = endpoints[served.IMAGES]
    good = endpoint.good["dataframe_records"]
    asked: list[dict[str, Any]] = [{"dataframe_records": [good[number % 2]]} for number in range(24)]
    asked[5] = {"dataframe_records": [{"image": good[0]["image"][:200]}]}
    asked[8]["params"] = {"explain": True}
    with ThreadPoolExecutor(len(asked)) as pool:
        answers = list(pool.map(lambda each: requests.post(f"{endpoint.url}/invocations", json=each), asked))
    assert [n for n, answer in enumerate(answers) if answer.status_code != 200] == [5]
    assert "row 0, field image" in answers[5].json()["message"]
    for number, answer in enumerate(answers):
        if number != 5:
            assert answer.json()["predictions"] == [endpoint.first[number % 2]]


def test_what_is_no_http_or_has_no_end_does_not_disturb_the_others(endpoints: dict[str, Endpoint]) -> None:
    endpoint = endpoints[served.PROFILES]
    address = urlsplit(endpoint.url)
    start = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    left_open: list[socket.socket] = []
    for sent in (
        b"\x00\xff" * 500,
        start + b"Content-Length: 1000\r\n\r\n{",
        start + b"Content-Length: -5\r\n\r\n{}",
        start + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        start + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        start + b"X: " + b"y" * 200_000,
        b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    ):
        for closed in (True, False):
            connection = socket.create_connection((address.hostname, address.port), timeout=SLOWEST)
            try:
                connection.sendall(sent)
                if closed:
                    connection.shutdown(socket.SHUT_WR)
                    said = connection.recv(200)
                    assert b" 50" not in said.split(b"\r\n")[0], (sent[:200], said)
            except OSError as error:  # it has closed the connection
                assert error.errno in (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN), (sent[:200], error)
            left_open.append(connection)
    endpoint.still_well()
    for connection in left_open:
        connection.close()
    parts = (b"x" * 100_000 for _ in range(2_000))  # a body without an end is not read to the end
    with contextlib.suppress(requests.ConnectionError):
        answer = requests.post(f"{endpoint.url}/invocations", data=parts, headers=JSON, timeout=SLOWEST)
        assert answer.status_code == 413
    assert sum(len(part) for part in parts) > 100 * MEGABYTES * 1e6  # were not sent
    endpoint.still_well()


def test_an_alias_that_moves_does_not_change_what_is_served_and_other_routes(endpoints: dict[str, Endpoint]) -> None:
    endpoint, client = endpoints[served.PROFILES], mlflow.MlflowClient()
    routes = {"ping": 200, "health": 200, "version": 200, "invocations": 405, "nothing": 404}
    for route, status in routes.items():
        assert requests.get(f"{endpoint.url}/{route}", timeout=SLOWEST).status_code == status, route
    with pytest.raises(UserError, match=r"no version of 'tumor_type' has the alias 'nowhere'.*make promote"):
        served_version(served.PROFILES, "nowhere")
    assert {row["model_version"] for row in endpoint.first} == {"1"}
    first = client.get_model_version(served.PROFILES, "1")
    again = client.create_model_version(served.PROFILES, source=first.source, run_id=first.run_id)
    client.set_registered_model_alias(served.PROFILES, "production", again.version)
    assert endpoint.ask() == endpoint.first


def test_what_was_asked_is_in_the_log_and_no_name_and_no_secret_is(endpoints: dict[str, Endpoint]) -> None:
    endpoint = endpoints[served.PROFILES]
    rows = [{**row, "sample_id": "PATIENT-7"} for row in endpoint.good["dataframe_records"]]
    assert endpoint.post(_text({"dataframe_records": rows})).status_code == 200
    expected, found = hmac.digest(SALT.encode(), b"PATIENT-7", hashlib.sha256).hex(), 0
    until = time.monotonic() + SLOWEST
    while found == 0 and time.monotonic() < until:
        time.sleep(0.3)
        logged = [pd.read_parquet(file) for file in Path("log").rglob("*.parquet")]
        found = sum(int((each["sample_sha256"] == expected).sum()) for each in logged)
    assert found == 2
    assert [leaked(each.to_csv()) for each in logged] == [[]] * len(logged)
    search(Path.cwd())  # servers' logs and all
