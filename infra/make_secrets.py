"""Write the secrets of a new installation: ``python infra/make_secrets.py [--to infra/secrets] [--missing]``.

``--key NAME`` instead makes an API key of the endpoint and the dashboard. It is printed once, and its hash is added to
``api_keys``, also in a folder without other secrets; without its line there a key no longer opens.

``--signer NAME`` instead makes a key that signs moves of versions, ``signing_key_NAME.pem``, and adds its public key to
``signers``; older ones of that name stay there. It needs ``--to``, for no service may get a private key.

Random, a file each, never overwritten; ``--missing`` adds those of a newer release. Only the owner can open the folder;
the files are readable by all, since the user of a container is another. `infra/compose.yaml` mounts them; ``kubectl
create secret generic oncolineage --from-file=infra/secrets`` gives them to `infra/kubernetes`.
"""

import argparse
import hashlib
import json
import os
import re
import secrets
import sys
from pathlib import Path

HERE = Path(__file__).parent
API_KEYS, DASHBOARD_KEY, SIGNERS = "api_keys", "dashboard_key", "signers"


def contents() -> dict[str, str]:
    """Return file name to content of a new set of secrets."""
    database, dashboard, access, key, admin, platform, reader = (secrets.token_hex(24) for _ in range(7))
    server = "postgres:5432"
    uri = f"postgresql+psycopg://lab:{database}@{server}"
    allowed = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "mlflow", "credentials": [{"accessKey": access, "secretKey": key}], "actions": allowed}
    return {
        "postgres_password": database,
        "tracking_database": f"{uri}/mlflow",
        "studies_database": f"{uri}/studies",
        "dashboard_database": f"postgresql+psycopg://dashboard:{dashboard}@{server}/mlflow",
        "s3.json": json.dumps({"identities": [identity]}),
        "aws_credentials": f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {key}\n",
        "auth.ini": "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = {uri}/mlflow\n"
        "admin_username = admin\n"
        f"admin_password = {admin}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        # Else every request, one for each file of a model, waits for a slow hash of its password.
        "auth_cache_ttl_seconds = 60\n",
        "flask_secret_key": secrets.token_hex(32),
        "admin_password": admin,
        "platform_password": platform,
        "reader_password": reader,
        "log_salt": secrets.token_hex(32),
        DASHBOARD_KEY: secrets.token_urlsafe(32),  # by which it asks the endpoint
    }


def add_key(folder: Path, name: str, key: str) -> None:
    """Let ``key`` open as ``name``: its hash, of 32 random bytes, is all that the folder's file of keys holds."""
    path = folder / API_KEYS
    lines = path.read_text().splitlines() if path.exists() else []
    lines = [line for line in lines if line.split()[:1] != [name]]
    new = path.with_name(f".{API_KEYS}")
    new.write_text("\n".join([*lines, f"{name} {hashlib.sha256(key.encode()).hexdigest()}", ""]))
    new.chmod(0o444)
    new.replace(path)


def add_signer(folder: Path, name: str) -> Path:
    """Make the key of a signer, and add the public key to the folder's list; return the private key's file."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key, path, listed = Ed25519PrivateKey.generate(), folder / f"signing_key_{name}.pem", folder / SIGNERS
    how = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(key.private_bytes(*how))
    with listed.open("a") as lines:
        lines.write(f"{name} {key.public_key().public_bytes_raw().hex()}\n")
    return path


# Files that share a password: a new one alone would not fit the others.
_TOGETHER = {
    *("postgres_password", "tracking_database", "studies_database", "auth.ini", "admin_password"),
    *("s3.json", "aws_credentials"),
}


def main() -> int:
    """Write the files: none if one exists, or with ``--missing`` those that do not exist."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--to", type=Path, help="folder (default: infra/secrets)")
    arguments.add_argument("--missing", action="store_true", help="add to an installation what it does not have yet")
    arguments.add_argument("--key", metavar="NAME", help="make an API key, in the place of an older one of that name")
    arguments.add_argument("--signer", metavar="NAME", help="make a key that signs moves of versions; needs --to")
    given = arguments.parse_args()
    folder, made = given.to or HERE / "secrets", contents()
    name = given.key if given.signer is None else given.signer
    if name is not None and not re.fullmatch(r"[A-Za-z0-9._@-]{1,64}", name):
        print(f"error: {name!r} is no name: use at most 64 letters, digits and ._@-", file=sys.stderr)
        return 1
    if given.signer is not None:
        return _signer(given.to, name)
    if given.key is not None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        add_key(folder, given.key, key := secrets.token_urlsafe(32))
        print(f"{key}\nis the key of {given.key}, shown this once; its hash is in {folder / API_KEYS}", flush=True)
        return 0
    there = sorted(name for name in made if (folder / name).exists())
    if there and not given.missing:
        print(f"error: {folder} holds {', '.join(there)} already; nothing was written", file=sys.stderr)
        return 1
    made = {name: content for name, content in made.items() if name not in there}
    if given.missing and (lost := ", ".join(sorted(_TOGETHER & set(made)))):
        print(f"error: {folder} has no {lost}, which no other file can be made to fit", file=sys.stderr)
        return 1
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name, content in made.items():
        with os.fdopen(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "w") as file:
            file.write(content)
    add_key(folder, "dashboard", (folder / DASHBOARD_KEY).read_text())
    added = f" ({', '.join(sorted(made))})" if there and made else ""
    print(f"{len(made)} secrets{added} were written into {folder}")
    return 0


def _signer(folder: Path | None, name: str) -> int:
    if folder is None or folder.resolve() == (HERE / "secrets").resolve():
        print(
            "error: name a folder of your own with --to: what is in infra/secrets is given to services", file=sys.stderr
        )
        return 1
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        path = add_signer(folder, name)
    except FileExistsError as error:
        print(f"error: {error.filename} is there already; move it away to make {name} a new key", file=sys.stderr)
        return 1
    print(
        f"{path} is the private key of {name}: ONCOLINEAGE_SIGNING_KEY\n{folder / SIGNERS} lists who may sign: "
        "ONCOLINEAGE_SIGNERS, for everybody"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
