"""A fault in ``params.yaml`` must be refused by file, line and key, before hours of work go into a wrong setting."""

import math
import re
import shutil
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.params import ParamsError, PerBudget, Task, read_params, read_task, task_text
from pipelines.policy import TaskPolicy
from pipelines.problems import get_problem
from pipelines.tasks import task_types

ROOT = Path(__file__).parents[2]
SHIPPED = read_params(ROOT / "params.yaml")


def _good() -> str:
    """Return the shipped file without comments, with the baseline of each task alone, an answer and a waiver."""
    content = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    names = [f"{name}-{task['evaluate']['baseline']}" for name, task in content["tasks"].items()]
    content["models"] = {name: {**content["models"][name], "demo": True} for name in names}
    content["tasks"]["gene_expression"]["data"]["targets"] = "TP53|7157"
    answer = {"finding": "shortcut", "answer": "looked into", "by": "A. Person", "up_to": 0.7}
    waiver = {"check": "latency", "reason": "batch use", "by": "A. Person", "until": "2027-01-01"}
    content["policy"]["tasks"] = {
        "blood_cell": {"floor": 0.5, "promote": "production", "answers": [answer], "waivers": [waiver]}
    }
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=1000)


GOOD = _good()
T, B, L, G, S = (
    f"tasks.{name}" for name in ("drug_response", "blood_cell", "tumor_type", "gene_expression", "breast_survival")
)
P, FIRST_MODEL = "policy.tasks.blood_cell", "models.drug_response-mean_effects"


def place(path: str) -> tuple[yaml.Node, yaml.Node]:
    found: Any = yaml.compose(GOOD, Loader=yaml.CSafeLoader)
    key = found
    for part in path.split("."):
        key, found = next(pair for pair in found.value if pair[0].value == part)
    return key, found


def edited(path: str, written: str | None) -> tuple[str, int]:
    """Return `GOOD` with another value of a key, or without the key, and the line of the key, else of its mapping."""
    key, value = place(path)
    rest = GOOD[value.end_mark.index :]
    if isinstance(value, yaml.CollectionNode) and not value.flow_style:  # it ends where the next key begins
        rest = f"\n{' ' * value.end_mark.column}{rest}"
    if written is not None:
        return f"{GOOD[: key.end_mark.index]}: {written}{rest}", key.start_mark.line + 1
    line = place(path.rpartition(".")[0])[0].start_mark.line + 1 if "." in path else 1
    return GOOD[: key.start_mark.index] + rest.lstrip("\n, "), line


def refused(folder: Path, text: str) -> str:
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError) as raised:
        read_params(path)
    assert str(raised.value).startswith(str(path)) and len(str(raised.value).splitlines()) == 1
    return str(raised.value).removeprefix(str(path))


