"""One raw folder dealt to several sites by a column, to try federated learning on one machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import parser, run_command
from pipelines.errors import UserError
from pipelines.paths import DATA

if TYPE_CHECKING:
    import pandas as pd

# The table of who is at a site, and the column that other tables know them by.
OWNERS = {"cell_lines.csv": "cell_line_id", "samples.csv": "sample_id"}


def deal_sites(folder: Path, column: str, names: Sequence[Path]) -> dict[str, int]:
    """Write a raw folder's rows into the folders ``names``: values of ``column`` whole, the largest first, evenly.

    The column is of ``cell_lines.csv``, ``samples.csv`` or ``response.parquet`` (a study). Tables of drugs or genes go
    to all. Return how many owners or rows each got. `UserError` where no table has the column, or a folder is there.
    """
    tables = {path.name: _read(path) for path in sorted(folder.glob("*.*")) if path.suffix in (".csv", ".parquet")}
    owner = next((file for file in OWNERS if file in tables), None)
    holder = next((file for file in (owner, "response.parquet") if file in tables and column in tables[file]), None)
    if owner is None or holder is None:
        raise UserError(f"{folder}: no table of cell lines, samples or responses has the column {column!r}")
    if there := [place for place in names if place.exists()]:
        raise UserError(f"{there[0]} is there already; name new folders")
    key = OWNERS[owner]
    value = tables[holder][column].fillna(tables[holder][key]).astype(str)  # those without one are dealt one by one
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
    return {place.name: size for place, size in sizes.items()}


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd  # behind the arguments: `--help` loads nothing

    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=object)


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)


def main(argv: Sequence[str] | None = None) -> None:
    """``python -m pipelines.simulate.sites --task T --by tissue --into DIR DIR DIR``."""
    options = parser(__doc__ or "")
    options.add_argument("--by", required=True, help="a column, such as tissue, study or cohort")
    options.add_argument("--into", nargs="+", type=Path, required=True, help="new folders, one a site")
    given = options.parse_args(argv)
    for name, size in deal_sites(DATA / given.task, given.by, given.into).items():
        print(f"{name}: {size:,} by {given.by}")


if __name__ == "__main__":
    run_command(main)
