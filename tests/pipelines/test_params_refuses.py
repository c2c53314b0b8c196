"""A fault in ``params.yaml`` must be told by file, line and key, before hours of work go into a wrong setting."""

from __future__ import annotations

import math
import re
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import UserError
from pipelines.modalities.images import ImagesData, ImagesTask, ValidateImages
from pipelines.modalities.pairs import MissingPolicy, PairsData, PairsSplit, PairsTask, ValidatePairs
from pipelines.modalities.profiles import ValidateProfiles
from pipelines.params import (
    Evaluate,
    Fit,
    Params,
    ParamsError,
    PerBudget,
    Split,
    Task,
    Tune,
    TuneTransfer,
    read_params,
    read_task,
    task_text,
)
from pipelines.policy import TaskPolicy
from pipelines.problems import get_problem
from pipelines.tasks import task_types
from pipelines.tasks.profiles_classification import EvaluateProfiles, LabelData, ProfilesClassification, TuneProfiles
from pipelines.tasks.profiles_multi_target import GeneData, ProfilesMultiTarget

ROOT = Path(__file__).parents[2]

GOOD = """\
seed: 1
budget: quick
device: auto
tasks:
  screen:
    modality: pairs
    problem: regression
    data:
      target: ln_ic50
      omics: [expression, mutation]
      missing:
        expression: drop
        mutation: impute
        copy_number: impute
        methylation: impute
        tissue: one_hot
        smiles: drop
    validate:
      expression_scale: any
      target_range: [-20.0, 20]
      minimum_rows: 50
      unknown_cell_line_share: 0.0
      unknown_drug_share: 1
      constant_column_share: 0.5
    split:
      mode: cell_blind
      test: 0.2
      validation: 0.1
      folds: 5
      near_identical: 0.99
    tune:
      objective: validation
      metric: rmse
      trials: {quick: 2, full: 10}
      epochs: {quick: 3, full: 30}
      rounds: {quick: 6, full: 60}
    fit:
      members: {quick: 1, full: 5}
    evaluate:
      metric: r2
      baseline: mean_effects
      resamples: 1000
      confidence: 0.95
      explained_samples: {quick: 10, full: 100}
      interval_coverage: 0.9
  smear:
    modality: images
    problem: classification
    data:
      classes: [blast, normal]
      crop: 0.75
      size: 168
    validate:
      minimum_per_class: 12
      smallest_side: 16
      largest_pixels: 50000000
    split:
      mode: subject_blind
      test: 0.25
      validation: 0.15
      folds: 4
      near_identical: 0.95
    tune:
      objective: cross_validation
      metric: log_loss
      trials: {quick: 1, full: 16}
      epochs: {quick: 12, full: 33}
      rounds: {quick: 40, full: 600}
      weights: imagenet
      modes: [head, partial]
    fit:
      members: {quick: 1, full: 4}
    evaluate:
      metric: roc_auc
      baseline: majority_class
      resamples: 500
      confidence: 0.9
      explained_samples: {quick: 20, full: 60}
      interval_coverage: 0.8
  tumor:
    modality: profiles
    problem: "classification"
    data:
      scale: linear
      exclude: {sample_type: ["11"], site: [A, B]}
      missing_genes: 0.05
      minimum_patients: 10
      small_classes: drop
    validate:
      minimum_samples: 50
      minimum_genes: 20
      missing_share: 0.21
      constant_gene_share: 0.1
      library_size_factor: 50.0
    split:
      mode: patient_blind
      test: 0.22
      validation: 0.12
      folds: 6
      near_identical: 0.995
    tune:
      objective: cross_validation
      metric: macro_f1
      trials: {quick: 3, full: 13}
      epochs: {quick: 5, full: 35}
      rounds: {quick: 41, full: 610}
      weights: none
      modes: [full]
      layouts: [given, similarity]
      image_size: 32
    fit:
      members: {quick: 1, full: 6}
    evaluate:
      metric: weighted_f1
      baseline: most_frequent
      resamples: 900
      confidence: 0.8
      explained_samples: {quick: 11, full: 110}
      interval_coverage: 0.7
      stability_seeds: {quick: 0, full: 2}
  genes:
    modality: profiles
    problem: "multi_target"
    data:
      scale: log2
      exclude: {}
      missing_genes: 0.06
      predictors: landmarks
      targets: TP53|7157
      target_count: 50
    validate:
      minimum_samples: 51
      minimum_genes: 21
      missing_share: 0.22
      constant_gene_share: 0.2
      library_size_factor: 60.0
    split:
      mode: random
      test: 0.23
      validation: 0.13
      folds: 7
      near_identical: 0.996
    tune:
      objective: cross_validation
      metric: mae
      trials: {quick: 4, full: 14}
      epochs: {quick: 6, full: 36}
      rounds: {quick: 42, full: 620}
    fit:
      members: {quick: 7, full: 7}
    evaluate:
      metric: rmse_sd
      baseline: mean_expression
      resamples: 800
      confidence: 0.85
      explained_samples: {quick: 12, full: 120}
      interval_coverage: 0.75
models:
  screen-mean_effects: {task: screen, architecture: mean_effects}
  screen-mlp: {task: screen, architecture: mlp}
  smear-majority_class: {task: smear, architecture: majority_class}
  tumor-most_frequent: {task: tumor, architecture: most_frequent}
  genes-mean_expression: {task: genes, architecture: mean_expression, demo: false}
policy:
  gate:
    margin: 0.01
    non_inferiority: 0.03
    ece: 0.2
    coverage_shortfall: 0.04
    latency_ms_batch_1: 900.0
    latency_ms_batch_32: 9000.0
    megabytes: 100.0
    completeness: 0.06
    random_weights_correlation: 0.6
  serve:
    rows: 256
    request_megabytes: 32.0
    image_pixels: 40000000
    explained_rows: 8
  monitor:
    minimum_rows: 40
    significance: 0.02
    population_stability: 0.25
    out_of_distribution_share: 0.15
    performance_drop: 0.02
  tasks:
    smear:
      floor: 0.5
      promote: production
      answers: [{finding: shortcut, answer: looked into, by: A. Person, up_to: 0.7}]
      waivers: [{check: latency, reason: batch use only, by: A. Person, until: "2027-01-01"}]
"""
HERE = "  # here"  # marks the line that the message must name
T = "params.tasks.screen"
S = "params.tasks.smear"
L = "params.tasks.tumor"
G = "params.tasks.genes"
P = "params.policy"
PS = f"{P}.tasks.smear"
ANSWERS = "[{finding: shortcut, answer: looked into, by: A. Person, up_to: 0.7}]"
WAIVERS = '[{check: latency, reason: batch use only, by: A. Person, until: "2027-01-01"}]'