RATES = ("0", "1.0", "-0.2", "20", ".nan")
VALUES: list[tuple[str, tuple[str, ...], str]] = [
    ("seed", ("one", "1.0", "true", '"1"'), "of type int"),
    ("seed", ("!vault 1", "!!int word"), "cannot be read"),
    (f"{T}.split.test", ("true", '"0.2"', "20%"), "of type float"),
    (f"{T}.data.omics", ("expression",), "must be a list"),
    (f"{T}.validate.target_range", ("[20]",), "must have 2 entries, it has 1"),
    ("budget", ("huge",), "one of quick, full"),
    (f"{T}.modality", ("films",), "one of images, pairs, profiles"),
    (f"{T}.data.missing.tissue", ("impute",), "one of drop, one_hot"),
    (f"{T}.split.mode", ("subject_blind",), "one of random, cell_blind, drug_blind, drug_pilot, tissue_blind"),
    (f"{G}.tune.metric", ("pearson", "auto", "worst_stress_r2"), "one of r2, rmse, mae, mse"),
    (f"{B}.tune.metric", ("worst_stress_ece", "worst_stress_worst_stress_accuracy"), "worst_stress_accuracy"),
    ("seed", ("-1", "4294967296"), r"at least 0 and below 2\*\*32"),
    ("device", ("gpu", "cuda:x"), "must be auto, cpu, cuda or cuda:N"),
    (f"{T}.split.test", RATES, "between 0 and 1"),
    (f"{T}.split.test", ("0.8",), "leave no training rows"),
    (f"{T}.split.validation", ("0.0",), "between 0 and 1"),
    (f"{T}.split.near_identical", ("0", "99.0"), "between 0 and 1"),
    (f"{T}.validate.unknown_drug_share", ("-0.1", "1.1"), "between 0 and 1"),
    (f"{T}.evaluate.resamples", ("99",), "at least 100"),
    (f"{T}.evaluate.confidence", ("95.0",), "between 0 and 1"),
    (f"{T}.data.omics", ("[mutation, mutation]",), "twice"),
    (f"{T}.evaluate.strata", ('[tissue, "tissue?"]',), "names a column twice"),
    (f"{T}.validate.target_range", ("[20, -20]", "[.nan, 20]"), "is empty"),
    (f"{B}.data.classes", ("[blast]", "[]"), "fewer than two classes"),
    (f"{B}.data.classes", ("[blast, blast]",), "names a class twice"),
    (f"{B}.data.classes", ('["../blast", normal]', '["", normal]', "[.hidden, normal]", '["blast\\n", a]'), "folders"),
    (f"{B}.data.crop", ("0", "1.1", ".nan"), "above 0 and is at most 1"),
    (f"{B}.data.size", ("15", "1025"), "between 16 and 1024"),
    (f"{L}.data.exclude", ('["11"]', "none"), "must be a mapping"),
    (f"{L}.validate.library_size_factor", ("1", "-3", ".nan"), "above 1"),
    (f"{L}.tune.image_size", ("7", "513"), "between 8 and 512"),
    (f"{S}.data.horizons", ("[3.0]", "[3.0, 1.0]", "[0.0, 1.0]", "[1.0, .inf]"), "two or more times, ascending"),
    (f"{S}.data.horizon", ("2.5",), "must be one of data.horizons"),
    (f"{S}.tune.metric", ("uno_concordance",), "one of "),  # a study cannot optimize it
    (f"{T}.evaluate.baseline", ("mean",), "'mean', which is not among the models"),
    ("policy.gate.margin", (".inf", ".nan"), "must be a number"),
    ("policy.gate.megabytes", ("0", ".inf", ".nan"), "above 0"),
    ("policy.monitor.performance_drop", ("-1",), "at least 0"),
    (f"{P}.floor", (".nan",), "must be a number"),
    (f"{P}.promote", ("everywhere",), "one of staging, production"),
    ("policy.gate.non_inferiority", ("-0.03", ".nan"), "at least 0"),
    ("policy.gate.ece", ("20",), "between 0 and 1"),
    ("policy.dashboard.endpoints.blood_cell", ("127.0.0.1", '"http://"'), "write it as http"),
]
# What several keys refuse alike.
GATE = ("gate.coverage_shortfall", "gate.completeness", "gate.random_weights_correlation", "gate.stress_drop")
ABOVE = ("gate.latency_ms_batch_1", "gate.latency_ms_batch_32", "monitor.minimum_rows", "monitor.population_stability")
SERVE = ("serve.rows", "serve.request_megabytes", "serve.image_pixels", "serve.explained_rows", "dashboard.seconds")
LEAST = (f"{T}.validate.minimum_rows", f"{B}.validate.largest_pixels", f"{G}.data.target_count")
VALUES += [
    *((f"policy.{key}", ("0",), "above 0") for key in (*ABOVE, *SERVE)),
    *((f"policy.{key}", ("1.1",), "between 0 and 1") for key in (*GATE, "monitor.out_of_distribution_share")),
    *((key, ("0",), "at least 1") for key in LEAST),
    *((key, ("1",), "at least 2") for key in (f"{T}.split.folds", f"{L}.validate.minimum_genes")),
    *((key, ("2",), "at least 3") for key in (f"{B}.validate.minimum_per_class", f"{L}.data.minimum_patients")),
    *((key, ("1",), "between 0 and 1") for key in (f"{T}.evaluate.interval_coverage", "policy.monitor.significance")),
    (f"{L}.data.missing_genes", ("1.1",), "between 0 and 1"),
    *((key, ('""',), "is empty") for key in (f"{B}.tune.weights", f"{G}.data.targets", f"{S}.data.time")),
    *((key, ("[]",), "is empty") for key in (f"{B}.tune.modes", f"{L}.tune.layouts")),
]


@pytest.mark.parametrize(("key", "written", "says"), VALUES, ids=lambda each: str(each)[:60])
def test_a_value_is_refused_by_line_and_key(key: str, written: tuple[str, ...], says: str, tmp_path: Path) -> None:
    for value in written:
        text, line = edited(key, value)
        assert re.match(rf", line {line}: params\.{re.escape(key)} .*{says}", refused(tmp_path, text)), value


