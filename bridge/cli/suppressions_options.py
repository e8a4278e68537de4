"""Options that several commands on the suppression list have: who, why, and how many."""

from __future__ import annotations

import getpass
import os
from typing import Annotated

import typer

from bridge.cli.console import BAD_USAGE, fail, on_terminal
from bridge.cli.lists import MAX_TERMINAL_ROWS, print_summary


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user need not have a name
        return f"uid {os.getuid()}"


Note = Annotated[str, typer.Option("--note", help="Why, for the log.")]
Actor = Annotated[
    str,
    typer.Option(
        "--actor", default_factory=_login_name, show_default="your login name", help="Who, for the log."
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="How many at the most; without, 100 on a terminal, else all."),
]


def most_of(limit: int | None, *, as_json: bool, every: bool = False) -> int | None:
    """How many are shown at the most; None: all."""
    if every and limit is not None:
        fail("--all and --limit say different things; give one of them", BAD_USAGE)
    if every:
        return None
    return limit or (MAX_TERMINAL_ROWS if on_terminal() and not as_json else None)


def print_shown(shown: int, total: int, following: str | None) -> None:
    """How many of how many were shown, and how to see more."""
    more = f"; more with --after {following}" if following else ""
    print_summary(f"{shown:,} of {total:,}{more}")
