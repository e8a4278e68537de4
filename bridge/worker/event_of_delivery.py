"""Reads the event of a delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge import events
from bridge.amqp.properties import decode_properties
from bridge.broker.messages import are_of_event
from bridge.worker import failures

if TYPE_CHECKING:
    from bridge.amqp.message_types import Delivery
    from bridge.events import Event


def event_of(delivery: Delivery) -> Event | failures.Failure:
    """The event of a delivery, or why it cannot be read: its properties, or its body."""
    try:
        event = events.parse(delivery.body)
    except (events.NotJsonError, events.MalformedError) as error:
        return _undecodable(delivery) or failures.malformed(error)
    if are_of_event(delivery.properties, event):
        return event  # nearly always: to decode them would take ten times as long
    return _undecodable(delivery) or event


def _undecodable(delivery: Delivery) -> failures.Failure | None:
    problem = decode_properties(delivery.properties).error
    return None if problem is None else failures.undecodable(problem)
