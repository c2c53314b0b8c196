"""What is neither file nor folder: a device has no end, and a pipe that nobody writes into waits forever."""

from collections.abc import Iterable
from pathlib import Path

from pipelines.errors import UserError


def refuse_special(paths: Iterable[Path]) -> None:
    """Refuse, by `UserError`, pipes, devices, sockets and links to one; what does not exist is not looked at."""
    for path in paths:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path}: is a pipe, a device or a socket; the data is files and folders")
