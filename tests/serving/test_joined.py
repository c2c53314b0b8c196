"""Requests that share a pass or take the short way to the model: nobody may get another's row, error or table."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import PyFuncModel, PythonModel, scoring_server
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Map

from serving.joined import PASS, ROWS, Joined
from serving.mlflow_private import answer


class Doubled:
    """An estimator whose first pass waits for ``begin``; it fails where a sample is negative."""

    def __init__(self, embeds: bool) -> None:
        self.embeds = embeds
        self.begin, self.passes = threading.Event(), []  # type: ignore[var-annotated]

    def outputs_embedded(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.passes.append(len(samples))
        assert self.begin.wait(20)
        if (samples < 0).any():
            raise ValueError(f"negative: {samples.min()}")
        return 2 * samples, -samples[:, None] if self.embeds else None

    def heatmaps(self, samples: np.ndarray) -> int:
        return threading.get_ident()


def _wait(until: Callable[[], bool]) -> None:
    latest = time.monotonic() + 20
    while not until():
        assert time.monotonic() < latest
        time.sleep(0.01)


@pytest.mark.parametrize("embeds", [True, False])
def test_requests_share_passes_and_each_gets_its_own_rows_or_its_own_error(embeds: bool) -> None:
    estimator, turns = Doubled(embeds), threading.BoundedSemaphore(2)
    joined = Joined(estimator, np.concatenate, turns)
    requests = [np.arange(10.0 * n, 10.0 * n + 1 + n % 3) for n in range(1, 21)]
    requests[7] = -requests[7]

    def ask(samples: np.ndarray) -> Any:
        with turns:
            return joined.outputs_embedded(samples)

    with ThreadPoolExecutor(len(requests)) as pool:
        asked = [pool.submit(ask, requests[0])]
        _wait(lambda: estimator.passes == [len(requests[0])])
        asked += [pool.submit(ask, samples) for samples in requests[1:]]
        _wait(lambda: len(joined._waiting) == len(requests) - 1)  # all others, though there are two turns
        estimator.begin.set()
        for number, (samples, each) in enumerate(zip(requests, asked, strict=True)):
            if number == 7:
                with pytest.raises(ValueError, match="negative: -8"):
                    each.result(20)
            else:
                outputs, embedding = each.result(20)
                assert outputs.tolist() == (2 * samples).tolist()
                assert embedding[:, 0].tolist() == (-samples).tolist() if embeds else embedding is None
    assert max(estimator.passes) <= PASS and max(estimator.passes) > 8
    assert joined.heatmaps(requests[0]) == joined.heatmaps(requests[1]) != threading.get_ident()
    assert all(turns.acquire(timeout=1) for _ in range(2))


def test_a_large_request_keeps_its_turn_so_that_few_of_them_are_in_memory() -> None:
    estimator, turns = Doubled(embeds=False), threading.BoundedSemaphore(1)
    joined = Joined(estimator, np.concatenate, turns)
    with ThreadPoolExecutor(1) as pool, turns:
        large = pool.submit(joined.outputs_embedded, np.zeros(ROWS + 1))
        _wait(lambda: bool(estimator.passes))
        assert not turns.acquire(blocking=False)
        estimator.begin.set()
        assert len(large.result(20)[0]) == ROWS + 1


class Echo(PythonModel):
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer with what was given and how it was typed."""
        found = model_input.assign(n=np.arange(len(model_input)), explain=bool((params or {}).get("explain")))
        return found.assign(types=str(dict(model_input.dtypes)), half=0.5, gap=None)


INPUTS = Schema(
    [
        ColSpec(Map(AnyType()), name="expression"),
        *(ColSpec(DataType.string, name=name, required=False) for name in ("smiles", "tissue")),
    ]
)
ROW = {"expression": {"TP53": 1.5, "BRAF": None, "KIT": 2}, "smiles": "CCO"}
SPLIT: dict[str, Any] = {"columns": ["smiles", "expression"], "data": [["C", {"a": 1}], ["CC", {}]]}
EXPRESSIONS: list[Any] = [None, [], "a", {}, {"a": {"b": 1}}]
RECORDS: list[Any] = [[], [{}], [{"smiles": "C"}], [{**ROW, "smiles": 1}]]


@pytest.mark.parametrize(
    "content",
    [
        *({"dataframe_records": [ROW] * count, "params": params} for count, params in ((1, None), (3, {}))),
        *({"dataframe_records": [ROW], "params": {"explain": given}} for given in (True, False, 1, None, "yes")),
        {"dataframe_records": [ROW], "params": {"other": True}},
        *({"dataframe_records": [ROW, {**ROW, **more}]} for more in ({"smiles": None}, {"tissue": "lung"}, {"x": 1})),
        *({"dataframe_records": [{**ROW, "expression": given}]} for given in EXPRESSIONS),
        *({"dataframe_records": given} for given in RECORDS),
        *({"dataframe_split": given} for given in (SPLIT, {**SPLIT, "index": [3, 4]}, {**SPLIT, "data": []})),
        {"dataframe_split": {"columns": ["expression"] * 2, "data": [[{"a": 1}] * 2]}},
        *({name: [ROW, ROW]} for name in ("inputs", "instances")),
    ],
)
def test_the_short_way_to_the_model_answers_as_mlflow_does(content: dict[str, Any]) -> None:
    class Loaded:
        python_model = Echo()

        def predict(self, data: pd.DataFrame, params: Any = None) -> pd.DataFrame:
            return self.python_model.predict(None, data, params)

    params = ParamSchema([ParamSpec("explain", DataType.boolean, False)])
    model = PyFuncModel(Model(signature=ModelSignature(inputs=INPUTS, params=params)), Loaded())

    def said(ask: Any) -> str:
        try:
            return str(ask())
        except MlflowException as error:
            return error.message

    assert said(lambda: answer(deepcopy(content), model)) == said(
        lambda: scoring_server.invocations(content, "application/json", model, INPUTS).response
    )
