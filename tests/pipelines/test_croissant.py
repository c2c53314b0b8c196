"""A description of data whose hashes or fields are not those of the files, or that takes simulated data for real."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.croissant.__main__ import main
from pipelines.errors import DataError, UserError
from pipelines.file_hashes import file_hashes
from pipelines.simulate.__main__ import simulators
from pipelines.sources import PUBLISHED
from pipelines.sources.__main__ import OPTIONS
from pipelines.tracking import folder_sha256
from tests.pipelines.image_samples import CLASSES, write_image_folder

ROOT = Path(__file__).parents[2]


def made(task: str, folder: Path, *options: str) -> dict[str, Any]:
    main(["--task", task, *options])
    found: dict[str, Any] = json.loads((folder / "reports" / task / "croissant.json").read_text())
    return found


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").symlink_to(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("task", ["tumor_type", "gene_expression", "breast_survival", "drug_response"])
def test_tables_are_described_as_they_are_and_simulated_ones_say_so(task: str, checkout: Path) -> None:
    data = checkout / "data" / task
    simulators()[task](data, seed=7)
    found = made(task, checkout)
    assert "SIMULATED" in found["description"] and found["identifier"] == f"sha256:{folder_sha256(data)}"
    files = {each["@id"]: each for each in found["distribution"]}
    assert {name: each["sha256"] for name, each in files.items()} == file_hashes(data)
    assert all(each["contentSize"] == f"{(data / each['contentUrl']).stat().st_size} B" for each in files.values())
    assert {f"{each['@id']}.{kind}" for each in found["recordSet"] for kind in ("csv", "parquet")} >= set(files)
    for each in (field for records in found["recordSet"] for field in records["field"]):
        path = data / each["source"]["fileObject"]["@id"]
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
        assert each["source"]["extract"] == {"column": each["name"]} and each["name"] in table
        if pd.api.types.is_float_dtype(table[each["name"]]) and table[each["name"]].notna().any():
            assert each["dataType"] == "sc:Float", each
    assert len(json.dumps(found)) < 20_000  # no field a gene
    with pytest.raises(UserError, match="is simulated, and not the collection gdsc"):
        made(task, checkout, "--source", "gdsc")
    ids = [each["@id"] for part in (found["distribution"], found["recordSet"]) for each in part]
    assert len(set(ids)) == len(ids)


def test_images_are_found_by_what_is_said_of_them_and_a_known_source_gives_its_license(checkout: Path) -> None:
    data = write_image_folder(checkout / "data" / "leukemia_cell")
    found = made("leukemia_cell", checkout, "--source", "cnmc", "--citation", "Gupta et al.")
    assert "SIMULATED" not in found["description"] and found["citeAs"] == "Gupta et al."
    assert found["license"] == PUBLISHED["cnmc"]["license"] and set(PUBLISHED) <= set(OPTIONS)
    table, images = found["distribution"]
    assert table["@id"] == "images.csv" and images["encodingFormat"] == ["image/png"]
    inside = [path for pattern in images["includes"] for path in data.glob(pattern)]
    assert len(inside) == 24
    fields = {each["name"]: each["source"] for each in found["recordSet"][1]["field"]}
    for path in inside:
        label, file = (re.search(fields[name]["transform"]["regex"], path.as_posix()) for name in ("label", "file"))
        assert label and label[1] in CLASSES and file and file[1] == f"{label[1]}/{path.name}"


def test_what_cannot_be_read_is_not_described(checkout: Path) -> None:
    data = checkout / "data" / "drug_response"
    simulators()["drug_response"](data, seed=7)
    (data / "drugs.csv").write_text("drug\n1\n")
    with pytest.raises(DataError, match="drug_id"):
        main(["--task", "drug_response"])
    assert not (checkout / "reports").exists()
