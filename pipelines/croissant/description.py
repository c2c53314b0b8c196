"""The description of a raw folder in Croissant 1.0."""

import importlib
import mimetypes
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pandas as pd

from pipelines.errors import UserError
from pipelines.file_hashes import combined, file_hashes
from pipelines.params import Task
from pipelines.samples.formats import Asked, read_tables
from pipelines.sources import PUBLISHED

_TERMS = (
    *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format"),
    *("includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex"),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
_CONTEXT: dict[str, Any] = {
    **{"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/"},
    **{"cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/"},
    **{"dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo"},
    **{term: {"@id": f"cr:{term}", "@type": "@json"} for term in ("data", "examples")},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{term: f"cr:{term}" for term in _TERMS},
}
_FORMATS = {".parquet": "application/x-parquet", ".csv": "text/csv"}
_TYPES = {"b": "sc:Boolean", "i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float"}  # by NumPy's kind of a column


@dataclass(frozen=True)
class Contents:
    """What a raw folder holds."""

    tables: dict[str, Asked]  # files and their columns, see `pipelines.samples.formats.read_table`
    file_sets: tuple[dict[str, Any], ...] = ()  # files alike, in Croissant's terms
    record_sets: tuple[dict[str, Any], ...] = ()  # what is read of them, in Croissant's terms


def described(name: str, task: Task, folder: Path, source: str, about: dict[str, str]) -> dict[str, Any]:
    """Return the description of a raw folder, with the paths of its files below it.

    ``source`` is a key of `pipelines.sources.PUBLISHED`, or empty; ``about`` has further properties of the data set,
    such as ``license``. `DataError` where a table cannot be read, `UserError` for simulated data with a source.
    """
    contents: Contents = importlib.import_module(f"pipelines.croissant.{task.modality}").contents(folder, task)
    hashes, (tables, _) = file_hashes(folder), read_tables(folder, contents.tables)
    together = [pattern for each in contents.file_sets for pattern in each["includes"]]
    text = f"Raw data of the task {name}: {task.modality} for {task.problem}."
    if simulated := any(_simulated(table) for table in tables.values()):
        text += " SIMULATED: it is no measurement of patients, cells or drugs."
        about = {"license": "https://spdx.org/licenses/Apache-2.0.html", **about}  # the repository's, which ships it
    if simulated and source:
        raise UserError(f"{folder} is simulated, and not the collection {source}; name no source")
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"{name}_simulated" if simulated else name,
        "description": text,
        "identifier": f"sha256:{combined(hashes)}",  # `data.sha256` of runs and evidence
        **PUBLISHED.get(source, {}),
        **about,
        "distribution": [
            *(_file(folder, *each) for each in hashes.items() if not any(fnmatch(each[0], one) for one in together)),
            *contents.file_sets,
        ],
        "recordSet": [
            *(_records(file, table, **contents.tables[file]) for file, table in tables.items()),
            *contents.record_sets,
        ],
    }


def encoding(path: Path) -> str:
    """Return the media type of a file by its name."""
    return _FORMATS.get(path.suffix.lower()) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"


def field(record_set: str, name: str, kind: str, source: dict[str, Any]) -> dict[str, Any]:
    """Return a field of a record set; ``source`` says what it is read of."""
    return {"@type": "cr:Field", "@id": f"{record_set}/{name}", "name": name, "dataType": kind, "source": source}


def _simulated(table: pd.DataFrame) -> bool:
    return "simulated" in table and bool(table["simulated"].astype(str).str.lower().eq("true").any())


def _file(folder: Path, place: str, sha256: str) -> dict[str, Any]:
    size = f"{(folder / place).stat().st_size} B"
    named = {"@type": "cr:FileObject", "@id": place, "name": place, "contentUrl": place, "contentSize": size}
    return {**named, "encodingFormat": encoding(Path(place)), "sha256": sha256}


def _records(
    file: str, table: pd.DataFrame, text: tuple[str, ...] = (), all_other_numbers: bool = False, **_: Any
) -> dict[str, Any]:
    """Return the record set of a table; of a matrix it has the keys, and says how many columns of numbers there are."""
    name, columns = Path(file).stem, [str(column) for column in table.columns]
    shown = [each for each in columns if each in text or not all_other_numbers]
    said = f"{len(table)} rows of {file}."
    if more := len(columns) - len(shown):
        said += f" {more} further columns are numbers, each named after its feature."
    fields = [
        field(
            name,
            each,
            "sc:Text" if each in text else _TYPES.get(table[each].dtype.kind, "sc:Text"),
            {"fileObject": {"@id": file}, "extract": {"column": each}},
        )
        for each in shown
    ]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "description": said, "field": fields}
