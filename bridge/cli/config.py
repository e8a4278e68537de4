"""`bridge config`: the settings in force."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr
from rich.table import Column, Table

from bridge.cli.console import people, print_json, settings_of
from bridge.settings import Section, Settings, knobs

app = typer.Typer(no_args_is_help=True)

HIDDEN = "(hidden)"


@app.callback()
def config() -> None:
    """The settings in force."""


@app.command()
def show(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """Print every setting, where it can be set, and its value; secrets are hidden.

    Example: bridge --config bridge.toml config show
    """
    settings = settings_of(context)
    if as_json:
        print_json({name: _plain(getattr(settings, name)) for name in Settings.model_fields})
        return
    table = Table(
        # Names are there to be copied: where the terminal is narrow, the values are folded instead.
        Column("setting", no_wrap=True),
        Column("value", overflow="fold"),
        Column("environment variable", no_wrap=True),
        box=None,
    )
    for knob in knobs():
        section, _, name = knob.key.partition(".")
        value = _plain(getattr(getattr(settings, section), name))
        table.add_row(knob.key, _shown(value), knob.variable)
    table.add_row("subscribers", _shown([subscriber.queue for subscriber in settings.subscribers]), "")
    people.print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return HIDDEN
    if isinstance(value, Section):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)
