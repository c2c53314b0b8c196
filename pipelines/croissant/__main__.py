"""Write ``croissant.json``: which files and fields the raw data of a task has, for catalogs and search engines.

``python -m pipelines.croissant --task T [--source LAYOUT] [--license URL] [--citation TEXT] [--url URL] [--data DIR]``.
Paths in it are relative to the raw folder: publish it beside the files.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import run_command
from pipelines.paths import DATA, REPORTS
from pipelines.sources import PUBLISHED

FILE = "croissant.json"


def main(argv: Sequence[str] | None = None) -> None:
    """Describe the raw folder of a task."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--task", required=True, help="name of the task in params.yaml")
    options.add_argument("--data", type=Path, help="raw folder (default: data/<task>)")
    options.add_argument("--source", choices=["", *PUBLISHED], default="", help="published collection that the data is")
    options.add_argument("--license", default="", help="of the data, by its address or SPDX identifier")
    options.add_argument("--citation", default="", help="publication that describes the data")
    options.add_argument("--url", default="", help="page of the data")
    given = options.parse_args(argv)
    from pipelines.croissant.description import described
    from pipelines.errors import UserError
    from pipelines.files import write_json
    from pipelines.params import read_params

    task = read_params().task(given.task)
    folder, path = given.data or DATA / given.task, REPORTS / given.task / FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; bring data with `make data` or `dvc pull data.dvc`")
    own = {"license": given.license, "citeAs": given.citation, "url": given.url}
    about = {key: value for key, value in own.items() if value}
    made = described(given.task, task, folder, given.source, about)
    write_json(path, made)
    unknown = [key for key in own if key not in made]
    print(f"{path}: {folder} in Croissant 1.0" + (f"; it names no {', '.join(unknown)}" if unknown else ""))


if __name__ == "__main__":
    run_command(main)
