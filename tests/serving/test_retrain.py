"""A loop that runs twice, forgets where it was, or says that it moved what it did not, costs a night and trust."""

from __future__ import annotations

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

from pipelines import code_closure, tracking
from pipelines.errors import UserError
from pipelines.files import write_json
from pipelines.params import Params, read_params
from serving import retrain as entry
from serving.continuous_training import loop as loops
from serving.continuous_training import report as changes
from serving.continuous_training import stages
from serving.continuous_training import steps as marks
from serving.continuous_training import steps as whole_loop
from serving.continuous_training.loop import STOP, BusyError, Results, Step, alone, read_state
from serving.continuous_training.report import decisions, params_changed, samples_changed
from serving.continuous_training.steps import REFUSED, Outcome, Plan, retrain
from serving.retrain import BUSY

ROOT = Path(__file__).parents[2]
TASK = "drug_response"
CODE = marks.code
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
    monkeypatch.setattr(stages, "stale", lambda targets: {})
    monkeypatch.setattr(whole_loop, "registered", lambda plan: None)
    monkeypatch.setattr(marks, "code", lambda *_: {})  # is tested below, and reads every file of the platform
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
        patch.setattr(whole_loop, what, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        assert in_a_process(lambda: run(steps)) == -signal.SIGKILL
    once = steps.lines()
    outcome = run(steps)
    assert outcome.code == 0 and outcome.report is not None and outcome.report.is_file()
    assert steps.lines() == once  # no step ran again


def test_the_report_compares_with_the_version_that_is_served(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, now = table({"a": ("g1", "train")}), table({"a": ("g1", "test")})
    monkeypatch.setattr(changes, "kept_table", lambda run_id, place: before if run_id == "r1" else None)
    text = (checkout / "params.yaml").read_text()
    monkeypatch.setattr(tracking, "git", lambda _, what: text if what == "c1:params.yaml" else None)
    found = changes.of_version(TASK, {"run_id": "r1", "git.commit": "c1", "budget": "full", "split.sha256": "5"})
    assert found.samples is before and found.split_sha256 == "5"
    assert found.params == decisions(text, TASK, "full")
    assert changes.of_version(TASK, {"git.commit": "none"}) == changes.Snapshot()
    assert changes.of_now(TASK).samples is None
    (checkout / "prepared" / TASK).mkdir(parents=True)
    now.to_parquet(checkout / "prepared" / TASK / "samples.parquet")
    write_json(checkout / "prepared" / TASK / "split.json", {"sha256": "0" * 64})
    after = changes.of_now(TASK)
    assert after.samples is not None and after.params is not None and after.split_sha256 == "0" * 64
    assert samples_changed(before, after.samples)["sides"] == {"moved": 1, "left_test": 0}


def test_what_was_refused_is_not_tried_again_until_something_changes(checkout: Path) -> None:
    with pytest.raises(UserError, match="has no 'resnet50'; it has"):
        run(Counted(checkout / "log"), architectures=["resnet50"])
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


def test_the_registry_says_that_nothing_is_new_where_no_loop_has_run(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_loop, "registered", lambda plan: "7")
    steps = Counted(checkout / "log")
    outcome = run(steps)
    assert outcome.code == 0 and "version 7" in outcome.sentence
    assert steps.lines() == []
    assert not (checkout / ".retrain" / f"{TASK}.json").exists()


def test_outputs_that_dvc_finds_changed_are_made_again(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Counted(checkout / "log")
    run(steps)
    (checkout / "models" / TASK).mkdir(parents=True)
    monkeypatch.setattr(stages, "stale", lambda targets: {targets[0]: "changed outs"})
    assert run(steps).sentence == "all is well"
    assert steps.lines().count("end second") == 2
    # A runner's checkout puts dvc.lock back; what has an alias is not trained anew for that.
    monkeypatch.setattr(whole_loop, "registered", lambda plan: "7")
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


def test_a_state_that_was_edited_is_refused(checkout: Path) -> None:
    path = checkout / ".retrain" / f"{TASK}.json"
    path.parent.mkdir()
    for text in ("{", "[]", '{"schema": 1}', '{"schema": 99}'):
        path.write_text(text)
        with pytest.raises(UserError, match="then the loop begins anew"):
            run(Counted(checkout / "log"))


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
    """DVC's own lock keeps two runs from writing the same outputs."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], check=True)
    stage = {"cmd": "touch begun; while [ ! -e end ]; do sleep 0.1; done; echo 1 > made", "outs": ["made"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"fit": stage}}))
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
    stages.reproduce(["fit"])
    assert (tmp_path / "made").read_text() == "1\n"


@pytest.fixture
def repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for room in ("pipelines", "training", "evaluation", "serving"):
        shutil.copytree(ROOT / room, checkout / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", checkout)
    monkeypatch.setattr(code_closure, "ROOT", checkout)
    monkeypatch.setattr(marks, "code", CODE)
    return checkout


def test_every_component_changes_with_its_own_input_only(repository: Path) -> None:
    def parts(given: Params = PARAMS, chosen: Sequence[str] = ("elastic_net",)) -> dict[str, str]:
        return marks.components(given, TASK, chosen)

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
    assert marks.fingerprint(parts()) != marks.fingerprint(first)


def test_the_code_that_a_loop_runs_changes_its_fingerprint(repository: Path) -> None:
    before = marks.code(PARAMS.task(TASK), ["elastic_net"])
    for path, text, decides in (
        ("training/architectures/elastic_net.py", "X = 1", True),
        ("training/architectures/mean_effects.py", "X = 1", False),  # of another architecture
        ("training/architectures/elastic_net.py", "# a comment", False),
        ("pipelines/expectations/pairs.py", "X = 1", True),
        ("evaluation/explain/biomarkers.yaml", "# a note", True),
        ("evaluation/promotion/gate.py", "X = 1", True),
        ("serving/dashboard_app.py", "X = 1", False),
        ("dvc.yaml", "# a comment", False),
    ):
        content = (repository / path).read_text()
        (repository / path).write_text(f"{content}\n{text}\n")
        assert (marks.code(PARAMS.task(TASK), ["elastic_net"]) != before) == decides, (path, text)
        (repository / path).write_text(content)
    stages_file = repository / "dvc.yaml"
    stages_file.write_text(stages_file.read_text().replace("-m training.fit --task", "-m training.fit --quick --task"))
    assert marks.code(PARAMS.task(TASK), ["elastic_net"]) != before


def table(rows: Mapping[str, tuple[str, str]]) -> pd.DataFrame:
    return pd.DataFrame([(key, *each) for key, each in rows.items()], columns=["sample_id", "group", "split"])


def test_samples_and_groups_are_counted() -> None:
    old = {"s1": ("g1", "train"), "s2": ("g1", "test"), "s3": ("g2", "test"), "s4": ("g3", "train")}
    new = {"s1": ("g1", "test"), "s2": ("g1", "train"), "s3": ("g2", "test")}
    new |= dict.fromkeys(["s5", "s6"], ("g4", "test"))
    assert samples_changed(table(old), table(new)) == {
        "samples": {"before": 4, "after": 5, "added": 2, "gone": 1},
        "groups": {"before": 3, "after": 3, "added": 1, "gone": 1},
        "sides": {"moved": 2, "left_test": 1},
    }


def test_decisions_of_the_task_are_compared_by_key() -> None:
    text = (ROOT / "params.yaml").read_text()
    before = decisions(text, TASK)
    content = yaml.safe_load(text)
    content["tasks"][TASK]["split"]["test"] = 0.3
    content["tasks"]["blood_cell"]["data"]["size"] = 1
    content["policy"]["gate"]["ece"] = 0.9
    del content["seed"]
    changed = params_changed(before, decisions(yaml.safe_dump(content), TASK))
    assert {key for key, _, _ in changed} == {"seed", f"tasks.{TASK}.split.test", "policy.gate.ece"}
    assert (f"tasks.{TASK}.split.test", 0.2, 0.3) in changed
