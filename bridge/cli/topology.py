"""`bridge topology`: what shall stand in RabbitMQ, declared by a user who may."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import aio_pika
import typer
from aiormq.exceptions import AMQPError
from rich.table import Table

from bridge.broker import topology
from bridge.broker.connection import BrokerRefusedError
from bridge.cli.console import fails_with, people, print_json, settings_of

if TYPE_CHECKING:
    from bridge.broker.topology import Topology
    from bridge.settings import Settings

app = typer.Typer(help="Exchanges, queues and bindings: plan, apply, export.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command()
def plan(context: typer.Context, as_json: Json = False) -> None:
    """Show what shall stand, without asking RabbitMQ.

    Example: bridge topology plan
    """
    planned = _planned(settings_of(context))
    if as_json:
        print_json(_definitions(planned))
        return
    table = Table("kind", "name", "arguments")
    for exchange in planned.exchanges:
        table.add_row(f"{exchange.kind} exchange", exchange.name, _arguments(exchange.arguments))
    for queue in planned.queues:
        table.add_row("queue", queue.name, _arguments(queue.arguments))
    for binding in planned.bindings:
        table.add_row("binding", f"{binding.exchange} → {binding.queue}", binding.key)
    people.print(table)


@app.command()
@fails_with(BrokerRefusedError, AMQPError, OSError)
def apply(context: typer.Context) -> None:
    """Declare it all; what stands already as it should is left as it is.

    Environment: BRIDGE_RABBITMQ__URLS, of a user with the permission to configure.

    Example: bridge topology apply
    """
    settings = settings_of(context)
    planned = _planned(settings)
    asyncio.run(_apply(settings.rabbitmq.urls[0].get_secret_value(), planned))
    people.print(f"{len(planned.exchanges)} exchanges, {len(planned.queues)} queues stand as planned")


@app.command()
def export(context: typer.Context) -> None:
    """Print definitions for `rabbitmqctl import_definitions`.

    Example: bridge topology export > definitions.json
    """
    print_json(_definitions(_planned(settings_of(context))))


async def _apply(url: str, planned: Topology) -> None:
    async with await aio_pika.connect(url) as connection:
        await topology.declare(connection, planned)


def _planned(settings: Settings) -> Topology:
    return topology.plan(
        settings.rabbitmq, suppressing=settings.suppression.events, subscribers=settings.subscribers
    )


def _arguments(arguments: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _definitions(planned: Topology) -> dict[str, Any]:
    """The shape of RabbitMQ's own definition files, for the default virtual host."""
    return {
        "exchanges": [
            {
                "name": exchange.name,
                "vhost": "/",
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
                "vhost": "/",
                "durable": True,
                "auto_delete": False,
                "arguments": dict(queue.arguments),
            }
            for queue in planned.queues
        ],
        "bindings": [
            {
                "source": binding.exchange,
                "vhost": "/",
                "destination": binding.queue,
                "destination_type": "queue",
                "routing_key": binding.key,
                "arguments": {},
            }
            for binding in planned.bindings
        ],
    }
