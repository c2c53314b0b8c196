"""No alias may move without passing evidence, and nobody may move one, or edit what it rests on, unseen."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import mlflow
import pandas as pd
import pytest
import sqlalchemy as sa
import yaml
from mlflow import MlflowClient

from evaluation.promotion import gate
from pipelines.errors import UserError
from pipelines.policy import Policy, Waiver
from serving import audit_log, gate_context, history, promote, register, registry, rollback, verify
from serving import registry as problems
from serving.alias_moves import history_uri, look, move
from serving.registry import GateError
from tests.evaluation.made_evidence import TASK, TASK_MD5, made_evidence, made_policy, sealed
from tests.serving import made_registry
from tests.serving.made_registry import BY, POLICY, aliases, compared_with, logged_evidence, made_version, stages

ROOT = Path(__file__).parents[2]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[MlflowClient]:
    with made_registry.empty_registry("sqlite", tmp_path) as made:
        yield made


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Mock:
    monkeypatch.setattr(registry, "answer_example", asked := Mock(return_value=1))
    return asked


def up(version: int | None = None, to: Any = "staging", policy: Policy = POLICY) -> registry.Moved:
    return registry.promote(TASK, to, version, by=BY, policy=policy)


def produced(client: MlflowClient, text: str = "weights", **changes: Any) -> int:
    version = made_version(client, text, **changes)
    up(version)
    up(version, "production")
    return version


def kinds() -> set[str]:
    return {problem.kind for problem in problems.verify(TASK)}


def sql(statement: str) -> None:
    with sa.create_engine(mlflow.get_tracking_uri()).begin() as connection:
        connection.execute(sa.text(statement))


def test_registering_and_promoting_twice_changes_nothing_and_new_evidence_replaces_the_old(
    client: MlflowClient,
) -> None:
    run, uri = made_registry.made_model(client)
    old, new = (logged_evidence(client, run, uri, seconds=seconds) for seconds in (1.0, 2.0))
    for evidence in (old, new):
        assert registry.register(TASK, evidence, by=BY, policy=POLICY).version == 1
    assert registry.register(TASK, new, by=BY, policy=POLICY).entry is None
    assert client.get_model_version(TASK, "1").tags["evidence.sha256"] == new["sha256"]
    assert [each.evidence_sha256 for each in registry.history(TASK)] == [old["sha256"], new["sha256"]]
    up()
    assert up().entry is None
    up(to="production")
    assert up(1, "production").entry is None
    assert len(registry.history(TASK)) == 4
    assert problems.verify(TASK) == []


def test_production_is_for_the_version_in_staging_and_judged_anew(client: MlflowClient) -> None:
    first = made_version(client, simulated=True)
    with pytest.raises(UserError, match="promote a version to staging first"):
        up(to="production")
    up()
    second = made_version(client)
    with pytest.raises(UserError, match=f"version {second} is not in staging"):
        up(second, "production")
    stricter = replace(POLICY, gate=replace(POLICY.gate, megabytes=0.5))
    for policy, check in ((stricter, "megabytes"), (POLICY, "simulated")):
        with pytest.raises(GateError, match=check):
            up(first, "production", policy)
    assert aliases(client) == {"candidate": second, "staging": first}
    up(to="production", policy=made_policy(waivers=(Waiver("simulated", "a demonstration", "B", "2999-01-01"),)))
    assert aliases(client)["production"] == first


def test_a_policy_that_was_loosened_is_in_the_history_with_its_limit_or_by_the_name_of_who_waived(
    client: MlflowClient,
) -> None:
    bad = made_version(client, test__metrics__margin__low=-0.1, test__metrics__ece__value=0.5)
    with pytest.raises(GateError, match="margin over") as refused:
        up(bad)
    assert [each.check for each in refused.value.verdicts if each.status == "fail"] == ["margin", "calibration"]
    waived = made_policy(waivers=(Waiver("calibration", "a rehearsal", "B. Person", "2999-01-01"),))
    up(bad, policy=replace(waived, gate=replace(waived.gate, margin=-1.0)))
    said = {each["check"]: each for each in registry.history(TASK)[-1].verdicts}
    assert said["margin"]["reason"].endswith("its low end must lie above -1")
    assert (said["calibration"]["status"], said["calibration"]["by"]) == ("waived", "B. Person")
    assert problems.verify(TASK) == []


def test_a_version_of_other_data_than_dvc_lock_records_is_not_promoted(client: MlflowClient) -> None:
    """Though `data.dvc`, which is of all tasks, is as it was."""
    number = made_version(client)

    def lock(md5: str) -> None:
        def stage(of: str, data: str) -> dict[str, Any]:
            return {"deps": [{"path": "params.py", "md5": "0"}, {"path": f"data/{of}", "md5": data}]}

        made = {f"validate@{TASK}": stage(TASK, "another stage's"), "prepare@other": stage("other", "another task's")}
        Path("dvc.lock").write_text(yaml.safe_dump({"stages": {**made, f"prepare@{TASK}": stage(TASK, md5)}}))

    lock("new.dir")
    with pytest.raises(GateError, match=r"dvc\.lock records new\.dir") as refused:
        up(number)
    assert [each.check for each in refused.value.verdicts if each.status == "fail"] == ["data"]
    assert aliases(client) == {"candidate": number}
    lock(TASK_MD5)
    up(number)
    assert aliases(client)["staging"] == number
    Path("dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert gate_context.lock_md5(TASK) is None


def test_a_model_that_is_not_compared_with_production_or_may_be_worse_is_refused(client: MlflowClient) -> None:
    first = produced(client)
    worse = made_version(client, comparisons=compared_with(first, low=-0.1))
    third = made_version(client, comparisons=compared_with(first))
    with pytest.raises(GateError, match="over version 1"):
        up(worse)
    second = produced(client, comparisons=compared_with(first))
    with pytest.raises(GateError, match=f"not compared with version {second}"):
        up(third)
    assert aliases(client)["production"] == second


def test_evidence_that_is_not_this_model_s_is_not_registered(client: MlflowClient) -> None:
    def unsealed(evidence: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return {key: value for key, value in {**evidence, **changes}.items() if key != "sha256"}

    run, uri = made_registry.made_model(client)
    evidence = logged_evidence(client, run, uri)
    other = sealed(unsealed(evidence, seconds=3.0))
    files = sealed(unsealed(evidence, hashes={**evidence["hashes"], "model.sha256": "9" * 64}))
    client.log_text(run, json.dumps(files), f"evidence/{files['sha256']}/evidence.json")
    for bad, says in (
        ({**evidence, "task": "blood_cell"}, "of the task 'blood_cell'"),
        ({**evidence, "run_id": "0" * 32}, "not in the tracking store"),
        (other, "has no artifact"),
        (files, "are not those of the evidence"),
    ):
        with pytest.raises(UserError, match=says):
            registry.register(TASK, bad, by=BY, policy=POLICY)
    assert client.search_registered_models() == []
    client.delete_run(run)
    with pytest.raises(UserError, match="mlflow runs restore"):
        registry.register(TASK, evidence, by=BY, policy=POLICY)
    run, uri = made_registry.made_model(client)  # and aliases of a registry without history are found
    client.create_registered_model(TASK)
    client.create_model_version(TASK, uri, run)
    client.set_registered_model_alias(TASK, "production", "1")
    assert kinds() == {"alias"}
    registry.restore(TASK, by=BY, why="nobody knows from where")
    assert aliases(client) == {} and problems.verify(TASK) == []


def test_edited_evidence_is_not_judged_and_found(two: MlflowClient) -> None:
    version = two.get_model_version(TASK, "2")
    place = f"evidence/{version.tags['evidence.sha256']}/evidence.json"
    better = made_evidence(test__metrics__margin__low=0.9)
    for evidence, says in ((better, "was edited"), ({**better, "seconds": 7}, "does not match its hash")):
        two.log_text(version.run_id, json.dumps(evidence), place)
        with pytest.raises(UserError, match=says):
            up(2, "production")
        assert [(each.kind, each.version) for each in problems.verify(TASK)] == [("evidence", 2)]


def test_rollback_goes_back_as_often_as_there_was_something_before(client: MlflowClient, answering: Mock) -> None:
    def pointed() -> dict[str, int]:
        return {alias: version for alias, version in aliases(client).items() if alias != "candidate"}

    first = produced(client)
    for does, says in (  # a move without a name, a reason or an aim is refused
        (lambda: registry.promote(TASK, by=" ", policy=POLICY), "needs a name"),
        (lambda: registry.rollback(TASK, by=BY, why=""), "say why"),
        (lambda: registry.rollback(TASK, by=BY, why="trouble"), r"no version of .* was in production before"),
        (lambda: up(9), "has no version 9"),
        (lambda: up(1, "candidate"), "staging or production"),
    ):
        with pytest.raises(UserError, match=says):
            does()
    second = produced(client, comparisons=compared_with(first))
    third = produced(client, comparisons=compared_with(second))
    assert pointed() == {"production": third, "previous": second}
    registry.rollback(TASK, by=BY, why="too many alarms")
    assert pointed() == {"production": second, "previous": first}
    registry.rollback(TASK, by=BY, why="still")
    assert pointed() == {"production": first}
    assert stages(client) == {first: "Production", second: "Archived", third: "Archived"}
    with pytest.raises(UserError, match="no version of"):
        registry.rollback(TASK, by=BY, why="again")
    with pytest.raises(UserError, match="in staging"):  # it has to pass again
        up(second, "production")
    entry = registry.history(TASK)[-1]
    assert (entry.action, entry.from_version, entry.to_version, entry.why) == ("rollback", second, first, "still")
    assert answering.call_count == 2
    assert problems.verify(TASK) == []


def test_rollback_does_not_ask_for_thresholds_but_for_the_same_files(
    client: MlflowClient, answering: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = produced(client)
    produced(client, comparisons=compared_with(first))
    folder = made_registry.model_folder(client, client.get_model_version(TASK, str(first)).source)
    estimator = folder / "artifacts" / "model" / "estimator"
    estimator.write_text("other weights")
    with pytest.raises(UserError, match="are not those that were registered"):
        registry.rollback(TASK, by=BY, why="too many alarms")
    estimator.write_text("weights")
    Path("data.dvc").write_text("outs: [{md5: new.dir, path: data}]")  # today's data is no matter
    monkeypatch.setattr(registry, "read_params", lambda: pytest.fail("thresholds were read"))
    assert registry.rollback(TASK, by=BY, why="too many alarms").version == first


_MODEL = """
import os
import mlflow
import pandas as pd

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if "BROKEN" in os.environ:
            raise ValueError("the weights are broken")
        return pd.DataFrame({"prediction": model_input["x"] * 2})

