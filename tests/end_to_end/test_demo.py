"""The demo on a tiny platform: every stage side by side, then a model that answers; again, nothing to do."""

from pathlib import Path

import yaml

from tests.end_to_end.small_platform import make_platform


def test_the_demo_ends_with_an_answer_and_finds_nothing_to_do_the_second_time(tmp_path: Path) -> None:
    platform = make_platform(tmp_path / "platform", models=["mean_effects", "elastic_net"], waive=True)
    said = platform.python("-m", "serving.demo").stdout
    assert "drug_response version 1, in staging, was asked over HTTP" in said and "SIMULATED" in said
    answered = platform.read("reports/demo.json")
    assert len(answered["answer"]) == len(answered["question"]["dataframe_split"]["data"])
    assert {row["model_version"] for row in answered["answer"]} == {"1"}
    again = platform.python("-m", "serving.demo").stdout
    assert again.startswith("nothing to do") and f"prediction: {answered['answer'][0]['prediction']}" in again
    lock = yaml.safe_load((platform.root / "dvc.lock").read_text())["stages"]
    stages = {name.partition("@")[0] for name in lock}
    assert stages == {"budget", "inputs", "validate", "audit", "prepare", "tune", "fit", "evaluate", "leaderboard"}
    (platform.root / "data" / "drug_response" / "drugs.csv").write_text("other\n1\n")
    broken = platform.python("-m", "serving.demo", check=False)
    assert broken.returncode == 1 and "these failed, see above: drug_response\n" in broken.stderr
    assert not (platform.root / "reports" / "demo.json").exists()  # an old answer is not shown as one of this run
