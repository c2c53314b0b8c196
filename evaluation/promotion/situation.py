"""What is known of a version when the gate judges it."""

from dataclasses import dataclass
from datetime import date
from typing import Literal


@dataclass(frozen=True)
class Situation:
    """What is known of a version when it is judged; None is what cannot be found out, and it proves nothing."""

    to: Literal["staging", "production"]
    today: date  # waivers end
    run_id: str | None  # as the registry has it, with the next two
    model_uri: str | None
    evidence_sha256: str | None
    model_sha256: str | None  # of the fitted model's files behind the version, hashed now
    files_sha256: str | None  # of all that is served, code included, hashed now
    registered_files_sha256: str | None  # the same when the version was registered
    dvc_data_md5: str | None  # of all raw data, as ``data.dvc`` records it now
    data_sha256: str | None  # of the task's own raw folder now; only needed where ``dvc_data_md5`` is another
    split_sha256: str | None  # of the task's split now
    version: int | None = None  # before registration it has none
    production: int | None = None  # the version in production, if there is one
    dvc_lock_md5: str | None = None  # of the task's own raw data, as ``dvc.lock`` records it now
    looks: int | None = None  # so often the evidence's test rows were scored, see `evaluation.evidence.looks`
    rotation_sha256: str | None = None  # of the outer models of the version's fit, where evidence is of all groups