mlflow.models.set_model(Model())
"""


def test_rollback_asks_the_model_before_it_moves_anything(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version before is loaded as it would be served; one that does not answer is no way back."""
    (tmp_path / "model.py").write_text(_MODEL)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "estimator").write_text("weights")
    mlflow.set_experiment(TASK)
    with mlflow.start_run() as run:
        given: dict[str, Any] = {"input_example": pd.DataFrame({"x": [1.0, 2.0]}), "pip_requirements": ["mlflow"]}
        code, weights = str(tmp_path / "model.py"), {"model": str(tmp_path / "weights")}
        uri = mlflow.pyfunc.log_model(name="model", python_model=code, artifacts=weights, **given).model_uri
    registry.register(TASK, logged_evidence(client, run.info.run_id, uri), by=BY, policy=POLICY)
    up()
    up(to="production")
    produced(client, comparisons=compared_with(1))
    before = aliases(client)
    monkeypatch.setenv("BROKEN", "yes")
    with pytest.raises(UserError, match=r"does not load or answer: .*the weights are broken"):
        registry.rollback(TASK, by=BY, why="too many alarms")
    with monkeypatch.context() as hurried:
        hurried.setattr(gate_context.answer_example, "__defaults__", (0.01,))
        with pytest.raises(UserError, match="does not answer within"):
            registry.rollback(TASK, by=BY, why="too many alarms")
    assert aliases(client) == before
    monkeypatch.delenv("BROKEN")
    assert registry.rollback(TASK, by=BY, why="too many alarms").version == 1
    assert aliases(client)["production"] == 1
    (verdict,) = registry.history(TASK)[-1].verdicts
    assert verdict["reason"] == "loaded, and answered 2 rows"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "checkout"
    with made_registry.made_once(folder) as client:
        made_version(client, comparisons=compared_with(produced(client)))
        up()
        assert problems.verify(TASK) == []
    return folder


