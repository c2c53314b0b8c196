"""Create an account on the tracking server, if it is missing: ``python infra/add_account.py NAME``.

``ONCOLINEAGE_ACCOUNT_PASSWORD`` is its password; ``MLFLOW_TRACKING_USERNAME`` and ``MLFLOW_TRACKING_PASSWORD`` are an
administrator's; ``MLFLOW_TRACKING_URI`` is the server. The account may read everything, and change what it creates.
"""

from __future__ import annotations

import os
import sys

import requests

PASSWORD = "ONCOLINEAGE_ACCOUNT_PASSWORD"


def main(arguments: list[str]) -> int:
    """Create the account and print the outcome."""
    password = os.environ.get(PASSWORD, "")
    if len(arguments) != 1 or not password:
        print(f"error: name the account, and set {PASSWORD}: python infra/add_account.py NAME", file=sys.stderr)
        return 2
    # MLflow's own client of this interface would load the whole server.
    try:
        answer = requests.post(
            f"{os.environ['MLFLOW_TRACKING_URI'].rstrip('/')}/api/2.0/mlflow/users/create",
            json={"username": arguments[0], "password": password},
            auth=(os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]),
            timeout=60,
        )
    except KeyError as error:
        print(f"error: set {error.args[0]}", file=sys.stderr)
        return 2
    except requests.RequestException as error:
        print(f"error: the tracking server cannot be reached: {error}", file=sys.stderr)
        return 1
    if "RESOURCE_ALREADY_EXISTS" in answer.text:
        print(f"{arguments[0]}: there")
        return 0
    if answer.status_code != 200:
        print(f"error: the server refuses ({answer.status_code}): {answer.text[:500]}", file=sys.stderr)
        return 1
    print(f"{arguments[0]}: made")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
