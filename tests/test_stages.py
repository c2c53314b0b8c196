"""What would let DVC call a result up to date although its code is another, or throw one away for a comment.

Also what would let a demo leave a task out or download.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipelines import code_closure, stage_inputs
from pipelines.code_closure import closure
from pipelines.errors import UserError
from pipelines.params import Params, TuneTransfer, read_params
from pipelines.paths import INPUTS
from pipelines.side_by_side import run_chains
from pipelines.stage_inputs import OF_MODELS, OF_TASKS, inputs
from serving import demo

ROOT = Path(__file__).parents[1]
ROOMS = ("pipelines", "training", "evaluation", "serving")
PARAMS = read_params(ROOT / "params.yaml")
WRITTEN: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LOOPS = {name: each for name, each in WRITTEN.items() if "do" in each}
STAGES: dict[str, dict[str, Any]] = {name: stage["do"] for name, stage in LOOPS.items()}
KEYS: dict[str, Iterable[str]] = {"${tasks}": PARAMS.tasks, "${models}": PARAMS.models}


def inputs_of(params: Params) -> dict[str, dict[str, Any]]:
    """Return the inputs of all stages by their names in DVC, with a slash."""
    every = {(task, name): content for task in params.tasks for name, content in inputs(params, task).items()}
    return {
        f"{name.partition('-')[0]}/{'-'.join([task, *name.split('-')[1:]])}": each
        for (task, name), each in every.items()
    }


@pytest.fixture(scope="module")
def found() -> dict[str, dict[str, Any]]:
    return inputs_of(PARAMS)


def test_each_stage_depends_on_the_file_of_its_own_module_and_on_no_other_code(found: dict[str, Any]) -> None:
    stages, first = dict(STAGES), STAGES["inputs"]
    del stages["inputs"]
    assert set(found) == {f"{name}/{key}" for name in stages for key in KEYS[LOOPS[name]["foreach"]]}
    assert {stage["cmd"].split()[2] for stage in stages.values()} == {*OF_TASKS, *OF_MODELS}
    for name, stage in stages.items():
        of_task = LOOPS[name]["foreach"] == "${tasks}"
        own = f"${{key}}/{name}" if of_task else f"${{item.task}}/{name}-${{item.architecture}}"
        assert f"{INPUTS}/{own}.json" in stage["deps"]
        assert not [each for each in stage["deps"] if each.split("/")[0] in ROOMS or (ROOT / each).is_file()]
    assert [list(each) for each in first["outs"]] == [[f"{INPUTS}/${{key}}"]]
    # Else they could change, and DVC would take what this stage wrote before for up to date.
    of_code = {file.split("/")[0] for content in found.values() for file in content["code"]}
    assert {*of_code, "params.yaml", "budget.yaml"} == set(first["deps"])


OF_MODEL = {f"{stage}/{key}" for stage in ("tune", "fit", "evaluate") for key in PARAMS.models}
OF_PAIRS = {name for name in OF_MODEL if "/drug_response-" in name}
OF_TASK = {f"{stage}/{task}" for stage in ("prepare", "leaderboard") for task in PARAMS.tasks}
EVALUATE = {f"evaluate/{key}" for key in PARAMS.models}
BASELINE = {
    name for name in OF_PAIRS if name.startswith("fit/") or name.endswith(("-mean_effects", "-mechanism_effects"))
}
RUN_AGAIN = {
    "training/architectures/gnn.py": {name for name in OF_PAIRS if name.endswith("-gnn")},
    "training/architectures/mean_effects.py": BASELINE,
    "training/tune.py": {f"tune/{key}" for key in PARAMS.models},
    "pipelines/expectations/pairs.py": {"validate/drug_response"},
    "pipelines/probes.py": {f"audit/{task}" for task in PARAMS.tasks},
    "pipelines/split.py": OF_MODEL | OF_TASK,
    "evaluation/explain/biomarkers.yaml": (OF_PAIRS & EVALUATE) | {"leaderboard/drug_response"},
    "serving/app.py": set(),
}


def test_what_a_change_of_a_file_runs_again(found: dict[str, Any]) -> None:
    for file, stages in RUN_AGAIN.items():
        assert (ROOT / file).is_file()
        assert {name for name, content in found.items() if file in content["code"]} == stages, file
    for name, content in found.items():  # the class of the task decides how its target is read
        task = next(task for key, task in PARAMS.tasks.items() if name.split("/")[1].startswith(key))
        assert f"pipelines/tasks/{task.modality}_{task.problem}.py" in content["code"], name
    assert "training/networks/augment.py" in found["tune/blood_cell-vgg16"]["code"]
    assert "training/networks/augment.py" not in found["tune/tumor_type-logistic_regression"]["code"]


def test_a_stage_runs_again_for_what_it_reads_of_the_parameters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_inputs, "closure", lambda *modules, **names: {})
    task = PARAMS.tasks["drug_response"]

    def again(params: Params) -> set[str]:
        before, after = inputs_of(PARAMS), inputs_of(params)
        return {name.split("/")[0] for name in before if before[name] != after[name]}

    def with_task(**changes: Any) -> Params:
        return replace(PARAMS, tasks={**PARAMS.tasks, "drug_response": replace(task, **changes)})

    assert again(replace(PARAMS, seed=1)) == {"audit", "prepare", "tune", "fit"}
    assert again(replace(PARAMS, budget="full")) == again(replace(PARAMS, device="cpu")) == {"tune", "fit"}
    assert again(with_task(split=replace(task.split, folds=3))) == {"validate", "audit", "prepare"}
    assert again(with_task(tune=replace(task.tune, metric="mae"))) == {"tune"}
    assert again(with_task(tune=replace(task.tune, cost="size"))) == {"tune"}
    assert again(with_task(tune=replace(task.tune, tolerance=0.5))) == set()  # of no cost: results of before stand
    assert again(with_task(evaluate=replace(task.evaluate, metric="mae"))) == {"evaluate", "leaderboard"}
    assert again(with_task(evaluate=replace(task.evaluate, interval_coverage=0.5))) == {"fit", "evaluate"}
    other: Any = None
    assert again(replace(PARAMS, policy=other)) == set()


def test_a_named_budget_runs_again_what_reads_its_keys_and_leaves_other_tasks_as_they_are(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    full, small = (held(tmp_path, budget) for budget in ("full", "small_images"))
    assert full.tasks["blood_cell"].tune.epochs.of("full") == 20
    assert small.tasks["blood_cell"].tune.epochs.of(small.budget) == 10
    changed = {
        name for name, content in inputs(full, "blood_cell").items() if inputs(small, "blood_cell")[name] != content
    }
    assert {name.partition("-")[0] for name in changed} == {"validate", "audit", "prepare", "tune", "fit", "evaluate"}
    named = {name: task for name, task in full.tasks.items() if name not in small.budgets["small_images"]}
    assert named == {name: small.tasks[name] for name in named} and len(named) == len(full.tasks) - 2


def held(folder: Path, budget: str) -> Params:
    """Return the parameters of a checkout that holds a budget."""
    (folder / "budget.yaml").write_text(f"budget: {budget}\n")
    return read_params(folder / "params.yaml")


def test_no_stage_imports_by_a_name_that_cannot_be_followed(found: dict[str, Any]) -> None:
    """But for Ray's workers, which import the command that they are part of, and packages of weights."""
    every = {name for content in found.values() for name in content["code"]}
    of_unknown = re.compile(r"import_module\((?!f?\"(\{__name__\}|[a-z])[\w.]*\.)")
    unknown = {name for name in every if of_unknown.search((ROOT / name).read_text(encoding="utf-8"))}
    assert unknown == {"training/studies/cluster.py", "training/backbone.py"}


