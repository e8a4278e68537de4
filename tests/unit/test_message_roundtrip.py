"""From a body to frames and back: what a consumer reads is what the provider said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp import frame
from pamqp.body import ContentBody
from pamqp.header import ContentHeader

from bridge import events
from bridge.amqp.frames import MessageFramer
from bridge.amqp.message_types import Message, make_message
from bridge.broker import messages

EXCHANGE = "email.events"
CHANNEL = 3

LATEST = 2**32 - 1
"""pamqp reads a larger timestamp, after the year 2106, as milliseconds; what is written is right."""
PRINTABLE = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)
NAMES = st.one_of(st.sampled_from([*events.KNOWN_NAMES, "complined"]), PRINTABLE).filter(
    lambda name: name != events.MALFORMED
)
HOSTILE = (
    "received-at",
    "received-atl",
    "cloudEvents:id",
    "cloudEvents:idS",
    "cloudEvents:typeS",
    "cloudEvents:typereceived-at",
    "cloudEvents:subject",
    "application/json",
    "i" * 32,
    "t" * 20,
    "s",
)
"""Names that read like the marks by which a template is cut."""
REST = "", "s", "é", "€"
"""A text of so many bytes."""
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


class Read(NamedTuple):
    """What a consumer sees of a message."""

    exchange: str
    routing_key: str
    properties: spec.Basic.Properties
    body: bytes
    mandatory: bool


def marshalled(outgoing: Message, *, frame_body: int = 100) -> bytes:
    """As the publisher writes it, with bodies cut into frames of so many bytes."""
    return b"".join(MessageFramer(CHANNEL, frame_body).frames(outgoing))


def unmarshalled(payload: bytes) -> Read:
    """As a consumer reads it."""
    frames = []
    while payload:
        size, number, one = frame.unmarshal(payload)
        assert number == CHANNEL
        assert payload[size - 1 : size] == b"\xce"
        frames.append(one)
        payload = payload[size:]
    publish, header, *parts = frames
    assert isinstance(publish, spec.Basic.Publish)
    assert isinstance(header, ContentHeader)
    assert all(isinstance(part, ContentBody) for part in parts)
    body = b"".join(part.value for part in parts if isinstance(part, ContentBody))
    assert header.body_size == len(body)
    assert isinstance(header.properties, spec.Basic.Properties)
    return Read(publish.exchange, publish.routing_key, header.properties, body, bool(publish.mandatory))


def by_hand(body: bytes, *, received_at: int) -> spec.Basic.Properties:
    """The properties of this event as the contract has them, for pamqp to encode."""
    event = events.parse(body)
    headers: dict[str, Any] = {
        "cloudEvents:specversion": "1.0",
        "cloudEvents:id": event.id,
        "cloudEvents:source": "/webhooks/msndr",
        "cloudEvents:type": event.name,
        "cloudEvents:subject": event.message_id,
        "cloudEvents:time": datetime.fromtimestamp(event.timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "received-at": received_at,
    }
    if event.name == "complained":
        headers["CC"] = ["complined"]
    return spec.Basic.Properties(
        content_type="application/json",
        delivery_mode=2,
        message_type=event.name,
        message_id=event.id,
        app_id="bridge",
        timestamp=datetime.fromtimestamp(event.timestamp, UTC),
        headers=headers,
    )


@given(EVENTS, TIMES)
@example({"message": {"id": 1}, "event": {"name": "é" * 127, "timestamp": 0}}, 0)
@example({"message": {"id": "x" * 128}, "event": {"name": "a" * 255, "timestamp": LATEST}}, 1)
def test_an_event_comes_through_the_wire_unchanged(document: dict[str, Any], received_at: int) -> None:
    """Any event's properties, headers, routing key and bytes are read as they were written."""
    body = body_of(document)
    outgoing = messages.event_message(events.parse(body), body, exchange=EXCHANGE, received_at=received_at)
    incoming = unmarshalled(marshalled(outgoing))
    assert (incoming.exchange, incoming.routing_key) == (EXCHANGE, outgoing.routing_key)
    assert incoming.properties.message_id == outgoing.message_id
    assert incoming.properties.marshal() == by_hand(body, received_at=received_at).marshal()
    assert incoming.body == body
    assert incoming.mandatory


@given(EVENTS, st.integers(2**32, LATEST * 1000))
@example({"message": {"id": "\U0001d54f" * 128}, "event": {"name": "complined", "timestamp": LATEST}}, 2**32)
@example({"message": {"id": 1}, "event": {"name": "\U0001d54f" * 63, "timestamp": 1}}, 2**40)
@pytest.mark.parametrize("name", [None, *HOSTILE])
def test_a_template_encodes_what_pamqp_would(
    name: str | None, document: dict[str, Any], received_at: int
) -> None:
    """Byte for byte, whatever is in the name, and however long name and subject are."""
    if name is not None:
        document["event"]["name"] = name
    body = body_of(document)
    outgoing = messages.message_from_body(body, exchange=EXCHANGE, received_at=received_at)
    assert outgoing.properties == by_hand(body, received_at=received_at).marshal()


