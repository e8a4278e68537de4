"""`bridge topology`: what shall stand in RabbitMQ, declared by a user who may."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from yarl import URL

from bridge.broker import declaring, topology
from bridge.broker.connection import Link
from bridge.broker.session import BrokerRefusedError, BrokerUnavailableError
from bridge.cli.console import fails_with, people, print_json, settings_of
from bridge.telemetry import logs
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.broker.topology import Topology
    from bridge.settings import RabbitMQ, Settings

app = typer.Typer(help="Exchanges, queues and bindings: plan, apply, export.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def plan(context: typer.Context, as_json: Json = False) -> None:
    """Show what shall stand, without asking RabbitMQ.

    Example: bridge topology plan
    """
    settings = settings_of(context)
    planned = _planned(settings)
    if as_json:
        print_json(_definitions(planned, _virtual_host(settings)))
        return
    table = Table(*(Column(title, overflow="fold") for title in ("kind", "name", "arguments")))
    for exchange in planned.exchanges:
        table.add_row(f"{exchange.kind} exchange", exchange.name, _arguments(exchange.arguments))
    for queue in planned.queues:
        table.add_row("queue", queue.name, _arguments(queue.arguments))
    for binding in planned.bindings:
        table.add_row("binding", f"{binding.exchange} → {binding.queue}", binding.key)
    people.print(table)


@app.command()
@fails_with(BrokerRefusedError, BrokerUnavailableError)
def apply(
    context: typer.Context,
    wait: Annotated[
        float, typer.Option(min=0.1, help="Seconds to go on trying while RabbitMQ does not answer.")
    ] = 5.0,
) -> None:
    """Declare it all; what stands already as it should is left as it is.

    Environment: BRIDGE_RABBITMQ__URLS, of a user with the permission to configure.

    Example: bridge topology apply --wait 60
    """
    settings = settings_of(context)
    logs.configure_for(settings, level="error")
    planned = _planned(settings)
    asyncio.run(_apply(settings.rabbitmq, planned, wait))
    people.print(f"{len(planned.exchanges)} exchanges, {len(planned.queues)} queues stand as planned")


@app.command()
def export(context: typer.Context) -> None:
    """Print definitions for `rabbitmqctl import_definitions`.

    Example: bridge topology export > definitions.json
    """
    settings = settings_of(context)
    print_json(_definitions(_planned(settings), _virtual_host(settings)))


async def _apply(settings: RabbitMQ, planned: Topology, wait: float) -> None:
    link = Link(settings, use="topology", metrics=Metrics())

    async def session(connection: AbstractConnection) -> None:
        await declaring.declare(connection, planned)

    try:
        async with asyncio.timeout(wait):
            await link.run(session)
    except TimeoutError:
        raise BrokerUnavailableError(f"RabbitMQ cannot be reached in {wait:g} s: {link.reason}") from None


def _virtual_host(settings: Settings) -> str:
    """The one that the first URL names; a slash in it is written as `%2F`."""
    path = URL(settings.rabbitmq.urls[0].get_secret_value()).path
    return path.removeprefix("/").replace("%2F", "/") or "/"


def _planned(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq,
        suppressing=settings.suppression.events,
        subscribers=settings.subscribers,
        retry_delays=settings.worker.retry_delays,
    )


def _arguments(arguments: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _definitions(planned: Topology, virtual_host: str) -> dict[str, Any]:
    """The shape of RabbitMQ's own definition files."""
    return {
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": virtual_host,
                "type": exchange.kind,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": dict(exchange.arguments),
            }
            for exchange in planned.exchanges
        ],
        "queues": [
            {
                "name": queue.name,
                "vhost": virtual_host,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in planned.queues
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": virtual_host,
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.key,
                "arguments": {},
            }
            for binding in planned.bindings
        ],
    }