@dataclass(frozen=True)
class Fault:
    """Edits of `GOOD` and the words that must name the fault."""

    id: str
    edits: dict[str, str]
    key: str
    says: str


def changed(key: str, old: str, new: str, says: str, id: str = "") -> Fault:
    """Return a fault that gives the last part of ``key`` another value."""
    last = key.rpartition(".")[2]
    return Fault(id or f"{key} {new}", {f" {last}: {old}\n": f" {last}: {new}{HERE}\n"}, key, says)


def top(key: str, old: str, new: str, says: str) -> Fault:
    return Fault(f"{key} {new}", {f"{key}: {old}\n": f"{key}: {new}{HERE}\n"}, f"params.{key}", says)


FAULTS = [
    # keys
    Fault("unknown key", {"seed: 1\n": f"seed: 1\nsedd: 2{HERE}\n"}, "params.sedd",
          "unknown key .*the keys are seed, budget"),
    Fault("unknown nested key", {"      folds: 5\n": f"      folds: 5\n      fold: 5{HERE}\n"}, f"{T}.split.fold",
          "unknown key"),
    Fault("unknown key of a budget", {"{quick: 2, full: 10}": f"{{quick: 2, full: 10, huge: 9}}{HERE}"},
          f"{T}.tune.trials.huge", "unknown key"),
    Fault("unknown key of a model", {"architecture: mlp}": f"architecture: mlp, depth: 3}}{HERE}"},
          "params.models.screen-mlp.depth", "unknown key"),
    Fault("missing key", {"seed: 1\n": "", "budget: quick": f"budget: quick{HERE}"}, "params", "lacks seed"),
    Fault("missing nested key", {"      folds: 5\n": "",
          "    split:\n      mode: cell_blind\n": f"    split:{HERE}\n      mode: cell_blind\n"}, f"{T}.split",
          "lacks folds"),
    Fault("missing keys", {"        tissue: one_hot\n        smiles: drop\n": "", "missing:": f"missing:{HERE}"},
          f"{T}.data.missing", "lacks tissue, smiles"),
    Fault("missing budget", {"{quick: 1, full: 5}": f"{{full: 5}}{HERE}"}, f"{T}.fit.members", "lacks quick"),
    Fault("key twice", {"budget: quick\n": f"budget: quick\nbudget: full{HERE}\n"}, "params.budget", "stands twice"),
    Fault("nested key twice", {"      folds: 5\n": f"      folds: 5\n      folds: 6{HERE}\n"}, f"{T}.split.folds",
          "stands twice"),
    Fault("model twice", {"  screen-mlp:": f"  screen-mlp: {{task: x, architecture: mlp}}\n  screen-mlp:{HERE}\n   "},
          "params.models.screen-mlp", "stands twice"),
    Fault("a list as a key", {"seed: 1\n": f"seed: 1\n[1, 2]: 3{HERE}\n"}, "params", "key that is no word"),
    # types
    top("seed", "1", "one", "of type int"),
    top("seed", "1", "1.0", "of type int"),
    top("seed", "1", "true", "of type int"),
    top("seed", "1", '"1"', "of type int"),
    top("seed", "1", "", "is None; .*of type int"),
    top("seed", "1", "!vault 1", "cannot be read"),
    top("seed", "1", "!!int word", "cannot be read"),
    top("device", "auto", "2026-13-45", "cannot be read"),
    top("device", "auto", "0", "of type str"),
    changed(f"{T}.data.target", "ln_ic50", "7", "of type str"),
    changed(f"{T}.split.folds", "5", "yes", "of type int"),
    changed(f"{T}.split.folds", "5", "{quick: 2, full: 5}", "of type int"),
    changed(f"{T}.split.test", "0.2", "true", "of type float"),
    changed(f"{T}.split.test", "0.2", '"0.2"', "of type float"),
    changed(f"{T}.split.test", "0.2", "20%", "of type float"),
    changed(f"{T}.tune.trials", "{quick: 2, full: 10}", "10", "must be a mapping"),
    changed(f"{T}.tune.trials", "{quick: 2, full: 10}", "[2, 10]", "must be a mapping"),
    changed(f"{T}.data.omics", "[expression, mutation]", "expression", "must be a list"),
    changed(f"{T}.validate.target_range", "[-20.0, 20]", "20", "must be a list"),
    changed(f"{T}.validate.target_range", "[-20.0, 20]", "[20]", "must have 2 entries, it has 1"),
    Fault("a word in a range", {"[-20.0, 20]": f"[-20.0, high]{HERE}"}, f"{T}.validate.target_range[1]",
          "of type float"),
    # words
    top("budget", "quick", "huge", "one of quick, full"),
    changed(f"{T}.modality", "pairs", "films", "one of images, pairs, profiles"),
    changed(f"{T}.problem", "regression", "clustering", "one of classification, regression"),
    Fault("unknown omics", {"[expression, mutation]": f"[expression, proteins]{HERE}"}, f"{T}.data.omics[1]",
          "one of expression, mutation, copy_number, methylation"),
    changed(f"{T}.validate.expression_scale", "any", "tpm", "one of log2_tpm_plus_1, any"),
    changed(f"{T}.data.missing.expression", "drop", "one_hot", "one of drop, impute"),
    changed(f"{T}.data.missing.tissue", "one_hot", "impute", "one of drop, one_hot"),
    changed(f"{T}.split.mode", "cell_blind", "line_blind", "one of random, cell_blind, drug_blind, tissue_blind"),
    Fault("studies across which nothing is asked", {"    split:\n      mode: cell_blind\n":
          f"    split:{HERE}\n      mode: cross_study\n"}, f"{T}.split",
          "has the mode cross_study and no train_study"),
    Fault("one study for two", {"      mode: cell_blind\n": "      mode: cell_blind\n      train_study: a\n"
          f"      test_study: a{HERE}\n"}, f"{T}.split.test_study", "is 'a', as train_study is"),
    Fault("studies of images", {"      mode: subject_blind\n": "      mode: subject_blind\n"
          f"      train_study: a{HERE}\n"}, f"{S}.split.train_study", "unknown key"),
    changed(f"{T}.tune.objective", "validation", "test", "one of validation, cross_validation"),
    changed(f"{T}.tune.metric", "rmse", "accuracy", "one of r2, rmse"),
    changed(f"{T}.evaluate.metric", "r2", "r_squared", "one of r2"),
    # ranges
    top("seed", "1", "-1", "at least 0"),
    top("seed", "1", "4294967296", "below 2\\*\\*32"),
    top("device", "auto", "gpu", "must be auto, cpu, cuda or cuda:N"),
    top("device", "auto", "cuda:x", "must be auto, cpu, cuda or cuda:N"),
    changed(f"{T}.split.test", "0.2", "0", "between 0 and 1"),
    changed(f"{T}.split.test", "0.2", "1.0", "between 0 and 1"),
    changed(f"{T}.split.test", "0.2", "-0.2", "between 0 and 1"),
    changed(f"{T}.split.test", "0.2", "20", "between 0 and 1"),
    changed(f"{T}.split.test", "0.2", ".nan", "between 0 and 1"),
    changed(f"{T}.split.test", "0.2", "0.8", "leave no training rows"),
    changed(f"{T}.split.validation", "0.1", "0.0", "between 0 and 1"),
    changed(f"{T}.split.folds", "5", "1", "at least 2"),
    changed(f"{T}.split.near_identical", "0.99", "0", "between 0 and 1"),
    changed(f"{T}.split.near_identical", "0.99", "99.0", "between 0 and 1"),
    changed(f"{T}.data.omics", "[expression, mutation]", "[]", "is empty"),
    changed(f"{T}.data.omics", "[expression, mutation]", "[mutation, mutation]", "twice"),
    changed(f"{T}.validate.target_range", "[-20.0, 20]", "[20, -20]", "is empty"),
    changed(f"{T}.validate.target_range", "[-20.0, 20]", "[.nan, 20]", "is empty"),
    changed(f"{T}.validate.minimum_rows", "50", "0", "at least 1"),
    changed(f"{T}.validate.unknown_cell_line_share", "0.0", "1.1", "between 0 and 1"),
    changed(f"{T}.validate.unknown_drug_share", "1", "-0.1", "between 0 and 1"),
    changed(f"{T}.validate.constant_column_share", "0.5", "50", "between 0 and 1"),
    Fault("no trials", {"{quick: 2, full: 10}": f"{{quick: 0, full: 10}}{HERE}"}, f"{T}.tune.trials.quick",
          "at least 1"),
    Fault("no epochs", {"{quick: 3, full: 30}": f"{{quick: 3, full: 0}}{HERE}"}, f"{T}.tune.epochs.full", "at least 1"),
    Fault("no rounds", {"{quick: 6, full: 60}": f"{{quick: -6, full: 60}}{HERE}"}, f"{T}.tune.rounds.quick",
          "at least 1"),
    Fault("some members", {"{quick: 1, full: 5}": f"{{quick: 1, full: 3}}{HERE}"}, f"{T}.fit.members.full",
          "is 3; it must be 1 or split.folds \\(5\\)"),
    Fault("no members", {"{quick: 1, full: 5}": f"{{quick: 0, full: 5}}{HERE}"}, f"{T}.fit.members.quick",
          "is 0; it must be 1 or split.folds \\(5\\)"),
    changed(f"{T}.evaluate.resamples", "1000", "99", "at least 100"),
    changed(f"{T}.evaluate.confidence", "0.95", "95.0", "between 0 and 1"),
    changed(f"{T}.evaluate.interval_coverage", "0.9", "1", "between 0 and 1"),
    Fault("nothing explained", {"{quick: 10, full: 100}": f"{{quick: 0, full: 100}}{HERE}"},
          f"{T}.evaluate.explained_samples.quick", "at least 1"),
    # names that must meet
    changed(f"{T}.evaluate.baseline", "mean_effects", "mean", "'mean', which is not among the models"),
    Fault("baseline of another task", {"  screen-mean_effects: {task: screen, architecture: mean_effects}\n": "",
          "baseline: mean_effects": f"baseline: mean_effects{HERE}"}, f"{T}.evaluate.baseline", "not among the models"),
    Fault("model of no task", {"{task: screen, architecture: mlp}": f"{{task: scren, architecture: mlp}}{HERE}"},
          "params.models.screen-mlp.task", "'scren'; there is no such task"),
    Fault("misnamed model", {"  screen-mlp:": f"  screen-mpl:{HERE}\n   "}, "params.models.screen-mpl",
          "must be named screen-mlp"),
    # kinds
    Fault("no modality", {"  smear:\n    modality: images\n    problem: classification\n":
          f"  smear:\n    problem: classification{HERE}\n"}, S, "lacks modality"),
    Fault("another kind's mode", {"mode: cell_blind": f"mode: subject_blind{HERE}"}, f"{T}.split.mode",
          "is 'subject_blind'; it must be one of random, cell_blind, drug_blind, tissue_blind"),
    Fault("another kind's mode of images", {"mode: subject_blind": f"mode: cell_blind{HERE}"}, f"{S}.split.mode",
          "is 'cell_blind'; it must be one of random, subject_blind"),
    Fault("another kind's key", {"      crop: 0.75\n": f"      crop: 0.75\n      omics: [expression]{HERE}\n"},
          f"{S}.data.omics", "the keys are classes, crop, size"),
    Fault("transfer of a response", {"      objective: validation\n":
          f"      objective: validation\n      weights: imagenet{HERE}\n"}, f"{T}.tune.weights", "unknown key"),
    changed(f"{S}.problem", "classification", "regression", "one of classification"),
    changed(f"{S}.tune.metric", "log_loss", "rmse", "is 'rmse'; it must be one of accuracy"),
    changed(f"{S}.evaluate.metric", "roc_auc", "r2", "is 'r2'; it must be one of accuracy"),
    changed(f"{T}.evaluate.metric", "r2", "roc_auc", "is 'roc_auc'; it must be one of r2"),
    # images
    *(changed(f"{S}.data.classes", "[blast, normal]", written, says) for written, says in (
        ("[blast]", "fewer than two classes"),
        ("[]", "fewer than two classes"),
        ("[blast, blast]", "names a class twice"),
        ('["../blast", normal]', "must be names of folders"),
        ('["blast cell", normal]', "must be names of folders"),
        ('["", normal]', "must be names of folders"),
        ("[.hidden, normal]", "must be names of folders"),
        ('["blast\\n", normal]', "must be names of folders"),
        ("blast", "must be a list"),
    )),
    *(changed(f"{S}.data.crop", "0.75", written, "above 0 and is at most 1") for written in ("0", "-1", "1.1", ".nan")),
    *(changed(f"{S}.data.size", "168", written, "between 16 and 1024") for written in ("5", "15", "1025", "-168")),
    changed(f"{S}.data.size", "168", "168.5", "of type int"),
    changed(f"{S}.validate.minimum_per_class", "12", "2", "at least 3"),
    changed(f"{S}.validate.smallest_side", "16", "0", "at least 1"),
    changed(f"{S}.validate.largest_pixels", "50000000", "0", "at least 1"),
    changed(f"{S}.tune.modes", "[head, partial]", "[]", "is empty"),
    Fault("an unknown mode of training", {"[head, partial]": f"[head, most]{HERE}"}, f"{S}.tune.modes[1]",
          "one of head, partial, full"),
    changed(f"{S}.tune.weights", "imagenet", '""', "must be imagenet, none or a path"),
    changed(f"{S}.tune.weights", "imagenet", "", "of type str"),
    # profiles
    Fault("no problem", {'    modality: profiles\n    problem: "multi_target"\n': f"    modality: profiles{HERE}\n"}, G,
          "lacks problem"),
    changed(f"{G}.problem", '"multi_target"', "clustering", "one of classification, multi_target"),
    Fault("labels' key where genes are predicted", {"      target_count: 50\n":
          f"      target_count: 50\n      minimum_patients: 11{HERE}\n"}, f"{G}.data.minimum_patients",
          "the keys are scale, exclude, missing_genes, predictors, targets, target_count"),
    Fault("genes' key where labels are predicted", {"      small_classes: drop\n":
          f"      small_classes: drop\n      targets: TP53{HERE}\n"}, f"{L}.data.targets",
          "the keys are scale, exclude, missing_genes, minimum_patients, small_classes"),
    Fault("weights where genes are predicted", {"      metric: mae\n":
          f"      metric: mae\n      weights: none{HERE}\n"}, f"{G}.tune.weights", "unknown key"),
    Fault("stability where genes are predicted", {"      metric: rmse_sd\n":
          f"      metric: rmse_sd\n      stability_seeds: {{quick: 1, full: 1}}{HERE}\n"},
          f"{G}.evaluate.stability_seeds", "unknown key"),
    changed(f"{L}.data.scale", "linear", "log10", "one of linear, log2, as_is"),
    Fault("a rule that is no list", {'{sample_type: ["11"], site: [A, B]}': f'{{sample_type: "11"}}{HERE}'},
          f"{L}.data.exclude.sample_type", "must be a list"),
    Fault("a rule of numbers", {'{sample_type: ["11"], site: [A, B]}': f"{{sample_type: [11]}}{HERE}"},
          f"{L}.data.exclude.sample_type[0]", "is 11; it must be of type str"),
    changed(f"{L}.data.exclude", '{sample_type: ["11"], site: [A, B]}', '["11"]', "must be a mapping"),
    changed(f"{L}.data.exclude", '{sample_type: ["11"], site: [A, B]}', "none", "must be a mapping"),
    Fault("a rule twice", {"site: [A, B]}": f"sample_type: [A]}}{HERE}"}, f"{L}.data.exclude.sample_type",
          "stands twice"),
    changed(f"{L}.data.missing_genes", "0.05", "1.1", "between 0 and 1"),
    changed(f"{L}.data.missing_genes", "0.05", "5%", "of type float"),
    changed(f"{L}.data.minimum_patients", "10", "2", "train, validation and test need one each"),
    changed(f"{L}.data.small_classes", "drop", "keep", "one of drop, refuse"),
    changed(f"{L}.validate.minimum_samples", "50", "1", "at least 2"),
    changed(f"{L}.validate.minimum_genes", "20", "0", "at least 2"),
    changed(f"{L}.validate.missing_share", "0.21", "20", "between 0 and 1"),
    changed(f"{L}.validate.constant_gene_share", "0.1", "-0.1", "between 0 and 1"),
    *(changed(f"{L}.validate.library_size_factor", "50.0", written, "above 1") for written in ("1", "0", "-3", ".nan")),
    Fault("another kind's mode of profiles", {"mode: patient_blind": f"mode: subject_blind{HERE}"}, f"{L}.split.mode",
          "is 'subject_blind'; it must be one of random, patient_blind"),
    changed(f"{L}.tune.metric", "macro_f1", "r2", "one of accuracy, balanced_accuracy"),
    changed(f"{L}.tune.layouts", "[given, similarity]", "[]", "is empty"),
    Fault("an unknown layout", {"[given, similarity]": f"[given, hilbert]{HERE}"}, f"{L}.tune.layouts[1]",
          "one of given, chromosome, similarity"),
    *(changed(f"{L}.tune.image_size", "32", written, "between 8 and 512") for written in ("7", "513", "-32")),
    changed(f"{L}.tune.modes", "[full]", "[]", "is empty"),
    changed(f"{L}.tune.weights", "none", '""', "must be imagenet, none or a path"),
    changed(f"{L}.evaluate.metric", "weighted_f1", "rmse_sd", "one of accuracy"),
    Fault("fewer seeds than none", {"{quick: 0, full: 2}": f"{{quick: 0, full: -1}}{HERE}"},
          f"{L}.evaluate.stability_seeds.full", "at least 0"),
    Fault("members of other folds", {"{quick: 1, full: 6}": f"{{quick: 1, full: 5}}{HERE}"}, f"{L}.fit.members.full",
          "is 5; it must be 1 or split.folds \\(6\\)"),
    changed(f"{G}.data.predictors", "landmarks", "some", "one of landmarks, all"),
    changed(f"{G}.data.targets", "TP53|7157", '""', "is empty; name a gene, or most_variable"),
    changed(f"{G}.data.targets", "TP53|7157", "7157", "of type str"),
    changed(f"{G}.data.target_count", "50", "0", "at least 1"),
    changed(f"{G}.tune.metric", "mae", "pearson", "one of r2, rmse, mae, mse"),
    changed(f"{G}.evaluate.metric", "rmse_sd", "within_drug_pearson", "one of r2, rmse"),
    Fault("a demo that is neither", {"demo: false}": f"demo: maybe}}{HERE}"},
          "params.models.genes-mean_expression.demo", "of type bool"),
    # policy
    Fault("an unknown threshold", {"    ece: 0.2\n": f"    ece: 0.2\n    brier: 0.2{HERE}\n"}, f"{P}.gate.brier",
          "unknown key"),
    changed(f"{P}.gate.margin", "0.01", ".inf", "must be a number"),
    changed(f"{P}.gate.margin", "0.01", ".nan", "must be a number"),
    changed(f"{P}.gate.non_inferiority", "0.03", "-0.03", "at least 0"),
    changed(f"{P}.gate.non_inferiority", "0.03", ".nan", "at least 0"),
    changed(f"{P}.gate.ece", "0.2", "20", "between 0 and 1"),
    changed(f"{P}.gate.coverage_shortfall", "0.04", "-0.04", "between 0 and 1"),
    changed(f"{P}.gate.latency_ms_batch_1", "900.0", "0", "above 0"),
    changed(f"{P}.gate.latency_ms_batch_32", "9000.0", ".inf", "above 0"),
    changed(f"{P}.gate.megabytes", "100.0", "-1", "above 0"),
    changed(f"{P}.gate.completeness", "0.06", "6%", "of type float"),
    changed(f"{P}.gate.random_weights_correlation", "0.6", "1.1", "between 0 and 1"),
    changed(f"{P}.serve.rows", "256", "0", "above 0"),
    changed(f"{P}.serve.request_megabytes", "32.0", ".nan", "above 0"),
    changed(f"{P}.serve.image_pixels", "40000000", "-1", "above 0"),
    changed(f"{P}.serve.explained_rows", "8", "0", "above 0"),
    changed(f"{P}.monitor.minimum_rows", "40", "0", "above 0"),
    changed(f"{P}.monitor.significance", "0.02", "1", "between 0 and 1"),
    changed(f"{P}.monitor.population_stability", "0.25", "0", "above 0"),
    changed(f"{P}.monitor.out_of_distribution_share", "0.15", "15", "between 0 and 1"),
    changed(f"{P}.monitor.performance_drop", "0.02", "-1", "at least 0"),
    Fault("a policy of no task", {"    smear:\n      floor": f"    smaer:{HERE}\n      floor"}, f"{P}.tasks.smaer",
          "is of no task; the tasks are genes, screen, smear, tumor"),
    changed(f"{PS}.floor", "0.5", ".nan", "must be a number"),
    changed(f"{PS}.floor", "0.5", "half", "of type float"),
    changed(f"{PS}.promote", "production", "everywhere", "one of staging, production"),
    *(Fault(f"an answer {written}", {ANSWERS: f"[{written}]{HERE}"}, f"{PS}.answers[0].{key}", says)
      for written, key, says in (
        ("{finding: shortcut, answer: looked into, by: ' '}", "by", "is empty"),
        ("{finding: shortcut, answer: '', by: A. Person}", "answer", "is empty"),
        ("{finding: '', answer: looked into, by: A. Person}", "finding", "is empty"),
        ("{finding: shortcut, answer: looked into, by: A. Person, up_to: .nan}", "up_to", "not a number"),
        ("{finding: shortcut, answer: looked into, by: A. Person, simulated: no one}", "simulated", "of type bool"),
    )),
    Fault("an answer twice", {ANSWERS: f"[{{finding: a, answer: b, by: c}}, {{finding: a, answer: d, by: c}}]{HERE}"},
          f"{PS}.answers[1].finding", "is 'a', which is answered twice"),
    Fault("an answer by nobody", {ANSWERS: f"[{{finding: a, answer: b}}]{HERE}"}, f"{PS}.answers[0]", "lacks by"),
    *(Fault(f"a waiver {written}", {WAIVERS: f"[{written}]{HERE}"}, f"{PS}.waivers[0].{key}", says)
      for written, key, says in (
        ('{check: speed, reason: a, by: b, until: "2027-01-01"}', "check", "is 'speed'; it must be one of margin, "),
        ('{check: identity, reason: a, by: b, until: "2027-01-01"}', "check", "which cannot be waived"),
        ('{check: size, reason: "", by: b, until: "2027-01-01"}', "reason", "is empty"),
        ('{check: size, reason: a, by: "", until: "2027-01-01"}', "by", "is empty"),
        ('{check: size, reason: a, by: b, until: never}', "until", "must be a date such as"),
        ('{check: size, reason: a, by: b, until: "2027-02-30"}', "until", "must be a date such as"),
        ("{check: size, reason: a, by: b, until: 2027-01-01}", "until", "of type str"),
        ('{check: floor, reason: a, by: b, until: "2027-01-01"}', "check", "name what may lie below it"),
        ('{check: size, reason: a, by: b, until: "2027-01-01", of: [x]}', "of", "only a floor is waived by name"),
    )),
    Fault("a waiver for ever", {WAIVERS: f"[{{check: size, reason: a, by: b}}]{HERE}"}, f"{PS}.waivers[0]",
          "lacks until"),
]  # fmt: skip


