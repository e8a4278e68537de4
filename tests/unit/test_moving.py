"""A message that goes on to another queue is the same message: what would route or judge it anew stays behind."""

from __future__ import annotations

from typing import Any

from pamqp import commands as spec

from bridge.amqp.deliveries import Delivery
from bridge.dead_letters import republishing

KEPT = {
    "cloudEvents:id": "17",
    "received-at": 1_700_000_000_000,
    "x-trace": "theirs",
    "bytes": bytearray(b"\xff"),
}


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
    incoming = Delivery(1, False, "", "", properties.marshal(), b"\xff not JSON\x00")  # noqa: FBT003 -- redelivered
    message = republishing.copy_for_queue(incoming, queue="elsewhere", headers=added, without=without)
    assert (message.exchange, message.routing_key, message.body) == ("", "elsewhere", b"\xff not JSON\x00")
    properties = spec.Basic.Properties()
    properties.unmarshal(int.from_bytes(message.properties[:2]), message.properties[2:])
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
    written = {
        "CC": ["complined"],
        "BCC": ["secret"],
        "x-death": [{"queue": "suppression.retry.30s", "reason": "expired", "count": 1}],
        "x-first-death-queue": "suppression.retry.30s",
        "x-last-death-reason": "expired",
        "x-delivery-count": 3,
        "x-stream-offset": 17,
    }
    assert moved(KEPT | written, {}) == KEPT


def test_one_without_an_id_gets_one() -> None:
    """By it a return is told from a confirm."""
    assert moved({}, {}, message_id=None) == {}
