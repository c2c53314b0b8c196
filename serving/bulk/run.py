"""Answers of a model to all questions of a folder, in parts that are written whole and kept by a run that goes on."""

import contextlib
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.parquet
from mlflow.types import DataType
from mlflow.types.schema import Array, Map
from tqdm import tqdm

from evaluation.promotion.scoring import load
from pipelines.code_closure import closure
from pipelines.environment import IMAGE_PIXELS, LOG_SALT
from pipelines.errors import UserError
from pipelines.file_hashes import combined, file_hashes
from pipelines.files import jsonable, written_whole
from pipelines.params import read_params, read_task
from pipelines.special_files import refuse_special
from serving.bulk import FAILED, Part, bisected, parts_of
from serving.dashboard.data.tables import csv_of
from training.contract import Contract
from training.model.prediction_log import Asked, PredictionLog, log_table, salt_from_environment, salted_sha256
from training.model.predictor import SAMPLE_ID
from training.model.track import signature

ANSWERS, REFUSED = "answers", "refused.csv"
_LEFT, _RUN = b"oncolineage.refused", b"oncolineage.run"  # metadata of a part
_TYPES = {DataType.double: pyarrow.float64(), DataType.string: pyarrow.string(), DataType.boolean: pyarrow.bool_()}


class Bulk:
    """The answers of the model ``uri``, by default that in production, to the questions in ``data``, below ``out``."""

    def __init__(self, task: str, data: Path, out: Path, uri: str = "") -> None:
        params = read_params()
        params.task(task)
        if not data.exists():
            raise UserError(f"{data}: there is no such folder or table")
        refuse_special([data, *data.rglob("*")])
        if out.resolve().is_relative_to(data.resolve()):
            raise UserError(f"OUT={out} lies in the data; name another folder")
        os.environ.setdefault(IMAGE_PIXELS, str(params.policy.serve.image_pixels))  # as the endpoint does
        self.model = load(uri or f"models:/{task}@production", served=True)
        self._contract, self._data, self._out = self.model.contract, data, out
        if self._contract.task != task:
            raise UserError(f"{uri} is a model of {self._contract.task}, not of {task}")
        self._log = self.model.log = _PartLog(_salt(out))
        self._run = self._about_run()
        for path in (out / ANSWERS).glob("part-*.parquet"):
            self._read(path)

    def _about_run(self) -> dict[str, str]:
        """Return what each part tells of the run, by which parts of another model, data or code are known."""
        contract = self._contract
        used, task = [contract.architecture, contract.baseline], read_task(contract.task_text)
        return {
            "model": f"{contract.task} {self.model.version} {self.model.files_sha256}",
            "data": combined(file_hashes(self._data)),
            "code": combined(closure(__name__, architectures=used, task=task)),
            "limit of pixels": os.environ[IMAGE_PIXELS],
            "salt": salted_sha256(self._log.salt, b""),
        }

    def answer(self, wanted: Callable[[int], bool] = lambda number: True) -> int:
        """Write the parts that are ``wanted`` and not there; return how many there are in all."""
        count = 0
        for make in tqdm(parts_of(self._data, self._contract), unit="part", disable=None):
            if wanted(count) and not self._is_there(count):
                self._write(count, make())
            count += 1
        return count

    def finish(self, count: int) -> tuple[int, pd.DataFrame]:
        """Write the list of refused rows of so many parts, which must be there; return the number of answers too."""
        numbers = range(count)
        if not numbers:
            raise UserError(f"{self._data}: there is nothing to ask")
        if absent := [number for number in numbers if not self._is_there(number)]:
            what = f"{len(absent)} of {len(numbers)} parts are not in {self._out}, such as {self._part(absent[0]).name}"
            raise UserError(f"{what}; run the same command to go on, with an OUT that all nodes see")
        parts = [self._read(self._part(number)) for number in numbers]
        rows = [row for part in parts for row in json.loads(part.metadata[_LEFT])]
        ids = [name for name in parts[0].schema.names if name.endswith("_id")]
        refused = pd.DataFrame(rows, columns=["row", *ids, "reason"]).sort_values("row", kind="stable")
        with written_whole(self._out / REFUSED) as temporary:
            temporary.write_bytes(csv_of(refused))
        return sum(part.num_rows for part in parts), refused

    def _is_there(self, number: int) -> bool:
        """Whether a part is there, with its rows of the prediction log."""
        path, log = self._part(number), self._part(number, self._contract.task)
        return path.is_file() and (self._read(path).num_rows == 0 or log.is_file())

    def _read(self, path: Path) -> Any:
        """Return the metadata of a part; refuse one of another run."""
        try:
            found = pyarrow.parquet.read_metadata(path)
            there = json.loads(found.metadata[_RUN])
        except (OSError, ValueError, KeyError, TypeError, pyarrow.ArrowException) as error:
            raise UserError(f"{path} cannot be read as a part of answers; remove it, and run the same again") from error
        if there != self._run:
            other = " and another ".join(name for name in self._run if there.get(name) != self._run[name])
            raise UserError(f"{self._out} has answers of another {other}; name another folder, or remove it")
        return found

    def _part(self, number: int, folder: str = ANSWERS) -> Path:
        return self._out / folder / f"part-{number:05d}.parquet"

    def _write(self, number: int, part: Part) -> None:
        """Write a part, and before it its rows of the prediction log: a part that is there is complete."""
        self._log.asked.clear()
        frame = part.frame.assign(**{SAMPLE_ID: part.about[SAMPLE_ID]})
        answers, reasons = bisected(lambda some: self.model.predict(None, some), frame)
        if len(reasons) == len(frame) > 1 and all(why.startswith(FAILED) for why in reasons.values()):
            raise UserError(f"part {number}: {reasons[0]} on each of its {len(frame)} rows")
        refused = [*part.refused, *((*part.about.iloc[at].tolist(), why) for at, why in reasons.items())]
        if self._log.asked:
            with written_whole(self._part(number, self._contract.task)) as temporary:
                log_table(self._log.asked).to_parquet(temporary, index=False)
        said = {_LEFT: json.dumps(jsonable(refused)), _RUN: json.dumps(self._run)}
        schema = _schema(part.about.columns, self._contract).with_metadata(said)
        about = part.about.drop(index=list(reasons)).reset_index(drop=True)
        table = schema.empty_table()
        if answers:
            answered = pd.concat([about, pd.concat(answers, ignore_index=True)], axis=1)
            table = pyarrow.Table.from_pandas(answered, schema, preserve_index=False)
        with written_whole(self._part(number)) as temporary:
            pyarrow.parquet.write_table(table, temporary)


