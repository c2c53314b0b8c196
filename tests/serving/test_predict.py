"""Bulk answers must be those of the endpoint, whatever else lies in the folder and however often a run breaks off."""

import base64
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from pipelines.datasets import prepare
from pipelines.environment import LOG_SALT
from pipelines.errors import UserError
from pipelines.params import read_params
from pipelines.samples import Kept
from pipelines.tasks.pairs_classification import Threshold
from serving import predict
from serving.bulk import images, pairs, profiles, run
from serving.bulk.run import Bulk
from serving.drift.watch import read_log
from tests.empty_store import empty_store
from tests.serving.served import IMAGES, PROFILES, images_prepared, profiles_prepared, register, save_fitted, split
from tests.training.image_samples import write_folder
from tests.training.profile_samples import gene_samples
from tests.training.survival_samples import follow_up_samples, real_task
from tests.training.tiny import NAME, ROOT, response_task, sensitivity_task, tiny_params, tiny_prepared
from training.model.prediction_log import salted_sha256
from training.model.predictor import Predictor

SURVIVAL, GENES = "breast_survival", "gene_expression"
KINDS = ["profiles classification", "profiles multi_target", "profiles survival", "images classification"]
KINDS += ["pairs regression", "pairs classification"]
_AT = re.compile(" at 0x[0-9a-f]+")  # of a buffer, in a message of Pillow
Row = dict[str, Any]
Models = Callable[[str], tuple[Predictor, Path]]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module, name, size in (
        *((profiles, "_ROWS", 4), (images, "_ROWS", 3)),
        *((pairs, "_ROWS", 40), (pairs, "_LINES", 7)),
    ):
        monkeypatch.setattr(module, name, size)
    monkeypatch.setenv(LOG_SALT, "salt")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())


def _made(kind: str, folder: Path) -> tuple[Predictor, Path]:
    """Return a model and an unlabelled folder with what it refuses in the midst."""
    data, model = folder / "data", folder / "model"
    task: Any
    if kind.startswith("images"):
        save_fitted(IMAGES, "random_forest", *images_prepared(30), model, features="descriptors", trees=5)
        write_folder(data, 2, 32, first=500)
        (data / "images" / "green" / "broken.png").write_bytes(b"no image")
        (data / "images" / "notes.txt").write_text("of a person")
    elif kind.startswith("pairs"):
        prepared, task = tiny_prepared(data), response_task(tiny_params())
        if "classification" in kind:
            task = sensitivity_task(task, Threshold("quantile", 2.0, 0.3))
            prepared = prepare(Kept(prepared.samples, prepared.counts), task, 0)
        save_fitted(NAME, "mean_effects" if "classification" in kind else "elastic_net", task, prepared, model)
        (data / "response.parquet").unlink()
        drugs = pd.read_csv(data / "drugs.csv", dtype=str)
        new = pd.DataFrame({"drug_id": ["new", "bad"], "smiles": ["CCO", "C(("]})
        pd.concat([drugs[:4], new]).to_csv(data / "drugs.csv", index=False)
    else:
        if kind.endswith("survival"):
            task = real_task()
            task = replace(task, data=replace(task.data, horizons=(40.0, 80.0), horizon=80.0))
            save_fitted(SURVIVAL, "cox_net", task, split(follow_up_samples(120)), model)
            unseen = follow_up_samples(11, seed=3)
        elif kind.endswith("multi_target"):
            task = read_params(ROOT / "params.yaml").task(GENES)
            save_fitted(GENES, "ridge", task, split(gene_samples(100)), model)
            unseen = gene_samples(11, seed=3)
        else:
            task, prepared = profiles_prepared()
            save_fitted(PROFILES, "logistic_regression", task, prepared, model, selection="top_30")
            unseen = profiles_prepared(11, seed=3)[1].samples
        data.mkdir()
        table = pd.DataFrame(unseen.values, columns=list(unseen.genes))
        table.loc[5] = np.nan
        table.loc[7, table.columns[4]] = np.nan  # one gene is imputed
        table.insert(0, "sample_id", [f"P{row}" for row in range(11)])
        table.assign(UNKNOWN=1.0, label="a label").to_parquet(data / "expression.parquet", index=False)
    predictor = Predictor().read(model)
    predictor.version, predictor.files_sha256 = "3", "of the model"
    return predictor, data


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Predictor, Path]]:
    return {}


