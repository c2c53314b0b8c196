"""A gain of the gene order that is none: other rows, other fits, a network that sees no order."""

import io
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from evaluation import ablate as command
from evaluation import permuted_genes
from evaluation.permuted_genes import ablate, ablation_path
from evaluation.problems import measures_of
from pipelines.datasets import Prepared
from pipelines.errors import UserError
from pipelines.files import read_json, write_json
from pipelines.params import Params, PerBudget, read_params
from tests.evaluation.planted import split_by
from tests.training.profile_samples import TARGETS, gene_samples
from training.architectures import get_architecture
from training.model.cross_fit import fit_final
from training.model.final_fit import Fitted, fit
from training.model.predictor import Predictor

ROOT = Path(__file__).parents[2]
NAME = "gene_expression"
ARCHITECTURE = "attention_gru"
SMALL = {"width": 8, "embedding": 8, "window": 6, "batch_size": 32, "order": "correlation", "linear_start": 0.0}


@pytest.fixture(scope="module")
def params() -> Params:
    params = read_params(ROOT / "params.yaml")
    task: Any = params.task(NAME)
    few = {"tune": replace(task.tune, **dict.fromkeys(("epochs", "rounds"), PerBudget(2, 60)))}
    few["fit"] = replace(task.fit, members=PerBudget(2, 1))
    small = replace(task, **few, evaluate=replace(task.evaluate, resamples=100, explained_samples=PerBudget(6, 6)))
    return replace(params, seed=7, device="cpu", budget="quick", tasks={**params.tasks, NAME: small})


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    side = np.where(np.arange(90) < 60, "train", "test")
    return split_by(gene_samples(90), side, np.where(side == "train", np.arange(90) % 2, -1))


Reference = tuple[Fitted, Predictor, pd.DataFrame]


@pytest.fixture(scope="module")
def reference(place: Path, params: Params, prepared: Prepared) -> Reference:
    folder = place / "models" / NAME / ARCHITECTURE
    architecture = get_architecture(ARCHITECTURE, "profiles", "multi_target")
    chosen = {**architecture.defaults, **SMALL}
    fitted = fit(NAME, architecture, chosen, prepared=prepared, params=params, folder=folder)
    return fitted, Predictor().read(folder / "model"), pd.read_parquet(folder / "predictions.parquet")


def test_permuted_fits_are_compared_with_the_fitted_model_on_its_test_rows(
    reference: Reference, params: Params, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, _, table = reference
    write_json(Path("models") / NAME / ARCHITECTURE / "fitted.json", asdict(fitted))
    monkeypatch.setattr(command, "read_params", lambda: params)
    monkeypatch.setattr("pipelines.datasets.read_prepared", lambda name, task: prepared)
    with redirect_stdout(io.StringIO()) as out:
        command.main(["--task", NAME, "--architecture", ARCHITECTURE, "--permutations", "2"])
    line = out.getvalue().strip().splitlines()[-1]
    found = read_json(ablation_path(NAME, ARCHITECTURE))
    measured, predicted = (table[[f"{kind}_{gene}" for gene in TARGETS]] for kind in ("target", "prediction"))
    assert found["as_it_is"] == pytest.approx(measures_of("multi_target").metrics(measured, predicted)["r2"])
    gain, each = found["gain"], [one["difference"] for one in found["of_each"]]
    assert each == pytest.approx([found["as_it_is"] - value for value in found["permuted"]])
    assert gain["difference"] == pytest.approx(np.mean(each)) and gain["low"] <= gain["high"]
    assert len(set(each)) == found["members"] == 2  # two orders, two fits
    assert (gain["rows"], gain["groups"], found["order"]) == (30, 30, "correlation")
    # The run has it too, and so has the line on the terminal.
    run = MlflowClient().get_run(fitted.run_id)
    for suffix, key in (("", "difference"), ("_low", "low"), ("_high", "high")):
        assert run.data.metrics[f"ablation/gene_order_r2{suffix}"] == gain[key]
    names = [item.path for item in MlflowClient().list_artifacts(fitted.run_id)]
    assert run.info.status == "FINISHED" and "ablation_gene_order.json" in names
    assert f"test r2 gains {gain['difference']:+.4f} " in line


def test_both_sides_are_trained_alike(
    reference: Reference, params: Params, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same order fitted again, as the permuted ones are, gains exactly nothing: only the order differs."""

    def unpermuted(architecture: Any, hyperparameters: Any, *arguments: Any, **others: Any) -> Any:
        assert hyperparameters == {**reference[0].hyperparameters, "permutation": 1}
        return fit_final(architecture, {**hyperparameters, "permutation": 0}, *arguments, **others)

    monkeypatch.setattr(permuted_genes, "fit_final", unpermuted)
    gain = ablate(*reference, prepared=prepared, params=params, orders=1)["gain"]
    assert [gain[key] for key in ("difference", "low", "high")] == pytest.approx([0.0] * 3, abs=1e-5)


def test_an_architecture_that_sees_no_order_and_a_reference_of_other_rows_or_members_are_refused(
    reference: Reference, params: Params, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for name, architecture in (("drug_response", "mlp"), (NAME, "dnn"), (NAME, "ridge")):
        with pytest.raises(UserError, match=f"{architecture!r} does not look at the order of genes"):
            command.main(["--task", name, "--architecture", architecture])
    with pytest.raises(UserError, match="another split"):
        ablate(*reference, prepared=replace(prepared, sha256="1" * 64), params=params, orders=1)
    task = params.task(NAME)
    more = replace(task, fit=replace(task.fit, members=PerBudget(5, 5)))
    with pytest.raises(UserError, match=r"has 2 members, fit\.members asks for 5"):
        ablate(*reference, prepared=prepared, params=replace(params, tasks={**params.tasks, NAME: more}), orders=1)
    shuffled = reference[2].iloc[::-1]
    with pytest.raises(UserError, match="not of the test rows"):
        ablate(*reference[:2], shuffled, prepared=prepared, params=params, orders=1)
    with pytest.raises(UserError, match="at least 1 is needed"):
        ablate(*reference, prepared=prepared, params=params, orders=0)