def written(folder: Path, content: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_fault_is_refused_by_file_line_and_key(fault: Fault, tmp_path: Path) -> None:
    content = GOOD
    for old, new in fault.edits.items():
        assert content.count(old) == 1, f"{old!r} stands {content.count(old)} times"
        content = content.replace(old, new)
    (line,) = [number for number, text in enumerate(content.splitlines(), start=1) if text.endswith(HERE)]
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=fault.says) as raised:  # commands tell it without a traceback
        read_params(path)
    assert isinstance(raised.value, ParamsError)
    message = str(raised.value)
    assert re.match(rf"{path}, line {line}: (unknown key )?{re.escape(fault.key)}(?![\w.])", message), message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "the file is empty"),
        ("# nothing but a comment\n", "the file is empty"),
        ("seed: [1\nbudget: quick\n", "not YAML: .*line 2"),
        ("seed: 1\n\tbudget: quick\n", "not YAML: .*line 2"),
        ("seed: *nowhere\n", "not YAML: .*nowhere"),
        (GOOD + "---\nseed: 2\n", "not YAML: .*document"),
        ("- seed\n- budget\n", "line 1: params must be a mapping"),
        ("seed\n", "line 1: params must be a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(content: str, says: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ParamsError, match=f"(?s)^{path}.*{says}"):
        read_params(path)


def test_a_file_of_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("seed: 1\n# für später\n".encode("latin-1"))
    with pytest.raises(ParamsError, match=f"^{path}, line 2: not UTF-8"):
        read_params(path)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"nowhere\.yaml: no such file; run from the repository's root"):
        read_params(tmp_path / "nowhere.yaml")


