"""When an event came in, read from its message; and the oldest of those that come back to the queue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import commands as spec

from bridge import events
from bridge.broker.copies import copy_of
from bridge.broker.messages import event_message
from bridge.development.emission import event_body
from bridge.worker.waiting_events import ReturningEvents, oldest_of, received_at

BODY = event_body("complained", 7, 1539062173, {})
EVENT = event_message(events.parse(BODY), BODY, exchange="", received_at=1_700_000_000_500).properties
RETRIED = copy_of(EVENT, BODY, exchange="", routing_key="q", headers={"retry-attempt": 1}).properties


def properties(**values: Any) -> bytes:
    return spec.Basic.Properties(**values).marshal()


@pytest.mark.parametrize("encoded", [EVENT, RETRIED], ids=["as it came", "after a retry"])
def test_an_event_says_when_it_came_in(encoded: bytes) -> None:
    """The header is read where it stands, and copies of the message keep it."""
    assert received_at(encoded) == 1_700_000_000.5


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (properties(headers={"received-at": 17_000}), 17.0),
        (properties(headers={"dead-at": 18_000}), 18.0),
        (properties(timestamp=datetime.fromtimestamp(19, UTC)), 19.0),
        (properties(headers={"received-at": -1}), None),
        (properties(headers={"received-at": "now"}), None),
        (properties(headers={"received-at": 2**62}), None),
        (b"", None),
        (EVENT[: EVENT.index(b"received-at") + 15], None),
    ],
)
def test_other_messages_say_what_they_can(encoded: bytes, expected: float | None) -> None:
    """Other encodings, other times, and bytes that are no properties."""
    assert received_at(encoded) == expected


def test_a_message_that_does_not_say_counts_as_new() -> None:
    """It cannot hold back more than that."""
    assert oldest_of([properties(), properties()], lambda: 5.0) == 5.0
    assert oldest_of([properties(), EVENT], lambda: 2e9) == 1_700_000_000.5
    assert oldest_of([]) is None


def test_events_that_return_are_kept_until_all_workers_have_seen_the_queue_empty() -> None:
    """The oldest counts until its own return is long enough ago, not that of the others."""
    returning = ReturningEvents()
    returning.add(1.0, returned_by=30.0)
    returning.add(2.0, returned_by=30.5)
    returning.add(3.0, returned_by=3600.0)
    assert returning.oldest == 1.0
    returning.forget(30.0)
    assert returning.oldest == 1.0
    returning.forget(60.0)
    assert returning.oldest == 3.0
    assert returning.returned_by is not None
    assert returning.returned_by >= 3600.0
    returning.forget(4000.0)
    assert [returning.oldest, returning.returned_by] == [None, None]
