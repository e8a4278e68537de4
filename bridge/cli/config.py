"""`bridge config`: the settings in force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr

from bridge.cli.console import print_json, settings_of
from bridge.cli.help_epilog import page
from bridge.cli.lists import Head, print_rows
from bridge.cli.options import AsJson
from bridge.settings.section import Section
from bridge.settings.sections import Settings, setting_names
from bridge.settings.sources import SECRETS_VARIABLE

app = typer.Typer(
    help="The settings in force.", epilog=page("config show"), no_args_is_help=True, add_completion=False
)

HIDDEN = "(hidden)"


@app.callback()
def config() -> None:
    """There is one command, and it has a name all the same."""


@app.command(epilog=page("--config bridge.toml config show", SECRETS_VARIABLE))
def show(context: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting, where it can be set, and its value; secrets are hidden."""
    settings = settings_of(context)
    if as_json:
        print_json({name: _plain(getattr(settings, name)) for name in Settings.model_fields})
        return
    rows = []
    for setting in setting_names():
        section, _, name = setting.key.partition(".")
        rows.append(
            (setting.key, _shown(_plain(getattr(getattr(settings, section), name))), setting.variable)
        )
    rows.append(("subscribers", _shown([subscriber.queue for subscriber in settings.subscribers]), ""))
    heads = (Head("Setting", whole=True), "Value", Head("Environment variable", whole=True))
    print_rows(heads, rows)


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
