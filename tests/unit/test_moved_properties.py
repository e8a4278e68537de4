"""What stays of a message's properties when it is moved: everything but what RabbitMQ refuses, or counts anew."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands as spec

from bridge.amqp.properties import decode_properties
from bridge.broker.moved_properties import moved_properties
from tests.support.undecodable import UNDECODABLE


def test_properties_are_not_touched() -> None:
    """Also not an expiration, a reply queue, or headers that lead elsewhere."""
    raw = spec.Basic.Properties(
        message_id="1", expiration="10", reply_to="r", headers={"CC": ["x"], "x-death": [{"count": 1}]}
    ).marshal()
    assert moved_properties(raw) == ("1", raw)


@pytest.mark.parametrize("raw", UNDECODABLE.values(), ids=UNDECODABLE)
def test_what_cannot_be_decoded_is_not_touched_either(raw: bytes) -> None:
    """Byte for byte."""
    assert moved_properties(raw)[1] == raw


def test_only_the_user_and_the_counts_of_deliveries_are_left_out() -> None:
    """RabbitMQ would close the channel for the one, and begins the others anew; the rest keeps its order, which is pamqp's."""
    before: dict[str, Any] = {"b": 1, "x-delivery-count": 3, "a": "text", "x-acquired-count": 4}
    raw = spec.Basic.Properties(message_id="1", user_id="guest", app_id="bridge", headers=before).marshal()
    found = decode_properties(moved_properties(raw)[1])
    assert list(found.headers.items()) == [("a", "text"), ("b", 1)]
    assert dict(found.values) == {"message_id": "1", "app_id": "bridge"}
    assert found.error is None


def test_headers_that_rabbitmq_alone_has_added_are_gone() -> None:
    """As if there had never been any."""
    raw = spec.Basic.Properties(delivery_mode=2, headers={"x-delivery-count": 1}).marshal()
    assert moved_properties(raw) == ("", spec.Basic.Properties(delivery_mode=2).marshal())
