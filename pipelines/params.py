"""One typed reading of ``params.yaml``: frozen, and checked before any work is done."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml

from pipelines.policy import Policy
from pipelines.typed_yaml import Choice, ParamsError, TypedReader

PARAMS_FILE = Path("params.yaml")

Budget = Literal["quick", "full"]
Missing = Literal["drop", "impute", "one_hot"]
SplitMode = Literal[
    "random", "cell_blind", "drug_blind", "tissue_blind", "cross_study", "subject_blind", "patient_blind"
]


@dataclass(frozen=True)
class PerBudget:
    """A count for each budget."""

    quick: int
    full: int

    def of(self, budget: Budget) -> int:
        """Return the count of ``budget``."""
        return self.quick if budget == "quick" else self.full


@dataclass(frozen=True)
class ResponseData:
    """What is taken from a raw folder of kind ``response``."""

    target: str
    omics: tuple[Literal["expression", "mutation", "copy_number", "methylation"], ...]
    missing: MissingPolicy


@dataclass(frozen=True)
class Threshold:
    """How the response is learnt below which a line counts as sensitive to a drug: see `pipelines.samples.sensitivity`.

    Attributes
    ----------
    method
        ``waterfall`` (the inflection of a drug's sorted responses; Barretina et al., 2012), ``quantile`` (the lowest
        ``share`` of a drug's training rows is sensitive) or ``otsu`` (between two modes; Otsu, 1979).
    prior_rows
        Weight of the threshold over all drugs in that of each drug, in rows.
    share
        Of the training rows of a drug; ``quantile`` alone looks at it.
    """

    method: Literal["waterfall", "quantile", "otsu"]
    prior_rows: float
    share: float = 0.25


@dataclass(frozen=True)
class SensitivityData(ResponseData):
    """What is taken where pairs are sensitive or resistant."""

    threshold: Threshold


@dataclass(frozen=True)
class ImageData:
    """What is taken from a raw folder of kind ``images``.

    Attributes
    ----------
    classes
        Folder names below ``images/``, in the order of the probabilities.
    crop
        Share of the shorter side that is kept around the center, before resizing.
    size
        Side of the square that every image is decoded to, in pixels.
    """

    classes: tuple[str, ...]
    crop: float
    size: int


@dataclass(frozen=True)
class ExpressionData:
    """What is taken from a raw folder of kind ``expression``.

    Attributes
    ----------
    scale
        Of the values: ``linear`` (counts, TPM, RSEM, per million), of which log2(x + 1) is taken; ``log2``, which that
        was done to; ``as_is``, such as standardized values, which may be negative.
    exclude
        Samples that are not of the question: column of ``samples.csv`` to the values that rule a sample out.
    missing_genes
        Share of a model's genes that a profile may lack; they are imputed, and the answer says so.
    """

    scale: Literal["linear", "log2", "as_is"]
    exclude: dict[str, tuple[str, ...]]
    missing_genes: float


@dataclass(frozen=True)
class LabelData(ExpressionData):
    """What is taken where profiles have a label.

    Attributes
    ----------
    minimum_patients
        That a class needs, to stand on every side of a split.
    small_classes
        What happens to a class with fewer.
    """

    minimum_patients: int
    small_classes: Literal["drop", "refuse"]


@dataclass(frozen=True)
class GeneData(ExpressionData):
    """What is taken where genes are predicted from genes.

    Attributes
    ----------
    predictors
        ``landmarks`` (``is_l1000_landmark`` in ``genes.csv``), or ``all`` genes that are no targets.
    targets
        The name of a gene, or ``most_variable``: chosen on training rows.
    target_count
        How many genes are the most variable.
    """

    predictors: Literal["landmarks", "all"]
    targets: str
    target_count: int


@dataclass(frozen=True)
class ValidateExpression:
    """What raw data of kind ``expression`` must satisfy.

    Attributes
    ----------
    minimum_samples, minimum_genes
        Of the table.
    missing_share
        Of a gene's or a sample's values, at most.
    constant_gene_share
        Of the genes, at most: a gene that never varies is dropped by models.
    library_size_factor
        By which a sample's total may differ from the median one.
    """

    minimum_samples: int
    minimum_genes: int
    missing_share: float
    constant_gene_share: float
    library_size_factor: float


@dataclass(frozen=True)
class ValidateResponse:
    """What raw data of kind ``response`` must satisfy."""

    expression_scale: Literal["log2_tpm_plus_1", "any"]
    target_range: tuple[float, float]
    minimum_rows: int
    unknown_cell_line_share: float
    unknown_drug_share: float
    constant_column_share: float


@dataclass(frozen=True)
class ValidateImages:
    """What raw data of kind ``images`` must satisfy.

    Attributes
    ----------
    minimum_per_class
        Images that every class must have.
    smallest_side, largest_pixels
        In pixels; a larger image is refused before it is decoded.
    """

    minimum_per_class: int
    smallest_side: int
    largest_pixels: int


@dataclass(frozen=True)
class MissingPolicy:
    """What happens to a cell line without an omics table or a tissue, and to a drug without SMILES."""

    expression: Literal["drop", "impute"]
    mutation: Literal["drop", "impute"]
    copy_number: Literal["drop", "impute"]
    methylation: Literal["drop", "impute"]
    tissue: Literal["drop", "one_hot"]
    smiles: Literal["drop", "one_hot"]


@dataclass(frozen=True)
class Split:
    """How samples are assigned to train, validation, test and folds."""

    mode: SplitMode
    test: float
    validation: float
    folds: int
    near_identical: float


@dataclass(frozen=True)
class ResponseSplit(Split):
    """How pairs of a cell line and a drug are assigned.

    Attributes
    ----------
    train_study, test_study
        Whose rows are trained on and whose are tested in the mode ``cross_study``; no other mode looks at them.
    """

    train_study: str = ""
    test_study: str = ""


@dataclass(frozen=True)
class Tune:
    """How an architecture is tuned."""

    objective: Literal["validation", "cross_validation"]
    metric: str
    trials: PerBudget
    epochs: PerBudget
    rounds: PerBudget


@dataclass(frozen=True)
class TuneTransfer(Tune):
    """How networks that were trained on other images are tuned.

    Attributes
    ----------
    weights
        What they start from: ``imagenet``, ``none``, or a file (or a folder with ``<architecture>.safetensors`` or
        ``.pth``).
    modes
        What a study may choose among: ``head`` trains a linear layer on frozen features, ``partial`` also the last
        stages, ``full`` all.
    """

    weights: str
    modes: tuple[Literal["head", "partial", "full"], ...]


@dataclass(frozen=True)
class TuneProfiles(TuneTransfer):
    """How classifiers of profiles are tuned, networks on gene images among them.

    Attributes
    ----------
    layouts
        Gene-to-pixel layouts that a study may try; ``chromosome`` is left out where ``genes.csv`` has no positions.
    image_size
        Side of the gene image in pixels, at least; raised to what a network takes and to what the genes need.
    """

    layouts: tuple[Literal["given", "chromosome", "similarity"], ...]
    image_size: int


@dataclass(frozen=True)
class Fit:
    """How the tuned architecture is fitted for good: 1 model, or one a fold."""

    members: PerBudget


@dataclass(frozen=True)
class Evaluate:
    """How a fitted model becomes evidence."""

    metric: str
    baseline: str
    resamples: int
    confidence: float
    explained_samples: PerBudget
    interval_coverage: float


@dataclass(frozen=True)
class EvaluateProfiles(Evaluate):
    """How a classifier of profiles becomes evidence.

    Attributes
    ----------
    stability_seeds
        From so many other seeds the model is fitted again, to see whether the same genes are named; 0 for none.
    """

    stability_seeds: PerBudget


@dataclass(frozen=True)
class Task:
    """One task of the platform.

    Attributes
    ----------
    kind
        What its raw folder holds.
    family
        What its models take and answer; architectures are registered by it.
    """

    family: ClassVar[str]

    kind: str
    problem: Literal["regression", "classification"]
    data: Any
    validate: Any
    split: Split
    tune: Tune
    fit: Fit
    evaluate: Evaluate


@dataclass(frozen=True)
class ResponseTask(Task):
    """A response of cell lines to drugs."""

    family = "response"

    kind: Literal["response"]
    data: ResponseData
    validate: ValidateResponse
    split: ResponseSplit


@dataclass(frozen=True)
class SensitivityTask(ResponseTask):
    """Cell lines that are sensitive or resistant to a drug, by a threshold on their response."""

    family = "response_labels"

    problem: Literal["classification"]
    data: SensitivityData


@dataclass(frozen=True)
class ImageTask(Task):
    """Images in classes."""

    family = "images"

    kind: Literal["images"]
    problem: Literal["classification"]
    data: ImageData
    validate: ValidateImages
    tune: TuneTransfer


@dataclass(frozen=True)
class ExpressionTask(Task):
    """Expression profiles, whatever is asked of them."""

    kind: Literal["expression"]
    data: ExpressionData
    validate: ValidateExpression


@dataclass(frozen=True)
class LabelTask(ExpressionTask):
    """Expression profiles in classes."""

    family = "profile_labels"

    problem: Literal["classification"]
    data: LabelData
    tune: TuneProfiles
    evaluate: EvaluateProfiles


@dataclass(frozen=True)
class GeneTask(ExpressionTask):
    """Genes predicted from other genes."""

    family = "gene_targets"

    problem: Literal["regression"]
    data: GeneData


TASKS: dict[tuple[str, ...], type[Task]] = {
    ("response", "regression"): ResponseTask,
    ("response", "classification"): SensitivityTask,
    ("images", "classification"): ImageTask,
    ("expression", "classification"): LabelTask,
    ("expression", "regression"): GeneTask,
}
MODES: dict[str, tuple[SplitMode, ...]] = {
    "response": ("random", "cell_blind", "drug_blind", "tissue_blind", "cross_study"),
    "images": ("random", "subject_blind"),
    "expression": ("random", "patient_blind"),
}
_OF_CLASSES = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "roc_auc")
METRICS: dict[str, tuple[str, ...]] = {  # what a study can optimize
    "response": ("rmse", "mae", "mse", "r2", "pearson", "spearman"),
    "response_labels": ("log_loss", *_OF_CLASSES),
    "images": ("log_loss", *_OF_CLASSES),
    "profile_labels": ("log_loss", *_OF_CLASSES),
    "gene_targets": ("rmse", "mae", "mse", "r2"),
}
REPORTED: dict[str, tuple[str, ...]] = {  # what a leaderboard can show
    "response": (
        *("r2", "rmse", "mae", "mse", "pearson", "spearman"),
        *("within_drug_pearson", "within_drug_spearman", "r2_over_baseline", "margin"),
    ),
    "response_labels": (
        *(*_OF_CLASSES, "pr_auc", "ece", "log_loss", "brier"),
        *("within_drug_roc_auc", "within_drug_pr_auc", "margin"),
    ),
    "images": (*_OF_CLASSES, "pr_auc", "ece", "margin"),
    "profile_labels": (*_OF_CLASSES, "pr_auc", "ece", "margin"),
    "gene_targets": ("r2", "rmse", "mae", "mse", "rmse_sd", "mae_sd", "r2_over_baseline", "margin"),
}


@dataclass(frozen=True)
class Model:
    """An architecture that is trained for a task.

    Attributes
    ----------
    demo
        Whether ``make demo`` trains it: not what needs weights that are no package.
    """

    task: str
    architecture: str
    demo: bool = True


_CHOICES: dict[type, Choice] = {Task: (("kind", "problem"), TASKS)}


@dataclass(frozen=True)
class Params:
    """All of ``params.yaml``."""

    seed: int
    budget: Budget
    device: str
    tasks: dict[str, Task]
    models: dict[str, Model]
    policy: Policy

    def task(self, name: str) -> Task:
        """Return the task ``name``; `ParamsError` lists the known ones if there is none."""
        if name not in self.tasks:
            raise ParamsError(
                f"{PARAMS_FILE}: there is no task {name!r}; the tasks are {', '.join(sorted(self.tasks))}"
            )
        return self.tasks[name]

    def architectures(self, task: str) -> list[str]:
        """Return the architectures trained for ``task``, in the order of the file."""
        self.task(task)
        return [model.architecture for model in self.models.values() if model.task == task]


def read_params(path: Path | str = PARAMS_FILE) -> Params:
    """Read and check ``params.yaml``.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    Params
        Frozen dataclasses that mirror the file.

    Raises
    ------
    ParamsError
        Names file, line and key of an unknown or missing key, a value of the wrong type or out of range.
    """
    path = Path(path)
    if not path.is_file():
        raise ParamsError(f"{path}: no such file; run from the repository's root")
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ParamsError(f"{path}, line {line}: not UTF-8; save the file in UTF-8") from error
    except yaml.YAMLError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from error
    if node is None:
        raise ParamsError(f"{path}: the file is empty")
    reader = TypedReader(path, _CHOICES)
    params: Params = reader.read(node, Params, "params")
    # Imported here, since the checks speak of all that is defined above.
    from pipelines.params_checks import check

    check(params, path, reader.lines)
    return params


def read_task(text: str) -> Task:
    """Read one task from the text that `task_text` made of it."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    task: Task = TypedReader(Path("task"), _CHOICES).read(node, Task, "task")
    return task


def task_text(task: Task) -> str:
    """Return a task as JSON, which is YAML too."""
    return json.dumps(dataclasses.asdict(task))
