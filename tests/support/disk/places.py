"""Where a folder is seen besides: a mount of one above it at another place does not show what is mounted on the folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class _Mount(NamedTuple):
    root: Path
    """What of its file system is mounted."""
    at: Path


def other_places(folder: Path) -> list[Path]:
    """The other paths of this folder."""
    device = folder.stat().st_dev
    mounts = _mounts_of(f"{os.major(device)}:{os.minor(device)}")
    own = max((one for one in mounts if folder.is_relative_to(one.at)), key=lambda one: len(one.at.parts))
    inside = own.root / folder.relative_to(own.at)
    paths = [one.at / inside.relative_to(one.root) for one in mounts if inside.is_relative_to(one.root)]
    return [path for path in paths if path != folder and path.exists() and path.samefile(folder)]


def _mounts_of(device: str) -> list[_Mount]:
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [_Mount(Path(root), Path(at)) for _, _, of, root, at, *_ in lines if of == device]
