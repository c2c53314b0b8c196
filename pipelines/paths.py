"""Folders of a checkout, relative to the one that commands are started in."""

from pathlib import Path


def home() -> Path:
    """Return the folder of the stores: ``.``, or the checkout of the experiment that DVC works on.

    ``dvc exp run --queue`` and ``--temp`` work in a copy below ``.dvc/tmp/exps`` and delete it.
    """
    here = Path.cwd()
    return here.parents[3] if here.parts[-4:-1] == (".dvc", "tmp", "exps") else Path()


DATA = Path("data")  # raw folders, one a task
PREPARED = Path("prepared")  # splits
MODELS = Path("models")  # what studies and fits leave, a folder an architecture below the task's
INPUTS = Path("cache/inputs")  # what each stage of DVC depends on of code and parameters
REPORTS = Path("reports")  # what people read
RESULTS = Path("results")  # what git tracks and DVC shows: metrics and plots of the models
VALIDATION_FILE = "validation.json"  # in the task's folder below it
AUDIT_FILE = "audit.json"
FRONTS = "fronts"  # a file an architecture: the trials of its study, where that has a cost
SHORTCUTS_FILE = "shortcuts.json"  # what a study needs to know of the audit: it runs again for nothing else
