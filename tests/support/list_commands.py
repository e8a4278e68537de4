"""`bridge suppressions …`, run in this process on a list."""

from __future__ import annotations

from typing import Protocol

import typer
from typer.testing import CliRunner, Result

from bridge.cli import main, suppressions
from tests.support.postgres import is_postgresql


class Bridge(Protocol):
    def __call__(self, *arguments: str, stdin: bytes | None = None) -> Result: ...


def on(database_url: str) -> Bridge:
    """The commands on this list, in a terminal that is wide enough."""
    app = typer.Typer()
    app.callback()(main.options)
    app.add_typer(suppressions.app, name="suppressions")
    url = database_url if is_postgresql(database_url) else f"{database_url}?timeout=0.05"
    environment = {"BRIDGE_SUPPRESSION__DATABASE_URL": url, "COLUMNS": "200"}

    def run(*arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner(env=environment).invoke(app, ["suppressions", *arguments], input=stdin)

    return run
