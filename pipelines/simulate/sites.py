"""One raw folder dealt to several sites by a column, to try federated learning on one machine."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.paths import DATA

if TYPE_CHECKING:
    import pandas as pd

# The table of who is at a site, and the column that other tables know them by.
OWNERS = {"cell_lines.csv": "cell_line_id", "samples.csv": "sample_id", "images.csv": "file"}


def deal_sites(folder: Path, column: str, names: Sequence[Path]) -> dict[str, int]:
    """Write a raw folder's rows into the folders ``names``: values of ``column`` whole, the largest first, evenly.

    The column is of ``cell_lines.csv``, ``samples.csv``, ``images.csv`` or ``response.parquet`` (a study), or the
    ``site`` or ``plate`` of barcodes of TCGA. Images can be dealt one by one, by ``file``. Tables of drugs or genes go
    to all. Return how many owners or rows each got. `UserError` where no table has the column, or a
    folder is there.
    """
    tables = _tables(folder)
    owner = next((file for file in OWNERS if file in tables), None)
    values = {
        file: found
        for file in (owner, "response.parquet")
        if file in tables and (found := _values(tables[file], column)) is not None
    }
    if owner is None or not values:
        raise UserError(f"{folder}: no table of cell lines, samples, images or responses has the column {column!r}")
    if there := [place for place in names if place.exists()]:
        raise UserError(f"{there[0]} is there already; name new folders")
    key, (holder, value) = OWNERS[owner], next(iter(values.items()))
    value = value.fillna(tables[holder][key]).astype(str)  # those without one are dealt one by one
    if value.nunique() < len(names):
        raise UserError(f"{column} has {value.nunique()} values, too few for {len(names)} sites")
    sizes = dict.fromkeys(names, 0)
    place_of = {}
    for each, count in value.value_counts().items():
        place_of[each] = smallest = min(names, key=lambda place: sizes[place])
        sizes[smallest] += int(count)
    for place in names:
        place.mkdir(parents=True)
        here = value.map(place_of) == place
        known = set(tables[holder].loc[here, key])
        for file, table in tables.items():
            rows = here if file == holder else table[key].isin(known) if key in table else slice(None)
            _write(table[rows] if key in table else table, place / file)
        for file in known if key == "file" else ():
            (place / "images" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / "images" / file, place / "images" / file)
    return {place.name: size for place, size in sizes.items()}


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Return the tables of a raw folder by file, with one of images that has none."""
    import pandas as pd  # behind the arguments: `--help` loads nothing

    tables = {path.name: pd.read_csv(path, dtype=object) for path in sorted(folder.glob("*.csv"))}
    tables |= {path.name: pd.read_parquet(path) for path in sorted(folder.glob("*.parquet"))}
    if (images := sorted(folder.glob("images/*/*"))) and "images.csv" not in tables:
        rows = [(f"{path.parent.name}/{path.name}", path.parent.name, None) for path in images]
        tables["images.csv"] = pd.DataFrame(rows, columns=["file", "label", "subject_id"])
    return tables


def _values(table: pd.DataFrame, column: str) -> pd.Series | None:
    from pipelines.samples.barcodes import origin

    return origin(table, column) if "sample_id" in table else table.get(column)


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m pipelines.simulate.sites --task T --by tissue --into DIR DIR DIR``."""
    options = parser(__doc__ or "")
    options.add_argument("--by", required=True, help="a column, such as tissue, study or laboratory")
    options.add_argument("--into", nargs="+", type=Path, required=True, help="new folders, one a site")
    given = options.parse_args(argv)
    for name, size in deal_sites(DATA / given.task, given.by, given.into).items():
        print(f"{name}: {size:,} by {given.by}")


if __name__ == "__main__":
    run_command(main)
