"""A loop that runs twice, forgets where it was, or says that it moved what it did not, costs a night and trust.

Data that somebody changed by hand must survive it, and what it proposes must be what it wrote.
"""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from evaluation.evidence.build import SPLIT
from evaluation.promotion.gate import Verdict
from pipelines import code_closure, tracking
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.params import Params, read_params
from pipelines.policy import CHECKS
from serving import retrain as entry
from serving.continuous_training import loop as loops
from serving.continuous_training import report as reports
from serving.continuous_training import stages
from serving.continuous_training import steps as under_test
from serving.continuous_training.loop import STOP, BusyError, OutdatedError, Results, State, Step, alone, read_state
from serving.continuous_training.report import report
from serving.continuous_training.steps import FINGERPRINT, REFUSED, Outcome, Plan, look, move, registered, retrain
from serving.propose import propose
from serving.retrain import BUSY
from tests.empty_store import empty_store
from tests.evaluation.made_evidence import made_evidence

ROOT = Path(__file__).parents[2]
TASK = "drug_response"
CODE = under_test.code
NAMES = ("first", "second", "third", "fourth")
PARAMS = read_params(ROOT / "params.yaml")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with data and decisions, in which DVC finds all as it should be and the registry is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    (tmp_path / "data" / TASK).mkdir(parents=True)
    (tmp_path / "data" / TASK / "response.csv").write_text("1")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setattr(stages, "pull", lambda: "pulled")
    monkeypatch.setattr(stages, "stale", lambda inputs, targets: {})
    monkeypatch.setattr(under_test, "registered", lambda plan: None)
    monkeypatch.setattr(under_test, "code", lambda *_: {})  # is tested below, and reads every file of the platform
    return tmp_path