def test_no_model_of_the_demo_has_to_download_its_weights() -> None:
    packaged = {"random_forest", "xgboost", "majority_class", "efficientnet_lite0"}
    for key, model in PARAMS.models.items():
        tune = PARAMS.tasks[model.task].tune
        if model.demo and isinstance(tune, TuneTransfer) and tune.weights != "none":
            assert model.architecture in packaged, key
        assert (key in demo.models(PARAMS)) == model.demo


def test_the_demo_runs_every_stage_of_each_task_after_those_that_it_needs() -> None:
    ran: list[str] = []

    def repro(name: str, stages: Sequence[str]) -> bool:
        ran.extend(stages)
        return True

    run_chains(PARAMS, demo.models(PARAMS), repro=repro)
    keys: dict[str, Iterable[str]] = {**KEYS, "${models}": demo.models(PARAMS)}
    needed = {f"{name}@{key}" for name, stage in LOOPS.items() for key in keys[stage["foreach"]]}
    assert set(ran) == {"budget", *needed} and len(ran) == len(set(ran))
    place = {stage: at for at, stage in enumerate(ran)}
    for task, decided in PARAMS.tasks.items():
        own = [f"{task}-{name}" for name in PARAMS.architectures(task) if f"{task}-{name}" in demo.models(PARAMS)]
        assert f"{task}-{decided.evaluate.baseline}" in own and len(own) > 1, task
        for key in own:
            chain = ["budget", *(f"{stage}@{task}" for stage in ("inputs", "validate", "audit", "prepare"))]
            chain += [*(f"{stage}@{key}" for stage in ("tune", "fit", "evaluate")), f"leaderboard@{task}"]
            assert sorted(chain, key=place.__getitem__) == chain