class _PartLog(PredictionLog):
    """Keeps the rows of a part until they are written."""

    def __init__(self, salt: bytes) -> None:
        self.salt, self.asked = salt, list[Asked]()

    def write(self, identities: Sequence[bytes], names: Sequence[Any] | None, answer: Any, described: Any) -> None:
        """Keep a request."""
        rows = [salted_sha256(self.salt, each) for each in identities]
        samples = [None if name is None else salted_sha256(self.salt, name.encode()) for name in names or ()]
        self.asked.append(Asked(datetime.now(UTC), uuid.uuid4().hex, rows, samples, answer, described))


def _salt(out: Path) -> bytes:
    """Return the key of the log's hashes; a random one is kept for runs that go on, readable by its owner alone."""
    salt, path = salt_from_environment(), out / ".salt"
    if os.environ.get(LOG_SALT):
        return salt
    out.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=out)
        with os.fdopen(handle, "wb") as file:
            file.write(salt)
        with contextlib.suppress(FileExistsError):  # of a worker or another run
            os.link(name, path)
        Path(name).unlink()
    return path.read_bytes()


def _schema(ids: Iterable[str], contract: Contract) -> pyarrow.Schema:
    """Return the columns of all parts, which must not depend on what a part happens to hold."""

    def type_of(kind: Any) -> pyarrow.DataType:
        if isinstance(kind, Map):
            return pyarrow.map_(pyarrow.string(), type_of(kind.value_type))
        return pyarrow.list_(type_of(kind.dtype)) if isinstance(kind, Array) else _TYPES[kind]

    named = [(name, pyarrow.int64() if name == "row" else pyarrow.string()) for name in ids]
    answered = [column for column in signature(contract).outputs.inputs if column.required]
    return pyarrow.schema([*named, *((column.name, type_of(column.type)) for column in answered)])
