"""The command `bridge`: global options, and the groups it is made of."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bridge import settings as knobs
from bridge.cli import config, processes, spool, suppressions, topology, webhook

app = typer.Typer(
    name="bridge",
    help="From an e-mail provider's webhook into RabbitMQ, and from hard bounces to a suppression list.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", envvar=knobs.CONFIG_VARIABLE, help="TOML file with the settings."),
    ] = None,
) -> None:
    context.obj = partial(knobs.load, config)


app.command()(processes.receiver)
app.command()(processes.worker)
app.command()(processes.dev)
app.add_typer(webhook.app, name="webhook")
app.add_typer(topology.app, name="topology")
app.add_typer(spool.app, name="spool")
app.add_typer(suppressions.app, name="suppressions")
app.add_typer(config.app, name="config")


def main() -> None:
    app()
