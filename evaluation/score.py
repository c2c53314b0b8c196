"""Score a logged or registered model on a labelled folder of the raw format, such as an outside cohort.

``python -m evaluation.score --model models:/drug_response@staging --data DIR`` prints one line of JSON.
"""

import argparse
import json
import sys
from pathlib import Path

from pipelines.command import run_command


def main() -> int:
    """Print the scores."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "--model", required=True, help="models:/<task>@<alias>, models:/<task>/<version> or models:/m-..."
    )
    arguments.add_argument("--data", required=True, type=Path, help="labelled folder of the raw format")
    given = arguments.parse_args()
    from evaluation.promotion.scoring import load, score
    from pipelines.files import jsonable

    model = load(given.model)
    folder = given.data / model.contract.task if (given.data / model.contract.task).is_dir() else given.data
    found = score(model, folder)
    for warning in found["warnings"]:
        print(f"warning: {warning}", file=sys.stderr)
    print(json.dumps(jsonable({"model": given.model, **found})))
    return 0


if __name__ == "__main__":
    run_command(main)
