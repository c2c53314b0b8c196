"""Stage ``validate``: refuse faulty raw data, with file, column and rows, before anything is computed."""

import importlib
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.command import run_command, task_and_folders
from pipelines.errors import Finding
from pipelines.params import Task, read_params
from pipelines.paths import VALIDATION_FILE

if TYPE_CHECKING:
    from pipelines.expectations import Suite

DOCS_FOLDER = "data_docs"


@dataclass(frozen=True)
class Validation:
    """The outcome of validating a raw folder: findings, errors first, and counts."""

    task: str
    findings: tuple[Finding, ...]
    counts: dict[str, Any]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return the findings that refuse the data."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """Return the findings that are only reported."""
        return tuple(finding for finding in self.findings if finding.severity != "error")

    @property
    def passed(self) -> bool:
        """Return whether the data may be used."""
        return not self.errors


def validate_folder(folder: Path, name: str, task: Task, *, docs: Path | None = None) -> Validation:
    """Check a raw folder against the suites of its modality; faulty data is a finding and never an exception."""
    expectations = importlib.import_module(f"pipelines.expectations.{task.modality}")  # takes seconds
    tables, findings = expectations.read(folder, task)
    tables = {file: table.reset_index(drop=True) for file, table in tables.items()}  # the index is the row of the file
    findings += run_suites(expectations.suites(tables, task), docs=docs)
    findings.sort(key=lambda finding: finding.severity != "error")
    return Validation(name, tuple(findings), expectations.counts(tables, task))


def run_suites(suites: "Sequence[Suite | Finding]", *, docs: Path | None = None) -> list[Finding]:
    """Run suites in Great Expectations, write its Data Docs, and return what failed, and findings as they are."""
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")  # nothing of it stays on disk
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    tables = context.data_sources.add_pandas("raw").add_dataframe_asset("tables")
    whole = tables.add_batch_definition_whole_dataframe("whole")
    findings = []
    for suite in suites:
        if isinstance(suite, Finding):
            findings.append(suite)
            continue
        expectations = [check.expectation for check in suite.checks]
        for position, expectation in enumerate(expectations):
            expectation.meta = {"check": position}
        added = context.suites.add(gx.ExpectationSuite(name=suite.name, expectations=expectations))
        definition = gx.ValidationDefinition(name=suite.name, data=whole, suite=added)
        context.validation_definitions.add(definition)
        outcome = definition.run(batch_parameters={"dataframe": suite.frame}, result_format=_RESULT_FORMAT)
        for result in sorted(outcome.results, key=lambda one: one.expectation_config.meta["check"]):
            findings += _findings(suite, result)
    if docs is not None:
        with tempfile.TemporaryDirectory() as folder:
            built = Path(folder) / DOCS_FOLDER
            store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(built)}
            site = {"class_name": "SiteBuilder", "show_how_to_buttons": False, "store_backend": store}
            context.add_data_docs_site(site_name="reports", site_config=site)
            context.build_data_docs(site_names=["reports"])
            shutil.rmtree(docs, ignore_errors=True)
            shutil.copytree(built, docs)
    return findings


_RESULT_FORMAT = {
    "result_format": "COMPLETE",  # all rows at fault, not the first twenty
    "include_unexpected_rows": False,
    "return_unexpected_index_query": False,
}


def _findings(suite: "Suite", result: Any) -> list[Finding]:
    """Return what a result means; its ``unexpected_index_list`` has the index of the frame."""
    info = result.exception_info  # of the whole expectation, or by metric
    for raised in [info] if "raised_exception" in info else info.values():
        if raised["raised_exception"]:
            raise RuntimeError(f"suite {suite.name}: {raised['exception_message']}")
    unexpected = sorted(result.result.get("unexpected_index_list") or [])
    report = suite.checks[result.expectation_config.meta["check"]].report
    # A failure within the expectation's tolerance is a warning.
    return [] if result.success and not unexpected else report(unexpected, "warning" if result.success else "error")


def write_validation(validation: Validation, reports: Path) -> Path:
    """Write ``validation.json`` into ``reports`` and return its path."""
    from pipelines.files import write_json

    kinds = {"warnings": validation.warnings, "findings": validation.findings}
    found = {kind: [asdict(finding) for finding in findings] for kind, findings in kinds.items()}
    path = reports / VALIDATION_FILE
    write_json(path, {"task": validation.task, "passed": validation.passed, **found, "counts": validation.counts})
    return path


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m pipelines.validate --task T [--data DIR] [--reports DIR]``; 1 if the data is refused."""
    name, data, reports = task_and_folders(__doc__ or "", argv)
    from pipelines import tracking

    task = read_params().task(name)

    validation = validate_folder(data, name, task, docs=reports / DOCS_FOLDER)
    report = write_validation(validation, reports)
    for finding in validation.findings:
        print(f"{'refused' if finding.severity == 'error' else 'warning'}: {finding}", file=sys.stderr)
    tags = {"validation.passed": str(validation.passed).lower()}
    if data.is_dir():
        tags["data.sha256"] = tracking.folder_sha256(data)
    found = {"data/errors": len(validation.errors), "data/warnings": len(validation.warnings)}
    with tracking.run(name, "validate", f"validate {name}", tags=tags):
        tracking.mlflow.log_metrics(found)
        tracking.mlflow.log_artifact(str(report))
        tracking.mlflow.log_artifacts(str(reports / DOCS_FOLDER), DOCS_FOLDER)
    if not validation.passed:
        print(f"{data}: refused with {len(validation.errors)} errors, see {report}", file=sys.stderr)
        return 1
    rows, warnings = validation.counts["rows"], len(validation.warnings)
    print(f"{name}: {sum(rows.values())} rows in {len(rows)} files are valid, warnings: {warnings}")
    return 0


if __name__ == "__main__":
    run_command(main)
