"""Create what an installation lacks: ``python infra/set_up.py bucket s3://NAME | account NAME | reader``.

``bucket``: the bucket of artifacts, at ``MLFLOW_S3_ENDPOINT_URL`` with the credentials of boto3.

``account``: an account on the tracking server ``MLFLOW_TRACKING_URI``, with ``ONCOLINEAGE_ACCOUNT_PASSWORD`` for its
password; ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD`` are an administrator's. The account may read
everything, and change what it creates.

``reader``: a database role that reads the history and nothing else. ``ONCOLINEAGE_HISTORY_URI`` is the database, with a
login that may create roles; ``ONCOLINEAGE_READER_URI`` the same database with name and password of the reader. Run
again, it resets password and rights, after a restore for example.
"""

import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit


class UnsetError(Exception):
    """A variable that is needed has no value."""


def _setting(name: str) -> str:
    if not (value := os.environ.get(name)):
        raise UnsetError(name)
    return value


def bucket(uri: str) -> str:
    """Create a bucket, if it is missing."""
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    name = urlsplit(uri).netloc
    if name in {each["Name"] for each in client.list_buckets()["Buckets"]}:
        return "there"
    client.create_bucket(Bucket=name)
    return "made"


def account(name: str) -> str:
    """Create an account on the tracking server, if it is missing."""
    import requests

    answer = requests.post(  # MLflow's own client of this interface would load the whole server
        f"{_setting('MLFLOW_TRACKING_URI').rstrip('/')}/api/2.0/mlflow/users/create",
        json={"username": name, "password": _setting("ONCOLINEAGE_ACCOUNT_PASSWORD")},
        auth=(_setting("MLFLOW_TRACKING_USERNAME"), _setting("MLFLOW_TRACKING_PASSWORD")),
        timeout=60,
    )
    if "RESOURCE_ALREADY_EXISTS" in answer.text:
        return "there"
    if answer.status_code != 200:
        raise OSError(f"the tracking server refuses ({answer.status_code}): {answer.text[:500]}")
    return "made"


def reader() -> str:
    """Create the role or reset its password, and let it select from the tables of the history alone."""
    import sqlalchemy as sa
    from psycopg import sql

    from serving import audit_log
    from serving.alias_moves import HISTORY_URI

    login, tables = sa.make_url(_setting("ONCOLINEAGE_READER_URI")), (audit_log.TABLE, audit_log.INTENTS)
    name, listed = sql.Identifier(str(login.username)), sql.SQL(", ").join(map(sql.Identifier, tables))
    engine = sa.create_engine(_setting(HISTORY_URI), poolclass=sa.pool.NullPool)
    audit_log.create(engine)  # else the first registration would, after this
    with engine.begin() as connection:
        known = sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name")
        verb = "ALTER" if connection.execute(known, {"name": login.username}).scalar() else "CREATE"
        raw: Any = connection.connection.driver_connection  # roles and passwords are no parameters of a statement
        password = sql.Literal(str(login.password))
        raw.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(sql.SQL(verb), name, password))
        raw.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
        raw.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(listed, name))
    return f"{login.username} reads {len(tables)} tables"


def main(what: str = "", *given: str) -> int:
    """Create it and print the outcome."""
    makers: dict[tuple[str, int], Callable[..., str]] = {
        ("bucket", 1): bucket,
        ("account", 1): account,
        ("reader", 0): reader,
    }
    if (what, len(given)) not in makers or "" in given:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(": ".join([*given, makers[what, len(given)](*given)]))
    except UnsetError as error:
        print(f"error: set {error}", file=sys.stderr)
        return 2
    except Exception as error:  # of boto3, requests, SQLAlchemy or psycopg, which take a second each to import
        print(f"error: {type(error).__name__}: {getattr(error, 'orig', error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
