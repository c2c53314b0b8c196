"""A tiny valid raw folder of kind ``response``: simulated, the same bytes every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

CELL_LINES = [f"LINE-{number:02d}" for number in range(1, 13)]
GENES = ["TP53", "KRAS", "EGFR", "MYC", "PTEN", "BRAF"]
SMILES = {
    "DRUG-1": "CC(=O)Oc1ccccc1C(=O)O",
    "DRUG-2": "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "DRUG-3": "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "DRUG-4": "C1CCCCC1",
    "DRUG-5": "c1ccncc1",
    "DRUG-6": None,  # as in the real tables: a drug whose structure nobody has told
}


def write_response_folder(folder: Path) -> Path:
    """Write 12 cell lines, 10 of them with omics, 6 drugs and all 72 pairs; return ``folder``."""
    rng = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [("GDSC1", cell_line, drug) for drug in SMILES for cell_line in CELL_LINES]
    response = pd.DataFrame(pairs, columns=["study", "cell_line_id", "drug_id"])
    response["ln_ic50"] = rng.normal(2.0, 2.0, len(pairs)).astype(np.float32)
    response.to_parquet(folder / "response.parquet", index=False)
    tissues = [("lung", "breast", "skin")[number % 3] for number in range(len(CELL_LINES))]
    cell_lines = pd.DataFrame({"cell_line_id": CELL_LINES, "tissue": tissues})
    cell_lines.to_csv(folder / "cell_lines.csv", index=False)
    drugs = pd.DataFrame({"drug_id": list(SMILES), "name": list(SMILES), "smiles": list(SMILES.values())})
    drugs.to_csv(folder / "drugs.csv", index=False)

    measured = CELL_LINES[:10]
    shape = (len(measured), len(GENES))
    promoters = [f"{gene}_1_1000_2000" for gene in GENES]
    mutation = rng.integers(0, 2, shape).astype(np.int8)
    mutation[:, 0] = 0  # a gene that no line has mutated is nothing unusual
    for name, columns, values in (
        ("expression", GENES, rng.uniform(0.0, 12.0, shape).astype(np.float32)),
        ("copy_number", GENES, rng.lognormal(0.0, 0.3, shape).astype(np.float32)),
        ("methylation", promoters, rng.uniform(0.0, 1.0, shape).astype(np.float32)),
        ("mutation", GENES, mutation),
    ):
        table = pd.DataFrame(values, columns=columns)
        table.insert(0, "cell_line_id", measured)
        table.to_parquet(folder / f"{name}.parquet", index=False)
    return folder
