"""Refuse commits of data, weights and large files: DVC and MLflow keep those. Called by pre-commit with file names."""

import sys
from pathlib import Path

LIMIT = 5_000_000
DATA_SUFFIXES = {".parquet", ".csv", ".pt", ".pth", ".safetensors", ".ubj", ".db", ".xlsx", ".h5"}


def main(names: list[str]) -> int:
    """Print each refused file and return 1 if there is one."""
    refused = []
    for name in names:
        path = Path(name)
        if not path.is_file() or path.parts[:2] == ("infra", "dvc-remote"):
            continue
        if path.suffix in DATA_SUFFIXES:
            refused.append(f"{name}: looks like data or weights; use `make data` or MLflow")
        elif path.stat().st_size > LIMIT:
            refused.append(f"{name}: {path.stat().st_size / 1e6:.1f} MB is over {LIMIT / 1e6:.0f} MB")
    print("\n".join(refused), end="\n" if refused else "")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
