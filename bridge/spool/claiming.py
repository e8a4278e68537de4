"""Claims a spool file for this process: the first of the folder that no other process has. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.spool.errors import SpoolError, SpoolForeignError, SpoolLockedError
from bridge.spool.folder import MAX_FILES, database_files, possible_paths
from bridge.spool.spool_file import SpoolFile
from bridge.telemetry import logs

if TYPE_CHECKING:
    from pathlib import Path

log = logs.logger("spool")


def claim_file(directory: Path, *, min_free_bytes: int, fresh: bool = False) -> SpoolFile:
    """Claim the first file of this folder that no other process has.

    Args:
        directory: the folder; it must exist.
        min_free_bytes: what must stay free on its disk.
        fresh: only a file that does not exist yet.

    Raises:
        SpoolError: the folder cannot be written.
    """
    foreign: list[str] = []
    for path in possible_paths(directory):
        if fresh and any(part.exists() for part in database_files(path)):
            continue
        try:
            file = SpoolFile(path, min_free_bytes=min_free_bytes)
        except SpoolForeignError as error:
            foreign.append(str(error))
        except SpoolLockedError:
            pass
        else:
            if foreign:
                log.warning(
                    "skipped spool files of another user: only that user can drain them",
                    action="spool.foreign",
                    files=foreign,
                )
            return file
    raise SpoolError(
        f"{directory}: all of {MAX_FILES} spool files are in use by other processes, or another user's"
    )
