"""Bulk answers must be those of the endpoint, whatever else lies in the folder and however often a run breaks off."""

import base64
import hashlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from pipelines.environment import IMAGE_PIXELS, LOG_SALT
from pipelines.errors import UserError
from serving import predict
from serving.bulk import images, pairs, profiles, run
from serving.bulk.run import ANSWERS, Bulk
from serving.drift.watch import read_log
from tests.empty_store import empty_store
from tests.serving.served import IMAGES, PROFILES, images_prepared, profiles_prepared, register, save_fitted, split
from tests.training.image_samples import write_folder
from tests.training.survival_samples import follow_up_samples, real_task
from tests.training.tiny import NAME, ROOT, response_task, tiny_params, tiny_prepared
from training.model.prediction_log import salted_sha256
from training.model.predictor import Predictor

SURVIVAL = "breast_survival"
KINDS = ["profiles classification", "profiles survival", "images classification", "pairs regression"]
_AT = re.compile(" at 0x[0-9a-f]+")  # of a buffer, in a message of Pillow
Models = Callable[[str], tuple[Predictor, Path]]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes = ((profiles, "_ROWS", 4), (images, "_ROWS", 3), (pairs, "_ROWS", 40), (pairs, "_LINES", 7))
    for module, name, size in sizes:
        monkeypatch.setattr(module, name, size)
    monkeypatch.setenv(LOG_SALT, "salt")
    monkeypatch.setenv(IMAGE_PIXELS, "1000000")
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
        save_fitted(NAME, "elastic_net", task, prepared, model)
        (data / "response.parquet").unlink()
        copies = pd.read_parquet(data / "copy_number.parquet")
        copies.iloc[3, 2] = np.nan  # the line is asked about without its copy numbers
        copies.to_parquet(data / "copy_number.parquet", index=False)
        drugs = pd.read_csv(data / "drugs.csv", dtype=str)
        new = pd.DataFrame({"drug_id": ["new", "bad"], "smiles": ["CCO", "C(("]})
        pd.concat([drugs[:4], new]).to_csv(data / "drugs.csv", index=False)
    else:
        if kind.endswith("survival"):
            task = real_task()
            task = replace(task, data=replace(task.data, horizons=(40.0, 80.0), horizon=80.0))
            save_fitted(SURVIVAL, "cox_net", task, split(follow_up_samples(120)), model)
            unseen = follow_up_samples(11, seed=3)
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
def made(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return cache(lambda kind: _made(kind, tmp_path_factory.mktemp("made")))


@pytest.fixture
def models(made: Models, monkeypatch: pytest.MonkeyPatch) -> Models:
    """Return a function that gives model and data of a kind, and serves the model."""

    def of(kind: str) -> tuple[Predictor, Path]:
        monkeypatch.setattr(run, "load", lambda uri, served: made(kind)[0] if served else None)
        return made(kind)

    return of


def _rows(predictor: Predictor, data: Path, asked: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Return the requests about questions, from the files."""
    contract: Any = predictor.contract
    if contract.modality == "images":
        files = [(data / "images" / name).read_bytes() for name in asked["sample_id"]]
        yield from ({"image": base64.b64encode(content).decode()} for content in files)
    elif contract.modality == "profiles":
        table = pd.read_parquet(data / "expression.parquet").drop(columns=["sample_id", "label"]).astype(float)
        table = table.astype(object).where(table.notna(), None)
        yield from ({"expression": dict(table.loc[row - 1])} for row in asked["row"])
    else:
        tables = {omics: pd.read_parquet(data / f"{omics}.parquet") for omics in contract.features}
        maps = {omics: table.set_index("cell_line_id").astype(float) for omics, table in tables.items()}
        tissue = pd.read_csv(data / "cell_lines.csv").set_index("cell_line_id")["tissue"]
        smiles = pd.read_csv(data / "drugs.csv").set_index("drug_id")["smiles"]
        for line, drug in zip(asked["cell_line_id"], asked["drug_id"], strict=True):
            said = {"tissue": tissue[line], "smiles": smiles[drug]}
            said = {name: value if isinstance(value, str) else None for name, value in said.items()}
            omics = {name: dict(table.loc[line]) for name, table in maps.items() if line in table.dropna().index}
            yield {**dict.fromkeys(maps), **omics, **said, "drug_id": drug}


def _answers(out: Path) -> pd.DataFrame:
    paths = sorted((out / ANSWERS).glob("part-*.parquet"))
    assert len({pyarrow.parquet.read_schema(path).remove_metadata().to_string() for path in paths}) == 1
    return pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)


def _asked(*given: Any) -> tuple[int, pd.DataFrame]:
    bulk = Bulk(*given)
    return bulk.finish(bulk.answer())


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
    answered, refused = bulk.finish(bulk.answer())
    found = _answers(out)
    assert len(found) == answered > 2 * len(refused) > 0 and len(list((out / ANSWERS).glob("part-*.parquet"))) > 2
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
    unbroken = _asked(PROFILES, data, whole)
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
    first = {path.name: path.stat().st_mtime_ns for path in (broken / ANSWERS).glob("part-*.parquet")}
    assert list(first) == ["part-00000.parquet"]
    Bulk(PROFILES, data, broken).answer(lambda number: number % 2 == 0)  # as workers of a cluster do
    Bulk(PROFILES, data, broken).answer(lambda number: number % 2 == 1)
    count, refused = Bulk(PROFILES, data, broken).finish(3)
    assert count == unbroken[0]
    pd.testing.assert_frame_equal(refused, unbroken[1])
    pd.testing.assert_frame_equal(_answers(broken), _answers(whole))
    assert (broken / ANSWERS / "part-00000.parquet").stat().st_mtime_ns == first["part-00000.parquet"]
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
    for name, what in ((IMAGE_PIXELS, "limit of pixels"), (LOG_SALT, "salt")):
        with monkeypatch.context() as patched, pytest.raises(UserError, match=f"answers of another {what}; name"):
            patched.setenv(name, "1000")
            Bulk(PROFILES, data, out)
    part = out / ANSWERS / "part-00001.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:300])
    with pytest.raises(UserError, match=r"part-00001\.parquet cannot be read as a part of answers"):
        Bulk(PROFILES, data, out)
    part.write_bytes(content)
    monkeypatch.setattr(predictor, "files_sha256", "of another model")
    with pytest.raises(UserError, match="answers of another model; name another folder"):
        Bulk(PROFILES, data, out)
    monkeypatch.undo()
    models(KINDS[0])
    monkeypatch.setattr(run, "closure", lambda *entries, **names: {"serving/bulk/run.py": "0" * 64})
    pd.read_parquet(data / "expression.parquet")[1:].to_parquet(data / "expression.parquet", index=False)
    with pytest.raises(UserError, match="answers of another data and another code"):
        Bulk(PROFILES, data, out)


def test_runs_of_two_models_do_not_mix_and_a_part_or_log_that_is_not_there_is_missed(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, data = models(KINDS[0])
    one = Bulk(PROFILES, data, tmp_path / "out")
    with monkeypatch.context() as patched:
        patched.setattr(predictor, "version", "4")
        other = Bulk(PROFILES, data, tmp_path / "out")
    predictor.log = one._log
    count = one.answer(lambda number: number == 1)
    with pytest.raises(UserError, match="answers of another model"):
        other.answer()
    (tmp_path / "out" / ANSWERS / "part-00000.parquet").unlink()
    with pytest.raises(UserError, match=r"2 of 3 parts are not in .*such as part-00000\.parquet; run the same"):
        one.finish(count)
    for log in (tmp_path / "out" / PROFILES).glob("*"):
        log.unlink()
    assert _asked(PROFILES, data, tmp_path / "out")[0] == 10
    assert len(read_log(tmp_path / "out", PROFILES, "3", least=1).rows) == 10


def test_a_run_without_a_salt_goes_on_with_that_of_its_folder_and_writes_a_lost_log_again(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, made = models(KINDS[0])
    monkeypatch.delenv(LOG_SALT)
    table = pd.read_parquet(made / "expression.parquet")
    table.iloc[8:, 1:] = table.iloc[:3, 1:].to_numpy()
    table.to_parquet(tmp_path / "mine.parquet", index=False)
    out = tmp_path / "out"
    Bulk(PROFILES, tmp_path / "mine.parquet", out).answer(lambda number: number != 1)
    Bulk(PROFILES, tmp_path / "mine.parquet", out).answer(lambda number: number == 1)
    (out / PROFILES / "part-00000.parquet").unlink()
    assert _asked(PROFILES, tmp_path / "mine.parquet", out)[0] == 10
    assert read_log(out, PROFILES, "3", least=1).rows["row_sha256"].nunique() == 7
    assert (out / ".salt").stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv(LOG_SALT, "another")
    with pytest.raises(UserError, match="answers of another salt"):
        Bulk(PROFILES, tmp_path / "mine.parquet", out)


def test_a_table_with_a_row_a_gene_is_read_as_the_raw_format_and_a_bad_row_costs_no_other(
    models: Models, tmp_path: Path
) -> None:
    _, made = models(KINDS[0])
    table = pd.read_parquet(made / "expression.parquet").drop(columns=["UNKNOWN", "label"])
    Bulk(PROFILES, made, tmp_path / "raw").answer()
    expected = _answers(tmp_path / "raw").set_index("sample_id").drop(index="P3").drop(columns="ignored")
    table = table.astype(object)
    table.loc[3, "GENE0"] = "high"
    path = tmp_path / "mine.csv"
    table.set_index("sample_id").T.to_csv(path, sep=";", decimal=",")
    refused = _asked(PROFILES, path, tmp_path / "out")[1]
    assert refused["row"].tolist() == [4, 6]
    assert refused["reason"].iloc[0] == "field expression.GENE0: must be a number, it is str"
    found = _answers(tmp_path / "out").set_index("sample_id").drop(columns="ignored")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-4)


@pytest.mark.parametrize("text", [False, True])
def test_profiles_without_a_name_or_with_that_of_another_are_answered_as_the_endpoint_does(
    text: bool, models: Models, tmp_path: Path
) -> None:
    predictor, made = models(KINDS[0])
    table = pd.read_parquet(made / "expression.parquet")
    table["sample_id"] = [*table["sample_id"][:8], None, "P0", "P10"]
    if text:
        table.to_csv(tmp_path / "mine.csv", index=False)
    else:
        table.to_parquet(tmp_path / "mine.parquet", index=False, row_group_size=3)
    refused = _asked(PROFILES, next(tmp_path.glob("mine.*")), tmp_path / "out")[1]
    assert refused[["row", "sample_id"]].to_numpy().tolist() == [[6, "P5"]]
    found = _answers(tmp_path / "out")
    assert found["sample_id"].fillna("").tolist() == ["P0", "P1", "P2", "P3", "P4", "P6", "P7", "", "P0", "P10"]
    for (_, one), row in zip(found.iterrows(), _rows(predictor, made, found), strict=True):
        _same(one["probabilities"], predictor.predict(None, pd.DataFrame([row]))["probabilities"][0])


def test_an_image_that_the_model_fails_on_is_refused_and_one_whose_name_is_no_utf_8_answered(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, made = models("images classification")
    data = tmp_path / "data"
    shutil.copytree(made, data)
    first, second, *_ = sorted((data / "images").rglob("*.png"))
    second.rename(os.fsdecode(os.fsencode(second.parent) + b"/caf\xe9.png"))
    estimator, digest = predictor.estimator, hashlib.sha256(first.read_bytes()).hexdigest()
    outputs = estimator.outputs_embedded

    def failing(samples: Any) -> Any:
        if digest in set(samples.table["digest"].iloc[samples.index]):
            raise ValueError("a fault of the model")
        return outputs(samples)

    monkeypatch.setattr(estimator, "outputs_embedded", failing)
    refused = _asked(IMAGES, data, tmp_path / "out")[1].set_index("sample_id")["reason"]
    assert refused[first.relative_to(data / "images").as_posix()] == "the model failed: ValueError"
    assert len(refused) == 2 and _answers(tmp_path / "out")["sample_id"].str.endswith("caf\\xe9.png").sum() == 1
    monkeypatch.setattr(estimator, "outputs_embedded", None)
    with pytest.raises(UserError, match="part 0: the model failed: TypeError on each of its"):
        Bulk(IMAGES, data, tmp_path / "none").answer()


@pytest.mark.parametrize("fault", ["line twice", "line without a name", "below 0 as float64", "empty table"])
def test_lines_that_are_not_certain_or_refused_by_the_endpoint_are_refused(
    fault: str, models: Models, tmp_path: Path
) -> None:
    _, made = models("pairs regression")
    data = tmp_path / "data"
    shutil.copytree(made, data)
    lines, path = pd.read_csv(data / "cell_lines.csv", dtype=str), data / "expression.parquet"
    omics = pd.read_parquet(path)
    line = lines["cell_line_id"][2]
    if fault == "line twice":
        pd.concat([lines, lines[2:3].assign(tissue="skin")]).to_csv(data / "cell_lines.csv", index=False)
        reason = "cell_line_id is a duplicate in cell_lines; keep one"
    elif fault == "line without a name":
        more = omics[:2].assign(cell_line_id=pd.Series([None, "NA"], dtype=object))
        pd.concat([omics, more]).to_parquet(path, index=False)
        line, reason = f"expression.parquet, row {len(omics) + 1}", "cell_line_id is missing"
    elif fault == "empty table":
        omics[:0].to_parquet(path, index=False)
        reason = "the field expression is missing; every row needs it"
    else:
        values = omics.drop(columns="cell_line_id").astype(np.float64)
        values.loc[omics["cell_line_id"] == line, values.columns[1]] = -1e-50
        values.assign(cell_line_id=omics["cell_line_id"]).to_parquet(path, index=False)
        reason = f"field expression.{values.columns[1]}: is -1e-50; expression is log2"
    refused = _asked(NAME, data, tmp_path / "out")[1]
    own = refused[refused["cell_line_id"] == line]
    assert len(own) == 6 and own["reason"].str.startswith(reason).all(), refused["reason"].unique()
    assert (refused["cell_line_id"] == f"expression.parquet, row {len(omics) + 2}").sum() == 6 * ("name" in fault)


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
    refused = _asked(NAME, data, tmp_path / "out")[1]
    assert refused["row"].tolist() == [61, 62, 63, 64]
    words = ["field expression: missing", "cell_line_id is missing", "none of the model's", "field smiles: missing"]
    for word, reason in zip(words, refused["reason"], strict=True):
        assert word in reason
    found = _answers(tmp_path / "out").sort_values("row", ignore_index=True)
    assert found["sample_id"].tolist() == (asked["cell_line_id"] + "|" + asked["drug_id"])[:60].tolist()
    expected = every.set_index("sample_id").loc[found["sample_id"], "prediction"]
    np.testing.assert_allclose(found["prediction"], expected, rtol=1e-6)


def test_the_command_says_what_was_answered_and_fails_where_nothing_was(
    models: Models, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, made = models(KINDS[0])

    def command(data: Path, out: Path, *more: str) -> int:
        return predict.main(["--task", PROFILES, "--data", str(data), "--out", str(out), *more])

    assert command(made, tmp_path / "out") == 0
    assert "version 3 (logistic_regression): 10 answered, 1 refused" in capsys.readouterr().out
    with pytest.raises(UserError, match="lies in the data"):
        command(tmp_path, tmp_path / "out")
    for share in ("4/4", "-1/3", "3", "1/0"):  # which would leave parts without an answer
        with pytest.raises(SystemExit):
            command(made, tmp_path / "out", f"--share={share}")
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
    predictor, data = models(KINDS[0])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", empty_store(tmp_path))
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    register(PROFILES, predictor.contract, data.parent / "model", profiles_prepared(20)[1].samples.take(np.arange(2)))
    for out, more in (("one", []), ("many", ["--cluster", "local"])):
        predict.main(["--task", PROFILES, "--data", str(data), "--out", str(tmp_path / out), *more])
    pd.testing.assert_frame_equal(_answers(tmp_path / "many"), _answers(tmp_path / "one"))
