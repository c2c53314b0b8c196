"""A bill of materials that scanners refuse, or that names other packages or files than are served."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from mlflow import MlflowClient

from pipelines.errors import UserError
from serving.bill_of_materials import LOCK, of
from serving.gate_context import registered
from tests.evaluation.made_evidence import TASK
from tests.serving import made_registry
from tests.serving.made_registry import made_version, model_folder

LOCKED = """Some_Package==1.2 ; python_full_version >= '3.11' \\
    --hash=sha256:00
    # via oncolineage (pyproject.toml)
other==3 ; sys_platform == 'no such system' \\
    --hash=sha256:01
plain==0.1.dev2 \\
    --hash=sha256:02
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[MlflowClient]:
    with made_registry.empty_registry("sqlite", tmp_path) as made:
        yield made


def test_the_bill_fits_its_schema_and_is_of_the_version_and_of_the_lock(client: MlflowClient) -> None:
    version = made_version(client, simulated=True)
    with pytest.raises(UserError, match=f"{LOCK}: no such file"):
        of(registered(f"models:/{TASK}/{version}"))
    LOCK.write_text(LOCKED)
    bill = of(registered(f"models:/{TASK}@candidate"))
    text = json.dumps(bill)
    assert JsonStrictValidator(SchemaVersion.V1_5).validate_str(text) is None
    assert [each["purl"] for each in bill["components"]] == ["pkg:pypi/some-package@1.2", "pkg:pypi/plain@0.1.dev2"]
    model: dict[str, Any] = bill["metadata"]["component"]
    tags = client.get_model_version(TASK, str(version)).tags
    assert (model["type"], model["version"]) == ("machine-learning-model", "1")
    assert model["hashes"] == [{"alg": "SHA-256", "content": tags["files.sha256"]}]
    assert {each["name"] for each in model["components"]} == {"MLmodel", "artifacts/model/estimator", "code.py"}
    card = model["modelCard"]
    assert all("SIMULATED" in each["description"] for each in card["modelParameters"]["datasets"][:1])
    found = {each["type"]: each for each in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert found["r2"]["value"] == "0.8"
    assert found["r2"]["confidenceInterval"] == {"lowerBound": "0.75", "upperBound": "0.85"}
    assert of(registered(f"models:/{TASK}/1"))["serialNumber"] == bill["serialNumber"]


def test_a_version_whose_files_were_changed_has_none(client: MlflowClient) -> None:
    LOCK.write_text(LOCKED)
    version = registered(f"models:/{TASK}/{made_version(client)}")
    (model_folder(client, str(version.source)) / "code.py").write_text("answer = 43\n")
    with pytest.raises(UserError, match=r"code\.py was changed"):
        of(version)
    for uri in (f"models:/{TASK}@production", "runs:/a/model"):
        with pytest.raises(UserError, match=r"cannot be read|name a version"):
            registered(uri)
