"""The private interfaces of MLflow, to be checked with every release. As `serving.app` it imports no other room."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from mlflow.pyfunc import scoring_server
from mlflow.types import DataType
from mlflow.types.schema import AnyType, Map
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.proto_json_utils import NumpyEncoder

from serving.request_record import CURRENT

if TYPE_CHECKING:
    import sqlalchemy as sa
    from fastapi import FastAPI

SEEN_WITH = "3.17.2"

# Columns with artifact locations: a backup reads them without a running server.
ARTIFACT_LOCATIONS = ("experiments.artifact_location", "runs.artifact_uri", "logged_models.artifact_location")


class Registered(NamedTuple):
    """A registered model in a database: tags, aliases, and of each version its tags and where its files lie."""

    tags: dict[str, str]
    aliases: dict[str, int]
    versions: dict[int, dict[str, str]]
    locations: dict[int, str]


def registered_models(connection: sa.Connection) -> dict[str, Registered]:
    """Return the registered models; a client would make the tables that are missing, a server is not running."""
    if not connection.dialect.has_table(connection, "registered_models"):
        return {}
    ask = connection.exec_driver_sql
    names = list(ask("SELECT name FROM registered_models").scalars())
    found = {name: Registered({}, {}, {}, {}) for name in names}
    for name, key, value in ask("SELECT name, key, value FROM registered_model_tags"):
        found[name].tags[key] = value
    for name, alias, version in ask("SELECT name, alias, version FROM registered_model_aliases"):
        found[name].aliases[alias] = version
    there = "SELECT name, version, storage_location FROM model_versions WHERE current_stage <> 'Deleted_Internal'"
    for name, version, location in ask(there):
        found[name].versions[version], found[name].locations[version] = {}, str(location)
    for name, version, key, value in ask("SELECT name, version, key, value FROM model_version_tags"):
        found[name].versions.get(version, {})[key] = value
    return found


def artifact_repository(location: str) -> Any:
    """Return the repository of an artifact location; the public interface writes to runs only."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(location)


def import_stores() -> None:
    """Import what MLflow and SQLAlchemy import with the first question to a database, on the thread that calls."""
    stores = ("model_registry.sqlalchemy_workspace_store", "tracking.sqlalchemy_workspace_store")
    modules = (*(f"mlflow.store.{each}" for each in stores), "mlflow.utils.search_logged_model_utils")
    for module in (*modules, "alembic.command", "alembic.config", "sqlalchemy.dialects.sqlite"):
        import_module(module)


def scoring_environment(folder: str | Path, seconds: int) -> dict[str, str]:
    """Return this process's environment, and what MLflow's scoring server reads: the model, and an answer's time."""
    _, environment = scoring_server.get_cmd(str(folder), timeout=seconds)
    return dict(environment)


def served_model() -> Any:
    """Load the model that the environment of `scoring_environment` names."""
    return scoring_server.load_model_with_mlflow_config(os.environ[scoring_server._SERVER_MODEL_PATH])


def model_folder() -> Path:
    """Return the folder of that model."""
    return Path(local_file_uri_to_path(os.environ[scoring_server._SERVER_MODEL_PATH]))


def scoring_application(model: Any) -> FastAPI:
    """Return MLflow's scoring application without its route ``/invocations``."""
    app = scoring_server.init(model)
    app.router.routes = [route for route in app.router.routes if getattr(route, "path", "") != "/invocations"]
    return app


def answer(content: Mapping[str, Any], model: Any) -> str:
    """Return the JSON that MLflow's server answers to ``content``, a parsed body of ``/invocations``.

    Where all values have the signature's types, the model is asked at once: MLflow would make and check three tables,
    and change none.
    """
    schema = model.metadata.get_input_schema()
    columns, params = schema and _typed_columns(content, schema), content.get("params") or {}
    if columns is None or not all(name == "explain" and isinstance(given, bool) for name, given in params.items()):
        return scoring_server.invocations(content, scoring_server.CONTENT_TYPE_JSON, model, schema).response
    table = pd.DataFrame(columns)
    del content, columns  # which would take as much memory again while the model computes
    answered = model.unwrap_python_model().predict(None, table, params)
    lists = {str(name): values.tolist() for name, values in answered.items()}
    if (record := CURRENT.get(None)) is not None:
        record.answer = lists  # reading the table again would take longer than all else that is counted
    rows = [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return json.dumps({"predictions": rows}, cls=NumpyEncoder)


def _typed_columns(content: Mapping[str, Any], schema: Any) -> dict[str, list[Any]] | None:
    """Return the columns of rows that have the same fields, each of the type in ``schema``; None for other requests."""
    rows = content.get("dataframe_records")
    if "dataframe_split" in content and set(split := content["dataframe_split"]) == {"columns", "data"}:
        rows = [dict(zip(split["columns"], row, strict=True)) for row in split["data"]]
        if len(set(split["columns"])) < len(split["columns"]):
            return None
    if not rows or any(row.keys() != rows[0].keys() for row in rows):
        return None
    found = {}
    for name, each in schema.input_dict().items():
        if name not in rows[0]:
            if each.required:
                return None
            continue
        of_map = isinstance(each.type, Map) and isinstance(each.type.value_type, AnyType)
        kind = str if each.type == DataType.string else dict if of_map else None
        found[name] = [row[name] for row in rows]
        if any(type(value) is not kind for value in found[name]):
            return None
    return found if len(found) == len(rows[0]) else None
