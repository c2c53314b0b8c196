"""The private interfaces of MLflow, to be checked with every release. Imports nothing of the platform, for servers."""

from __future__ import annotations

import os
import shlex
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow.pyfunc import scoring_server

if TYPE_CHECKING:
    from fastapi import FastAPI

SEEN_WITH = "3.17.2"

# Columns with artifact locations: a backup reads them without a running server.
ARTIFACT_LOCATIONS = ("experiments.artifact_location", "runs.artifact_uri", "logged_models.artifact_location")


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


def scoring_options(folder: str | Path, *, host: str, port: int, seconds: int, workers: int) -> tuple[list[str], dict]:
    """Return the options by which uvicorn serves a model, and the environment that names the model."""
    line, environment = scoring_server.get_cmd(str(folder), port, host, seconds, workers)
    return shlex.split(line)[1:-1], environment


def served_model() -> Any:
    """Load the model that the environment of `scoring_options` names."""
    return scoring_server.load_model_with_mlflow_config(os.environ[scoring_server._SERVER_MODEL_PATH])


def scoring_application(model: Any) -> FastAPI:
    """Return MLflow's scoring application without its route ``/invocations``."""
    app = scoring_server.init(model)
    app.router.routes = [route for route in app.router.routes if getattr(route, "path", "") != "/invocations"]
    return app


def answer(body: Any, model: Any) -> scoring_server.InvocationsResponse:
    """Return MLflow's response to a parsed body of ``/invocations``."""
    return scoring_server.invocations(body, scoring_server.CONTENT_TYPE_JSON, model, model.metadata.get_input_schema())
