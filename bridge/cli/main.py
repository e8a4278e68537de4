"""The command `bridge`: global options, and its subcommands."""

from __future__ import annotations

import sys
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from bridge import fast_path, startup
from bridge.cli.help_epilog import page
from bridge.cli.output import run_and_flush
from bridge.settings.loading import load_settings
from bridge.settings.sections import Settings
from bridge.settings.sources import CONFIG_VARIABLE
from bridge.telemetry.terminal import clean
from bridge.telemetry.version import own_version

COMMANDS: Final = (
    "receiver",
    "worker",
    "dev",
    "webhook",
    "topology",
    "spool",
    "suppressions",
    "db",
    "dead",
    "quarantine",
    "replay",
    "tail",
    "simulate",
    "simulator",
    "status",
    "doctor",
    "config",
)
"""Each is a module of this package, with an `app`."""
LONG_RUNNING: Final = frozenset(
    {"receiver", "worker", "dev", "simulator", "simulate", "tail", "replay", "status"},
)
"""Commands that run until a signal, and end in order if it comes while they are loaded."""


class _Commands(TyperGroup):
    """Loads a command's module only when it is used: the receiver does not load the worker's libraries."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        del ctx
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in LONG_RUNNING:
            startup.release_signals()
        command = typer.main.get_command(import_module(f"bridge.cli.{cmd_name}").app)
        command.name = cmd_name
        _join_lines(command)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = clean(error.message)  # it quotes what was given
            raise


def _join_lines(command: Any) -> None:
    """A paragraph of a docstring is one line of `--help`, which is broken where the terminal ends."""
    if command.help:
        command.help = "\n\n".join(" ".join(one.split()) for one in command.help.split("\n\n"))
    for member in getattr(command, "commands", {}).values():
        _join_lines(member)


app = typer.Typer(
    name="bridge",
    cls=_Commands,
    help="From an e-mail provider's webhook into RabbitMQ, and from hard bounces to a suppression list. "
    "`bridge config show` names all settings, and the environment variables that set them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog=page("suppressions check jane@example.org"),
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:  # noqa: FBT001 -- a flag, as Typer hands it over
    if asked:
        sys.stdout.write(f"bridge {own_version()}\n")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar=CONFIG_VARIABLE, help="TOML file with the settings."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version, and exit."),
    ] = False,
) -> None:
    del version
    context.obj = cache(partial(_load, config))  # once: it may be a pipe


def _load(config: Path | None) -> Settings:
    settings = load_settings(config)
    fast_path.configure(settings.development.fast_path)
    return settings


def main() -> None:
    run_and_flush(app)
