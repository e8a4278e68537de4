"""`bridge dev`: everything on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError
from bridge.cli.console import (
    fails_with,
    json_text,
    people,
    say_beside,
    tell_of_foreign_variables,
    write_json,
)
from bridge.cli.help_epilog import STAYS, page
from bridge.cli.options import LineJson
from bridge.development import dev_stack as development
from bridge.development.private_node import NodeError
from bridge.roles.lifetime import running, until
from bridge.roles.shutdown import until_signal
from bridge.settings import sections as knobs
from bridge.suppression.database import StoreError
from bridge.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

app = typer.Typer()

_ENDING_SECONDS: Final = 60.0
"""The roles end one after the other, and then the RabbitMQ node, which may take half of it."""


@app.command(
    epilog=page(
        "dev --port 9000",
        codes=STAYS,
        ends_in_order=True,
    )
)
@fails_with(NodeError, BrokerRefusedError, StoreError, OSError)
def dev(
    context: typer.Context,
    directory: Annotated[Path, typer.Option(help="For everything it writes.")] = Path(".dev"),
    port: Annotated[int, typer.Option(help="Of the receiver, on 127.0.0.1; 0 is any free one.")] = 8080,
    rabbitmq_url: Annotated[
        str | None, typer.Option(help="A broker that runs already, instead of a private node.")
    ] = None,
    as_json: LineJson = False,
) -> None:
    """Run everything on this machine: RabbitMQ, a simulator of the provider, receiver and worker.

    Ctrl-C stops all of it.
    """
    config = context.find_root().params.get("config")
    view = _FOR_PROGRAMS if as_json else _FOR_PEOPLE
    tell_of_foreign_variables()
    logs.configure(knobs.Logs(level="warning"))
    until_signal(
        lambda stop: _dev(stop, _Run(directory.absolute(), port, rabbitmq_url, config), view),
        patience=_ENDING_SECONDS,
    )


class _Run(NamedTuple):
    directory: Path
    port: int
    rabbitmq_url: str | None
    config: Path | None


class _View(NamedTuple):
    """Who looks on, and how it is told."""

    says: Callable[[str], None]
    """What happens to the whole."""
    introduce: Callable[[development.Places], None]
    show: Callable[[development.Seen], None]


async def _dev(stop: asyncio.Event, run: _Run, view: _View) -> None:
    view.says("starting: RabbitMQ, simulator, receiver, worker …")
    # Ctrl-C also ends a start that cannot succeed, such as the wait for a broker that is not there.
    async with running(_live(run, view), name="dev") as living:
        await until(stop, living)
        view.says("stopping …")


async def _live(run: _Run, view: _View) -> None:
    """Everything, from its start until one of its parts ends; cancelling stops all of it in order."""
    directory, port, rabbitmq_url, config = run
    async with (
        development.stack(directory, rabbitmq_url=rabbitmq_url, port=port, config=config) as everything,
        development.watching(everything) as seen,
    ):
        view.introduce(everything.places)
        async with running(_show(seen, view), name="show") as showing:
            ended, _ = await asyncio.wait([showing, *everything.parts], return_when=asyncio.FIRST_COMPLETED)
        for part in ended:
            part.result()
    raise BrokerUnavailableError(f"RabbitMQ has ended; see {directory}/rabbitmq/output.log")


async def _show(all_of_it: AsyncIterator[development.Seen], view: _View) -> None:
    async for seen in all_of_it:
        view.show(seen)


def _print(seen: development.Seen) -> None:
    style = "bold red" if seen.suppression else "cyan"
    label = f"list: {seen.kind}" if seen.suppression else f"event: {seen.kind}"
    people.print(f"{label:<22} {seen.detail}", style=style, highlight=False, markup=False)


def _write(document: dict[str, Any]) -> None:
    write_json(json_text(document) + "\n", at_once=True)


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


_FOR_PEOPLE: Final = _View(people.print, _introduce, _print)
_FOR_PROGRAMS: Final = _View(
    say_beside,
    lambda places: _write({"places": asdict(places)}),
    lambda seen: _write({"list" if seen.suppression else "event": seen.kind, "detail": seen.detail}),
)
