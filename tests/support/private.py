"""Who may look into what the bridge has made."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def open_to_others(folder: Path) -> list[Path]:
    """This folder, and whatever is in it, where its owner has no right or somebody else has one; sorted."""
    return sorted(
        path for path in (folder, *folder.rglob("*")) if not path.is_symlink() and not _is_private(path)
    )


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _is_private(path: Path) -> bool:
    try:
        there = path.stat().st_mode
    except FileNotFoundError:  # a database's journal, or whatever else comes and goes while its process runs
        return True
    return stat.S_IMODE(there) == (0o600 if stat.S_ISREG(there) else 0o700)


def open_up(folder: Path) -> None:
    """As an earlier release has left it, under the usual umask."""
    for path in (folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
