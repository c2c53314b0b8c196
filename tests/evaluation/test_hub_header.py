"""A header of the card that the hub cannot read, or that hides simulated data or an interval, or that pages show."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from evaluation.evidence.evidence_file import seal
from evaluation.promotion.card import write_card
from tests.evaluation.made_evidence import made_cell_evidence, made_evidence

HOSTILE = "C-NMC 2019\n---\n# a title: <b>"


def test_the_hub_reads_header_and_metrics_and_no_page_shows_it(tmp_path: Path) -> None:
    evidence = made_cell_evidence()
    evidence["test"]["metrics"]["accuracy"] = {"value": 0.777, "low": None, "high": None}
    evidence["pretraining"]["collections"] = [HOSTILE]
    write_card(seal(evidence), tmp_path)
    card = ModelCard((tmp_path / "README.md").read_text())
    assert card.text.startswith("# leukemia_cell: resnet50\n")
    about: Any = card.data
    assert (about.pipeline_tag, about.library_name, about.license) == ("image-classification", "mlflow", None)
    assert about.datasets == ["C-NMC-2019-a-title-b-simulated"] and "simulated-data" in about.tags
    found = {each.metric_type: each for each in about.eval_results or []}
    assert set(found) == {"roc_auc", "ece", "margin"}  # accuracy has no interval
    for each in found.values():
        assert each.metric_value == 0.8 and "95% interval [0.700, 0.900]" in (each.metric_name or "")
        assert "simulated" in each.dataset_name and each.verified is False and each.dataset_split == "test"
        assert each.dataset_revision == evidence["hashes"]["data.sha256"]
    assert (tmp_path / "card.md").read_text() == card.text
    assert "model-index" not in (tmp_path / "card.html").read_text()


def test_measured_data_is_not_called_simulated_and_a_model_without_metrics_has_a_header(tmp_path: Path) -> None:
    evidence = made_evidence(test__metrics={"margin": {"value": 0.2, "low": None, "high": None}})
    evidence["pretraining"]["collections"] = []
    write_card(seal(evidence), tmp_path)
    about: Any = ModelCard((tmp_path / "README.md").read_text()).data.to_dict()
    assert about["datasets"] == ["drug_response"] and about["pipeline_tag"] == "tabular-regression"
    assert "imulated" not in str(about) and "model-index" not in about
