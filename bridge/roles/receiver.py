"""The receiver: from its settings to its orderly end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import Link
from bridge.amqp.errors import BrokerUnavailableError
from bridge.broker import topology
from bridge.broker.messages import of_body
from bridge.broker.topology_refusals import Refusals
from bridge.receiver import readiness, server
from bridge.receiver.access import Access
from bridge.receiver.handler import Handler
from bridge.roles.drain_connection import drain_line
from bridge.roles.identity import identified
from bridge.roles.lifetime import running, until
from bridge.roles.publishing import publisher_of, publishing
from bridge.roles.role_topology import Standing, needed_to_publish, topology_of
from bridge.roles.token_file import TokenFile
from bridge.settings.sections import InvalidSettingsError
from bridge.spool.drain import Drain
from bridge.spool.drain_publisher import Line
from bridge.spool.folder import others
from bridge.spool.mover import Mover
from bridge.spool.orphans import empty_file
from bridge.spool.refused_events import RefusedEvents
from bridge.spool.spool import Spool
from bridge.telemetry import health, logs
from bridge.telemetry.metrics import Metrics, kept
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bridge.amqp.frames import Message
    from bridge.roles.lifetime import Lifetime
    from bridge.settings.sections import Settings
    from bridge.spool.spool_file import Entry

log = logs.logger("roles")


class BrokerBlockedError(BrokerUnavailableError):
    """RabbitMQ has an alarm, and takes nothing that is published. Its message says which."""


RECEIVER_HEALTH_PORT: Final = 8090
"""Where `health.port` is not set; the roles' differ so that all fit on one machine."""


async def receiver(settings: Settings, lifetime: Lifetime, *, health_socket: Path | None = None) -> None:
    """Take webhooks until told to stop; then stop listening, finish what is in flight, close.

    Nothing that RabbitMQ says keeps it from starting: the spool takes what RabbitMQ does not.

    Args:
        settings: all that it needs to know.
        lifetime: until when.
        health_socket: where its health is served, when it is one of several and only their supervisor asks for it.

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
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = publisher_of(settings, link, metrics, window=settings.receiver.max_in_flight)
    planned = topology_of(settings)
    refusals = Refusals(planned, metrics)
    standing = Standing(settings, planned, needed_to_publish(settings), refusals)
    refused = RefusedEvents()
    exchange = topology.Names(settings.rabbitmq.prefix).events
    compose = partial(_compose, exchange)
    access = Access(tokens, metrics)
    token_file = TokenFile("receiver.tokens", settings.origin.files.get("receiver.tokens"), tokens)
    async with (
        kept(metrics),
        Spool.open(settings.spool) as spool,
        drain_line(settings, metrics, compose=compose, live=publisher, refused=refused) as (line, connecting),
    ):
        readiness.measure(spool, metrics)
        handler = Handler(
            settings.receiver,
            access=access,
            publisher=publisher,
            spool=spool,
            refused=refused,
            exchange=exchange,
            metrics=metrics,
        )
        mover = Mover(line, live=lambda: handler.answered)
        drain = Drain(settings.spool, spool=spool, mover=mover, usable=lambda: publisher.usable)
        async with (
            health.serve(
                health_socket or settings.health,
                *health.of_process(
                    metrics,
                    identified(
                        settings,
                        link,
                        partial(
                            readiness.of_receiver,
                            link,
                            spool,
                            refusals,
                            lambda: publisher.refusal,
                            lambda: readiness.of_tokens(access.valid, token_file.problem),
                        ),
                    ),
                ),
                default_port=RECEIVER_HEALTH_PORT,
            ),
            publishing(link, publisher, standing, patient=True) as publish,
            running(drain.run(), name="drain") as draining,
            running(token_file.follow(access.become), name="tokens") as following,
            server.serve(settings.receiver, handler) as lifetime.port,
        ):
            lifetime.started.set()
            log.info("the receiver takes events", action="receiver.started", port=lifetime.port)
            await lifetime.until_stopped(publish, draining, connecting, following)
            log.info("stopping", action="receiver.stopping", in_flight=publisher.in_flight)
    log.info("stopped", action="receiver.stopped")


async def drain_spools(settings: Settings, moved: Callable[[int], None]) -> int:
    """Empty the spool files that no process has into RabbitMQ, by hand; returns how many events went.

    Args:
        settings: the folder, and where RabbitMQ is.
        moved: told how many have gone, as they go.

    Raises:
        BrokerRefusedError: RabbitMQ has another topology than we need.
        BrokerBlockedError: an alarm has RabbitMQ take nothing; what was not confirmed is still in the spool.
        PublishError: RabbitMQ takes no more; the same.
        SpoolError: a file cannot be read.
    """
    metrics = Metrics()
    link = Link(settings.rabbitmq, use="publish", metrics=metrics)
    publisher = publisher_of(settings, link, metrics, window=settings.receiver.max_in_flight)
    exchange = topology.Names(settings.rabbitmq.prefix).events
    mover = Mover(Line(publisher, partial(_compose, exchange)))
    total = 0

    async def empty_all() -> None:
        nonlocal total
        for path in await run_abandonable(partial(others, settings.spool.directory, ())):
            total += await empty_file(path, mover, moved=moved) or 0

    standing = Standing(settings, topology_of(settings), needed_to_publish(settings))
    async with publishing(link, publisher, standing) as publish:
        await until(link.up, publish)
        async with running(empty_all(), name="drain") as draining:
            await until(link.blocked, draining)
            if not draining.done():
                raise BrokerBlockedError(link.reason)
    return total


def _compose(exchange: str, entry: Entry) -> Message:
    return of_body(entry.body, exchange=exchange, received_at=entry.received_at)