@pytest.mark.parametrize("at_once", [1, 3])
def test_chains_of_a_task_are_of_no_other_and_at_most_so_many_run_at_once(at_once: int) -> None:
    own, ran, running, most = [key for key in PARAMS.models if key.startswith("blood_cell-")], list[str](), 0, 0
    lock = threading.Lock()

    def repro(name: str, stages: Sequence[str]) -> bool:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
        time.sleep(0.02)
        with lock:
            running -= 1
        ran.append(name)
        return True

    run_chains(PARAMS, own, at_once=at_once, repro=repro)
    assert ran[:2] == ["budget", "blood_cell"] and ran[-1] == "leaderboard of blood_cell" and most == at_once
    assert sorted(ran[2:-1]) == sorted(own) and len(own) > 5


def test_a_chain_that_another_one_kept_from_dvcs_lock_is_tried_again_and_one_that_fails_is_not(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    says = {"budget": "ERROR: failed to reproduce: Unable to acquire lock. Most likely", "inputs@blood_cell": "no"}
    asked: list[str] = []

    def dvc(arguments: Sequence[str], files: Sequence[int]) -> int:
        asked.append(arguments[4])
        os.write(files[1], says.get(arguments[4], "").encode())
        return 255 if asked.count(arguments[4]) == 1 else 0

    monkeypatch.setattr("pipelines.side_by_side.forwarded", dvc)
    with pytest.raises(UserError, match=r"these failed, see above: blood_cell$"):
        run_chains(PARAMS, ["blood_cell-majority_class"])
    assert asked == ["budget", "budget", "inputs@blood_cell"] and says["budget"] in capfd.readouterr().out


def test_the_demo_runs_again_where_a_stage_of_its_own_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Sequence[str]] = []

    def dvc(command: Sequence[str], **_: Any) -> SimpleNamespace:
        stdout = json.dumps(dict.fromkeys(found.pop(0))) if "status" in command else ""
        return SimpleNamespace(stdout=stdout, returncode=0)

    monkeypatch.setattr("serving.demo.subprocess", SimpleNamespace(run=dvc, PIPE=-1))
    left_out, own, first = "tune@blood_cell-vgg16", "prepare@blood_cell", "inputs@blood_cell"
    for statuses, stale in (
        *(([[]], False), ([[left_out]], False), ([[own]], True), ([[first], []], False)),
        *(([[first], [left_out]], False), ([[first], [own]], True), ([[first, own]], True)),
    ):
        found[:] = statuses
        assert demo._stale(PARAMS) == stale and not found, statuses


