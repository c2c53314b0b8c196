"""Write a registered model for other runtimes: ``python -m serving.export --model models:/T@staging --out DIR``.

The answers of the file are compared with those of the endpoint, on the test rows, before anything is written.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from pipelines.command import run_command


def main(given: Sequence[str] | None = None) -> int:
    """Write the folder and print what is in it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, help="models:/<task>@<alias> or models:/<task>/<version>")
    arguments.add_argument("--format", default="onnx", choices=["onnx"])
    arguments.add_argument("--out", required=True, type=Path, help="a new folder")
    arguments.add_argument("--tolerance", type=float, help="largest difference from the endpoint (default: 1e-5)")
    asked = arguments.parse_args(given)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU answers in half precision, which differs by more than is allowed
    from serving.exported import MODEL, TOLERANCE, export

    about = export(asked.model, asked.out, asked.tolerance or TOLERANCE)
    for name, each in about["inputs"].items():
        print(f"input {name}, {each['type']} {each['shape']}: {each['holds']}")
    print(f"output: {about['output']}")
    gap = f"{about['largest_difference']:.1e} from the endpoint on {about['rows_compared']:,} test rows"
    print(f"{asked.out / MODEL}: {about['task']} version {about['version']} ({about['architecture']}), at most {gap}")
    return 0


if __name__ == "__main__":
    run_command(main)
