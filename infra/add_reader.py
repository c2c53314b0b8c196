"""Create a database role that reads the history and nothing else: ``python infra/add_reader.py``.

``ONCOLINEAGE_HISTORY_URI`` is the database, with a login that may create roles; ``ONCOLINEAGE_READER_URI`` the same
database with name and password of the reader. Run again, it resets password and rights, after a restore for example.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql

from serving import audit_log
from serving.alias_moves import HISTORY_URI

READER_URI = "ONCOLINEAGE_READER_URI"
TABLES = (audit_log.TABLE, audit_log.INTENTS)


def add_reader(uri: str, reader: sa.URL) -> None:
    """Create the role or reset its password, and let it select from `TABLES` alone."""
    name = sql.Identifier(str(reader.username))
    engine = sa.create_engine(uri, poolclass=sa.pool.NullPool)
    audit_log.create(engine)  # else the first registration would, after this
    with engine.begin() as connection:
        there = connection.execute(
            sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": reader.username}
        ).scalar()
        raw: Any = connection.connection.driver_connection  # roles and passwords are no parameters of a statement
        raw.execute(
            sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                sql.SQL("ALTER" if there else "CREATE"), name, sql.Literal(str(reader.password))
            )
        )
        raw.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(name))
        tables = sql.SQL(", ").join(map(sql.Identifier, TABLES))
        raw.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(tables, name))


def main() -> int:
    """Create the role and print the outcome."""
    try:
        uri, reader = os.environ[HISTORY_URI], sa.make_url(os.environ[READER_URI])
    except KeyError as error:
        print(f"error: set {error.args[0]}", file=sys.stderr)
        return 2
    try:
        add_reader(uri, reader)
    except (sa.exc.DBAPIError, psycopg.Error) as error:
        print(f"error: the database cannot be used: {getattr(error, 'orig', error)}", file=sys.stderr)
        return 1
    print(f"{reader.username}: reads {len(TABLES)} tables")
    return 0


if __name__ == "__main__":
    sys.exit(main())