def test_a_chain_of_the_demo_that_fails_leaves_out_what_follows_and_is_named() -> None:
    ran: list[str] = []

    def repro(name: str, stages: Sequence[str]) -> bool:
        ran.append(name)
        if name == "drug_response-mlp":
            raise OSError("No space left on device")
        return name != "tumor_type"

    with pytest.raises(UserError, match=r"above: tumor_type, drug_response-mlp$"):
        run_chains(PARAMS, demo.models(PARAMS), repro=repro)
    left_out = {"tumor_type-resnet50", "leaderboard of tumor_type", "leaderboard of drug_response"}
    assert not left_out & set(ran) and {"drug_response-mean_effects", "leaderboard of blood_cell"} <= set(ran)


# The closure that stages and kept results are compared by.

MODULES = {
    "rooms/__init__.py": '"""Nothing but a docstring."""',
    "rooms/a/__init__.py": "IMPORTED_BEFORE = 1",
    "rooms/a/start.py": """
        import numpy
        from typing import TYPE_CHECKING
        from rooms.a import names
        import rooms.b.whole
        if TYPE_CHECKING:
            from rooms.b import types_alone
        else:
            from rooms.b import other_branch
        def late():
            from .beside import Value
            return open("table.csv"), open("script.py"), open("elsewhere.csv")
    """,
    "rooms/a/names.py": "import pipelines.params as params",
    "rooms/a/beside.py": "from . import cousin\nfrom .. import b\nclass Value: ...",
    "rooms/a/cousin.py": "from rooms.a import start  # a circle",
    "rooms/a/script.py": "from rooms.b import of_script",
    **{"rooms/a/table.csv": "1,2", "rooms/a/unnamed.csv": "1,2", "rooms/a/unused.py": "UNUSED = 1"},
    **{f"rooms/b/{name}.py": "X = 1" for name in ("__init__", "whole", "types_alone", "other_branch", "of_script")},
    "pipelines/params.py": "import rooms.a.unused",
    "rooms/c/__init__.py": """
        from importlib import import_module
        def of(modality, problem):
            return import_module(f"{__name__}.{modality}"), import_module(f"rooms.c.{modality}_{problem}")
    """,
    **{f"rooms/c/{name}.py": f"X = {name!r}" for name in ("pairs", "images", "pairs_regression", "ridge", "lasso")},
    "rooms/d.py": "import importlib\nimport rooms.c\nimportlib.import_module(f'rooms.d_of.{name}')",
    **{f"rooms/d_of/{name}.py": "X = 1" for name in ("__init__", "regression", "survival")},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, source in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(source))
    monkeypatch.setattr(code_closure, "ROOT", tmp_path)
    return tmp_path


def test_what_is_imported_anywhere_is_found_and_nothing_else_and_an_entry_that_is_not_there_refused(root: Path) -> None:
    a = {"__init__.py", "start.py", "names.py", "beside.py", "cousin.py", "script.py", "table.csv"}
    b = {"__init__.py", "whole.py", "other_branch.py", "of_script.py"}
    assert set(closure("rooms.a.start")) == {f"rooms/a/{name}" for name in a} | {f"rooms/b/{name}" for name in b}
    for name in ("rooms/a/table.csv", "rooms/b/of_script.py", "rooms/a/__init__.py"):
        before = closure("rooms.a.start")
        (root / name).write_text(f"{(root / name).read_text()}\nX = 3\n")
        assert {path for path, sha256 in closure("rooms.a.start").items() if before[path] != sha256} == {name}
    for entry in ("rooms.a.not_there", "numpy", "rooms.a.start.late", ""):
        with pytest.raises(UserError, match="no such module below"):
            closure("rooms.a.start", entry)


