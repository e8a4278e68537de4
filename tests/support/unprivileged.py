"""Who may not read everything: root passes over the permissions of files, unless that is taken from it."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WITHOUT_PRIVILEGES: Final = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
)
"""A program that starts another one, for which the permissions of files hold."""


@contextmanager
def sealed(folder: Path) -> Iterator[None]:
    """Nobody may list or enter this folder until the context ends."""
    mode = folder.stat().st_mode
    folder.chmod(0)
    try:
        yield
    finally:
        folder.chmod(mode)
