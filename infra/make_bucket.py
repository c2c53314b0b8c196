"""Create the bucket of artifacts, if it is missing: ``python infra/make_bucket.py s3://oncolineage``.

``MLFLOW_S3_ENDPOINT_URL`` is the endpoint, as for MLflow; credentials are those of boto3.
"""

from __future__ import annotations

import os
import sys
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError


def make_bucket(uri: str) -> str:
    """Return ``made`` or ``there``; raises what boto3 raises."""
    client = boto3.client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"))
    name = urlsplit(uri).netloc
    if name in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        return "there"
    client.create_bucket(Bucket=name)
    return "made"


def main(arguments: list[str]) -> int:
    """Create the bucket and print the outcome."""
    if len(arguments) != 1 or not arguments[0].startswith("s3://"):
        print("error: name the bucket: python infra/make_bucket.py s3://NAME", file=sys.stderr)
        return 2
    try:
        print(f"{arguments[0]}: {make_bucket(arguments[0])}")
    except (BotoCoreError, ClientError) as error:
        print(f"error: the store cannot be used: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
