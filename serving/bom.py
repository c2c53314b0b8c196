"""Write the bill of materials of a version: ``python -m serving.bom --model models:/T@staging --out FILE``.

It is CycloneDX 1.5 in JSON: the model with its files and metrics, and the packages of `requirements.runtime.lock`.
"""

import argparse
from pathlib import Path

from pipelines.command import run_command


def main() -> None:
    """Write the bill of materials."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, help="models:/<task>/<number> or models:/<task>@<alias>")
    arguments.add_argument("--out", required=True, type=Path, help="file, such as bom.cdx.json")
    given = arguments.parse_args()
    from pipelines.files import write_json
    from serving.bill_of_materials import of
    from serving.gate_context import registered

    bill = of(registered(given.model))
    write_json(given.out, bill)
    parts = f"{len(bill['metadata']['component']['components'])} files and {len(bill['components'])} packages"
    print(f"{given.out}: {given.model} with {parts}, in CycloneDX {bill['specVersion']}")


if __name__ == "__main__":
    run_command(main)