@pytest.mark.parametrize("length", [1, 127, 128, 254, 255])
@pytest.mark.parametrize("subject", [1, 2, 127, 128, 255, 256, 511, 512])
def test_names_and_subjects_of_any_length_are_encoded_as_pamqp_would(length: int, subject: int) -> None:
    """Up to the 255 bytes of a routing key, and the 512 of 128 characters."""
    characters = "s" * subject if subject <= 128 else "\U0001d54f" * (subject // 4) + REST[subject % 4]
    assert len(characters.encode()) == subject
    for name in ("n" * length, "é" * (length // 2) + "n" * (length % 2)):
        body = body_of({"message": {"id": characters}, "event": {"name": name, "timestamp": 1}})
        outgoing = messages.message_from_body(body, exchange=EXCHANGE, received_at=2**40)
        assert outgoing.routing_key == name
        assert outgoing.properties == by_hand(body, received_at=2**40).marshal()


def test_events_of_one_template_do_not_leave_anything_in_each_other() -> None:
    """Two of one name and with subjects of one length have only in common what they have in common."""
    outgoing = []
    for number in range(10, 20):
        body = body_of({"message": {"id": number}, "event": {"name": "opened", "timestamp": number}})
        outgoing.append(messages.message_from_body(body, exchange=EXCHANGE, received_at=2**40 + number))
        assert outgoing[-1].properties == by_hand(body, received_at=2**40 + number).marshal()
    assert len({one.properties for one in outgoing}) == len(outgoing)


def test_any_number_of_ways_is_framed_right() -> None:
    """Methods are kept ready for some; those that come after them, and come again, are written as well."""
    framing = MessageFramer(CHANNEL, 100)
    ways = [(f"exchange.{number % 7}", f"name.{number}", number % 2 == 0) for number in range(600)]
    for exchange, key, mandatory in ways + ways[:300]:
        properties = spec.Basic.Properties(message_id=key)
        incoming = unmarshalled(
            b"".join(framing.frames(make_message(exchange, key, properties, b"{}", mandatory=mandatory)))
        )
        assert (incoming.exchange, incoming.routing_key, incoming.mandatory) == (exchange, key, mandatory)
        assert incoming.properties.message_id == key


@given(EVENTS, TIMES)
def test_a_consumer_reads_the_event_from_properties_and_headers(
    document: dict[str, Any], received_at: int
) -> None:
    """The contract: type, id, time and subject are there without the body being parsed, and it outlives a restart."""
    body = body_of(document)
    event = events.parse(body)
    incoming = unmarshalled(
        marshalled(messages.message_from_body(body, exchange=EXCHANGE, received_at=received_at))
    )
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
    incoming = unmarshalled(marshalled(messages.message_from_body(body, exchange=EXCHANGE, received_at=0)))
    written = str((incoming.properties.headers or {})["cloudEvents:time"])
    assert datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() == timestamp


@given(EVENTS, TIMES)
def test_a_spooled_event_becomes_the_message_that_it_was_to_be(
    document: dict[str, Any], received_at: int
) -> None:
    """From body and time alone, on another day and in another process."""
    body = body_of(document)
    direct = messages.event_message(events.parse(body), body, exchange=EXCHANGE, received_at=received_at)
    from_spool = messages.message_from_body(body, exchange=EXCHANGE, received_at=received_at)
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
    direct = messages.malformed_message(body, reason, exchange=EXCHANGE, received_at=received_at)
    assert messages.message_from_body(body, exchange=EXCHANGE, received_at=received_at) == direct
    incoming = unmarshalled(marshalled(direct))
    assert (incoming.exchange, incoming.routing_key) == (EXCHANGE, "malformed")
    assert incoming.mandatory
    assert incoming.properties.message_id == direct.message_id
    assert incoming.body == body
    assert incoming.properties.headers == {"malformed-reason": reason, "received-at": received_at}


@given(st.binary(max_size=500), st.integers(1, 120))
def test_a_body_is_cut_into_frames_that_the_broker_accepts(body: bytes, frame_body: int) -> None:
    """None is larger than what was negotiated, and together they are the body."""
    outgoing = messages.malformed_message(body, "reason", exchange=EXCHANGE, received_at=0)
    payload = marshalled(outgoing, frame_body=frame_body)
    assert unmarshalled(payload).body == body
    sizes = []
    while payload:
        size, _, one = frame.unmarshal(payload)
        if isinstance(one, ContentBody):
            sizes.append(len(one))
        payload = payload[size:]
    assert all(0 < size <= frame_body for size in sizes)


@given(EVENTS, st.integers(-(2**63), 2**63 - 1), st.data())
def test_properties_are_known_for_those_of_their_event(
    document: dict[str, Any], received_at: int, data: st.DataObject
) -> None:
    """Whenever it came in; with one byte more, less or other than that they are not, but for the time at which it came in."""
    body = orjson.dumps(document)
    event = events.parse(body)
    properties = messages.event_message(event, body, exchange=EXCHANGE, received_at=received_at).properties
    assert messages.are_of_event(properties, event)
    place = data.draw(st.integers(0, len(properties) - 1))
    changed = bytearray(properties)
    changed[place] ^= data.draw(st.integers(1, 255))
    begin = properties.rindex(b"received-atl", 0, properties.rindex(event.id.encode())) + len(b"received-atl")
    assert messages.are_of_event(bytes(changed), event) == (begin <= place < begin + 8)
    assert not messages.are_of_event(properties + b"\0", event)
    assert not messages.are_of_event(properties[:-1], event)
    assert not messages.are_of_event(b"", event)
