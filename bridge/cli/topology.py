"""`bridge topology`: shows, declares and exports the exchanges, queues and bindings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bridge.amqp.connection import Link
from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.broker import backfill_marker, declaring, topology
from bridge.broker.topology_plan import planned_topology
from bridge.cli.console import fail, fails_with, print_json, settings_of, settings_with_logs, terminal
from bridge.cli.help_epilog import BROKER, page
from bridge.cli.lists import Head, print_rows
from bridge.cli.options import AsJson
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.broker.declaring import RefusedPart
    from bridge.broker.topology import Topology
    from bridge.settings.sections import Settings

app = typer.Typer(
    help="Exchanges, queues and bindings: plan, apply, export.",
    epilog=page("topology plan", *BROKER, "BRIDGE_SUBSCRIBERS"),
    no_args_is_help=True,
    add_completion=False,
)


@app.command(epilog=page("topology plan", *BROKER, "BRIDGE_SUBSCRIBERS"))
def plan(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: what `export` prints.")] = False,
) -> None:
    """Show the planned topology, without connecting to RabbitMQ."""
    settings = settings_of(context)
    planned = planned_topology(settings)
    if as_json:
        print_json(_definitions(planned, settings.rabbitmq.virtual_host))
        return
    rows = [
        (f"{exchange.kind} exchange", exchange.name, _arguments(exchange.arguments))
        for exchange in planned.exchanges
    ]
    rows += [("queue", queue.name, _arguments(queue.arguments)) for queue in planned.queues]
    rows += [
        ("binding", f"{binding.exchange} → {binding.queue}", binding.key) for binding in planned.bindings
    ]
    print_rows(("Kind", Head("Name", whole=True), Head("Arguments", min_width=10)), rows)


@app.command(
    epilog=page(
        "topology apply --wait 60",
        *BROKER,
        "BRIDGE_SUBSCRIBERS",
        codes={1: "RabbitMQ cannot be reached, or refuses a part, which is named"},
    )
)
@fails_with(TopologyRefusedError, BrokerUnavailableError)
def apply(
    context: typer.Context,
    wait: Annotated[
        float, typer.Option(min=0.1, help="Seconds to keep trying while RabbitMQ does not answer.")
    ] = 5.0,
    as_json: AsJson = False,
) -> None:
    """Declare everything, as a user of RabbitMQ with the permission `configure`. What exists as planned is not changed.

    What RabbitMQ refuses is named. The rest is declared all the same.
    """
    settings = settings_with_logs(context, "error")
    planned = planned_topology(settings)
    refused = asyncio.run(_apply(settings, planned, wait))
    if as_json:
        problems = [{"name": one.part.name, "problem": str(one.error)} for one in refused]
        exchanges, queues = len(planned.exchanges), len(planned.queues)
        print_json({"exchanges": exchanges, "queues": queues, "refused": problems})
    if refused:
        fail("; ".join(str(one.error) for one in refused))
    if as_json:
        return
    terminal.print(f"{len(planned.exchanges)} exchanges, {len(planned.queues)} queues exist as planned")


@app.command(epilog=page("topology export > definitions.json", *BROKER, "BRIDGE_SUBSCRIBERS"))
def export(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="It is JSON in any case.")] = False,
) -> None:
    """Print definitions for `rabbitmqctl import_definitions`."""
    del as_json
    settings = settings_of(context)
    print_json(_definitions(planned_topology(settings), settings.rabbitmq.virtual_host))


async def _apply(settings: Settings, planned: Topology, wait: float) -> tuple[RefusedPart, ...]:
    """Declare the topology. Returns what RabbitMQ refuses."""
    link = Link(settings.rabbitmq, use="topology", metrics=Metrics())
    names = topology.Names(settings.rabbitmq.prefix)
    refused: tuple[RefusedPart, ...] = ()

    async def session(connection: AbstractConnection) -> None:
        nonlocal refused
        safe = await backfill_marker.safe_to_declare(connection, planned, names, "always")
        wanted = planned if safe else topology.without_queues(planned, names.suppression)
        refused = await declaring.apply_topology(connection, wanted, "always", required=())
        for one in refused:
            if isinstance(one.error, BrokerUnavailableError) and not one.part.of_subscriber:
                raise one.error  # the queue is starting, and will be up soon
        if not safe:
            raise TopologyRefusedError(
                f"queue '{names.suppression}' is missing, and is not declared while '{names.backfill}' takes no message"
            )

    try:
        async with asyncio.timeout(wait):
            await link.run(session)
    except TimeoutError:
        raise BrokerUnavailableError(f"RabbitMQ cannot be reached in {wait:g} s: {link.reason}") from None
    return refused


def _arguments(arguments: Any) -> str:
    return ", ".join(f"{name}={value}" for name, value in arguments.items())


def _definitions(planned: Topology, virtual_host: str) -> dict[str, Any]:
    """The topology in the format of RabbitMQ's definition files."""
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