@pytest.fixture
def two(built: Path) -> Iterator[MlflowClient]:
    with made_registry.made_again(built) as made:
        yield made


def test_aliases_and_stages_moved_behind_the_tools_back_are_found_and_put_back(two: MlflowClient) -> None:
    two.transition_model_version_stage(TASK, "2", "Production")
    assert kinds() == {"stage"}
    two.set_registered_model_alias(TASK, "production", "2")
    two.delete_registered_model_alias(TASK, "staging")
    assert [each.kind for each in problems.verify(TASK) if each.kind != "stage"] == ["alias", "alias"]
    for does in (lambda: up(1), lambda: registry.rollback(TASK, by=BY, why="x"), lambda: made_version(two)):
        with pytest.raises(UserError, match="without these commands"):
            does()
    assert registry.restore(TASK, by=BY, why="found by verify") is not None
    assert aliases(two) == {"candidate": 2, "staging": 2, "production": 1}
    assert problems.verify(TASK) == []
    assert registry.restore(TASK, by=BY, why="again") is None
    assert registry.history(TASK)[-1].action == "restore"


def test_edited_and_missing_files_runs_and_versions_are_found_but_not_what_loading_leaves(two: MlflowClient) -> None:
    folder = made_registry.model_folder(two, two.get_model_version(TASK, "2").source)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "code.pyc").write_bytes(b"x")
    assert problems.verify(TASK) == []
    for file in ("artifacts/model/estimator", "code.py", "MLmodel"):
        before = (folder / file).read_text()
        (folder / file).write_text(f"{before}\n# edited\n")
        assert [(each.kind, each.version) for each in problems.verify(TASK)] == [("files", 2)], file
        with pytest.raises(GateError, match="served files"):
            up(2, "production")
        (folder / file).write_text(before)
    (folder / "MLmodel").unlink()
    two.delete_run(two.get_model_version(TASK, "1").run_id)
    assert [(each.kind, each.version) for each in problems.verify(TASK)] == [("run", 1), ("files", 2)]
    two.delete_model_version(TASK, "1")
    assert ("version", 1) in [(each.kind, each.version) for each in problems.verify(TASK)]


