"""From a body to frames and back: what a consumer reads is what the provider said."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from bridge import events
from bridge.broker import message
from bridge.broker.publisher import Message, _frames

if TYPE_CHECKING:
    from bridge.broker.internals import ConfirmChannel

EXCHANGE = "email.events"
CHANNEL = 3

LATEST = 2**32 - 1
"""pamqp reads a larger timestamp, after the year 2106, as milliseconds; what is written is right."""
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)
NAMES = st.one_of(st.sampled_from([*events.KNOWN_NAMES, "complined"]), PRINTABLE).filter(
    lambda name: name != events.MALFORMED
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.fixed_dictionaries(
    {
        "message": st.fixed_dictionaries({"id": st.integers(-(2**63), 2**64 - 1) | PRINTABLE}),
        "event": st.fixed_dictionaries(
            {"name": NAMES, "timestamp": st.integers(0, LATEST)},
            optional={"data": st.none() | st.dictionaries(st.text(), JSON, max_size=3)},
        ),
    }
)
TIMES = st.integers(0, LATEST * 1000)
"""Unix milliseconds."""


def body_of(document: Any) -> bytes:
    return orjson.dumps(document)


def marshalled(outgoing: Message, *, frame_body: int = 100) -> bytes:
    """As the publisher writes it, with bodies cut into frames of so many bytes."""
    channel = SimpleNamespace(number=CHANNEL, max_content_size=frame_body)
    return _frames(outgoing, cast("ConfirmChannel", channel))


def unmarshalled(payload: bytes) -> Message:
    """As a consumer reads it."""
    frames = []
    while payload:
        size, number, one = frame.unmarshal(payload)
        assert number == CHANNEL
        frames.append(one)
        payload = payload[size:]
    publish, header, *parts = frames
    assert isinstance(publish, spec.Basic.Publish)
    assert isinstance(header, ContentHeader)
    body = b"".join(part.value for part in parts if isinstance(part, ContentBody))
    assert header.body_size == len(body)
    assert isinstance(header.properties, spec.Basic.Properties)
    return Message(
        publish.exchange, publish.routing_key, header.properties, body, mandatory=bool(publish.mandatory)
    )


@given(EVENTS, TIMES)
@example({"message": {"id": 1}, "event": {"name": "é" * 127, "timestamp": 0}}, 0)
@example({"message": {"id": "x" * 128}, "event": {"name": "a" * 255, "timestamp": LATEST}}, 1)
def test_an_event_comes_through_the_wire_unchanged(document: dict[str, Any], received_at: int) -> None:
    """Any event's properties, headers, routing key and bytes are read as they were written."""
    body = body_of(document)
    outgoing = message.of_event(events.parse(body), body, exchange=EXCHANGE, received_at=received_at)
    incoming = unmarshalled(marshalled(outgoing))
    assert incoming == outgoing
    assert incoming.body == body
    assert incoming.mandatory


@given(EVENTS, TIMES)
def test_a_consumer_reads_the_event_from_properties_and_headers(
    document: dict[str, Any], received_at: int
) -> None:
    """The contract: type, id, time and subject are there without the body being parsed, and it outlives a restart."""
    body = body_of(document)
    event = events.parse(body)
    incoming = unmarshalled(marshalled(message.of_body(body, exchange=EXCHANGE, received_at=received_at)))
    properties, headers = incoming.properties, incoming.properties.headers or {}
    name = "complained" if document["event"]["name"] == "complined" else document["event"]["name"]
    assert incoming.routing_key == properties.message_type == headers["cloudEvents:type"] == name
    assert properties.message_id == headers["cloudEvents:id"] == event.id
    assert properties.delivery_mode == 2
    assert (properties.content_type, properties.app_id) == ("application/json", "bridge")
    assert properties.timestamp is not None
    assert int(properties.timestamp.timestamp()) == document["event"]["timestamp"]
    assert headers["cloudEvents:subject"] == str(document["message"]["id"])
    assert headers["received-at"] == received_at
    assert headers.get("CC") == (["complined"] if name == "complained" else None)


@given(st.integers(0, events.MAX_TIMESTAMP))
@example(events.MAX_TIMESTAMP)
def test_any_time_that_the_provider_may_name_is_written_as_rfc_3339(timestamp: int) -> None:
    """CloudEvents `time`, up to the last second of the year 9999."""
    body = body_of({"message": {"id": 1}, "event": {"name": "opened", "timestamp": timestamp}})
    incoming = unmarshalled(marshalled(message.of_body(body, exchange=EXCHANGE, received_at=0)))
    written = str((incoming.properties.headers or {})["cloudEvents:time"])
    assert datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() == timestamp


@given(EVENTS, TIMES)
def test_a_spooled_event_becomes_the_message_that_it_was_to_be(
    document: dict[str, Any], received_at: int
) -> None:
    """From body and time alone, on another day and in another process."""
    body = body_of(document)
    direct = message.of_event(events.parse(body), body, exchange=EXCHANGE, received_at=received_at)
    from_spool = message.of_body(body, exchange=EXCHANGE, received_at=received_at)
    assert from_spool == direct
    assert marshalled(from_spool) == marshalled(direct)


@given(JSON.map(body_of), TIMES)
@example(b'{"message": {"id": "\\ud800"}, "event": {}}', 0)
@example(b"[" * 5000 + b"]" * 5000, 0)
def test_a_quarantined_body_comes_through_the_wire_with_its_reason(body: bytes, received_at: int) -> None:
    """JSON that is no event keeps its bytes, and the same message is made of it from the spool."""
    with pytest.raises(events.MalformedError) as malformed:
        events.parse(body)
    reason = str(malformed.value)
    direct = message.of_malformed(body, reason, exchange=EXCHANGE, received_at=received_at)
    assert message.of_body(body, exchange=EXCHANGE, received_at=received_at) == direct
    incoming = unmarshalled(marshalled(direct))
    assert incoming == direct
    assert incoming.routing_key == "malformed"
    assert incoming.body == body
    assert incoming.properties.headers == {"malformed-reason": reason, "received-at": received_at}


@given(st.binary(max_size=500), st.integers(1, 120))
def test_a_body_is_cut_into_frames_that_the_broker_accepts(body: bytes, frame_body: int) -> None:
    """None is larger than what was negotiated, and together they are the body."""
    outgoing = message.of_malformed(body, "reason", exchange=EXCHANGE, received_at=0)
    payload = marshalled(outgoing, frame_body=frame_body)
    assert unmarshalled(payload).body == body
    sizes = []
    while payload:
        size, _, one = frame.unmarshal(payload)
        if isinstance(one, ContentBody):
            sizes.append(len(one))
        payload = payload[size:]
    assert all(0 < size <= frame_body for size in sizes)
