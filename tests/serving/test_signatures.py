"""Where moves are signed, nothing is served, built on or restored that nobody on the list vouches for."""

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from unittest.mock import Mock

import pytest
from mlflow import MlflowClient

from evaluation.promotion import signatures
from evaluation.promotion.registered_files import check_files
from evaluation.promotion.signatures import HEAD, HISTORY_TAG, KEY, SIGNERS, VERSION_TAG
from pipelines.errors import UserError
from pipelines.file_hashes import file_hashes
from serving import audit_log, registry
from serving.alias_moves import look
from serving.stores import backup, restore
from tests.evaluation.made_evidence import TASK
from tests.serving.made_registry import (
    BY,
    POLICY,
    compared_with,
    logged_evidence,
    made_again,
    made_once,
    made_version,
    model_folder,
)
from tests.training.tiny import ROOT


def make_signer(folder: Path, name: str) -> Path:
    command = [sys.executable, str(ROOT / "infra" / "make_secrets.py"), "--to", str(folder), "--signer", name]
    subprocess.run(command, check=True, capture_output=True)
    return folder / f"signing_key_{name}.pem"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    make_signer(folder, "ada")
    make_signer(folder / "of a stranger", "eve")
    return folder


@pytest.fixture(scope="module")
def made(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout whose version 1 went to production with signatures; version 2 is the candidate."""
    folder = tmp_path_factory.mktemp("signed") / "checkout"
    with pytest.MonkeyPatch.context() as patch, made_once(folder) as client:
        patch.setenv(SIGNERS, str(keys / "signers"))
        patch.setenv(KEY, str(keys / "signing_key_ada.pem"))
        made_version(client)
        registry.promote(TASK, "staging", by=BY, policy=POLICY)
        registry.promote(TASK, "production", by=BY, policy=POLICY)
        made_version(client, "others", comparisons=compared_with(1))
    return folder


@pytest.fixture
def client(made: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    monkeypatch.setenv(SIGNERS, str(keys / "signers"))
    monkeypatch.setenv(KEY, str(keys / "signing_key_ada.pem"))
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{made}/optuna.db")
    monkeypatch.setattr(signatures, "_SECONDS", 0)
    with made_again(made) as again:
        yield again


def load(client: MlflowClient, version: int = 1) -> None:
    """Do what the endpoint does before it starts."""
    found = client.get_model_version(TASK, str(version))
    check_files(found, model_folder(client, found.source))


def told() -> str:
    return "\n".join(map(str, registry.verify(TASK)))


def sql(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        for (name,) in list(connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")):
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def rehashed(client: MlflowClient, version: int = 1) -> None:
    """Put another model and its hashes in the place of a version's, as whoever writes to store and registry can."""
    from serving.gate_context import hashes

    found = client.get_model_version(TASK, str(version))
    (model_folder(client, found.source) / "code.py").write_text("answer = 43\n")
    client.set_model_version_tag(TASK, str(version), "files.sha256", str(hashes(found.source).files))


def test_what_was_signed_is_served_and_verified_and_moves_go_on(client: MlflowClient) -> None:
    load(client)
    load(client, 2)
    assert told() == ""
    registry.promote(TASK, "staging", 1, by=BY, policy=POLICY)
    assert told() == ""
    load(client)


def test_another_model_with_right_hashes_is_found(client: MlflowClient) -> None:
    rehashed(client)
    with pytest.raises(UserError, match=r"version 1 is signed with files .*not loaded"):
        load(client)
    assert "files: version 1: it is signed with files" in told()
    with pytest.raises(UserError, match="nothing was changed"):  # nobody signs on top of it unseen
        registry.promote(TASK, "staging", 1, by=BY, policy=POLICY)
    with pytest.raises(UserError, match="nothing was signed"):
        registry.sign(TASK, by=BY, why="in a hurry")
    load(client, 2)


def test_swapped_evidence_is_found(client: MlflowClient, made: Path) -> None:
    """Evidence, tags, row, all hashes after it and the head are made to fit, and only the signature is not."""
    found = client.get_model_version(TASK, "1")
    other = logged_evidence(client, str(found.run_id), found.source, test__metrics__r2__value=0.99)
    client.set_model_version_tag(TASK, "1", "evidence.sha256", other["sha256"])
    entries: list[audit_log.Entry] = []
    for entry in look(TASK).entries:
        evidence = other["sha256"] if entry.to_version == 1 else entry.evidence_sha256
        before = entries[-1].hash if entries else audit_log.FIRST
        entries.append(audit_log.replace(entry, evidence_sha256=evidence, previous_hash=before).sealed())
    sql(made, f"DELETE FROM {audit_log.TABLE}")
    with closing(sqlite3.connect(made / "mlflow.db")) as connection, connection:
        for entry in entries:
            row = {**vars(entry), "verdicts": json.dumps(entry.verdicts, sort_keys=True, ensure_ascii=False)}
            marks = ", ".join("?" for _ in row)
            names = ", ".join(f'"{name}"' for name in row)
            connection.execute(f"INSERT INTO {audit_log.TABLE} ({names}) VALUES ({marks})", tuple(row.values()))
    client.set_registered_model_tag(TASK, HEAD, str(audit_log.anchor(entries)))
    assert look(TASK).broken() == []  # as far as hashes tell
    assert "version 1: it is signed with evidence" in told() and "the history ends at row 4:" in told()
    with pytest.raises(UserError, match=r"ends at row 4.*signed with evidence"):
        load(client)


def test_a_deleted_row_is_found(client: MlflowClient, made: Path) -> None:
    rows = look(TASK).entries
    sql(made, f"DELETE FROM {audit_log.TABLE} WHERE number = {len(rows)}")
    client.set_registered_model_tag(TASK, HEAD, str(audit_log.anchor(rows[:-1])))
    client.set_registered_model_alias(TASK, "candidate", "1")
    assert look(TASK).broken() == look(TASK).moved() == []
    assert "a row was added or removed" in told()
    with pytest.raises(UserError, match="a row was added or removed"):
        load(client)


def test_an_old_signature_that_is_put_back_is_found(client: MlflowClient) -> None:
    model, version = client.get_registered_model(TASK), client.get_model_version(TASK, "1")
    other = logged_evidence(client, str(version.run_id), version.source, test__metrics__r2__value=0.98)
    registry.register(TASK, other, by=BY, policy=POLICY)
    assert told() == ""
    load(client)
    for tag in (VERSION_TAG, "evidence.sha256"):
        client.set_model_version_tag(TASK, "1", tag, version.tags[tag])
    assert "version 1: it has the signature of row 1:" in told()
    with pytest.raises(UserError, match="has the signature of row 1:"):
        load(client)
    client.set_registered_model_tag(TASK, HISTORY_TAG, model.tags[HISTORY_TAG])
    assert "its signature is of row 4:" in told()
    with pytest.raises(UserError, match="its signature is of row 4:"):
        load(client)


def test_an_alias_that_was_moved_is_not_served_though_the_version_is_signed(client: MlflowClient) -> None:
    client.set_registered_model_alias(TASK, "production", "2")
    with pytest.raises(UserError, match="alias production at version 1 as it was signed, and at version 2 now"):
        load(client, 2)
    registry.restore(TASK, by=BY, why="found by verify")
    assert told() == ""
    load(client)


def test_a_move_that_was_broken_off_is_finished_with_its_signature_by_who_has_no_key(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(MlflowClient, "set_registered_model_tag", Mock(side_effect=KeyboardInterrupt))
        registry.promote(TASK, "staging", by=BY, policy=POLICY)
    monkeypatch.delenv(KEY)
    with pytest.raises(UserError, match="alias staging at nothing as it was signed"):
        load(client, 2)
    assert told() == ""  # whoever looks finishes it
    load(client, 2)
    assert registry.history(TASK)[-1].alias == "staging"


def test_a_stranger_may_not_sign_and_what_he_signed_elsewhere_does_not_count(
    client: MlflowClient, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = keys / "of a stranger"
    rows = registry.history(TASK)
    monkeypatch.setenv(KEY, str(stranger / "signing_key_eve.pem"))
    with pytest.raises(UserError, match="is of nobody in"):
        registry.promote(TASK, "staging", by=BY, policy=POLICY)
    monkeypatch.delenv(KEY)
    with pytest.raises(UserError, match=f"set {KEY}"):
        made_version(client, "third")
    assert registry.history(TASK) == rows and len(look(TASK).stages) == 2
    monkeypatch.setenv(KEY, str(stranger / "signing_key_eve.pem"))
    with monkeypatch.context() as patched:  # on a list of her own
        patched.setenv(SIGNERS, str(stranger / "signers"))
        registry.sign(TASK, by="Eve", why="")
        assert told() == ""
    assert "is signed by 'eve', who is not in" in told()
    with pytest.raises(UserError, match="is signed by 'eve', who is not in"):
        load(client)
    name = json.loads(client.get_model_version(TASK, "1").tags[VERSION_TAG])
    name["statement"]["signer"] = "ada"
    client.set_model_version_tag(TASK, "1", VERSION_TAG, json.dumps(name))
    assert "version 1: it was changed since 'ada' signed it" in told()


def test_a_key_is_rotated_and_revoked(
    client: MlflowClient, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "signers"
    shutil.copy(keys / "signers", listed)
    monkeypatch.setenv(SIGNERS, str(listed))
    monkeypatch.setenv(KEY, str(make_signer(tmp_path, "ada")))  # her second one, under the same name
    assert len(listed.read_text().splitlines()) == 2
    registry.promote(TASK, "staging", by=BY, policy=POLICY)
    assert told() == ""
    load(client)
    listed.write_text(listed.read_text().splitlines()[1] + "\n")
    assert "version 1: it was changed since 'ada' signed it" in told()
    with pytest.raises(UserError, match="version 1 was changed since 'ada' signed it"):
        load(client)
    with pytest.raises(UserError, match="nothing was changed"):
        registry.promote(TASK, "production", by=BY, policy=POLICY)
    assert [row.to_version for row in registry.sign(TASK, by=BY, why="the old key was stolen")] == [1, 2]
    assert told() == "" and registry.sign(TASK, by=BY, why="again") == []
    load(client)
    registry.promote(TASK, "production", by=BY, policy=POLICY)


def test_without_settings_all_is_as_before_and_a_registry_can_be_signed_later(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        for name in (SIGNERS, KEY):
            patched.delenv(name)
        made_version(client, "third", comparisons=compared_with(1))
        assert told() == "" and VERSION_TAG not in client.get_model_version(TASK, "3").tags
        load(client, 3)
    assert "version 3: it is not signed" in told() and "the history ends at row 5:" in told()
    with pytest.raises(UserError, match="is not signed"):
        load(client, 3)
    with pytest.raises(UserError, match=r"verify --task \S+ --sign"):
        registry.promote(TASK, "staging", 3, by=BY, policy=POLICY)
    registry.sign(TASK, by=BY, why="looked at")
    assert told() == ""
    load(client, 3)


def test_a_backup_that_is_not_as_it_was_signed_is_not_restored(
    client: MlflowClient, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup(tmp_path / "good")
    swapped = shutil.copytree(tmp_path / "good", tmp_path / "swapped")  # with its manifest made to fit
    next(swapped.rglob("code.py")).write_text("answer = 43\n")
    manifest = json.loads((swapped / "manifest.json").read_text())
    files = {place: each for place, each in file_hashes(swapped).items() if place != "manifest.json"}
    (swapped / "manifest.json").write_text(json.dumps(manifest | {"files": files}))
    rehashed(client)
    client.set_registered_model_alias(TASK, "production", "2")
    backup(tmp_path / "bad")
    (made / "mlflow.db").unlink()
    shutil.rmtree(made / "mlruns")
    with pytest.raises(UserError, match=r"(?s)alias production points.*version 1: it is signed.*nothing was restored"):
        restore(tmp_path / "bad")
    with pytest.raises(UserError, match=r"version \d: its files in the backup are not those .*\nnothing was restored"):
        restore(swapped)
    assert not (made / "mlflow.db").exists() and not (made / "mlruns").exists()
    restore(tmp_path / "good")
    assert told() == ""
    load(client)
    monkeypatch.delenv(SIGNERS)
    with pytest.raises(UserError, match=f"{KEY} is set and {SIGNERS} is not"):
        load(client)