COUNT = "{quick: 1, full: 1}"
TUNE = f"objective: validation, metric: rmse, trials: {COUNT}, epochs: {COUNT}, rounds: {COUNT}"
ANSWER = "finding: shortcut, answer: looked into, by: A. Person"
WAIVER = 'check: size, reason: a, by: b, until: "2027-01-01"'
INSIDE: list[tuple[str, str, str, str]] = [
    (f"{T}.validate.target_range", "[-20.0, high]", "[1]", "of type float"),
    (f"{T}.data.omics", "[expression, proteins]", "[1]", "one of expression, mutation, copy_number, methylation"),
    (f"{L}.data.exclude", '{sample_type: "11"}', ".sample_type", "must be a list"),
    (f"{L}.data.exclude", "{sample_type: [A], sample_type: [B]}", ".sample_type", "duplicate key"),
    (f"{T}.tune.trials", "{quick: 0, full: 10}", ".quick", "at least 1"),
    (f"{T}.tune.epochs", "{quick: 3, full: 0}", ".full", "at least 1"),
    (f"{T}.evaluate.explained_samples", "{quick: 0, full: 1}", ".quick", "at least 1"),
    (f"{B}.evaluate.stressed_samples", "{quick: 0, full: 1}", ".quick", "at least 1"),
    (f"{L}.evaluate.stability_seeds", "{quick: 0, full: -1}", ".full", "at least 0"),
    (f"{T}.tune.trials", "{quick: 1, full: 1, huge: 9}", ".huge", "the keys are quick, full"),
    (f"{T}.tune.trials", "{full: 5}", "", "lacks quick"),
    (f"{T}.tune", f"{{{TUNE}, cost: size}}", ".cost", "write tune.pruner: none, in place of median"),
    (f"{T}.tune", f"{{{TUNE}, cost: size, pruner: asha}}", ".cost", "write tune.pruner: none, in place of asha"),
    (f"{T}.tune", f"{{{TUNE}, cost: size, sampler: cmaes}}", ".sampler", "must be tpe, random or grid"),
    (f"{T}.tune", f"{{{TUNE}, cost: size, pruner: none, tolerance: 1.5}}", ".tolerance", "between 0 and 1"),
    (f"{T}.fit.members", "{quick: 1, full: 3}", ".full", r"is 3; it must be 1 or split.folds \(5\)"),
    (f"{T}.split", f"{{mode: cross_study, test: 0.2, validation: 0.1, folds: 5, near_identical: 1.0{'}'}", "",
     "has the mode cross_study and no train_study"),
    (f"{T}.split.test_study", "SIM1", "", "is 'SIM1', as train_study is"),
    (f"{P}.answers", f"[{{{ANSWER.replace('A. Person', chr(39) + ' ' + chr(39))}}}]", "[0].by", "is empty"),
    (f"{P}.answers", f"[{{{ANSWER}, up_to: .nan}}]", "[0].up_to", "not a number"),
    (f"{P}.answers", f"[{{{ANSWER}}}, {{{ANSWER}}}]", "[1].finding", "is 'shortcut', which is answered twice"),
    (f"{P}.waivers", f"[{{{WAIVER.replace('size', 'identity')}}}]", "[0].check", "it must be one of margin, "),
    (f"{P}.waivers", f"[{{{WAIVER.replace('2027-01-01', '2027-02-30')}}}]", "[0].until", "must be a date such as"),
    (f"{P}.waivers", f"[{{{WAIVER.replace('size', 'floor')}}}]", "[0].check", "a floor needs `of`"),
    (f"{P}.waivers", f"[{{{WAIVER}, of: [x]}}]", "[0].check", "other checks have none"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "written", "inside", "says"), INSIDE, ids=lambda each: str(each)[:60])
def test_a_part_of_a_value_is_refused(key: str, written: str, inside: str, says: str, tmp_path: Path) -> None:
    text, line = edited(key, written)
    told = refused(tmp_path, text)
    assert re.match(rf", line {line}: (unknown key )?params\.{re.escape(key + inside)}(?![\w.]).*{says}", told), told


