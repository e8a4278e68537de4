"""Tests compiled once for a run's workers, before they start: in a fresh clone each would compile all of them."""

from __future__ import annotations

import importlib
import os
from contextlib import contextmanager
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROOT = Path(__file__).parents[2]


@contextmanager
def compiling(folders: Sequence[str]) -> Iterator[None]:
    """Compiles what nobody has compiled yet, in a process beside this one, and waits for it at the end of the context.

    It imports the modules of tests, as pytest does: pytest's hook rewrites them, and writes what comes of it.

    Args:
        folders: with the tests, or modules of tests; others are left to the workers.
    """
    missing = [module for module in _modules(folders) if not _compiled(module)]
    if not missing:
        yield
        return
    child = os.fork()
    if not child:
        _import(missing)
    try:
        yield
    finally:
        os.waitpid(child, 0)


def _modules(folders: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        path = (_ROOT / folder).resolve()
        if path.is_relative_to(_ROOT):
            found += path.rglob("test_*.py") if path.is_dir() else [path][: path.is_file()]
    return found


def _compiled(module: Path) -> bool:
    """Whether there is something that pytest has written later than the module was."""
    folder, written = Path(cache_from_source(str(module))).parent, module.stat().st_mtime
    return any(one.stat().st_mtime >= written for one in folder.glob(f"{module.stem}.*-pytest-*.pyc"))


def _import(modules: list[Path]) -> None:
    """What a module says when it cannot be imported, the workers' collection will say. This process ends here."""
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(silent, stream)
    try:
        for module in modules:
            name = ".".join(module.relative_to(_ROOT).with_suffix("").parts)
            importlib.import_module(name)
    finally:
        os._exit(0)