def test_good_values_are_read_as_they_stand(tmp_path: Path) -> None:
    params = read_params(written(tmp_path, GOOD))
    task = params.task("screen")
    assert (params.seed, params.budget, params.device) == (1, "quick", "auto")
    assert task.data.omics == ("expression", "mutation")
    assert task.validate.target_range == (-20.0, 20.0)
    assert isinstance(task.validate.unknown_drug_share, float)  # written 1
    assert task.tune.trials == PerBudget(2, 10)
    assert (task.tune.trials.of("quick"), task.tune.trials.of("full")) == (2, 10)
    assert params.architectures("screen") == ["mean_effects", "mlp"]
    images = params.task("smear")
    assert isinstance(task, PairsTask) and isinstance(images, ImagesTask)
    assert images.data == ImagesData(("blast", "normal"), 0.75, 168)
    assert images.tune.modes == ("head", "partial")
    assert params.architectures("smear") == ["majority_class"]
    tumor, genes = params.task("tumor"), params.task("genes")
    assert isinstance(tumor, ProfilesClassification) and isinstance(genes, ProfilesMultiTarget)
    assert tumor.data.exclude == {"sample_type": ("11",), "site": ("A", "B")}
    assert genes.data == GeneData("log2", {}, 0.06, "landmarks", "TP53|7157", 50)
    assert tumor.tune.layouts == ("given", "similarity")
    assert tumor.evaluate.stability_seeds == PerBudget(0, 2)
    assert type(genes.tune) is Tune and type(genes.evaluate) is Evaluate
    assert [(name, model.demo) for name, model in params.models.items() if not model.demo] == [
        ("genes-mean_expression", False)
    ]


