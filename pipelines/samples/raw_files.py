"""Names of the files of a raw folder of kind ``response``, for who lists them and loads no tables."""

from __future__ import annotations

RESPONSE_FILE = "response.parquet"
CELL_LINES_FILE = "cell_lines.csv"
DRUGS_FILE = "drugs.csv"
