"""Intervals and sets that hold on average and fail for a drug or a class; limits by cell that promise too much."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.datasets import Prepared
from pipelines.errors import UserError
from tests.training.tiny import NAME, question, response_task, tiny_params
from training.architectures import get_architecture
from training.contract import contract_from, contract_text, make_contract
from training.model.cross_fit import fit_final
from training.model.limits import Cells, HeldOut, Limits, choose

SPREADS = {"quiet": 0.2, "usual": 1.0, "wild": 3.0}


def rows(rng: np.random.Generator, groups: int) -> tuple[HeldOut, np.ndarray]:
    """Return absolute errors of a row a cell and group, larger in some cells and groups."""
    names = np.array(list(SPREADS))
    cells, group = np.tile(names, groups), np.repeat(np.arange(groups), len(names))
    level = rng.uniform(0.7, 1.3, groups)[group] * np.array([SPREADS[cell] for cell in cells])
    return HeldOut(np.abs(rng.normal(size=len(cells)) * level), group, group % 5), cells


def size_of(cells: np.ndarray) -> Any:
    return lambda limits, part: float(limits.of(cells[part]).mean()) if limits.by else limits.overall


def chosen(held: HeldOut, cells: np.ndarray, asked: str = "auto", spread: Any = SPREADS) -> Limits:
    return choose(held, {"drug": Cells(cells, spread)}, 0.9, asked=asked, size=size_of(cells))[0]


@pytest.mark.parametrize("asked", ["auto", "mondrian", "scaled"])
def test_every_cell_is_covered_as_declared_by_narrower_limits(asked: str) -> None:
    covered, widths, methods = [], [], set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        (held, cells), (new, of_new) = rows(rng, 60), rows(rng, 200)
        limits, one = chosen(held, cells, asked), chosen(held, cells, "one")
        inside = new.scores <= limits.of(of_new)
        covered.append([inside[of_new == name].mean() for name in SPREADS])
        widths.append(limits.of(of_new).mean() / one.overall)
        methods.add(limits.method)
    assert (np.abs(np.mean(covered, axis=0) - 0.9) < 0.03).all(), np.mean(covered, axis=0)
    assert np.mean(widths) < 0.85 and "one" not in methods


def test_a_cell_with_too_few_groups_has_the_limit_for_all_and_few_groups_have_none() -> None:
    held, cells = rows(np.random.default_rng(0), 30)
    rare = cells.copy()
    rare[:4] = "rare"  # for 9 of 10 it takes nine groups
    limits = chosen(held, rare, "mondrian")
    assert "rare" not in limits.of_cell and limits.of(["rare", "new"]).tolist() == [limits.overall] * 2
    assert chosen(*rows(np.random.default_rng(0), 8)).overall == np.inf
    assert chosen(held, cells, spread=None).method == "mondrian"
    with pytest.raises(UserError, match=r"params\.yaml is scaled"):
        chosen(held, cells, "scaled", spread=None)


@pytest.fixture(scope="module")
def contract(prepared: Prepared) -> Any:
    params = tiny_params()
    task = response_task(params)
    task = replace(task, evaluate=replace(task.evaluate, intervals="scaled", intervals_by=("drug_id", "pathway?")))
    architecture = get_architecture("mean_effects", "pairs", "regression")
    settings = {"rounds": 5, "epochs": 2, "seed": 3, "device": "cpu"}
    final = fit_final(architecture, {}, prepared, members=task.split.folds, settings=settings)
    return make_contract(NAME, "mean_effects", task, prepared=prepared, final=final)


def test_each_drug_is_answered_with_its_own_interval_and_an_older_contract_with_one(
    contract: Any, prepared: Prepared
) -> None:
    assert (contract.cells, contract.chosen["method"]) == ("drug_id", "scaled")
    samples = prepared.side("test")
    answer = pd.DataFrame(contract.answer(np.zeros(len(samples)), samples))
    of_drug = answer["high"].groupby(samples.pairs["drug_id"].to_numpy()).unique()
    assert {str(drug): pytest.approx(contract.limits[str(drug)]) for drug in of_drug.index} == {
        str(drug): float(width) for drug, (width,) in of_drug.items()
    }
    assert answer["high"].nunique() > 1
    new = question(samples, line="NEW", drug="NEW", smiles="CC(=O)Oc1ccccc1C(=O)O")
    assert pd.DataFrame(contract.answer(np.zeros(1), new))["high"].isna().all(), "no width was measured of new drugs"

    content = json.loads(json.dumps(contract_text(contract)))
    assert contract_from(content) == contract
    older = contract_from({key: each for key, each in content.items() if key not in ("cells", "limits", "chosen")})
    told = pd.DataFrame(older.answer(np.zeros(len(samples)), samples))
    assert told["high"].eq(contract.half_width).all()


def test_a_column_that_no_answer_can_tell_is_refused(prepared: Prepared) -> None:
    task = response_task(tiny_params())
    task = replace(task, evaluate=replace(task.evaluate, intervals_by=("pathway",)))
    final = fit_final(
        get_architecture("mean_effects", "pairs", "regression"),
        {},
        prepared,
        members=1,
        settings={"rounds": 5, "epochs": 2, "seed": 3, "device": "cpu"},
    )
    with pytest.raises(UserError, match=r"evaluate.intervals_by names 'pathway'.*drug_id, tissue"):
        make_contract(NAME, "mean_effects", task, prepared=prepared, final=final)
