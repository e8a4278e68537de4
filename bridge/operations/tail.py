"""Shows events as they come, without taking them from anybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge import events
from bridge.amqp.connection import Link
from bridge.amqp.encoded_header import EncodedHeader
from bridge.amqp.properties import decode_properties
from bridge.amqp.temporary_queue import consume_temporary_queue
from bridge.broker import header_values, topology
from bridge.broker.messages import RECEIVED_AT_HEADER
from bridge.events import MalformedError, NotJsonError
from bridge.telemetry import safe_urls
from bridge.telemetry.metrics import Metrics
from bridge.telemetry.terminal import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aio_pika.abc import AbstractConnection

    from bridge.amqp.message_types import Delivery
    from bridge.settings.sections import Settings

_RECEIVED_AT: Final = EncodedHeader(RECEIVED_AT_HEADER)
_LONGEST: Final = 200
"""Characters of a text from outside."""


class OutputClosedError(Exception):
    """The output cannot be written: its reader has closed it."""


@dataclass(frozen=True, slots=True)
class TailedEvent:
    """An event without addresses and secrets."""

    event: str
    id: str
    message_id: str | None
    """The provider's id; None if the body is not an event."""
    timestamp: int | None
    """When it happened, in Unix seconds."""
    received_at: int | None
    """When the bridge received it, in Unix milliseconds."""
    url: str | None
    """The URL of a click, without its query."""
    problem: str | None
    """Why the body is not an event."""


async def tail(
    settings: Settings,
    names: Sequence[str],
    show: Callable[[TailedEvent], None],
    *,
    link: Link | None = None,
) -> None:
    """Show every event from now on, until cancelled. A lost connection is logged and retried.

    Args:
        settings: RabbitMQ's URLs.
        names: of the events, in either spelling; none: all events.
        show: called for each event. If it is too slow, RabbitMQ drops the oldest events.
        link: the connection, where the caller wants to know its state; None: it is of no interest.

    Raises:
        TopologyRefusedError: there is no exchange of events, or the broker user may not consume.
        OutputClosedError: `show` raised BrokenPipeError.
    """
    prefix = topology.Names(settings.rabbitmq.prefix)
    keys = {events.canonical_name(name) for name in names} or {"#"}
    bindings = [(prefix.events, key) for key in keys]
    link = link or Link(settings.rabbitmq, use="consume", metrics=Metrics())

    async def session(connection: AbstractConnection) -> None:
        async with consume_temporary_queue(
            connection, bindings, name=f"{settings.rabbitmq.prefix}email.tail"
        ) as deliveries:
            link.opened()
            while True:
                for delivered in await deliveries.receive():
                    _show_or_raise(show, tailed_event(delivered, mask_addresses=settings.logs.mask_addresses))

    await link.run(session)


def tailed_event(delivered: Delivery, *, mask_addresses: bool = True) -> TailedEvent:
    """The event of a message, without addresses and secrets."""
    name = _printable(delivered.routing_key)
    event_id = _printable(decode_properties(delivered.properties).message_id or "")
    received_at = header_values.unix_ms(_RECEIVED_AT.number(delivered.properties))
    try:
        event = events.parse(delivered.body)
    except (MalformedError, NotJsonError) as error:
        return TailedEvent(name, event_id, None, None, received_at, None, _printable(str(error)))
    url = event.data.get("url")
    return TailedEvent(
        event=name,
        id=event_id,
        message_id=event.message_id,
        timestamp=event.timestamp,
        received_at=received_at,
        url=_printable(safe_urls.safe_url(url, mask_addresses=mask_addresses))
        if isinstance(url, str)
        else None,
        problem=None,
    )


def _show_or_raise(show: Callable[[TailedEvent], None], event: TailedEvent) -> None:
    try:
        show(event)
    except BrokenPipeError:
        # As an OSError it would count as a lost connection.
        raise OutputClosedError("the output was closed by its reader") from None


def _printable(text: str) -> str:
    return one_line(text)[:_LONGEST]
