"""The commands of the bridge, as its own parser knows them."""

from __future__ import annotations

from typing import Any, NamedTuple

import typer

from bridge.cli import main


class Command(NamedTuple):
    path: tuple[str, ...]
    """Its name, behind those of its groups; empty for `bridge` itself."""
    parser: Any
    """Click's."""
    is_group: bool


def every_command() -> list[Command]:
    """All of them, groups before what is in them: a new command is here without being named."""
    return _under((), typer.main.get_command(main.app))


def _under(path: tuple[str, ...], parser: Any) -> list[Command]:
    members = parser.commands if path and hasattr(parser, "commands") else None
    if not path:
        members = {name: main.load_command(name) for name in main.COMMANDS}
    found = [Command(path, parser, members is not None)]
    for name, member in (members or {}).items():
        found += _under((*path, name), member)
    return found
