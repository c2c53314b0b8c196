"""Signatures of registered versions and of the history of their moves, by Ed25519 keys.

Hashes tell that files and evidence belong together, and not who says so: whoever may write to the registry can write
others. A signature is a statement in canonical JSON with the name of its signer. A version's says which evidence and
files it was registered with; the registered model's says with which row the history ends and where the aliases are.
Both name rows by number and hash, so that an old one which is put back is told. They are tags, for the endpoint reads
nothing but the registry.
"""

import base64
import binascii
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipelines import tracking
from pipelines.errors import UserError

KEY = "ONCOLINEAGE_SIGNING_KEY"  # a file: the private key of who moves versions, as PEM
SIGNERS = "ONCOLINEAGE_SIGNERS"  # a file, a line each: name and public key; `infra/make_secrets.py --signer`
VERSION_TAG = "oncolineage.signature"  # of a version
HISTORY_TAG = "oncolineage.signature.history"  # of the registered model
HEAD = "oncolineage.history"  # of the registered model: number and hash of the history's last row
SIGNATURE = "signature"  # a kind of problem: missing, an old one, or of nobody on the list
_LINE = re.compile(r"(?P<name>[A-Za-z0-9._@-]{1,64}) (?P<key>[0-9a-f]{64})")
_MAKE = "python infra/make_secrets.py --to DIR --signer NAME"
_TRIES, _SECONDS = 3, 0.5  # a move that is under way has set an alias and not yet the signature

Signers = Mapping[str, list[Ed25519PublicKey]]


def signers() -> Signers | None:
    """Return who may sign, with their keys, old ones too; None where nothing is signed here."""
    path = os.environ.get(SIGNERS, "").strip()
    if not path:
        if os.environ.get(KEY, "").strip():
            raise UserError(
                f"{KEY} is set and {SIGNERS} is not: name the file of those who may sign, made by `{_MAKE}`"
            )
        return None
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{SIGNERS} names {path}, which cannot be read ({error})") from error
    found: dict[str, list[Ed25519PublicKey]] = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        if line and not line.startswith("#"):
            if (match := _LINE.fullmatch(line)) is None:
                raise UserError(f"{path}, line {number}: not a name and an Ed25519 public key of 64 hex digits")
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(match["key"]))
            found.setdefault(match["name"], []).append(key)
    if not found:
        raise UserError(f"{path}: nobody is in it; make a key with `{_MAKE}`")
    return found


