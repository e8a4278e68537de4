"""The docstring of a package shows the way to its modules."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import bridge

ROOMS = sorted(path.parent for path in Path(bridge.__file__).parent.glob("*/__init__.py"))
COMPLETE = {"api", "worker", "diagnostics", "dead_letters", "suppression"}


def names_in(room: Path) -> set[str]:
    """The words in backticks of the package's docstring, without commands."""
    docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    return {name for name in re.findall(r"`([^`]+)`", docstring) if re.fullmatch(r"[a-z_]+", name)}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_map_names_modules_that_are_there(room: Path) -> None:
    """A module that is renamed is renamed in the map, and where the map is complete a new one is added to it."""
    modules = {path.stem for path in room.iterdir() if not path.name.startswith("__")}
    assert names_in(room) <= modules
    if room.name in COMPLETE:
        assert modules == names_in(room)