@pytest.fixture
def models(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Return a function that gives model and data of a kind, and serves the model."""

    def of(kind: str) -> tuple[Predictor, Path]:
        if kind not in made:
            made[kind] = _made(kind, tmp_path_factory.mktemp("made"))
        monkeypatch.setattr(run, "load", lambda uri, served: made[kind][0] if served else None)
        return made[kind]

    return of


def _rows(predictor: Predictor, data: Path, asked: pd.DataFrame) -> Iterator[Row]:
    """Return the requests about questions, from the files."""
    contract: Any = predictor.contract
    if contract.modality == "images":
        files = [(data / "images" / name).read_bytes() for name in asked["sample_id"]]
        yield from ({"image": base64.b64encode(content).decode()} for content in files)
    elif contract.modality == "profiles":
        table = pd.read_parquet(data / "expression.parquet").set_index("sample_id")[list(contract.known)].astype(float)
        for name in asked["sample_id"]:
            yield {"expression": {gene: None if value != value else value for gene, value in table.loc[name].items()}}
    else:
        tables = {omics: pd.read_parquet(data / f"{omics}.parquet") for omics in contract.features}
        maps = {omics: table.set_index("cell_line_id").astype(float) for omics, table in tables.items()}
        tissue = pd.read_csv(data / "cell_lines.csv").set_index("cell_line_id")["tissue"]
        smiles = pd.read_csv(data / "drugs.csv").set_index("drug_id")["smiles"]
        for line, drug in zip(asked["cell_line_id"], asked["drug_id"], strict=True):
            said = {"tissue": tissue[line], "smiles": smiles[drug]}
            said = {name: value if isinstance(value, str) else None for name, value in said.items()}
            omics = {name: dict(table.loc[line]) if line in table.index else None for name, table in maps.items()}
            yield {**omics, **said, "drug_id": drug}


def _answers(out: Path) -> pd.DataFrame:
    paths = sorted(out.glob("part-*.parquet"))
    assert len({pyarrow.parquet.read_schema(path).remove_metadata().to_string() for path in paths}) == 1
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def _same(one: Any, other: Any) -> None:
    if isinstance(other, dict):
        _same(list(dict(one)), list(other))
        _same(list(dict(one).values()), list(other.values()))
    elif isinstance(other, (list, np.ndarray)):
        for a, b in zip(one, other, strict=True):
            _same(a, b)
    elif other is None or other != other:
        assert one is None or one != one
    else:
        assert one == (pytest.approx(other, rel=1e-5, abs=1e-5) if isinstance(other, float) else other)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_and_refusals_are_those_of_the_endpoint(kind: str, models: Models, tmp_path: Path) -> None:
    predictor, data = models(kind)
    bulk, out = Bulk(predictor.contract.task, data, tmp_path / "out"), tmp_path / "out"
    bulk.answer()
    answered, refused = bulk.finish()
    found = _answers(out)
    assert len(found) == answered > 2 * len(refused) > 0 and len(list(out.glob("part-*.parquet"))) > 2
    assert sorted([*found["row"], *refused["row"]]) == list(range(1, len(found) + len(refused) + 1))
    kept = bulk._log.asked  # what the last part logged
    predictor.log = None
    one_by_one = [predictor.predict(None, pd.DataFrame([row])).iloc[0] for row in _rows(predictor, data, found[::9])]
    for (_, one), other in zip(found[::9].iterrows(), one_by_one, strict=True):
        assert set(other.index) == set(found) - {"row", "sample_id", "cell_line_id", "drug_id"}
        for name in other.index:
            _same(one[name], other[name])
    for row, reason in zip(_rows(predictor, data, refused), refused["reason"], strict=True):
        with pytest.raises(UserError) as caught:
            predictor.contract.read(pd.DataFrame([row]))
        assert _AT.sub("", str(caught.value)) == _AT.sub("", f"row 0, {reason}")
    written = pd.read_csv(out / "refused.csv", encoding="utf-8-sig")
    assert written[["row", "reason"]].to_dict() == refused.reset_index(drop=True)[["row", "reason"]].to_dict()
    logged = read_log(out, predictor.contract.task, "3", least=1).rows
    hashed = [salted_sha256(b"salt", name.encode()) for name in found["sample_id"]]
    assert sorted(logged["sample_sha256"]) == sorted(hashed)
    assert kept and logged["row_sha256"].isin(kept[-1].identities).any()
    described = predictor.contract.describe(predictor.contract.read(pd.DataFrame(_rows(predictor, data, found[:1]))))
    assert {f"input_{name}" for name in described} <= set(logged)


def test_a_run_that_was_killed_goes_on_and_leaves_what_an_unbroken_one_does(models: Models, tmp_path: Path) -> None:
    _, data = models(KINDS[0])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    Bulk(PROFILES, data, whole).answer()
    unbroken = Bulk(PROFILES, data, whole).finish()
    if (child := os.fork()) == 0:
        written, write_table = [0], pyarrow.parquet.write_table

        def dying(*given: Any, **more: Any) -> None:
            write_table(*given, **more)
            written[0] += 1
            if written[0] == 4:  # the second part is written, after its log, and does not have its name yet
                os.kill(os.getpid(), signal.SIGKILL)

        pyarrow.parquet.write_table = dying
        try:
            Bulk(PROFILES, data, broken).answer()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    first = {path.name: path.stat().st_mtime_ns for path in broken.glob("part-*.parquet")}
    assert list(first) == ["part-00000.parquet"]
    Bulk(PROFILES, data, broken).answer(lambda number: number % 2 == 0)  # as workers of a cluster do
    Bulk(PROFILES, data, broken).answer(lambda number: number % 2 == 1)
    count, refused = Bulk(PROFILES, data, broken).finish()
    assert count == unbroken[0]
    pd.testing.assert_frame_equal(refused, unbroken[1])
    pd.testing.assert_frame_equal(_answers(broken), _answers(whole))
    assert (broken / "part-00000.parquet").stat().st_mtime_ns == first["part-00000.parquet"]
    logs = [read_log(out, PROFILES, "3", least=1).rows.drop(columns=["time", "request_id"]) for out in (whole, broken)]
    one, other = (log.sort_values("row_sha256", ignore_index=True) for log in logs)
    pd.testing.assert_frame_equal(one, other)


def test_answers_of_another_model_or_other_data_are_refused(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, made = models(KINDS[0])
    data, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(made, data)
    Bulk(PROFILES, data, out).answer()
    monkeypatch.setattr(predictor, "files_sha256", "of another model")
    with pytest.raises(UserError, match="answers of another model; name another folder"):
        Bulk(PROFILES, data, out)
    monkeypatch.undo()
    models(KINDS[0])
    monkeypatch.setattr(run, "closure", lambda *entries, **names: {"serving/bulk/run.py": "0" * 64})
    pd.read_parquet(data / "expression.parquet")[1:].to_parquet(data / "expression.parquet", index=False)
    with pytest.raises(UserError, match="answers of another data and another code"):
        Bulk(PROFILES, data, out)
    (out / "manifest.json").unlink()
    with pytest.raises(UserError, match="answers of another model"):
        Bulk(PROFILES, data, out)


TABLES = {
    "a row a gene, with decimal commas": lambda table: table.set_index("sample_id").T.to_csv(sep=";", decimal=","),
    "a row a sample": lambda table: table.to_csv(index=False),
}


@pytest.mark.parametrize("write", TABLES.values(), ids=TABLES)
def test_tables_that_people_bring_are_read_as_the_raw_format_and_a_bad_row_costs_no_other(
    write: Callable[[pd.DataFrame], str], models: Models, tmp_path: Path
) -> None:
    _, made = models(KINDS[0])
    table = pd.read_parquet(made / "expression.parquet").drop(columns=["UNKNOWN", "label"])
    Bulk(PROFILES, made, tmp_path / "raw").answer()
    expected = _answers(tmp_path / "raw").set_index("sample_id").drop(index=["P3", "P9"])
    table = table.astype(object)
    table.loc[3, "GENE0"], table.loc[9, "sample_id"] = "high", "P8"
    path = tmp_path / "mine.csv"
    path.write_text(write(table))
    Bulk(PROFILES, path, tmp_path / "out").answer()
    _, refused = Bulk(PROFILES, path, tmp_path / "out").finish()
    assert refused["row"].tolist() == [4, 6, 10]
    reasons = refused["reason"].tolist()
    assert "“high” is not a number" in reasons[0] and "P8 is a duplicate" in reasons[2]
    found = _answers(tmp_path / "out").set_index("sample_id")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)


def test_duplicates_in_different_blocks_of_a_stream_are_found(models: Models, tmp_path: Path) -> None:
    _, made = models(KINDS[0])
    table = pd.read_parquet(made / "expression.parquet").replace({"sample_id": {"P9": "P0"}})
    table.to_parquet(tmp_path / "mine.parquet", index=False, row_group_size=3)
    bulk = Bulk(PROFILES, tmp_path / "mine.parquet", tmp_path / "out")
    bulk.answer()
    assert bulk.finish()[1][["row", "sample_id"]].to_numpy().tolist() == [[6, "P5"], [10, "P0"]]
    assert _answers(tmp_path / "out")["row"].tolist() == [1, 2, 3, 4, 5, 7, 8, 9, 11]


def test_a_table_of_pairs_is_answered_row_by_row(models: Models, tmp_path: Path) -> None:
    _, made = models("pairs regression")
    Bulk(NAME, made, tmp_path / "all").answer()
    every = _answers(tmp_path / "all")
    data = tmp_path / "data"
    shutil.copytree(made, data)
    asked = every.sample(60, random_state=0)[["cell_line_id", "drug_id"]]
    more = pd.DataFrame(
        {"cell_line_id": ["nowhere", None, *asked["cell_line_id"][:2]], "drug_id": ["new", "new", "x", None]}
    )
    asked = pd.concat([asked, more], ignore_index=True)
    asked.assign(study="mine").to_csv(data / "response.csv", index=False)
    bulk = Bulk(NAME, data, tmp_path / "out")
    bulk.answer()
    refused = bulk.finish()[1]
    assert refused["row"].tolist() == [61, 62, 63, 64]
    words = ["field expression: missing", "is empty", "none of the model's", "field smiles: missing"]
    assert all(word in reason for word, reason in zip(words, refused["reason"], strict=True)), refused[
        "reason"
    ].tolist()
    found = _answers(tmp_path / "out").sort_values("row", ignore_index=True)
    assert found["sample_id"].tolist() == (asked["cell_line_id"] + "|" + asked["drug_id"])[:60].tolist()
    expected = every.set_index("sample_id").loc[found["sample_id"], "prediction"]
    np.testing.assert_allclose(found["prediction"], expected, rtol=1e-6)


def test_the_command_says_what_was_answered_and_fails_where_nothing_was(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = models(KINDS[0])

    def command(data: Path, out: Path) -> int:
        argv = ["predict", "--task", PROFILES, "--data", str(data), "--out", str(out)]
        monkeypatch.setattr(sys, "argv", argv)
        return predict.main()

    assert command(made, tmp_path / "out") == 0
    assert "version 3 (logistic_regression): 10 answered, 1 refused" in capsys.readouterr().out
    with pytest.raises(UserError, match="lies in the data"):
        command(tmp_path, tmp_path / "out")
    table = pd.read_parquet(made / "expression.parquet")
    none = "no question was answered, 1 refused.*the first: field expression"
    for rows, message in ((slice(5, 6), none), (slice(0), "nothing to ask")):
        data = tmp_path / message[:9]
        data.mkdir()
        table[rows].to_parquet(data / "expression.parquet", index=False)
        with pytest.raises(UserError, match=message):
            command(data, tmp_path / "out" / message[:9])


@pytest.mark.soak  # Ray, its tasks and a worker take half a minute to start
def test_a_cluster_gives_the_same_parts(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason='the extra "ray" is not installed')
    from serving.bulk.spread import answer_on_cluster

    predictor, data = models(KINDS[0])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path))
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    register(PROFILES, predictor.contract, data.parent / "model", profiles_prepared(20)[1].samples.take(np.arange(2)))
    for out, cluster in (("one", False), ("many", True)):
        given = (PROFILES, data, tmp_path / out)
        bulk = Bulk(*given)
        answer_on_cluster("local", *given) if cluster else bulk.answer()
        assert bulk.finish()[0] == 10
    pd.testing.assert_frame_equal(_answers(tmp_path / "many"), _answers(tmp_path / "one"))