def signer(listed: Signers) -> tuple[str, Ed25519PrivateKey]:
    """Return name and private key of who moves versions here; `UserError` without a key of one on the list."""
    path = os.environ.get(KEY, "").strip()
    if not path:
        raise UserError(f"moves are signed here ({SIGNERS} is set): set {KEY} to the file of your private key")
    try:
        key = load_pem_private_key(Path(path).read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UserError(f"{KEY} names {path}, which is no private key that can be read ({error})") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UserError(f"{KEY} names {path}, whose key is not of the kind Ed25519; make one with `{_MAKE}`")
    public = key.public_key().public_bytes_raw()
    for name, keys in listed.items():
        if any(each.public_bytes_raw() == public for each in keys):
            return name, key
    raise UserError(f"the key in {path} is of nobody in {os.environ[SIGNERS]}; nothing was changed")


def signed(statement: Mapping[str, Any], by: tuple[str, Ed25519PrivateKey]) -> str:
    """Return the tag of a statement, which says who signed it."""
    name, key = by
    statement = {**statement, "signer": name}
    signature = base64.b64encode(key.sign(_canonical(statement))).decode()
    return _canonical({"signature": signature, "statement": statement}).decode()


def _canonical(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _statement(tag: str | None, of: str, task: str, listed: Signers) -> dict[str, Any]:
    """Return what was signed; ValueError says why nobody on the list vouches for it."""
    if not tag:
        raise ValueError("is not signed")
    try:
        content = json.loads(tag)
        statement, signature = dict(content["statement"]), base64.b64decode(content["signature"], validate=True)
        name = str(statement["signer"])
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise ValueError("has a signature that cannot be read") from error
    if name not in listed:
        raise ValueError(f"is signed by {name!r}, who is not in {os.environ[SIGNERS]}")
    if not any(_is_of(key, signature, statement) for key in listed[name]):
        raise ValueError(f"was changed since {name!r} signed it, or by a key that is not in {os.environ[SIGNERS]}")
    if (statement.get("of"), statement.get("task")) != (of, task):
        raise ValueError(f"has the signature of a {statement.get('of')} of {statement.get('task')!r}")
    return statement


def _is_of(key: Ed25519PublicKey, signature: bytes, statement: Mapping[str, Any]) -> bool:
    try:
        key.verify(signature, _canonical(statement))
    except InvalidSignature:
        return False
    return True


def version_problems(
    tags: Mapping[str, str],
    listed: Signers,
    *,
    task: str,
    version: int,
    files: str | None,
    row: str | None,
) -> list[tuple[str, str]]:
    """Return where a version is not as somebody on the list signed it: `SIGNATURE` or ``files``, and a phrase.

    ``row``, number and hash of the history's row that vouches for it, may be None where the history is out of reach.
    """
    try:
        statement = _statement(tags.get(VERSION_TAG), "version", task, listed)
    except ValueError as error:
        return [(SIGNATURE, str(error))]
    if statement["version"] != version:
        return [(SIGNATURE, f"has the signature of version {statement['version']}")]
    evidence = tags.get("evidence.sha256")
    problems = [
        (kind, f"is signed with {what} {_short(statement[what])}, and has {_short(each)}")
        for kind, what, each in ((SIGNATURE, "evidence", evidence), ("files", "files", files))
        if statement[what] != each
    ]
    if row is not None and statement["row"] != row:
        old = f"has the signature of row {_short_row(statement['row'])}, its last one is row {_short_row(row)}"
        problems.append((SIGNATURE, f"{old}: an old signature was put back, or the new one is missing"))
    return problems


def history_problems(
    tag: str | None, listed: Signers, *, task: str, head: str | None, aliases: Mapping[str, int]
) -> tuple[list[str], dict[str, Any]]:
    """Return where history and aliases are not as somebody on the list signed them, and the row of each alias.

    ``aliases`` are those to compare: all, or those of a version; others than this platform's are not looked at.
    """
    try:
        statement = _statement(tag, "history", task, listed)
    except ValueError as error:
        return [str(error)], {}
    problems = []
    if statement["row"] != head:
        problems.append(
            f"ends at row {_short_row(head)}, its signature is of row {_short_row(statement['row'])}: an old signature "
            "was put back, or a row was added or removed without one"
        )
    said = statement["aliases"]
    for alias, version in aliases.items():
        if alias in said and (said[alias] or {}).get("version") != version:
            to = "nothing" if said[alias] is None else f"version {said[alias]['version']}"
            problems.append(f"has the alias {alias} at {to} as it was signed, and at version {version} now")
    return problems, {alias: each["row"] for alias, each in said.items() if each}


def refuse_unsigned(name: str, number: int, files: str) -> None:
    """Refuse a version that is not as somebody on the list, if there is one, signed it; ``files`` is their hash."""
    if (listed := signers()) is None:
        return
    for left in reversed(range(_TRIES)):
        if not (problems := _problems_now(name, number, files, listed)):
            return
        if left:
            time.sleep(_SECONDS)
    raise UserError(
        f"{'; '.join(problems)}. It is not loaded: look with `make verify TASK={name}`, and see 'Signed releases' in "
        f"docs/security.md; or go back: make rollback TASK={name} WHY=..."
    )


def _problems_now(name: str, number: int, files: str, listed: Signers) -> list[str]:
    client = MlflowClient()
    try:
        model, version = client.get_registered_model(name), client.get_model_version(name, str(number))
    except MlflowException as error:
        raise tracking.refusal(error) or UserError(f"the signature of {name} cannot be read: {error}") from error
    its = {alias: number for alias, to in model.aliases.items() if int(to) == number}
    told, rows = history_problems(
        model.tags.get(HISTORY_TAG), listed, task=name, head=model.tags.get(HEAD), aliases=its
    )
    row = next((rows[alias] for alias in its if alias in rows), None)
    of_version = version_problems(version.tags, listed, task=name, version=number, files=files, row=row)
    whose = f"{name} version {number}"
    return [f"the history of {name} {each}" for each in told] + [f"{whose} {each}" for _, each in of_version]


def _short(sha256: str | None) -> str:
    return "none" if sha256 is None else sha256[:12]


def _short_row(row: str | None) -> str:
    return "none" if row is None else row[: row.find(":") + 13]