@dataclass
class Counted:
    """Steps that write down when they begin and end, and end the process where they are told to."""

    log: Path
    die: str = ""
    stop: str = ""
    fail: str = ""

    def __call__(self, plan: Plan) -> list[Step]:
        return [Step(name, f"do {name}", partial(self._step, name)) for name in NAMES]

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.is_file() else []

    def _step(self, name: str, results: Results) -> Mapping[str, Any]:
        self._write(f"begin {name}")
        if self.die == f"in {name}":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail == name:
            raise UserError(f"{name} cannot be done")
        assert list(results) == list(NAMES[: NAMES.index(name)])
        self._write(f"end {name}")
        found: dict[str, Any] = {"after": list(results), "done": "all is well"}
        return found | ({STOP: "refused for a reason"} if self.stop == name else {})

    def _write(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(line + "\n")


def run(steps: Counted, params: Params = PARAMS, **more: Any) -> Outcome:
    return retrain(TASK, params, by="ada", steps_of=steps, tell=lambda line: None, **more)


def in_a_process(does: Callable[[], object]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=does)
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("name", [NAMES[0], NAMES[-1]])
@pytest.mark.parametrize("where", ["in", "before the note of", "after the note of"])
def test_a_killed_loop_goes_on_where_it_stopped(
    where: str, name: str, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = Counted(checkout / "log", die=f"{where} {name}")
    real = loops.write_json

    def dies(path: Path, content: Any) -> None:
        last = next(reversed(content.get("steps") or {"": 0}))
        if steps.die == f"before the note of {last}":
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, content)
        if steps.die == f"after the note of {last}":
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(loops, "write_json", dies)
    assert in_a_process(lambda: run(steps)) == -signal.SIGKILL
    read_state(Path(".retrain") / f"{TASK}.json")  # whole
    steps.die = ""
    outcome = run(steps)
    assert (outcome.code, outcome.sentence) == (0, "all is well")
    ended = [line for line in steps.lines() if line.startswith("end")]
    # Only what was not noted is done again.
    again = [f"end {name}"] * (2 if where == "before the note of" else 1)
    assert ended == [each for other in NAMES for each in (again if other == name else [f"end {other}"])]
    assert read_state(Path(".retrain") / f"{TASK}.json").finished
    before = steps.lines()
    assert run(steps).sentence.startswith("nothing new")
    assert steps.lines() == before


@pytest.mark.parametrize("what", ["report", "finish"])
def test_a_loop_killed_at_its_end_reports_and_ends(what: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Counted(checkout / "log")
    with monkeypatch.context() as patch:
        patch.setattr(under_test, what, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        assert in_a_process(lambda: run(steps)) == -signal.SIGKILL
    once = steps.lines()
    outcome = run(steps)
    assert outcome.code == 0 and outcome.report is not None and outcome.report.is_file()
    assert steps.lines() == once  # no step ran again


def test_what_was_refused_is_not_tried_again_until_something_changes(checkout: Path) -> None:
    with pytest.raises(UserError, match="has no 'resnet50'; it has"):
        run(Counted(checkout / "log"), architectures=["resnet50"])
    (checkout / ".retrain").mkdir(exist_ok=True)
    for text in ("{", "[]", '{"schema": 1}', '{"schema": 99}'):  # a state that was edited
        (checkout / ".retrain" / f"{TASK}.json").write_text(text)
        with pytest.raises(UserError, match="then the loop begins anew"):
            run(Counted(checkout / "log"))
    (checkout / ".retrain" / f"{TASK}.json").unlink()
    steps = Counted(checkout / "log", stop="third")
    outcome = run(steps)
    assert (outcome.code, outcome.sentence) == (REFUSED, "refused for a reason")
    assert steps.lines()[-1] == "end third"  # nothing after the refusal
    again = run(steps)
    assert again.code == 0 and "nothing new" in again.sentence and "refused for a reason" in again.sentence
    # A person answers for it, or data is other: that is something new.
    policy = replace(PARAMS.policy, gate=replace(PARAMS.policy.gate, ece=0.9))
    steps.stop, steps.die = "", "in fourth"
    assert in_a_process(lambda: run(steps, replace(PARAMS, policy=policy))) == -signal.SIGKILL
    assert steps.lines()[-1] == "begin fourth"
    steps.die = ""
    steps.log.unlink()
    (checkout / "data" / TASK / "response.csv").write_text("3")
    assert run(steps).code == 0
    assert steps.lines() == [f"{what} {name}" for name in NAMES for what in ("begin", "end")]


def test_outputs_that_dvc_finds_changed_are_made_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Counted(checkout / "log")
    with monkeypatch.context() as patch:  # the registry says that nothing is new, where no loop has run
        patch.setattr(under_test, "registered", lambda plan: "7")
        outcome = run(steps)
    assert outcome.code == 0 and "version 7" in outcome.sentence and steps.lines() == []
    assert not (checkout / ".retrain" / f"{TASK}.json").exists()
    run(steps)
    (checkout / "models" / TASK).mkdir(parents=True)
    monkeypatch.setattr(stages, "stale", lambda inputs, targets: {targets[0]: "changed outs"})
    assert run(steps).sentence == "all is well"
    assert steps.lines().count("end second") == 2
    # A runner's checkout puts dvc.lock back; what has an alias is not trained anew for that.
    monkeypatch.setattr(under_test, "registered", lambda plan: "7")
    assert run(steps).sentence.startswith("nothing new: the loop of")
    assert steps.lines().count("end second") == 2


def test_a_failure_is_reported_and_gone_on_from(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = checkout / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    steps = Counted(checkout / "log", fail="second")
    with pytest.raises(UserError, match="second cannot be done"):
        run(steps)
    text = (checkout / "reports" / TASK / "retraining.md").read_text()
    assert "An error ended the loop: second cannot be done" in text
    assert "`staging` and `production` were not touched" in text
    assert summary.read_text() == f"before\n{text}\n"
    steps.fail = ""
    assert run(steps).code == 0
    assert steps.lines().count("begin first") == 1


def test_the_second_is_told_who_is_first_and_a_killed_holder_holds_nothing(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def second() -> None:
        started = time.monotonic()
        with pytest.raises(BusyError, match=rf"grace is retraining tumor_type since .* \(process {os.getppid()}\)"):
            run(Counted(checkout / "log"))
        assert time.monotonic() - started < 5
        monkeypatch.setattr(sys, "argv", ["retrain", "--task", TASK])
        assert entry.main() == BUSY

    def dies() -> None:
        with alone(Path(".retrain"), TASK, "ada"):
            os.kill(os.getpid(), signal.SIGKILL)

    with alone(Path(".retrain"), "tumor_type", "grace"):
        assert in_a_process(second) == 0
    assert not (checkout / "log").exists()
    assert in_a_process(dies) == -signal.SIGKILL
    assert run(Counted(checkout / "log")).code == 0


def test_a_run_that_outlived_its_loop_is_not_joined_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """DVC's own lock keeps two runs from writing the same outputs; what they made is up to date until code changes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").write_text("1\n")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    wait = "touch begun; while [ ! -e end ]; do sleep 0.1; done"
    fit = {"cmd": f"{wait}; echo 1 > made", "deps": ["inputs"], "outs": ["made"]}
    inputs = {"cmd": "cp code inputs", "deps": ["code"], "outs": ["inputs"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"fit": fit, "inputs": inputs}}))
    orphan = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "-q", "fit"])
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "begun").is_file():
            assert orphan.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(UserError, match="`dvc repro fit` ended with"):
            stages.reproduce(["fit"])
        assert str(orphan.pid) in capfd.readouterr().err
    finally:
        (tmp_path / "end").touch()
        assert orphan.wait(timeout=120) == 0
    assert (tmp_path / "made").read_text() == "1\n" and stages.stale("inputs", ["fit"]) == {}
    (tmp_path / "code").write_text("2\n")
    assert [*stages.stale("inputs", ["fit"])] == ["fit"]


@pytest.fixture
def repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for room in ("pipelines", "training", "evaluation", "serving"):
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", checkout)
    monkeypatch.setattr(code_closure, "ROOT", checkout)
    monkeypatch.setattr(under_test, "code", CODE)
    return checkout


def test_every_component_changes_with_its_own_input_only(repository: Path) -> None:
    def parts(given: Params = PARAMS, chosen: Sequence[str] = ("elastic_net",)) -> dict[str, str]:
        return under_test.components(given, TASK, chosen)

    first = parts()

    def changed(now: Mapping[str, str]) -> set[str]:
        return {key for key in first if first[key] != now[key]}

    made = repository / "models" / TASK / "elastic_net"
    made.mkdir(parents=True)
    (made / "tuned.json").write_text("an output")
    assert changed(parts()) == set()
    assert changed(parts(replace(PARAMS, seed=1))) == {"params"}
    assert changed(parts(replace(PARAMS, budget="full"))) == {"params"}
    assert changed(parts(chosen=("elastic_net", "mlp"))) == {"code", "architectures"}
    tasks = {**PARAMS.policy.tasks, TASK: replace(PARAMS.policy.task(TASK), promote="production")}
    assert changed(parts(replace(PARAMS, policy=replace(PARAMS.policy, tasks=tasks)))) == {"policy"}
    others = {**PARAMS.policy.tasks, "blood_cell": replace(PARAMS.policy.task("blood_cell"), floor=0.123)}
    assert changed(parts(replace(PARAMS, policy=replace(PARAMS.policy, tasks=others)))) == set()
    (repository / "data" / TASK / "response.csv").write_text("2")
    assert changed(parts()) == {"data"}
    assert under_test.fingerprint(parts()) != under_test.fingerprint(first)


def test_the_code_that_a_loop_runs_changes_its_fingerprint(repository: Path) -> None:
    before = under_test.code(PARAMS.task(TASK), ["elastic_net"])
    for path, text, decides in (
        ("training/architectures/elastic_net.py", "X = 1", True),
        ("training/architectures/mean_effects.py", "X = 1", False),  # of another architecture
        ("evaluation/explain/biomarkers.yaml", "# a note", True),
        ("evaluation/promotion/gate.py", "X = 1", True),
        ("serving/dashboard_app.py", "X = 1", False),
    ):
        content = (repository / path).read_text()
        (repository / path).write_text(f"{content}\n{text}\n")
        assert (under_test.code(PARAMS.task(TASK), ["elastic_net"]) != before) == decides, (path, text)
        (repository / path).write_text(content)
    stages_file = repository / "dvc.yaml"
    stages_file.write_text(stages_file.read_text().replace("-m training.fit --task", "-m training.fit --quick --task"))
    assert under_test.code(PARAMS.task(TASK), ["elastic_net"]) != before


def dvc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def versioned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a new repository of git."""
    root = tmp_path / "checkout"
    root.mkdir()
    monkeypatch.chdir(root)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git("init", "-q", "-b", "main")
    return root


def test_pull_brings_what_git_names_and_keeps_what_dvc_does_not_know(versioned: Path, tmp_path: Path) -> None:
    data = versioned / "data" / TASK / "response.csv"
    dvc("init", "-q")
    dvc("remote", "add", "-q", "-d", "here", str(tmp_path / "remote"))
    data.parent.mkdir(parents=True)
    data.write_text("old")
    dvc("add", "-q", "data")
    old = Path("data.dvc").read_text()
    data.write_text("new")
    dvc("add", "-q", "data")
    dvc("push", "-q")
    new = Path("data.dvc").read_text()
    assert stages.pull() == "data/ is what data.dvc names"
    Path("data.dvc").write_text(old)  # somebody else's commit names other data
    assert "was pulled" in stages.pull() and data.read_text() == "old"
    Path("data.dvc").write_text(new)
    data.write_text("by hand")
    with pytest.raises(UserError, match="record changes in data/"):
        stages.pull()
    assert data.read_text() == "by hand"
    source = tmp_path / "source"  # imported data is looked up there
    source.mkdir()
    (source / "response.csv").write_text("1")
    shutil.rmtree("data")
    Path("data.dvc").unlink()
    dvc("import-url", "-q", str(source), "data")
    (source / "response.csv").write_text("2")
    assert "source" in stages.pull() and Path("data", "response.csv").read_text() == "2"


def test_only_what_the_loop_wrote_is_proposed_and_the_checkout_stays(
    versioned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`gh` writes down what it is asked, and knows what it opened."""
    with pytest.raises(UserError, match="no loop of drug_response has ended"):
        propose(TASK)
    with pytest.raises(UserError, match=r"make data FROM=DIR"):
        stages.pull()
    git("init", "-q", "--bare", str(tmp_path / "origin"))
    dvc("init", "-q")
    Path("dvc.yaml").write_text("metrics: [results/metrics]\n")
    for name, old in {"dvc.lock": "schema: '2.0'\n", "data.dvc": "outs: []\n", "other": "old\n"}.items():
        Path(name).write_text(old)
    Path(".gitignore").write_text("/.retrain\n/reports\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    git("remote", "add", "origin", str(tmp_path / "origin"))
    git("push", "-q", "origin", "main")
    log, gh = tmp_path / "asked", tmp_path / "bin" / "gh"
    gh.parent.mkdir()
    listed = f'if [ "$2" = list ]; then [ -f {log} ] && echo 7; exit 0; fi'
    gh.write_text(f'#!/bin/sh\n{listed}\nprintf "%s\\n" "$@" >> {log}\n')
    gh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{gh.parent}{os.pathsep}{os.environ['PATH']}")
    state = {"schema": 1, "fingerprint": "f" * 64, "components": {}, "by": "ada", "started": "", "steps": {}}
    finished = {"at": "", "outcome": "version 2 is in staging"}
    write_json(Path(".retrain") / f"{TASK}.json", {**state, "finished": finished})
    Path("reports", TASK).mkdir(parents=True)
    Path("reports", TASK, "retraining.md").write_text("# report")
    assert propose(TASK).startswith("nothing to propose")
    Path("dvc.lock").write_text(new := "schema: '2.0'\nstages: {}\n")
    Path("other").write_text("somebody's work\n")
    metrics = Path("results", "metrics")
    for task in (TASK, "blood_cell"):
        write_json(metrics / task / "mlp.json", {"test": {"r2": 0.75}})
    before, branch = (git("rev-parse", "HEAD"), git("status", "--porcelain")), f"retrain/{TASK}-ffffffffffff"
    assert propose(TASK) == f"proposed as {branch}"
    assert (git("rev-parse", "HEAD"), git("status", "--porcelain")) == before
    assert git("branch", "--list") == "* main"
    git("fetch", "-q", "origin", branch)
    written = f"{metrics}/{TASK}/mlp.json"  # not what another task's loop wrote
    assert git("diff", "--name-only", "main", "FETCH_HEAD").split() == ["dvc.lock", written]
    assert git("show", "FETCH_HEAD:dvc.lock") == new.strip()
    asked = log.read_text().split("\n")
    assert asked[:2] == ["pr", "create"]
    assert {branch, f"Retrain {TASK}: version 2 is in staging", "# report"} <= set(asked)
    row = next(line for line in asked if "test.r2" in line)
    assert [each.strip() for each in row.split("|")[1:-1]] == [written, "test.r2", "-", "0.75", "-"]
    assert propose(TASK) == f"{branch} was proposed already"
    assert log.read_text().split("\n") == asked
    log.unlink()  # a push whose pull request was not opened
    assert propose(TASK) == f"proposed as {branch}"


PLAN = Plan(TASK, PARAMS, ("mean_effects", "elastic_net"), "ada", "f" * 64)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    folder = tmp_path_factory.mktemp("store")
    uri = empty_store(folder)
    client = MlflowClient(uri, uri)
    client.create_registered_model(TASK)
    for number in (1, 2, 3):
        tags = {"data.sha256": str(number)}
        client.create_model_version(TASK, source=f"{folder}/{number}", run_id=f"run{number}", tags=tags)
    return client


@pytest.fixture
def registry(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setattr(under_test, "MlflowClient", lambda: store)
    for alias in store.get_registered_model(TASK).aliases:
        store.delete_registered_model_alias(TASK, alias)
    return store


def test_production_is_what_the_candidate_is_held_against_and_only_an_alias_makes_known(registry: MlflowClient) -> None:
    assert look(PLAN) == {"aliases": {}, "served": None}
    unknown = replace(PLAN, name="blood_cell")
    assert look(unknown) == {"aliases": {}, "served": None} and registered(unknown) is None
    for alias, version in (("staging", "2"), ("production", "1")):
        registry.set_registered_model_alias(TASK, alias, version)
        served = {"alias": alias, "version": version, "run_id": f"run{version}", "data.sha256": version}
        assert look(PLAN)["served"] == served
    registry.delete_registered_model_alias(TASK, "staging")
    registry.set_model_version_tag(TASK, "2", FINGERPRINT, PLAN.fingerprint)
    assert registered(PLAN) is None  # data that came back has to bring its version back
    for alias in ("candidate", "staging"):
        registry.set_registered_model_alias(TASK, alias, "2")
        assert registered(PLAN) == "2"
        registry.delete_registered_model_alias(TASK, alias)


def test_a_move_is_made_once_and_a_version_in_production_is_not_sent_back_to_staging(
    registry: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted: list[tuple[str, str]] = []

    def promote(name: str, to: str, version: str, **named: Any) -> None:
        assert named["by"] == "ada" and named["why"] == "retraining ffffffffffff"
        promoted.append((to, version))
        registry.set_registered_model_alias(name, to, version)

    monkeypatch.setattr(under_test.registry, "promote", promote)
    registry.set_registered_model_alias(TASK, "staging", "2")
    known: dict[str, dict[str, Any]] = {"look": look(PLAN), "register": {"version": "3"}}
    first = move(PLAN, known, "staging")
    assert first == {"version": "3", "alias": "staging", "before": "2", "done": "version 3 is in staging"}
    assert move(PLAN, known, "staging") == first  # killed before the note was written
    assert promoted == [("staging", "3")]
    registry.delete_registered_model_alias(TASK, "staging")
    registry.set_registered_model_alias(TASK, "production", "3")
    known["look"] = look(PLAN)
    moved = move(PLAN, known, "staging")
    assert moved["done"] == "version 3 is in production" and len(promoted) == 1
    assert "- `staging`: not moved, version 3 is in production" in written({**known, "staging": moved})


def test_evidence_against_a_production_of_yesterday_is_collected_anew(registry: MlflowClient, tmp_path: Path) -> None:
    registry.set_registered_model_alias(TASK, "production", "2")
    seen, judged = iter(["1", "2", "2"]), list[str]()

    def judge(known: Mapping[str, Any]) -> Mapping[str, Any]:
        if known["evidence"]["production"] == "1":
            return under_test.judge(PLAN, known, "staging")
        judged.append(known["evidence"]["production"])
        return {}

    loop = [
        Step("look", "", lambda _: {}),
        Step("evidence", "", lambda _: {"production": next(seen)}),
        Step("register", "", lambda _: {"version": "3"}),
        Step("gate", "", judge),
    ]
    state = loops.begin(read_state(tmp_path / "state.json"), fingerprint="f", components={}, by="ada")
    with pytest.raises(OutdatedError, match="production was moved to version 2"):
        loops.go(state, loop, lambda line: None)
    again = read_state(tmp_path / "state.json")
    assert list(again.results) == ["look"]
    loops.go(again, loop, lambda line: None)
    assert judged == ["2"]


def test_the_gate_stops_the_loop_and_says_why(registry: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts = [Verdict(check, "pass", "fine") for check in CHECKS]
    monkeypatch.setattr(under_test.registry, "judged", lambda *_, **__: verdicts)
    known: dict[str, dict[str, Any]] = {"register": {"version": "3"}, "evidence": {"production": None}}
    assert STOP not in under_test.judge(PLAN, known, "staging")
    verdicts[2] = Verdict("production", "fail", "worse | by far")
    refused = under_test.judge(PLAN, known, "staging")
    assert refused[STOP] == "version 3 may not go to staging: production: worse | by far"
    text = written({"register": known["register"], "gate": refused})
    assert "- fail production: worse \\| by far" in text
    assert "not touched" in text
    monkeypatch.setattr(under_test.registry, "judged", lambda *_, **__: verdicts[:2])
    assert STOP in under_test.judge(PLAN, known, "staging")  # a check that was not made has not passed


def test_what_changed_while_it_ran_and_what_nobody_answers_for_is_not_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(under_test, "components", lambda *_: {"data": "other"})
    monkeypatch.setattr(under_test.registry, "register", lambda *_, **__: pytest.fail("registered"))
    with pytest.raises(UserError, match="changed while the loop ran"):
        under_test.register(PLAN, {})
    monkeypatch.setattr(tracking, "git", lambda *_: None)
    monkeypatch.delenv("BY", raising=False)
    monkeypatch.setattr(sys, "argv", ["retrain", "--task", TASK])
    with pytest.raises(UserError, match="the history needs a name"):
        entry.main()


@pytest.fixture
def two_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a split of now, and one that is kept at the run of the version before."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "budget.yaml").write_text("budget: full\n")
    head = ["sample_id", "group", "split"]
    kept = [("s1", "g1", "train"), ("s2", "g1", "test"), ("s3", "g2", "test"), ("TCGA-AA-0001", "TCGA-AA", "train")]
    now = [
        ("s1", "g1", "test"),
        ("s2", "g1", "train"),
        ("s3", "g2", "test"),
        ("s5", "g4", "test"),
        ("s6", "g4", "test"),
    ]
    (tmp_path / "prepared" / TASK).mkdir(parents=True)
    pd.DataFrame(now, columns=head).assign(fold=0).to_parquet(tmp_path / "prepared" / TASK / "samples.parquet")
    tables = {("run1", SPLIT): pd.DataFrame(kept, columns=head)}
    monkeypatch.setattr(reports, "kept_table", lambda *which: tables.get(which))


def written(found: Mapping[str, Mapping[str, Any]], evidence: Any = None, outcome: str = "done") -> str:
    content = {
        **{"fingerprint": PLAN.fingerprint, "components": {"data": "d" * 64}, "by": PLAN.by, "finished": None},
        "started": "2026-11-20T12:00:00+00:00",
        "steps": {name: {"result": result} for name, result in found.items()},
    }
    return report(PLAN.name, State(Path("none"), content), evidence, outcome)


def test_the_report_says_what_differs(two_splits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "git", lambda *words: "-seed: 1\n+seed: 2" if "c1" in words else None)
    served = {"alias": "production", "version": "1", "run_id": "run1", "data.sha256": "a" * 64, "git.commit": "c1"}
    served |= {"budget": "quick"}
    found: dict[str, Any] = {
        "look": {"served": {**served, "split.sha256": "5" * 64}},
        "check": {"warnings": 2, "findings": ["drug_under_two_ids"]},
        "register": {"version": "2"},
        "staging": {"version": "2", "alias": "staging", "before": "1", "done": "version 2 is in staging"},
    }
    evidence = made_evidence(simulated=True)
    worse = {"kind": "production", "version": "1", "difference": -0.015, "low": -0.03, "high": 0.001}
    evidence["comparisons"].append({**evidence["comparisons"][0], "with": "xgboost", **worse})
    text = written(found, evidence, "version 2 is in staging")
    assert "The data is simulated." in text
    for line in (
        "| samples | 4 | 5 | 2 | 1 |",
        "| groups | 3 | 3 | 1 | 1 |",
        "2 samples are on another side of the split than before, 1 of them were test samples.",
        f"| `data.sha256` | `{'a' * 12}` | `{'d' * 12}` |",
        "The budget was `quick`, and is now `full`.",
        "-seed: 1",
        "+seed: 2",
        "| in production | xgboost (version 1) | r2 | -0.015 [-0.030, +0.001] | 100 |",
        "- `staging`: version 1 → version 2",
    ):
        assert line in text.splitlines(), line
    assert "2 warnings" in text and "`drug_under_two_ids`" in text and f"| `split.sha256` | `{'5' * 12}` | `" in text
    assert f"make promote TASK={TASK} TO=production VERSION=2" in text
    assert "TCGA" not in text, "a report names no patient"
    production = {"version": "2", "before": "1", "done": "version 2 is in production", "alias": "production"}
    text = written({**found, "staging": {**found["staging"], "before": None}, "production": production})
    assert "- `staging`: nothing → version 2" in text and "- `production`: version 1 → version 2" in text
    assert f"To roll back: `make rollback TASK={TASK}" in text and "Production was not touched" not in text
    real = written({}, made_evidence())
    assert "simulated" not in real and "Now there are 5 samples in 3 groups." in real
    assert "What they were is not known here." in real


def test_evidence_and_choice_are_of_this_loop_and_production_is_of_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "read_evidence", lambda path: {"sha256": "b"})
    assert under_test.candidate(TASK, {"evidence": {"sha256": "b"}}) == {"sha256": "b"}
    with pytest.raises(UserError, match="not the evidence of this loop"):
        under_test.candidate(TASK, {"evidence": {"sha256": "a"}})
    monkeypatch.setattr(under_test, "choose", lambda name, params, among: {"architecture": "+".join(among)})
    made = dict.fromkeys(("sha256", "run_id", "simulated"), "")
    monkeypatch.setattr(under_test.candidate_run, "candidate", lambda *given: {**made, "architecture": given[-1]})
    monkeypatch.setattr(under_test, "read_prepared", lambda *_: None)
    monkeypatch.setattr(under_test, "_aliases", lambda name: {"production": "1"})
    assert under_test.collect(PLAN) == {**made, "architecture": "elastic_net", "production": "1"}
    assert [step.name for step in under_test.steps(PLAN)][-1] == "staging"
    tasks = {TASK: replace(PARAMS.policy.task(TASK), promote="production")}  # which is in the loop only if so
    bold = replace(PLAN, params=replace(PARAMS, policy=replace(PARAMS.policy, tasks=tasks)))
    assert [step.name for step in under_test.steps(bold)][-2:] == ["gate_of_production", "production"]
