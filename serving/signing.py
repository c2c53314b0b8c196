"""Signatures of moves: what is signed with a move, and what of a registry is not as it was signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from evaluation.promotion.registered_files import FILES_TAG
from evaluation.promotion.signatures import (
    HISTORY_TAG,
    SIGNATURE,
    VERSION_TAG,
    history_problems,
    signed,
    signer,
    signers,
    version_problems,
)
from pipelines.errors import UserError
from serving.audit_log import ALIASES, REGISTER, SIGN, Entry, anchor, replay, vouching

if TYPE_CHECKING:
    from serving.alias_moves import Found


def check_key() -> None:
    """Refuse, by `UserError`, a user without a key where moves are signed."""
    if (listed := signers()) is not None:
        signer(listed)


def signatures(now: Found, entry: Entry, tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that sign a move, which ``tags`` of its version come with; none where nothing is signed.

    They are part of the move's intent, so that whoever finishes it needs no key. It is a `UserError` if this user may
    not sign, or what the move builds on is not signed itself.
    """
    if (listed := signers()) is None:
        return {}
    by = signer(listed)
    if entry.action != SIGN and now.entries:
        # The moved version must be as it was signed, unless this move is what signs it.
        moved = None if entry.action == REGISTER else entry.to_version
        if told := [str(each) for each in problems(entry.task, now) if each.version in (None, moved)]:
            raise UserError("\n".join([*told, f"nothing was changed: {_ADVICE.format(entry.task)}"]))
    entries = (*now.entries, entry)
    link = {"row": anchor(entries), "previous_hash": entry.previous_hash, "task": entry.task}
    aliases: dict[str, Any] = dict.fromkeys(ALIASES)
    for alias, version in replay(entries).aliases.items():
        aliases[alias] = {"version": version, "row": vouching(entries, version)}
    history = {**link, "of": "history", "action": entry.action, "alias": entry.alias, "version": entry.to_version}
    made = {HISTORY_TAG: signed({**history, "aliases": aliases}, by)}
    if entry.action in (REGISTER, SIGN):
        files = {**now.tags.get(entry.to_version or 0, {}), **tags}.get(FILES_TAG)
        its = {"version": entry.to_version, "evidence": entry.evidence_sha256, "files": files}
        made[VERSION_TAG] = signed({**link, **its, "of": "version"}, by)
    return made


class Unsigned(NamedTuple):
    """What is not as somebody on the list signed it: of which kind, and of which version; None for the history."""

    kind: str
    message: str
    version: int | None = None

    def __str__(self) -> str:
        return self.message if self.version is None else f"version {self.version}: {self.message}"


def problems(task: str, found: Found) -> list[Unsigned]:
    """Return what is not as somebody on the list signed it; nothing where moves are not signed."""
    if (listed := signers()) is None or not (found.entries or found.signature):
        return []
    after = found.entries_after
    entries = after if found.head == anchor(after) else found.entries
    head, aliases = anchor(entries), replay(entries).aliases
    of_history, _ = history_problems(found.signature, listed, task=task, head=head, aliases=aliases)
    told = [Unsigned(SIGNATURE, f"the history {each}") for each in of_history]
    moved = {entry.to_version for entry in entries}
    for number, tags in sorted(found.tags.items()):
        if number in moved:
            files, row = tags.get(FILES_TAG), vouching(entries, number)
            of_version = version_problems(tags, listed, task=task, version=number, files=files, row=row)
            told += [Unsigned(kind, f"it {each}", number) for kind, each in of_version]
    return told


_ADVICE = (
    "look with `make verify TASK={0}`, and see 'Signed releases' in docs/security.md; where all else matches and it is "
    "to be vouched for, sign it: `python -m serving.verify --task {0} --sign`"
)
