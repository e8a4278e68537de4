"""A message that goes on to another queue is the same message: what would route or judge it anew stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pamqp import commands as spec

from bridge.broker.archive import ArchivedEvent, copy_of_event
from bridge.broker.copies import copy_of

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message

KEPT: dict[str, Any] = {
    "cloudEvents:id": "17",
    "received-at": 1_700_000_000_000,
    "x-my-app": "theirs",
    "bytes": bytearray(b"\xff"),
}


WRITTEN: dict[str, Any] = {
    "CC": ["complined"],
    "BCC": ["secret"],
    "x-death": [{"queue": "suppression.retry.30s", "reason": "expired", "count": 1}],
    "x-first-death-queue": "suppression.retry.30s",
    "x-last-death-reason": "expired",
    "x-delivery-count": 3,
    "x-stream-offset": 17,
}
"""What routed it, and what RabbitMQ wrote."""


def properties_of(message: Message) -> spec.Basic.Properties:
    properties = spec.Basic.Properties()
    properties.unmarshal(int.from_bytes(message.properties[:2]), message.properties[2:])
    return properties


def moved(
    headers: dict[str, Any], added: dict[str, Any], *without: str, message_id: str | None = "id-1"
) -> dict[str, Any]:
    """The headers that it has in the other queue."""
    properties = spec.Basic.Properties(
        content_type="application/json",
        message_type="hard_bounced",
        app_id="bridge",
        message_id=message_id,
        headers=headers,
    )
    message = copy_of(
        properties.marshal(),
        b"\xff not JSON\x00",
        exchange="",
        routing_key="elsewhere",
        headers=added,
        without=without,
    )
    assert (message.exchange, message.routing_key, message.body) == ("", "elsewhere", b"\xff not JSON\x00")
    properties = properties_of(message)
    assert properties.delivery_mode == 2
    assert properties.message_id == message.message_id
    assert message.message_id == (message_id or message.message_id) != ""
    return dict(properties.headers or {})


def test_its_headers_come_along_with_what_is_added() -> None:
    """What is added wins; what is to be left out is."""
    assert moved(KEPT | {"retry-attempt": 1, "dead-at": 5}, {"retry-attempt": 2}, "dead-at") == KEPT | {
        "retry-attempt": 2
    }


def test_what_routed_it_and_what_rabbitmq_wrote_stays_behind() -> None:
    """Else it would be copied, or its way taken for a cycle."""
    assert moved(KEPT | WRITTEN, {}) == KEPT


def test_a_copy_from_the_archive_keeps_and_leaves_the_same() -> None:
    """Headers of the publisher's own that begin with `x-` come along, as in every copy."""
    encoded = spec.Basic.Properties(message_id="id-1", headers=KEPT | WRITTEN).marshal()
    copy = copy_of_event(ArchivedEvent(17, "opened", encoded, b"{}"), exchange="", routing_key="mine")
    assert properties_of(copy).headers == KEPT


def test_the_correlation_id_comes_along_and_what_belongs_to_the_old_queue_does_not() -> None:
    """Who asked with it still finds the answer; no copy expires, or is taken for another user's."""
    encoded = spec.Basic.Properties(
        message_id="id-1", correlation_id="order-7", expiration="1000", reply_to="mine", user_id="them"
    ).marshal()
    copy = properties_of(copy_of(encoded, b"{}", exchange="", routing_key="elsewhere"))
    assert copy.correlation_id == "order-7"
    assert (copy.expiration, copy.reply_to, copy.user_id) == (None, None, None)


def test_one_without_an_id_gets_one() -> None:
    """By it a return is told from a confirm."""
    assert moved({}, {}, message_id=None) == {}
