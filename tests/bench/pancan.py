"""The streaming reader of PanCanAtlas against pandas, each alone in a process: time and peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.measured import Record

ROOT = Path(__file__).parents[2]
LEAST = 1.0  # times pandas' speed, of a matrix of full size
MOST_MEGABYTES = 4000.0  # of ours, of a matrix of full size

READER = """
from pathlib import Path
from pipelines.sources import pancan
from pipelines.sources.expression_folder import write_expression
write_expression(pancan.read(Path("matrix.tsv"), Path("clinical.csv")), Path("ours"))
"""
WHOLE_TABLE = """
import pandas as pd
table = pd.read_csv("matrix.tsv", sep="\\t", index_col="gene_id").T.astype("float32")
table.rename_axis("sample_id").reset_index().to_parquet("other.parquet", index=False)
"""
MEASURED = """
import json, resource, sys, time
began = time.perf_counter()
{job}
seconds = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([seconds, peak / 1e6]))
"""
# A new process inherits the peak of the one that starts it, and this one has loaded PyTorch: a small one starts it.
STARTED = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', sys.argv[1]]).returncode)"


def write_pancan(folder: Path, genes: int, samples: int, blocks: int = 50) -> None:
    """Write a matrix and a clinical table laid out as PanCanAtlas; its rows are drawn from ``blocks`` times 2 rows."""
    rng = np.random.default_rng(0)
    patients = [f"TCGA-{number // 10_000:02d}-{number % 10_000:04d}" for number in range(samples)]
    with (folder / "clinical.csv").open("w") as file:
        file.write("bcr_patient_barcode,type\n")
        file.writelines(f"{patient},{('BRCA', 'LUAD', 'COAD')[n % 3]}\n" for n, patient in enumerate(patients))
    rows = []
    for _ in range(2 * min(blocks, genes)):
        values = rng.lognormal(5, 2, samples) - 5
        cells = [f"{value:.4f}" for value in values]
        for missing in rng.integers(samples, size=samples // 100 + 1):
            cells[missing] = "NA"
        rows.append("\t".join(cells) + "\n")
    with (folder / "matrix.tsv").open("w") as file:
        file.write("\t".join(["gene_id", *(f"{patient}-01A-11R-A000-07" for patient in patients)]) + "\n")
        for number in range(genes):
            file.write(f"G{number}|{number}\t")
            file.write(rows[number % len(rows)])


def alone_in_a_process(job: str, folder: Path) -> tuple[float, float]:
    """Return seconds and peak megabytes of a process that runs ``job`` in ``folder``; its start is not timed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", STARTED, MEASURED.format(job=job)]
    done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak


def pancan_reader(small: bool = False, genes: int = 20_531, samples: int = 11_069) -> list[Record]:
    """Compare the streaming reader of PanCanAtlas with pandas' reading, transposing and writing; once each."""
    genes, samples = (1000, 500) if small else (genes, samples)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        write_pancan(folder, genes, samples)
        megabytes = (folder / "matrix.tsv").stat().st_size / 1e6
        ours, memory = alone_in_a_process(READER, folder)
        other, other_memory = alone_in_a_process(WHOLE_TABLE, folder)
    name, sides = f"PanCanAtlas matrix of {genes} x {samples}, {megabytes:.0f} MB", ("streamed", "pandas")
    speed, most = (None, None) if small else (LEAST, MOST_MEGABYTES)
    return [
        Record(name, ours, other, other / ours, "s", bound=speed, sides=sides),
        Record(
            *(f"{name}, memory", memory, other_memory, other_memory / memory, "MB"),
            bound=most,
            bound_on="ours",
            sides=sides,
        ),
    ]
