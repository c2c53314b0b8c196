"""What model cards say of every model of a family, and how their numbers are to be read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Use:
    """What models of a family are for.

    Attributes
    ----------
    what
        One sentence.
    intended, not_intended, limits
        Sentences.
    """

    what: str
    intended: tuple[str, ...]
    not_intended: tuple[str, ...]
    limits: tuple[str, ...]


_NO_DEVICE = "Diagnosis or treatment of patients: it is a research model and no medical device."

NO_USE = Use("A model of a family that has no card of its own yet.", (), (_NO_DEVICE,), ())

USES = {
    "response": Use(
        "Predicts how strongly a drug inhibits a cancer cell line (ln IC50 in µM, or the area under the dose-response "
        "curve), with an interval.",
        (
            "Ranking cell lines for a drug, or drugs for a cell line, before they are tested in the laboratory.",
            "Naming genes that go with sensitivity or resistance, as hypotheses to be tested.",
        ),
        (
            _NO_DEVICE,
            "Response of tumors: cell lines have no immune system, no vessels and no pharmacokinetics.",
            "Drugs or tissues that the training data does not resemble; see the score of being out of distribution.",
        ),
        (
            "Most of the variance of ln IC50 is between drugs: look at what is explained within each drug.",
            "An association of a gene with response is no proof that it causes it.",
        ),
    ),
    "response_labels": Use(
        "Tells whether a cancer cell line is sensitive or resistant to a drug, as a probability, and gives a set of "
        "classes beside it.",
        (
            "Choosing cell lines for a drug, or drugs for a cell line, before they are tested in the laboratory.",
            "Naming genes that go with sensitivity or resistance, as hypotheses to be tested.",
        ),
        (
            _NO_DEVICE,
            "Response of tumors: cell lines have no immune system, no vessels and no pharmacokinetics.",
            "Drugs or tissues that the training data does not resemble; see the score of being out of distribution.",
        ),
        (
            "Sensitive means: below a threshold of the drug that was learnt on its training lines. It is relative to "
            "them, and no concentration that a patient reaches.",
            "Lines near the threshold are called one or the other all the same, and measurements of two laboratories "
            "often disagree on them.",
            "Drugs differ in how many lines are sensitive: look at what is told apart within each drug.",
        ),
    ),
    "images": Use(
        "Tells classes of cells apart in images of single stained cells, and gives a set of classes beside the label.",
        (
            "Sorting images for review by a person who is trained to read them.",
            "Comparing staining, scanners and methods on labelled images.",
        ),
        (
            _NO_DEVICE,
            "Counts of a patient's cells without review: errors on one slide are not independent.",
            "Images of other stains, magnifications or segmentations than the training images.",
            "Cells of other classes: it answers one of its own, whatever it is shown.",
        ),
        (
            "Where classes come from different sources, color and sharpness can tell them apart as well as the cell.",
            "A Grad-CAM map shows where, and not why.",
        ),
    ),
    "profile_labels": Use(
        "Tells classes of tumors apart by expression profiles, and gives a set of classes beside the label.",
        (
            "Checking labels of profiles in research cohorts, and finding samples to look at again.",
            "Naming genes that carry a class, as hypotheses to be tested.",
        ),
        (
            _NO_DEVICE,
            "Profiles of another platform or normalization than the training data.",
            "Classes that it does not know: it answers one of its own, whatever it is given.",
        ),
        (
            "Center, batch and purity of the sample go with the class in many cohorts.",
            "That a gene carries a class here does not make it a marker elsewhere.",
        ),
    ),
    "gene_targets": Use(
        "Predicts the expression of target genes from other genes, in log2 units, with an interval for each gene.",
        (
            "Filling in genes that a small panel does not measure, for research.",
            "Asking which genes go together in a cohort, as hypotheses to be tested.",
        ),
        (
            _NO_DEVICE,
            "Taking a predicted gene for a measured one in a test of significance: its variance is too small.",
            "Profiles of another platform or normalization than the training data.",
        ),
        (
            "A mean over genes hides genes that are not predicted at all: see where it is worst.",
            "Genes that go together need not regulate each other.",
        ),
    ),
}

METRICS = {
    "accuracy": "share of rows whose class is right",
    "balanced_accuracy": "mean over classes of the share that is recognized",
    "macro_f1": "mean over classes of F1",
    "weighted_f1": "mean over rows of F1",
    "roc_auc": "area under the receiver operating characteristic",
    "pr_auc": "area under precision and recall",
    "prevalence": "share of rows of the second class, which pr_auc is to be held against",
    "within_drug_roc_auc": "mean over drugs of roc_auc within each; a drug of one class has none",
    "within_drug_pr_auc": "mean over drugs of pr_auc within each",
    "within_drug_prevalence": "mean over the same drugs of the share of the second class",
    "ece": "gap between confidence and how often it is right; low is good",
    "log_loss": "in nats; low is good",
    "brier": "squared error of probabilities; low is good",
    "r2": "share of variance that is explained",
    "rmse": "root of the mean squared error; low is good",
    "mae": "mean absolute error; low is good",
    "mse": "mean squared error; low is good",
    "rmse_sd": "RMSE in standard deviations of each gene; low is good",
    "mae_sd": "MAE in standard deviations of each gene; low is good",
    "pearson": "correlation over all rows",
    "spearman": "rank correlation over all rows",
    "within_drug_pearson": "mean over drugs of the correlation within each",
    "within_drug_spearman": "mean over drugs of the rank correlation within each",
    "r2_over_baseline": "share of {baseline}'s squared error that is saved",
    "margin": "what it is better by than {baseline}, in the task's metric",
}

HOW_CHECKED = {
    "completeness": "how far attributions miss what they explain; near 0 is good",
    "random_weights": "likeness to explanations of a network with random weights; near 0 is good",
    "deletion": "how much more masking the named features changes than masking random ones; above 0 is good",
}
