"""Answers to all questions of a folder, in parts that are written whole and kept by a run that goes on.

They are those of the endpoint: the contract of the model reads and answers the same rows.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pyarrow.parquet
from mlflow.types import ColSpec, DataType
from mlflow.types.schema import Array, Map
from tqdm import tqdm

from evaluation.promotion.scoring import model_files, read_predictor
from pipelines.code_closure import closure
from pipelines.environment import IMAGE_PIXELS
from pipelines.errors import UserError
from pipelines.file_hashes import HASHES_FILE, combined
from pipelines.files import read_json, write_json, written_whole
from pipelines.params import read_params, read_task
from serving.bulk import Part, questions_class
from serving.dashboard.data.tables import csv_of
from training.model.prediction_log import Asked, log_table, salt_from_environment, salted_sha256
from training.model.track import signature

MANIFEST, REFUSED = "manifest.json", "refused.csv"
_TYPES = {DataType.double: pyarrow.float64(), DataType.string: pyarrow.string(), DataType.boolean: pyarrow.bool_()}
_HASHED_AT_ONCE = 500  # rows, whose identities hold their values
_KEY, _LEFT = b"oncolineage.answers_of", b"oncolineage.refused"  # metadata of a part
_SAME = {"model": "another model", "data": "other data", "code": "other code"}


class Bulk:
    """The answers of the model ``uri`` to the questions in ``data``, below ``out``."""

    def __init__(self, task: str, data: Path, out: Path, uri: str) -> None:
        params = read_params()
        params.task(task)
        os.environ.setdefault(IMAGE_PIXELS, str(params.policy.serve.image_pixels))  # as the endpoint does
        if not data.exists():
            raise UserError(f"{data}: there is no such folder or table")
        if out.resolve().is_relative_to(data.resolve()):
            raise UserError(f"OUT={out} lies in the data; name another folder")
        folder, version = model_files(uri or f"models:/{task}@production", served=True)
        self.model, self.out = read_predictor(folder, version), out
        contract = self.model.contract
        if contract.task != task:
            raise UserError(f"{uri} is a model of {contract.task}, not of {task}")
        self.questions = questions_class(contract.modality)(data, contract)
        if not self.questions.total:
            raise UserError(f"{data}: there is nothing to ask")
        self.count = -(-self.questions.total // self.questions.size)
        own = {"task": read_task(contract.task_text), "architectures": [contract.architecture, contract.baseline]}
        self.manifest = {
            "task": task,
            "model": f"{self.model.version} {_sha256(folder / HASHES_FILE)}",
            "data": combined({path.relative_to(data).as_posix(): _sha256(path) for path in self.questions.files()}),
            "code": combined(closure(__name__, **own)),
            "questions": self.questions.total,
            "parts": self.count,
        }
        self._key = hashlib.sha256(json.dumps(self.manifest).encode()).hexdigest().encode()
        self._salt = salt_from_environment()
        self._schema = _schema(self.questions.ids, signature(contract).outputs.inputs)

    def begin(self) -> list[int]:
        """Return the numbers of the parts that are missing; refuse a folder with other answers."""
        place = self.out / MANIFEST
        if place.is_file():
            there = read_json(place)
            for name, what in _SAME.items():
                if there.get(name) != self.manifest[name]:
                    raise UserError(f"{self.out} has answers of {what}; name another folder, or remove it")
        missing = [number for number in range(self.count) if self._metadata(number) is None]
        write_json(place, self.manifest)
        return missing

    def answer(self, numbers: Sequence[int]) -> None:
        """Write these parts; ``numbers`` ascend."""
        parts = self.questions.parts(numbers)
        for number, part in zip(numbers, tqdm(parts, total=len(numbers), unit="part", disable=None), strict=True):
            self._write(number, part)

    def finish(self) -> tuple[int, pd.DataFrame]:
        """Write the list of refused rows; return the number of answers and the list."""
        columns = ["row", *self.questions.ids, "reason"]
        parts = [self._metadata(number) or {} for number in range(self.count)]
        rows = [row for part in parts for row in json.loads(part[_LEFT])]
        refused = pd.DataFrame(rows, columns=columns).sort_values("row", kind="stable")
        with written_whole(self.out / REFUSED) as temporary:
            temporary.write_bytes(csv_of(refused))
        return self.questions.total - len(refused), refused

    def _metadata(self, number: int) -> Mapping[bytes, bytes] | None:
        """Return the metadata of a part; None if it is not there."""
        path = self._path(number)
        if not path.is_file():
            return None
        try:
            found: Mapping[bytes, bytes] = pyarrow.parquet.read_schema(path).metadata or {}
        except (OSError, pyarrow.ArrowException) as error:
            raise UserError(f"{path} cannot be read ({error}); remove it") from error
        if found.get(_KEY) != self._key:
            raise UserError(f"{path} is no part of these answers; name another folder, or remove it")
        return found

    def _path(self, number: int, folder: str = "") -> Path:
        return self.out / folder / f"part-{number:05d}.parquet"

    def _write(self, number: int, part: Part) -> None:
        """Write a part and before it its rows of the prediction log: a part that is there is complete."""
        answers = part.asked.reindex(columns=self._schema.names)
        if part.samples is not None:
            described = self.model.contract.describe(part.samples)
            answer = self.model.answer(part.samples, described)
            with written_whole(self._path(number, self.model.contract.task)) as temporary:
                self._log(number, part, answer, described).to_parquet(temporary, index=False)
            answers = pd.concat([part.asked, answer], axis=1).reindex(columns=self._schema.names)
        refused = json.dumps(part.refused.to_numpy(object).tolist())
        table = pyarrow.Table.from_pandas(answers, self._schema, preserve_index=False)
        with written_whole(self._path(number)) as temporary:
            pyarrow.parquet.write_table(table.replace_schema_metadata({_KEY: self._key, _LEFT: refused}), temporary)

    def _log(self, number: int, part: Part, answer: pd.DataFrame, described: pd.DataFrame) -> pd.DataFrame:
        identities: list[str] = []
        for start in range(0, len(answer), _HASHED_AT_ONCE):
            some = part.samples.take(np.arange(start, min(start + _HASHED_AT_ONCE, len(answer))))
            identities += [salted_sha256(self._salt, each) for each in self.model.contract.identities(some)]
        names: list[str | None] = [salted_sha256(self._salt, name.encode()) for name in part.asked["sample_id"]]
        request = f"{self._key[:16].decode()}-{number:05d}"
        return log_table([Asked(datetime.now(UTC), request, identities, names, answer, described)])


def _schema(ids: Sequence[str], columns: Sequence[ColSpec]) -> pyarrow.Schema:
    """Return the columns of all parts, which must not depend on what a part happens to hold."""

    def type_of(kind: Any) -> pyarrow.DataType:
        if isinstance(kind, Map):
            return pyarrow.map_(pyarrow.string(), type_of(kind.value_type))
        return pyarrow.list_(type_of(kind.dtype)) if isinstance(kind, Array) else _TYPES[kind]

    named = [(name, pyarrow.string()) for name in ids]
    answered = [(column.name, type_of(column.type)) for column in columns if column.required]
    return pyarrow.schema([("row", pyarrow.int64()), *named, *answered])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