def test_every_kind_of_task_has_its_modes_and_metrics() -> None:
    for (modality, problem), task in task_types().items():
        assert task.modes[0] == "random", modality
        assert set(get_problem(problem).tunable) <= set(get_problem(problem).reported(within=task.within))
    for read in read_params(ROOT / "params.yaml").tasks.values():
        assert type(read) is task_types()[read.modality, read.problem]


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    # YAML 1.1 takes 1e-3 for text.
    path = written(tmp_path, GOOD.replace("constant_column_share: 0.5", "constant_column_share: 1e-3"))
    assert read_params(path).task("screen").validate.constant_column_share == 0.001


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices_that_training_knows_are_accepted(device: str, tmp_path: Path) -> None:
    assert read_params(written(tmp_path, GOOD.replace("device: auto", f"device: {device}"))).device == device


def test_an_unknown_task_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    params = read_params(written(tmp_path, GOOD))
    for ask in (params.task, params.architectures):
        with pytest.raises(ParamsError, match="no task 'scren'; the tasks are genes, screen, smear, tumor"):
            ask("scren")


def test_parameters_cannot_change_while_a_run_is_on(tmp_path: Path) -> None:
    params = read_params(written(tmp_path, GOOD))
    with pytest.raises(FrozenInstanceError):
        params.seed = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        params.task("screen").split.test = 0.5  # type: ignore[misc]