def test_of_modules_that_are_imported_by_name_those_of_the_task_and_the_architectures_count(root: Path) -> None:
    task: Any = SimpleNamespace(modality="pairs", problem="regression")
    always = {"rooms/c/__init__.py", "rooms/d.py"}
    assert set(closure("rooms.d")) == always
    of_task = {"rooms/c/pairs.py", "rooms/c/pairs_regression.py", "rooms/d_of/__init__.py", "rooms/d_of/regression.py"}
    assert set(closure("rooms.d", task=task)) == always | of_task
    assert set(closure("rooms.d", task=task, architectures=["ridge"])) == always | of_task | {"rooms/c/ridge.py"}


def test_a_closure_is_the_same_whether_sources_were_read_before_or_what_is_kept_of_them_is_damaged(
    tmp_path: Path,
) -> None:
    code = "from pipelines.code_closure import closure; print(closure('pipelines.code_closure', without=()))"
    kept = tmp_path / "cache"

    def told() -> str:
        run = [sys.executable, "-c", code]
        return subprocess.check_output(run, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True)

    first = told()
    (file,) = kept.iterdir()
    assert told() == first and "pipelines/code_closure.py" in first
    for damaged in (file.read_text()[:-9], "null", "{}"):
        file.write_text(damaged)
        assert told() == first and json.loads(file.read_text())["sources"]


FUNCTION = "def f(x: int = 1) -> int:\n    return x + 1\n"
WORDS = (
    '"""Of the module."""\n' + FUNCTION + "\n\n\n# a comment\n",
    'def f(x: int = 1) -> int:\n    """Of the function."""\n    return x + 1  # why\n',
    "def f(\n    x: int = 1,\n) -> int:\n    pass\n    return (x + 1)\n",
)
CODE = (
    *(FUNCTION.replace("+ 1", "+ 2"), FUNCTION.replace("= 1", "= True"), FUNCTION.replace(" = 1", "")),
    *(FUNCTION.replace("x: int", "*, x: int"), "@cache\n" + FUNCTION, "async " + FUNCTION, FUNCTION + "X = 'text'\n"),
)


def test_code_counts_and_words_and_layout_do_not(root: Path) -> None:
    path, found = root / "rooms/a/unused.py", {}
    for source in (FUNCTION, *WORDS, *CODE):
        path.write_text(source)
        found[source] = closure("rooms.a.unused")
    for source in found.keys() - {FUNCTION}:
        assert (found[source] != found[FUNCTION]) == (source in CODE), source


EVERY_KIND = '''
from a import b as c
@f
class A(B, metaclass=M):
    x: int | None = None
    async def g(self, a, /, b=1, *c, d=2.5, **e) -> list[int]:
        """Doc."""
        with open(a) as h, i:
            try:
                yield f"{a!r:>8}" + b"\\x00".hex() + 'ü'
            except* (ValueError, TypeError) as error:
                raise KeyError from error
            finally:
                del a[1:2, ...], b.c
        match d:
            case {"k": [1, *_], **r} | A(x=None): return lambda *a, y=-1: a if not y else {**r, "z": {*a}}
            case _: pass
        return [q := 3 for p in a if p async for r in s], 1_000, 1e3, 2j, global_
'''


def test_hashes_are_the_same_in_all_versions_of_python(root: Path) -> None:
    """Workers on one study, and machines that retrain, may have different ones."""
    (root / "rooms/a/unused.py").write_text(EVERY_KIND)
    known = "d22771e72846c48b3e5e4a0454077f155bd2896876a175779b42eb6583138e7a"  # pragma: allowlist secret
    assert closure("rooms.a.unused")["rooms/a/unused.py"] == known
    # A module that was renamed would count again without a word.
    assert all((ROOT / f"{name.replace('.', '/')}.py").is_file() for name in code_closure.WITHOUT_RESULT)