def test_rows_of_an_earlier_version_whose_gate_had_fewer_checks_still_match(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_version(client)
    with monkeypatch.context() as earlier:
        earlier.setattr(gate, "CHECKS", [each for each in gate.CHECKS if each != "new_test_split"])
        registry.promote(TASK, "staging", by=BY, policy=POLICY)
    assert "new_test_split" not in [each["check"] for each in registry.history(TASK)[-1].verdicts]
    assert registry.verify(TASK) == []
    registry.promote(TASK, "production", by=BY, policy=POLICY)
    assert registry.verify(TASK) == []
    second = made_version(client, comparisons=compared_with(1))
    with monkeypatch.context() as forger:  # no version judges less than the one before it
        forger.setattr(gate, "CHECKS", [each for each in gate.CHECKS if each != "new_test_split"])
        registry.promote(TASK, "staging", second, by=BY, policy=POLICY)
    assert [(each.kind, each.version) for each in registry.verify(TASK)] == [("verdict", second)]


def test_no_version_was_judged_by_a_single_check(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    version = made_version(client)
    with monkeypatch.context() as forger:
        forger.setattr(gate, "CHECKS", ["identity"])
        registry.promote(TASK, "staging", by=BY, policy=POLICY)
    assert [(each.kind, each.version) for each in registry.verify(TASK)] == [("verdict", version)]


def test_edited_tags_and_a_forged_row_with_a_right_hash_are_found(two: MlflowClient) -> None:
    tags = two.get_model_version(TASK, "1").tags
    for tag in ("evidence.sha256", "model.sha256", "data.sha256", "files.sha256"):
        two.set_model_version_tag(TASK, "1", tag, "9" * 64)
        assert {each.version for each in problems.verify(TASK)} == {1}, tag
        two.set_model_version_tag(TASK, "1", tag, tags[tag])
    assert problems.verify(TASK) == []
    # Whoever writes rows and hashes by hand still lacks the gate's verdicts.
    bad = made_version(two, test__metrics__margin__low=-0.1)
    move(TASK, expected=look(TASK), by="X", action="promote", alias="staging", to_version=bad, why="")
    assert [(each.kind, each.version) for each in problems.verify(TASK)] == [("verdict", bad)]
    other = two.get_model_version(TASK, "2").source
    sql(f"UPDATE model_versions SET source = '{other}' WHERE version = 1")
    assert "version" in kinds()


TABLE = audit_log.TABLE
TAMPERED = {
    "an edited row": f"UPDATE {TABLE} SET by = 'Somebody Else' WHERE number = 2",
    "the last row cut off": f"DELETE FROM {TABLE} WHERE number = 5",
    "all rows taken out": f"DELETE FROM {TABLE}",
    "the anchor taken away": "DELETE FROM registered_model_tags",
}


@pytest.mark.parametrize("statement", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_history_is_found_and_not_added_to(two: MlflowClient, statement: str) -> None:
    if TABLE in statement:
        with pytest.raises(sa.exc.IntegrityError, match="append-only"):
            sql(statement)
        assert problems.verify(TASK) == []
        for verb in ("update", "delete"):
            sql(f"DROP TRIGGER {TABLE}_no_{verb}")
        assert kinds() == {"history"}
    sql(statement)
    found = [problem for problem in problems.verify(TASK) if "trigger" not in problem.message]
    assert "history" in {problem.kind for problem in found}
    with pytest.raises(UserError, match="from a backup"):
        up(2, "production")


def test_the_history_lies_beside_the_registry_unless_another_place_is_named(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        for registry_uri in ("http://lab:5000", "databricks", "./mlruns"):  # which are no database
            patched.setattr(mlflow, "get_registry_uri", lambda uri=registry_uri: uri)
            for does in (lambda: look(TASK), lambda: up(1), lambda: problems.verify(TASK)):
                with pytest.raises(UserError, match="set ONCOLINEAGE_HISTORY_URI to the same database for everybody"):
                    does()
    made_version(client)
    assert history_uri() == mlflow.get_registry_uri()
    monkeypatch.setenv("ONCOLINEAGE_HISTORY_URI", f"sqlite:///{tmp_path}/another.db")
    assert history_uri() == f"sqlite:///{tmp_path}/another.db"
    assert kinds() == {"history", "alias"}  # whose rows are not those that the registered model's tag tells of
    with pytest.raises(UserError, match="check that ONCOLINEAGE_HISTORY_URI names the history's database"):
        up()
    assert aliases(client) == {"candidate": 1}
    for uri in ("no address", "oracle+none://lab/x", "postgresql://lab:secret@127.0.0.1:1/x?connect_timeout=2"):
        monkeypatch.setenv("ONCOLINEAGE_HISTORY_URI", uri)
        with pytest.raises(UserError, match="cannot be used") as refused:
            look(TASK)
        assert "secret" not in str(refused.value)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands judge by the policy that made evidence passes; the registry's fixture comes before."""
    Path("params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.setattr(registry, "read_params", lambda: Mock(policy=POLICY))


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs a command in this process; it returns the exit code, and what was printed."""

    def run(module: Any, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", [module.__name__, "--task", TASK, *arguments])
        code = int(module.main())
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_versions_move_by_commands_from_candidate_to_staging_to_production_and_back(
    client: MlflowClient, lenient: None, answering: Mock, command: Command
) -> None:
    for number in (1, 2):
        assert made_version(client, comparisons=compared_with(number - 1)) == number
        assert (aliases(client)["candidate"], stages(client)[number]) == (number, "None")
        assert command(promote, "--by", BY)[0] == 0
        assert (aliases(client)["staging"], stages(client)[number]) == (number, "Staging")
        assert command(promote, "--to", "production", "--version", str(number), "--by", BY, "--why", "better")[0] == 0
    assert aliases(client) == {"candidate": 2, "production": 2, "previous": 1}
    assert stages(client) == {1: "Archived", 2: "Production"}
    assert command(rollback, "--by", BY, "--why", "too many alarms")[0] == 0
    assert aliases(client) == {"candidate": 2, "production": 1}
    rows = registry.history(TASK)
    assert [(each.action, each.alias, each.from_version, each.to_version, each.why) for each in rows] == [
        ("register", "candidate", None, 1, ""),
        ("promote", "staging", None, 1, ""),
        ("promote", "production", None, 1, "better"),
        ("register", "candidate", 1, 2, ""),
        ("promote", "staging", None, 2, ""),
        ("promote", "production", 1, 2, "better"),
        ("rollback", "production", 2, 1, "too many alarms"),
    ]
    assert all(each.by == BY and each.evidence_sha256 for each in rows)
    assert all({verdict["status"] for verdict in each.verdicts} == {"pass"} for each in rows)
    assert "2 -> 1" in command(history)[1]
    assert command(verify)[0] == 0


def test_the_commands_report_refusals_and_put_aliases_back(two: MlflowClient, lenient: None, command: Command) -> None:
    code, said = command(promote, "--by", BY, "--version", "")
    assert code == 0 and "version 2 is already in staging" in said
    rows = json.loads(command(history, "--json")[1])
    assert [row["number"] for row in rows] == list(range(1, 6))
    two.set_registered_model_alias(TASK, "production", "2")
    code, said = command(verify)
    assert code == 1 and len(said.splitlines()) == 1
    assert command(verify, "--restore", "--by", BY)[0] == 0
    folder = Path("reports") / TASK / "candidate"
    folder.mkdir(parents=True)
    bad = logged_evidence(two, *made_registry.made_model(two), test__metrics__margin__low=-1.0)
    (folder / "evidence.json").write_text(json.dumps(bad))
    assert command(register, "--by", BY)[0] == register.REFUSED
    code, said = command(promote, "--by", BY)
    assert code == promote.REFUSED and "the gate refuses" in said
    (folder / "evidence.json").write_text(json.dumps({**bad, "seconds": 3.5}))
    with pytest.raises(UserError, match="edited"):
        command(register, "--by", BY)


def test_no_other_code_of_the_platform_moves_an_alias() -> None:
    """`serving.alias_moves` alone writes aliases and stages, and `serving.registry` alone calls it."""
    moves = ("set_registered_model_alias", "transition_model_version_stage", "delete_registered_model_alias")
    movers = set()
    for room in ("pipelines", "training", "evaluation", "serving", "infra"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text()
            assert path == ROOT / "serving" / "alias_moves.py" or not any(move in text for move in moves), path
            if re.search(r"alias_moves import .*(\bmove\b|\*|\()|import (serving\.)?alias_moves", text):
                movers.add(path.relative_to(ROOT).as_posix())
    assert movers == {"serving/registry.py"}