def test_the_shipped_file_reads_and_names_a_model_for_every_task() -> None:
    params = read_params(ROOT / "params.yaml")
    assert isinstance(params, Params)
    assert params.tasks
    for name, task in params.tasks.items():
        assert task.evaluate.baseline in params.architectures(name)


_share = st.floats(0, 1)
_any = st.floats(allow_nan=False)
_count = st.integers(0, 10**12)
_counts = st.builds(PerBudget, quick=_count, full=_count)
_word = st.text(st.characters(categories=["L", "N"], max_codepoint=0xFFFF), min_size=1)
_gap = st.sampled_from(["drop", "impute"])
_code = st.sampled_from(["drop", "one_hot"])
_omics = ("expression", "mutation", "copy_number", "methylation")
_tasks = st.builds(
    PairsTask,
    modality=st.just("pairs"),
    problem=st.just("regression"),
    data=st.builds(
        PairsData,
        target=_word,
        omics=st.lists(st.sampled_from(_omics), unique=True).map(tuple),
        missing=st.builds(
            MissingPolicy,
            **dict.fromkeys(_omics, _gap),
            **dict.fromkeys(("tissue", "smiles"), _code),
        ),
    ),
    validate=st.builds(
        ValidatePairs,
        expression_scale=st.sampled_from(["log2_tpm_plus_1", "any"]),
        target_range=st.tuples(_any, _any),
        minimum_rows=_count,
        unknown_cell_line_share=_share,
        unknown_drug_share=_share,
        constant_column_share=_share,
    ),
    split=st.builds(
        PairsSplit,
        mode=st.sampled_from(["random", "cell_blind", "drug_blind", "tissue_blind", "cross_study"]),
        test=_share,
        validation=_share,
        folds=_count,
        near_identical=_share,
        train_study=_word,
        test_study=_word,
    ),
    tune=st.builds(
        Tune,
        objective=st.sampled_from(["validation", "cross_validation"]),
        metric=st.sampled_from(["rmse", "mae", "mse", "r2", "pearson", "spearman"]),
        trials=_counts,
        epochs=_counts,
        rounds=_counts,
    ),
    fit=st.builds(Fit, members=_counts),
    evaluate=st.builds(
        Evaluate,
        metric=st.sampled_from(["r2", "margin", "within_drug_pearson"]),
        baseline=_word,
        resamples=_count,
        confidence=_share,
        explained_samples=_counts,
        interval_coverage=_share,
    ),
)

