"""Answers of a model to all questions of a folder, in parts that are written whole and kept by a run that goes on."""

import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
from mlflow.exceptions import MlflowException
from mlflow.types import DataType
from mlflow.types.schema import Array, Map
from tqdm import tqdm

from evaluation.promotion.scoring import load
from pipelines.code_closure import closure
from pipelines.environment import IMAGE_PIXELS
from pipelines.errors import UserError
from pipelines.file_hashes import combined, file_hashes
from pipelines.files import jsonable, read_json, write_json, written_whole
from pipelines.params import read_params, read_task
from serving.bulk import Part, Wanted, parts_of, refusals
from serving.dashboard.data.tables import csv_of
from training.contract import Contract
from training.model.prediction_log import Asked, PredictionLog, log_table, salt_from_environment, salted_sha256
from training.model.predictor import SAMPLE_ID, Predictor
from training.model.track import signature

MANIFEST, REFUSED = "manifest.json", "refused.csv"
_LEFT = b"oncolineage.refused"  # metadata of a part
_TYPES = {DataType.double: pyarrow.float64(), DataType.string: pyarrow.string(), DataType.boolean: pyarrow.bool_()}


class Bulk:
    """The answers of the model ``uri``, by default that in production, to the questions in ``data``, below ``out``."""

    def __init__(self, task: str, data: Path, out: Path, uri: str = "") -> None:
        params = read_params()
        params.task(task)
        if not data.exists():
            raise UserError(f"{data}: there is no such folder or table")
        if out.resolve().is_relative_to(data.resolve()):
            raise UserError(f"OUT={out} lies in the data; name another folder")
        os.environ.setdefault(IMAGE_PIXELS, str(params.policy.serve.image_pixels))  # as the endpoint does
        self.model = load(uri or f"models:/{task}@production", served=True)
        self._contract, self._data, self._out = self.model.contract, data, out
        if self._contract.task != task:
            raise UserError(f"{uri} is a model of {self._contract.task}, not of {task}")
        self._log = self.model.log = _PartLog()
        self._keep_to_manifest()

    def _keep_to_manifest(self) -> None:
        """Refuse a folder with answers of another model, data or code."""
        if self._data.is_dir():
            data = combined(file_hashes(self._data))
        else:
            data = hashlib.sha256(self._data.read_bytes()).hexdigest()
        own = {"task": read_task(self._contract.task_text)}
        code = closure(__name__, architectures=[self._contract.architecture, self._contract.baseline], **own)
        manifest = {"model": f"{self._contract.task} {self.model.version} {self.model.files_sha256}"}
        manifest |= {"data": data, "code": combined(code)}
        path = self._out / MANIFEST
        there = read_json(path) if path.is_file() else dict.fromkeys(manifest if self._parts() else ())
        if other := [name for name in there if there[name] != manifest.get(name)]:
            what = f"answers of another {' and another '.join(other)}"
            raise UserError(f"{self._out} has {what}; name another folder, or remove it")
        write_json(path, manifest)

    def answer(self, wanted: Wanted = lambda number: True) -> None:
        """Write the parts that are ``wanted`` and not there."""

        def missing(number: int) -> bool:
            return wanted(number) and not self._part(number).is_file()

        for number, part in tqdm(parts_of(self._data, self._contract, missing), unit="part", disable=None):
            self._write(number, part)

    def finish(self) -> tuple[int, pd.DataFrame]:
        """Write the list of refused rows; return the number of answers, and the list."""
        parts = [pyarrow.parquet.read_metadata(path) for path in self._parts()]
        if not parts:
            raise UserError(f"{self._data}: there is nothing to ask")
        rows = [row for part in parts for row in json.loads(part.metadata[_LEFT])]
        ids = [name for name in parts[0].schema.names if name.endswith("_id")]
        refused = pd.DataFrame(rows, columns=["row", *ids, "reason"]).sort_values("row", kind="stable")
        with written_whole(self._out / REFUSED) as temporary:
            temporary.write_bytes(csv_of(refused))
        return sum(part.num_rows for part in parts), refused

    def _parts(self) -> list[Path]:
        return sorted(self._out.glob("part-*.parquet"))

    def _part(self, number: int, folder: str = "") -> Path:
        return self._out / folder / f"part-{number:05d}.parquet"

    def _write(self, number: int, part: Part) -> None:
        """Write a part, and before it its rows of the prediction log: a part that is there is complete."""
        self._log.asked.clear()
        frame = part.frame.assign(**{SAMPLE_ID: part.about[SAMPLE_ID]})
        answers, reasons = ask(self.model, frame) if len(frame) else (pd.DataFrame(), {})
        refused = [*part.refused, *((*part.about.iloc[at].tolist(), why) for at, why in reasons.items())]
        if self._log.asked:
            with written_whole(self._part(number, self._contract.task)) as temporary:
                log_table(self._log.asked).to_parquet(temporary, index=False)
        schema = _schema(part.about.columns, self._contract).with_metadata({_LEFT: json.dumps(jsonable(refused))})
        about = part.about.drop(index=list(reasons)).reset_index(drop=True)
        table = schema.empty_table()
        if len(about):
            table = pyarrow.Table.from_pandas(pd.concat([about, answers], axis=1), schema, preserve_index=False)
        with written_whole(self._part(number)) as temporary:
            pyarrow.parquet.write_table(table, temporary)


class _PartLog(PredictionLog):
    """Keeps the rows of a part until they are written."""

    def __init__(self) -> None:
        self.salt, self.asked = salt_from_environment(), list[Asked]()

    def write(self, identities: Sequence[bytes], names: Sequence[Any] | None, answer: Any, described: Any) -> None:
        """Keep a request."""
        rows = [salted_sha256(self.salt, each) for each in identities]
        samples: list[str | None] = [salted_sha256(self.salt, name.encode()) for name in names or ()]
        self.asked.append(Asked(datetime.now(UTC), uuid.uuid4().hex, rows, samples, answer, described))


def ask(model: Predictor, frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[int, str]]:
    """Return the answers to a request without the rows that the model refuses, and why it refuses them, by place."""
    try:
        return model.predict(None, frame), {}
    except MlflowException as error:
        reasons = refusals(model.contract, frame.drop(columns=SAMPLE_ID))
        if error.get_http_status_code() >= 500 or (len(frame) == 1 and not reasons):
            raise
    left = frame.drop(index=list(reasons)).reset_index(drop=True)
    half = 0 if reasons else len(left) // 2  # rows may contradict one another, or be too large together
    halves = [each.reset_index(drop=True) for each in (left[:half], left[half:]) if len(each)]
    return pd.concat([pd.DataFrame(), *(ask(model, each)[0] for each in halves)], ignore_index=True), reasons


def _schema(ids: Iterable[str], contract: Contract) -> pyarrow.Schema:
    """Return the columns of all parts, which must not depend on what a part happens to hold."""

    def type_of(kind: Any) -> pyarrow.DataType:
        if isinstance(kind, Map):
            return pyarrow.map_(pyarrow.string(), type_of(kind.value_type))
        return pyarrow.list_(type_of(kind.dtype)) if isinstance(kind, Array) else _TYPES[kind]

    named = [(name, pyarrow.int64() if name == "row" else pyarrow.string()) for name in ids]
    answered = [column for column in signature(contract).outputs.inputs if column.required]
    return pyarrow.schema([*named, *((column.name, type_of(column.type)) for column in answered)])
