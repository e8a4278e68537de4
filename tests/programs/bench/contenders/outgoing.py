"""What the contenders in Python publish: the same properties and headers as the bridge, so the same work for RabbitMQ."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson

EXCHANGE: Final = "email.events"
APP: Final = "bridge"
CONTENT_TYPE: Final = "application/json"


class Outgoing(NamedTuple):
    name: str
    """The routing key."""
    id: str
    happened: datetime
    headers: dict[str, Any]


def of_body(body: bytes) -> Outgoing:
    """Read the provider's body. One that is no event is a server error here: what nobody writes at first."""
    received_at = time.time_ns() // 1_000_000
    document = orjson.loads(body)
    event = document["event"]
    name = "complained" if event["name"] == "complined" else event["name"]
    happened = datetime.fromtimestamp(event["timestamp"], UTC)
    event_id = hashlib.blake2b(body, digest_size=16).hexdigest()
    headers = {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": event_id,
        "cloudEvents:source": "/webhooks/msndr",
        "cloudEvents:type": name,
        "cloudEvents:subject": str(document["message"]["id"]),
        "cloudEvents:time": happened.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "received-at": received_at,
    }
    if name == "complained":
        headers["CC"] = ["complined"]
    return Outgoing(name, event_id, happened, headers)


def answer(outgoing: Outgoing) -> dict[str, str]:
    return {"status": "accepted", "id": outgoing.id, "durability": "confirmed"}
