"""`bridge dev`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from bridge import dev as development
from bridge import settings as knobs
from bridge.broker.private_node import NodeError
from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.cli.console import fails_with, people, tell_of_foreign_variables
from bridge.roles.ending import until_signal
from bridge.roles.lifetime import running, until
from bridge.suppression.database import StoreError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

app = typer.Typer()

_ENDING_SECONDS: Final = 60.0
"""The roles end one after the other, and then the RabbitMQ node, which may take half of it."""


@app.command()
@fails_with(NodeError, BrokerRefusedError, StoreError, OSError)
def dev(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="For everything it writes.")] = Path(".dev"),
    port: Annotated[int, typer.Option(help="Of the receiver, on 127.0.0.1; 0 is any free one.")] = 8080,
    rabbitmq_url: Annotated[
        str | None, typer.Option(help="A broker that runs already, instead of a private node.")
    ] = None,
) -> None:
    """Run everything on this machine: RabbitMQ, a simulator of the provider, receiver and worker.

    Ctrl-C stops all of it.

    Example: bridge dev --port 9000
    """
    config = context.find_root().params.get("config")
    tell_of_foreign_variables()
    logs.configure(knobs.Logs(level="warning"))
    until_signal(
        lambda stop: _dev(stop, directory.absolute(), port, rabbitmq_url, config), patience=_ENDING_SECONDS
    )


async def _dev(
    stop: asyncio.Event, directory: Path, port: int, rabbitmq_url: str | None, config: Path | None
) -> None:
    people.print("starting: RabbitMQ, simulator, receiver, worker …")
    # Ctrl-C also ends a start that cannot succeed, such as the wait for a broker that is not there.
    async with running(_live(directory, port, rabbitmq_url, config), name="dev") as living:
        await until(stop, living)
        people.print("stopping …")


async def _live(directory: Path, port: int, rabbitmq_url: str | None, config: Path | None) -> None:
    """Everything, from its start until one of its parts ends; cancelling stops all of it in order."""
    async with (
        development.stack(directory, rabbitmq_url=rabbitmq_url, port=port, config=config) as everything,
        development.watching(everything) as seen,
    ):
        _introduce(everything.places)
        async with running(_show(seen), name="show") as showing:
            ended, _ = await asyncio.wait([showing, *everything.parts], return_when=asyncio.FIRST_COMPLETED)
        for part in ended:
            part.result()
    raise BrokerUnavailableError(f"RabbitMQ has ended; see {directory}/rabbitmq/output.log")


async def _show(all_of_it: AsyncIterator[development.Seen]) -> None:
    async for seen in all_of_it:
        style = "bold red" if seen.suppression else "cyan"
        label = f"list: {seen.kind}" if seen.suppression else f"event: {seen.kind}"
        people.print(f"{label:<22} {seen.detail}", style=style, highlight=False, markup=False)


def _introduce(places: development.Places) -> None:
    for name, place in (
        ("webhook", places.webhook),
        ("RabbitMQ", places.rabbitmq),
        ("provider (simulated)", places.provider),
        ("settings", places.config),
    ):
        people.print(f"{name:<22}{place}", highlight=False, markup=False)
    event = '{"message": {"id": 1}, "event": {"name": "hard_bounced", "timestamp": 1539062173}}'
    people.print("\nTry, in another terminal:\n")
    people.print(f"curl -i {places.webhook} -d '{event}'", highlight=False, markup=False)
    command = f"{_program()} --config {places.config}"
    people.print(f"{command} suppressions list", highlight=False, markup=False)
    asked = "".join(f" --metrics {url}" for url in places.health)
    people.print(f"{command} status{asked}\n", highlight=False, markup=False)
    people.print("Ctrl-C stops all of it.\n")


def _program() -> str:
    """This command as it can be typed here: the environment that it is installed in need not be on PATH."""
    return os.path.relpath(Path(sys.executable).with_name("bridge"))
