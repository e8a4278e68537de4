"""The files of discarded dead letters, in the console's folder: named by their time, and read by nobody else."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge import private_files
from bridge.console.errors import NotFoundError
from bridge.dead_letters import message_file

if TYPE_CHECKING:
    from pathlib import Path

_STEM: Final = "dead-letters"
_NAME: Final = re.compile(r"dead-letters-\d{8}T\d{6}Z(-\d{1,6})?\.jsonl", re.ASCII)
_MOST: Final = 50


@dataclass(frozen=True, slots=True)
class UndoFile:
    name: str
    size: int
    """Bytes."""
    written_at: float
    """Unix seconds."""


async def new_path(folder: Path) -> Path:
    """Where the next discarded letters are kept. The folder is made if it is missing.

    Raises:
        OSError: it cannot be made.
    """

    def make() -> Path:
        private_files.make_folder(folder)
        return message_file.unused_path(folder, _STEM)

    return await asyncio.to_thread(make)


async def kept_files(folder: Path) -> list[UndoFile]:
    """The latest ones; none where the folder is missing or cannot be read."""
    return await asyncio.to_thread(_list, folder)


def path_of(folder: Path, name: str) -> Path:
    """The path of a file that the console has written.

    Raises:
        NotFoundError: there is no such file.
    """
    path = folder / name
    if not _NAME.fullmatch(name) or path.is_symlink() or not path.is_file():
        raise NotFoundError(
            f"The folder {folder} has no such file. It may have been deleted.", title="This file is gone"
        )
    return path


def _list(folder: Path) -> list[UndoFile]:
    found = []
    try:
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name) and not path.is_symlink():
                there = path.stat()
                found.append(UndoFile(path.name, there.st_size, there.st_mtime))
    except OSError:
        return []
    return sorted(found, key=lambda file: file.name, reverse=True)[:_MOST]