@pytest.mark.parametrize("key", ["seed", f"{T}.modality", f"{G}.problem", f"{L}.data.minimum_patients"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    text, line = edited(key, None)
    above, _, name = f"params.{key}".rpartition(".")
    assert re.match(rf", line {line}: {above} lacks {name}", refused(tmp_path, text))


@pytest.mark.parametrize(
    ("before", "added", "says"),
    [
        ("seed", "sedd: 2", "unknown key params.sedd; the keys are seed, budget"),
        ("seed", "seed: 2", "params.seed is a duplicate key"),
        ("seed", "[1, 2]: 3", "params has a key that is no text"),
        (f"{T}.tune.metric", "weights: imagenet", f"unknown key params.{T}.tune.weights"),
        (f"{P}.floor", "flor: 0.2", f"unknown key params.{P}.flor"),
        ("policy.tasks.blood_cell", "smaer: {floor: 1.0}", "params.policy.tasks.smaer is of no task"),
        (FIRST_MODEL, "a-b: {task: drug_response, architecture: mlp}", "params.models.a-b must"),
        (FIRST_MODEL, "a-b: {task: scren, architecture: b}", "params.models.a-b.task is 'scren'"),
    ],
)
def test_a_key_too_many_is_refused(before: str, added: str, says: str, tmp_path: Path) -> None:
    key, _ = place(before)
    block = not GOOD[: key.start_mark.index].rstrip(" ").endswith(("{", ","))
    text = GOOD[: key.start_mark.index] + added + ("\n" + " " * key.start_mark.column if block else ", ")
    line = key.start_mark.line + 1 + (1 if "duplicate" in says else 0)
    assert f", line {line}: {says}" in refused(tmp_path, text + GOOD[key.start_mark.index :])


def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for content, says in (
        (None, "no such file; run from the repository's root"),
        (b"# nothing but a comment\n", "the file is empty"),
        (b"seed: [1\nbudget: quick\n", "not YAML: .*line 2"),
        (b"seed: 1\n---\nseed: 2\n", "not YAML: .*document"),
        (b"- seed\n- budget\n", "line 1: params must be a mapping"),
        ("seed: 1\n# für später\n".encode("latin-1"), "line 2: not UTF-8"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ParamsError, match=f"(?s)^{path}.*{says}"):
            read_params(path)


def test_good_values_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    text, _ = edited(f"{T}.validate.constant_column_share", "1e-3")  # YAML 1.1 takes it for text
    path.write_text(text.replace("device: auto", "device: cuda:12"))
    params = read_params(path)
    pairs, images, tumor, genes = (params.task(name.partition(".")[2]) for name in (T, B, L, G))
    assert (params.seed, params.budget, params.device) == (SHIPPED.seed, "quick", "cuda:12")
    assert pairs.validate.constant_column_share == 0.001 and pairs.validate.target_range == (-20.0, 20.0)
    assert pairs.tune.trials == PerBudget(2, 20)
    assert (pairs.tune.trials.of("quick"), pairs.tune.trials.of("full")) == (2, 20)
    assert vars(images.tune)["modes"] == ("head", "partial") and images.data.crop == 1.0
    assert tumor.data.exclude == {"sample_type": ("11",)} and genes.data.targets == "TP53|7157"
    assert params.architectures("drug_response") == ["mean_effects"]
    blood = params.policy.task("blood_cell")
    assert (blood.floor, blood.promote) == (0.5, "production")
    assert [(each.finding, each.up_to, each.simulated) for each in blood.answers] == [("shortcut", 0.7, False)]
    assert [(each.check, each.until, each.of) for each in blood.waivers] == [("latency", "2027-01-01", ())]
    assert params.policy.task("drug_response") == TaskPolicy(floor=-math.inf)
    with pytest.raises(FrozenInstanceError):
        params.task("drug_response").split.test = 0.5  # type: ignore[misc]
    for ask in (params.task, params.architectures):
        with pytest.raises(ParamsError, match="no task 'scren'"):
            ask("scren")


def test_every_task_has_its_modes_metrics_and_answers() -> None:
    for (modality, problem), task in task_types().items():
        assert task.modes[0] == "random", modality
        assert set(get_problem(problem).tunable) <= set(get_problem(problem).reported(within=task.within))
    for name, read in SHIPPED.tasks.items():
        assert read.evaluate.baseline in SHIPPED.architectures(name)
    for policy in SHIPPED.policy.tasks.values():  # answers of the shipped sample count for no real data
        assert all(answer.simulated for answer in policy.answers)
        assert {waiver.check for waiver in policy.waivers} <= {"simulated"}


_word = st.text(st.characters(categories=["L", "N"], max_codepoint=0xFFFF), min_size=1) | st.sampled_from(
    ["no", "1e5", "2026-01-01", "~", "a: b", "#", "07", "null", "="]
)


@settings(deadline=None)
@given(st.sampled_from(list(SHIPPED.tasks.values())), _word, st.floats(allow_nan=False), st.integers())
def test_the_task_of_a_saved_model_is_read_back(task: Task, word: str, number: float, count: int) -> None:
    split = replace(task.split, mode=word, test=number, folds=count)
    changed = replace(task, split=split, evaluate=replace(task.evaluate, baseline=word, confidence=number))
    assert read_task(task_text(changed)) == changed


def test_the_checkout_chooses_the_budget(tmp_path: Path) -> None:
    params_file, chosen = Path(shutil.copy(ROOT / "params.yaml", tmp_path)), tmp_path / "budget.yaml"
    assert read_params(params_file).budget == "quick"
    for text, budget in {"budget: full\n": "full", "{}\n": "quick", "": "quick", "budget: small_images": None}.items():
        chosen.write_text(text)
        assert read_params(params_file).budget == (budget or "small_images")
        assert read_params(params_file, of_checkout=False).budget == "quick"
    for text, message in {
        "\nbudget: huge\n": r"budget.yaml, line 2: params.budget is 'huge'; it must be one of quick, full",
        "seed: 1\n": r"budget.yaml, line 1: unknown key params.seed",
        "full\n": r"budget.yaml, line 1: params must be a mapping",
        "budget: [\n": r"budget.yaml: not YAML",
    }.items():
        chosen.write_text(text)
        with pytest.raises(ParamsError, match=message):
            read_params(params_file)


BUDGET = "\nbudgets:\n  tiny:\n    blood_cell:\n      "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data: {sise: 80}", "unknown key params.tasks.blood_cell.data.sise; the keys are classes, crop, size"),
        ("data: {size: 8}", "params.tasks.blood_cell.data.size is 8; it must be between 16 and 1024"),
        ("tune: {epochs: {tiny: 2}}", "unknown key params.tasks.blood_cell.tune.epochs.tiny; the keys are quick, full"),
        ("tune: {epochs: {full: 0}}", "params.tasks.blood_cell.tune.epochs.full is 0; it must be at least 1"),
        ("tune: {epochs: 2}", "params.tasks.blood_cell.tune.epochs must be a mapping"),
        ("fit: {members: {full: 1, full: 5}}", "params.tasks.blood_cell.fit.members.full is a duplicate key"),
        ("tune: {tree_features: []}", "params.tasks.blood_cell.tune.tree_features is empty"),
    ],
)
def test_a_fault_in_a_budget_is_refused_though_another_is_chosen(text: str, says: str, tmp_path: Path) -> None:
    good = GOOD[: place("budgets")[0].start_mark.index] + GOOD[place("models")[0].start_mark.index :]
    assert refused(tmp_path, good + BUDGET + text).startswith(f", line {len(good.splitlines()) + 5}: {says}")


def test_a_budget_changes_the_keys_that_it_names_and_no_task_besides(tmp_path: Path) -> None:
    good = GOOD[: place("budgets")[0].start_mark.index] + GOOD[place("models")[0].start_mark.index :]
    path, held = tmp_path / "params.yaml", tmp_path / "budget.yaml"
    path.write_text(good + BUDGET + "data: {size: 80}\n      tune: {modes: [full], epochs: {full: 3}}\n")
    held.write_text("budget: full\n")
    full = read_params(path)
    held.write_text("budget: tiny\n")
    tiny, blood = read_params(path), full.task("blood_cell")
    tune: Any = replace(blood.tune, epochs=PerBudget(blood.tune.epochs.quick, 3), **{"modes": ("full",)})  # type: ignore[arg-type]
    asked = replace(blood, data=replace(blood.data, size=80), tune=tune)
    assert tiny == replace(full, budget="tiny", tasks={**full.tasks, "blood_cell": asked})
    assert list(tiny.tasks) == list(full.tasks) and tune.epochs.of(tiny.budget) == 3
    for name in ("full", "Tiny", "a b"):
        said = refused(tmp_path, good + BUDGET.replace("tiny", name) + "data: {size: 80}\n")
        assert f"params.budgets.{name} is no name of a budget" in said
    ignored = refused(tmp_path, good + BUDGET + "tune: {epochs: {quick: 2, full: 3}}\n")
    assert "params.budgets.tiny.blood_cell has a key `quick`, which no budget but quick reads" in ignored
    assert "params.budgets.tiny.scren is of no task" in refused(
        tmp_path, good + BUDGET.replace("blood_cell", "scren") + "data: {size: 80}\n"
    )