_image_tasks = st.builds(
    ImagesTask,
    modality=st.just("images"),
    problem=st.just("classification"),
    data=st.builds(ImagesData, classes=st.lists(_word, min_size=2).map(tuple), crop=_share, size=_count),
    validate=st.builds(ValidateImages, minimum_per_class=_count, smallest_side=_count, largest_pixels=_count),
    split=st.builds(
        Split,
        mode=st.sampled_from(["random", "subject_blind"]),
        test=_share,
        validation=_share,
        folds=_count,
        near_identical=_share,
    ),
    tune=st.builds(
        TuneTransfer,
        objective=st.sampled_from(["validation", "cross_validation"]),
        metric=st.sampled_from(["log_loss", "accuracy", "roc_auc"]),
        trials=_counts,
        epochs=_counts,
        rounds=_counts,
        weights=st.sampled_from(["imagenet", "none", "../weights/a b.pth"]) | _word,
        modes=st.lists(st.sampled_from(["head", "partial", "full"]), min_size=1).map(tuple),
    ),
    fit=st.builds(Fit, members=_counts),
    evaluate=st.builds(
        Evaluate,
        metric=st.sampled_from(["accuracy", "roc_auc", "margin"]),
        baseline=_word,
        resamples=_count,
        confidence=_share,
        explained_samples=_counts,
        interval_coverage=_share,
    ),
)


