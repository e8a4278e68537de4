"""Properties from anywhere: what is sound is read as pamqp reads it, and nothing that anybody sends raises."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands as spec
from pamqp.header import ContentHeader

from bridge.amqp.encoded_header import EncodedHeader
from bridge.amqp.properties import FIELDS, decode_properties
from bridge.broker.forwarded_properties import LEFT_OUT_HEADER, RAW_HEADER, forwarded_properties
from tests.support.undecodable import BEYOND, NOTE, UNDECODABLE, entry, nested, number, properties, text

SHORT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIMES = st.integers(0, 2**32 - 1).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"])),
    st.floats(width=32, allow_nan=False), TIMES, st.none(), st.binary().map(bytearray),
    st.decimals("-1000", "1000", places=2),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SHORT, inner, max_size=3),
    max_leaves=8,
)
PROPERTIES = st.builds(
    spec.Basic.Properties,
    **{
        name: st.none() | SHORT
        for name in FIELDS
        if spec.Basic.Properties.amqp_type(name) == "shortstr" and name != "cluster_id"
    },
    headers=st.none() | st.dictionaries(SHORT, VALUES, max_size=5),
    delivery_mode=st.sampled_from([None, 1, 2]),
    priority=st.none() | st.integers(1, 255),
    timestamp=st.none() | TIMES,
)


def by_pamqp(encoded: bytes) -> spec.Basic.Properties:
    found = ContentHeader()
    found.unmarshal(b"\x00\x3c\x00\x00" + bytes(8) + encoded)
    return found.properties


@given(PROPERTIES)
def test_what_is_sound_is_read_as_pamqp_reads_it(sent: spec.Basic.Properties) -> None:
    """Every property, every type of header."""
    encoded = sent.marshal()
    found = decode_properties(encoded)
    assert found.error is None
    theirs = by_pamqp(encoded)
    theirs.headers = theirs.headers or None
    assert found.to_pamqp() == theirs


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xff\xff")
@example(b"\x00\x01" * 50)
@example(properties(entry(b"deep", b"A", nested(20_000))))
@example(properties(entry(b"many", b"D", b"\xff\xff\xff\xff\xff")))
def test_no_bytes_at_all_make_it_raise(encoded: bytes) -> None:
    """Nor a header that is asked for by name; what is made of them can be decoded by anybody."""
    found = decode_properties(encoded)
    for name in ("note", "received-at"):
        EncodedHeader(name).number(encoded)
        EncodedHeader(name).text(encoded)
    _, again = forwarded_properties(encoded, headers={"added": 1}, without=lambda _: False)
    decoded = by_pamqp(again)
    assert decoded.headers is not None
    assert decoded.headers["added"] == 1
    if found.error is not None:
        assert decoded.headers[RAW_HEADER] == bytearray(encoded)


@given(PROPERTIES, st.data())
def test_what_is_spoilt_anywhere_does_not_raise(sent: spec.Basic.Properties, data: st.DataObject) -> None:
    """A byte that is another one, an end that comes too soon."""
    encoded = bytearray(sent.marshal())
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    spoilt = bytes(encoded[: data.draw(st.integers(0, len(encoded)))])
    _, again = forwarded_properties(spoilt, headers={}, without=lambda _: False)
    assert decode_properties(again).error is None


@pytest.mark.parametrize("encoded", UNDECODABLE.values(), ids=list(UNDECODABLE))
def test_what_pamqp_cannot_decode_is_read_as_far_as_it_goes(encoded: bytes) -> None:
    """The headers before and behind the bad one, the id, and what is wrong."""
    found = decode_properties(encoded)
    assert found.error
    assert found.headers == {"note": "kept"}
    assert found.message_id == "bad-1"


@pytest.mark.parametrize(
    ("encoded", "error"),
    [
        (properties(entry(b"what", b"?", b"")), "headers: a header is of the unknown type b'?'"),
        (properties(entry(b"short", b"S", (99).to_bytes(4))), "headers: a header's value is cut off"),
        (properties(entry(b"when", b"T", BEYOND)), "headers: a time is out of range"),
        (properties(at=2**64 - 1), "timestamp: a time is out of range"),
        (properties(message_id=b"\xff"), "message_id: a text is not UTF-8: b'\\xff'"),
        (properties(NOTE)[:-3], "message_id: it is cut off"),
        (b"\x20", "the flags are cut off"),
    ],
)
def test_what_is_wrong_is_said(encoded: bytes, error: str) -> None:
    """Where, and what."""
    assert decode_properties(encoded).error == error


@pytest.mark.parametrize("encoded", UNDECODABLE.values(), ids=list(UNDECODABLE))
def test_what_goes_on_can_be_decoded_and_holds_what_came_in(encoded: bytes) -> None:
    """All properties as they stood on the wire, in a byte array; what can be read stands beside it."""
    message_id, again = forwarded_properties(encoded, headers={"dead-at": 5}, without=lambda _: False)
    decoded = by_pamqp(again)
    assert (message_id, decoded.message_id, decoded.delivery_mode) == ("bad-1", "bad-1", 2)
    assert decoded.headers == {"note": "kept", "dead-at": 5, RAW_HEADER: bytearray(encoded)}
    once_more = by_pamqp(forwarded_properties(again, headers={}, without=lambda name: name == "dead-at")[1])
    assert once_more.headers == {"note": "kept", RAW_HEADER: bytearray(encoded)}


@pytest.mark.parametrize(
    "raw",
    [
        entry(b"money", b"D", b"\x02\x80\x00\x00\x00"),
        entry(b"pi", b"d", bytes.fromhex("7fefffffffffffff")),
        entry(b"list", b"A", text(b"S" + text(b"\xff"))),
        entry(b"when", b"T", (1_700_000_000_123).to_bytes(8)),
        entry(b"n" * 200, b"b", b"\x05"),
        entry(b"unsigned", b"L", b"\xff" * 8),
    ],
    ids=["decimal", "double", "bytes in an array", "milliseconds", "long name", "unsigned"],
)
def test_a_sound_header_goes_on_byte_for_byte(raw: bytes) -> None:
    """Also what pamqp reads and then cannot write, or writes as something else."""
    encoded = properties(raw, NOTE)
    assert decode_properties(encoded).error is None
    _, again = forwarded_properties(encoded, headers={}, without=lambda _: False)
    assert [one.raw for one in decode_properties(again).entries] == [raw, NOTE]


def test_properties_that_fit_into_no_frame_lose_the_largest_headers() -> None:
    """RabbitMQ closes the connection at a frame that is too large; how many are missing is said."""
    large = [entry(b"large-%d" % size, b"S", text(b"x" * size)) for size in (70_000, 40_000, 60_000)]
    for bad in ((), (entry(b"when", b"T", BEYOND),)):
        encoded = properties(NOTE, *large, *bad)
        _, again = forwarded_properties(encoded, headers={"retry-attempt": 1}, without=lambda _: False)
        assert len(again) < 131_072 - 20
        assert decode_properties(again).headers == {
            "note": "kept", "large-40000": "x" * 40_000, "large-60000": "x" * 60_000, "retry-attempt": 1,
            LEFT_OUT_HEADER: 1 + len(bad),
        }  # fmt: skip


def test_decimals_are_pamqps() -> None:
    """The contract on which the first test relies only for small ones."""
    assert decode_properties(properties(entry(b"money", b"D", b"\x02\xff\xff\xff\xff"))).headers == {
        "money": Decimal("-0.01")
    }
    assert decode_properties(properties(entry(b"n", b"l", number(-1)))).headers == {"n": -1}
