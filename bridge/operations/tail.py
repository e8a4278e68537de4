"""Events live, for people and programs that look on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge import events
from bridge.amqp.connection import Link
from bridge.amqp.encoded_header import Header
from bridge.amqp.properties import read
from bridge.amqp.temporary_queue import listening
from bridge.broker import header_values, topology
from bridge.broker.messages import RECEIVED_AT_HEADER
from bridge.events import MalformedError, NotJsonError
from bridge.telemetry import links
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.deliveries import Delivery
    from bridge.settings.sections import Settings

_RECEIVED_AT: Final = Header(RECEIVED_AT_HEADER)
_LONGEST: Final = 200
"""Characters of what somebody else wrote."""


class NobodyReadsError(Exception):
    """What was to be shown cannot be: the reader has gone."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An event, with nothing in it that must not be shown."""

    event: str
    id: str
    message_id: str | None
    """The provider's; None where the body is no event."""
    timestamp: int | None
    """When it happened, Unix seconds."""
    received_at: int | None
    """When the bridge received it, Unix milliseconds."""
    url: str | None
    """Of a click, without its query."""
    problem: str | None
    """Why the body is no event."""


async def tail(settings: Settings, names: Sequence[str], show: Callable[[Seen], None]) -> None:
    """Show every event from now on, until cancelled; a lost connection is logged, and tried again.

    Args:
        settings: where RabbitMQ is.
        names: of the events, in either spelling; none means all.
        show: called for each; what it does not take in time is dropped in RabbitMQ, oldest first.

    Raises:
        BrokerRefusedError: there is no exchange of events, or the broker user may not listen.
        NobodyReadsError: `show` raised BrokenPipeError.
    """
    prefix = topology.Names(settings.rabbitmq.prefix)
    keys = {events.canonical_name(name) for name in names} or {"#"}
    link = Link(settings.rabbitmq, use="consume", metrics=Metrics())

    async def session(connection: AbstractConnection) -> None:
        async with listening(
            connection, prefix.events, keys, name=f"{settings.rabbitmq.prefix}email.tail"
        ) as deliveries:
            link.opened()
            while True:
                for delivered in await deliveries.some():
                    _shown(show, seen(delivered, mask_addresses=settings.logs.mask_addresses))

    await link.run(session)


def seen(delivered: Delivery, *, mask_addresses: bool = True) -> Seen:
    """What may be shown of a message."""
    name = _printable(delivered.routing_key)
    event_id = _printable(read(delivered.properties).message_id or "")
    received_at = header_values.moment(_RECEIVED_AT.number(delivered.properties))
    try:
        event = events.parse(delivered.body)
    except (MalformedError, NotJsonError) as error:
        return Seen(name, event_id, None, None, received_at, None, _printable(str(error)))
    url = event.data.get("url")
    return Seen(
        event=name,
        id=event_id,
        message_id=event.message_id,
        timestamp=event.timestamp,
        received_at=received_at,
        url=_printable(links.shown(url, mask_addresses=mask_addresses)) if isinstance(url, str) else None,
        problem=None,
    )


def _shown(show: Callable[[Seen], None], event: Seen) -> None:
    try:
        show(event)
    except BrokenPipeError:
        # As an OSError it would count as a lost connection to RabbitMQ.
        raise NobodyReadsError("the reader has gone") from None


def _printable(text: str) -> str:
    return one_line(text)[:_LONGEST]