_of_profiles = {
    "scale": st.sampled_from(["linear", "log2", "as_is"]),
    "exclude": st.dictionaries(_word, st.lists(_word | st.sampled_from(["11", "01", "true", ""])).map(tuple)),
    "missing_genes": _share,
}
_validate_expression = st.builds(
    ValidateProfiles,
    minimum_samples=_count,
    minimum_genes=_count,
    missing_share=_share,
    constant_gene_share=_share,
    library_size_factor=_any,
)
_patient_split = st.builds(
    Split,
    mode=st.sampled_from(["random", "patient_blind"]),
    test=_share,
    validation=_share,
    folds=_count,
    near_identical=_share,
)
_tuned = {
    "objective": st.sampled_from(["validation", "cross_validation"]),
    "trials": _counts,
    "epochs": _counts,
    "rounds": _counts,
}
_evaluated = {
    "baseline": _word,
    "resamples": _count,
    "confidence": _share,
    "explained_samples": _counts,
    "interval_coverage": _share,
}
_label_tasks = st.builds(
    ProfilesClassification,
    modality=st.just("profiles"),
    problem=st.just("classification"),
    data=st.builds(
        LabelData, **_of_profiles, minimum_patients=_count, small_classes=st.sampled_from(["drop", "refuse"])
    ),
    validate=_validate_expression,
    split=_patient_split,
    tune=st.builds(
        TuneProfiles,
        **_tuned,
        metric=st.sampled_from(get_problem("classification").tunable),
        weights=st.sampled_from(["imagenet", "none"]) | _word,
        modes=st.lists(st.sampled_from(["head", "partial", "full"]), min_size=1).map(tuple),
        layouts=st.lists(st.sampled_from(["given", "chromosome", "similarity"]), min_size=1).map(tuple),
        image_size=_count,
    ),
    fit=st.builds(Fit, members=_counts),
    evaluate=st.builds(
        EvaluateProfiles,
        **_evaluated,
        metric=st.sampled_from(get_problem("classification").reported(within=False)),
        stability_seeds=_counts,
    ),
)
_gene_tasks = st.builds(
    ProfilesMultiTarget,
    modality=st.just("profiles"),
    problem=st.just("multi_target"),
    data=st.builds(
        GeneData,
        **_of_profiles,
        predictors=st.sampled_from(["landmarks", "all"]),
        targets=st.sampled_from(["most_variable", "TP53|7157", "7157"]) | _word,
        target_count=_count,
    ),
    validate=_validate_expression,
    split=_patient_split,
    tune=st.builds(Tune, **_tuned, metric=st.sampled_from(get_problem("multi_target").tunable)),
    fit=st.builds(Fit, members=_counts),
    evaluate=st.builds(
        Evaluate, **_evaluated, metric=st.sampled_from(get_problem("multi_target").reported(within=False))
    ),
)


@given(_tasks | _image_tasks | _label_tasks | _gene_tasks)
def test_the_task_that_a_model_carries_is_the_task_it_was_trained_for(task: Task) -> None:
    assert read_task(task_text(task)) == task


def test_every_shipped_task_survives_its_text() -> None:
    for task in read_params(ROOT / "params.yaml").tasks.values():
        assert read_task(task_text(task)) == task


def test_policy_is_read_and_a_task_without_one_has_neither_floor_nor_answers(tmp_path: Path) -> None:
    policy = read_params(written(tmp_path, GOOD)).policy
    smear = policy.task("smear")
    assert (smear.floor, smear.promote) == (0.5, "production")
    assert [(each.finding, each.up_to, each.simulated) for each in smear.answers] == [("shortcut", 0.7, False)]
    assert [(each.check, each.until) for each in smear.waivers] == [("latency", "2027-01-01")]
    assert policy.task("screen") == TaskPolicy()
    assert TaskPolicy().floor == -math.inf


def test_answers_of_the_shipped_sample_hold_for_no_real_data() -> None:
    for task in read_params(ROOT / "params.yaml").policy.tasks.values():
        assert all(answer.simulated for answer in task.answers)
        assert {waiver.check for waiver in task.waivers} <= {"simulated"}
