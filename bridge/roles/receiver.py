"""The receiver role, from its settings to its orderly shutdown."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from bridge.amqp.connection import Link
from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker import management, topology
from bridge.broker.messages import message_from_body
from bridge.broker.topology_plan import planned_topology
from bridge.broker.topology_refusals import TopologyRefusals
from bridge.broker.trace_headers import with_trace
from bridge.receiver import readiness, server
from bridge.receiver.access import Access
from bridge.receiver.confirm_causes import ConfirmCauses
from bridge.receiver.handler import Handler
from bridge.receiver.nack_causes import NackCauses
from bridge.receiver.traced_handler import TracedHandler
from bridge.roles.drain_connection import open_drain_connection
from bridge.roles.identity import identified
from bridge.roles.publishing import make_publisher, publishing
from bridge.roles.role_topology import RoleTopology, required_by_receiver
from bridge.roles.token_file import TokenFile
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.values import Tokens
from bridge.spool.drain import Drain
from bridge.spool.drain_publisher import DrainPublisher
from bridge.spool.folder import other_files
from bridge.spool.known_refusals import KnownRefusals
from bridge.spool.mover import Mover
from bridge.spool.orphans import drain_file
from bridge.spool.spool import Spool
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import health, logs
from bridge.telemetry.metrics import Metrics, flushed_every_second
from bridge.telemetry.tracing import open_tracing
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from bridge.amqp.message_types import Message
    from bridge.amqp.publisher import Publisher
    from bridge.roles.lifetime import Lifetime
    from bridge.settings.sections import Settings
    from bridge.spool.entries import SpoolEntry
    from bridge.telemetry.spans import Spans

log = logs.logger("roles")


class BrokerBlockedError(BrokerUnavailableError):
    """RabbitMQ has an alarm, and blocks publishers. The message says which."""


RECEIVER_HEALTH_PORT: Final = 8090
"""The default of `health.port`. Each role has another one, so that all can run on one machine."""


async def receiver(settings: Settings, lifetime: Lifetime, *, health_socket: Path | None = None) -> None:
    """Take webhooks until the stop event is set; then stop listening, finish what is in flight, and close.

    It starts without RabbitMQ, too: the spool takes what RabbitMQ does not.

    Args:
        settings: all settings.
        lifetime: its stop event, and where it reports its start.
        health_socket: the Unix socket of its health, if it is one of several receivers of a supervisor.

    Raises:
        InvalidSettingsError: there is no token.
        PortTakenError: an address cannot be bound.
    """
    tokens = [token.get_secret_value() for token in settings.receiver.tokens]
    if not tokens:
        raise InvalidSettingsError(
            "receiver.tokens: at least one is needed, it is part of the webhook's URL (BRIDGE_RECEIVER__TOKENS)"
        )
    metrics = Metrics()
    planned = planned_topology(settings)
    refusals = TopologyRefusals(planned, metrics)
    role_topology = RoleTopology(settings, planned, required_by_receiver(settings), refusals)
    access = Access(tokens, metrics)
    token_file = TokenFile(
        "receiver.tokens",
        settings.origin.files.get("receiver.tokens"),
        tokens,
        kind=TypeAdapter(Tokens),
    )
    async with (
        flushed_every_second(metrics),
        open_tracing(
            settings.tracing, role="receiver", metrics=metrics, drain_timeout=settings.receiver.drain_timeout
        ) as spans,
        open_parts(settings, access, metrics, spans) as parts,
    ):
        link, publisher, spool = parts.link, parts.publisher, parts.spool
        readiness.export_spool_metrics(spool, parts.mover.unconfirmed, metrics)
        async with (
            health.serve(
                health_socket or settings.health,
                *health.process_health(
                    metrics,
                    identified(
                        settings,
                        link,
                        partial(
                            readiness.receiver_readiness,
                            link,
                            spool,
                            refusals,
                            lambda: publisher.last_close_reason,
                            token_file.description,
                            parts.mover.unconfirmed,
                        ),
                    ),
                ),
                default_port=RECEIVER_HEALTH_PORT,
            ),
            publishing(link, publisher, role_topology, keep_trying=True) as publish,
            background_task(parts.drain.run(), name="drain") as drain_task,
            background_task(token_file.follow(access.replace_tokens), name="tokens") as following,
            background_task(parts.nack_causes.run(), name="nack causes") as explaining_nacks,
            background_task(parts.confirm_causes.run(), name="confirm causes") as explaining_silence,
            server.serve(settings.receiver, parts.handler) as lifetime.port,
        ):
            lifetime.connected = link.up
            lifetime.started.set()
            log.info("receiver started", action="receiver.started", port=lifetime.port)
            await lifetime.wait_until_stopped(
                publish,
                drain_task,
                parts.drain_connection,
                following,
                explaining_nacks,
                explaining_silence,
            )
            log.info("receiver stopping", action="receiver.stopping", in_flight=publisher.in_flight)
    log.info("receiver stopped", action="receiver.stopped")


@dataclass(frozen=True, slots=True)
class ReceiverParts:
    """A receiver whose parts know each other. It neither listens nor connects yet."""

    link: Link
    publisher: Publisher
    """For live traffic, on this connection."""
    spool: Spool
    handler: Handler
    drain_publisher: DrainPublisher
    """On a connection of its own, which it opens when it is needed."""
    mover: Mover
    drain: Drain
    drain_connection: asyncio.Task[None]
    """The connection of the drain; it does not end by itself."""
    nack_causes: NackCauses
    confirm_causes: ConfirmCauses


@asynccontextmanager
async def open_parts(
    settings: Settings, access: Access, metrics: Metrics, spans: Spans | None = None
) -> AsyncIterator[ReceiverParts]:
    """Open the spool, and wire a receiver around it.

    Args:
        settings: all settings.
        access: which tokens are accepted.
        metrics: of this process.
        spans: makes those of the traces that are recorded; None: none are.
    """
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = make_publisher(settings, link, metrics, window=settings.receiver.max_in_flight)
    known_refusals = KnownRefusals()
    exchange = topology.Names(settings.rabbitmq.prefix).events
    compose = partial(_compose, exchange)
    async with (
        management.connect(settings.rabbitmq) as api,
        Spool.open(settings.spool) as spool,
        open_drain_connection(
            settings, metrics, compose=compose, live=publisher, known_refusals=known_refusals, spans=spans
        ) as (
            drain_publisher,
            drain_connection,
        ),
    ):
        make_handler = Handler if spans is None else partial(TracedHandler, spans)
        handler = make_handler(
            settings=settings.receiver,
            access=access,
            publisher=publisher,
            spool=spool,
            known_refusals=known_refusals,
            exchange=exchange,
            metrics=metrics,
        )
        mover = Mover(drain_publisher, live=lambda: handler.answered)
        drain = Drain(settings.spool, spool=spool, mover=mover, usable=lambda: publisher.usable)
        yield ReceiverParts(
            link,
            publisher,
            spool,
            handler,
            drain_publisher,
            mover,
            drain,
            drain_connection,
            NackCauses(known_refusals, api, exchange=exchange),
            ConfirmCauses(known_refusals.unconfirmed, api, exchange=exchange),
        )


async def drain_spools(settings: Settings, moved: Callable[[int], None]) -> int:
    """Drain the spool files that no process uses. Returns how many events were published.

    Args:
        settings: the spool's folder, and RabbitMQ's URLs.
        moved: called with the number of events that were published since the last call.

    Raises:
        TopologyRefusedError: RabbitMQ has another topology than we need.
        BrokerBlockedError: RabbitMQ blocks publishers because of an alarm; what was not confirmed is still in the spool.
        PublishError: RabbitMQ takes no more; the same.
        SpoolError: a file cannot be read.
    """
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = make_publisher(settings, link, metrics, window=settings.receiver.max_in_flight)
    exchange = topology.Names(settings.rabbitmq.prefix).events
    mover = Mover(DrainPublisher(publisher, partial(_compose, exchange)))
    total = 0

    async def empty_all() -> None:
        nonlocal total
        for path in await run_abandonable(partial(other_files, settings.spool.directory, ())):
            total += await drain_file(path, mover, moved=moved) or 0

    role_topology = RoleTopology(settings, planned_topology(settings), required_by_receiver(settings))
    async with publishing(link, publisher, role_topology) as publish:
        await wait_while_running(link.up, publish)
        async with background_task(empty_all(), name="drain") as drain_task:
            await wait_while_running(link.blocked, drain_task)
            if not drain_task.done():
                raise BrokerBlockedError(link.reason)
    return total


def _compose(exchange: str, entry: SpoolEntry) -> Message:
    message = message_from_body(entry.body, exchange=exchange, received_at=entry.received_at)
    return with_trace(message, entry.trace)
