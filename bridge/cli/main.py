"""The command `bridge`: global options, and its subcommands."""

from __future__ import annotations

import sys
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from bridge import startup
from bridge.cli.help_epilog import page
from bridge.cli.output import run_and_flush
from bridge.settings.sources import CONFIG_VARIABLE
from bridge.telemetry.terminal import clean
from bridge.telemetry.version import own_version

if TYPE_CHECKING:
    from bridge.settings.sections import Settings

COMMANDS: Final = MappingProxyType(
    {
        "receiver": "Take the provider's webhooks, and publish each event to RabbitMQ before the answer.",
        "worker": "Keep the suppression list from hard bounces and complaints.",
        "api": "Serve the suppression list over HTTP, to senders and other services; and the console, to people, under /console.",
        "dev": "Run everything on this machine: RabbitMQ, a simulator of the provider, receiver, worker and API.",
        "webhook": "The URL to which the provider posts events: show it, set it, turn it off.",
        "contract": "What other services can rely on: AsyncAPI, JSON Schemas and examples. Export and check it.",
        "topology": "Exchanges, queues and bindings: plan, apply, export.",
        "subscribers": "Queues of other services, while everything runs: add, list and remove them.",
        "spool": "Events that wait on disk for RabbitMQ.",
        "suppressions": "The suppression list: who must not be written to, and why. A worker makes it, or `bridge db upgrade`; where there is none, each command here ends with exit code 1.",
        "db": "The database of the suppression list: show its revision, upgrade it, and give the API's user its rights.",
        "policy": "What puts an address on the list: try other settings on past events.",
        "dead": "Dead letters: messages that could not be handled. List, show, replay and discard them, and put them back.",
        "quarantine": "The quarantine: bodies that could not be read as events. List, show, replay and discard them, and put them back.",
        "replay": "Publish events from the archive again, at least once, with the same bodies and ids.",
        "tail": "Show events as they come in, until Ctrl-C.",
        "simulate": "Post events to a receiver as the provider does, and show the answers.",
        "simulator": "Serve the provider's API until a signal: look-ups of messages, and the webhook.",
        "status": "Show events, roles, RabbitMQ and its queues, spool, dead letters and circuit breakers. It changes nothing.",
        "doctor": "Check settings, RabbitMQ, provider, spool and machine; say what to do for each.",
        "config": "The settings in force.",
    }
)
"""Each is a module of this package, with an `app`; and what it does, as the first paragraph of its own help says it."""
LONG_RUNNING: Final = frozenset(
    {"receiver", "worker", "api", "dev", "simulator", "simulate", "tail", "replay", "policy", "status"},
)
"""Commands that run until a signal, and end in order if it comes while they are loaded."""


class _Commands(TyperGroup):
    """Loads a command's module only when it is run: the receiver does not load the worker's libraries.

    The list of commands, and `--version`, load none.
    """

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What the list of commands shows."""
        del ctx
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """What is run."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name is not None else listed, rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = clean(error.message)  # it quotes what was given
            raise


def load_command(name: str) -> Any:
    """The parser of a command, as its module makes it. For commands that do not end in order, unblocks the signals."""
    if name not in LONG_RUNNING:
        startup.release_signals()
    command = typer.main.get_command(import_module(f"bridge.cli.{name}").app)
    command.name = name
    _join_lines(command)
    return command


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
    """The settings. What reads them is loaded with the command, not for `--version`."""
    settings: Settings = import_module("bridge.cli.start").settings(config)
    return settings


def main() -> None:
    run_and_flush(app)
