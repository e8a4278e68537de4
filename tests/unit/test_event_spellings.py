"""An event that says without a doubt what happened, to what and when is read, in whichever spelling."""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import events
from bridge.events import MalformedError, parse

AT = 1539062173
PLAIN = b'{"message":{"id":1},"event":{"name":"hard_bounced","timestamp":1539062173,"data":{}}}'
ID = "20740a1de9112f6ee95b682faa10b16e"


def bounce(
    *, message_id: str = "1", name: str = "hard_bounced", timestamp: str = "1539062173", data: str = "{}"
) -> bytes:
    """A body whose parts are JSON as it is to be written."""
    return (
        f'{{"message":{{"id":{message_id}}},"event":{{"name":{json.dumps(name)},"timestamp":{timestamp},"data":{data}}}}}'
    ).encode()


@pytest.mark.parametrize(
    "timestamp",
    [
        '"1539062173"',
        '" 1539062173 "',
        "1539062173.0",
        "1.539062173e9",
        '"1539062173.000"',
        "1539062173000",
        '"1539062173000"',
        "1539062173000.0",
        '"2018-10-09T05:16:13Z"',
        '"2018-10-09t05:16:13z"',
        '"2018-10-09 05:16:13+00:00"',
        '"2018-10-09T08:16:13.000+03:00"',
    ],
)
def test_one_moment_has_one_identity(timestamp: str) -> None:
    """Whether it is written as a number, as text, in milliseconds or as RFC 3339."""
    event = parse(bounce(timestamp=timestamp))
    assert (event.name, event.timestamp, event.id) == ("hard_bounced", AT, ID)


@pytest.mark.parametrize(
    "timestamp",
    ["1539062173.123", '"1539062173.123"', "1539062173123", '"1539062173123"', '"2018-10-09T05:16:13.123Z"'],
)
def test_a_part_of_a_second_counts_for_identity(timestamp: str) -> None:
    """Two clicks of one second differ, where the provider says so."""
    event = parse(bounce(timestamp=timestamp))
    assert event.timestamp == AT
    assert event.id == parse(bounce(timestamp="1539062173.1230")).id
    assert event.id not in {ID, parse(bounce(timestamp="1539062173.124")).id}


@pytest.mark.parametrize(
    "timestamp",
    [
        '"2018-10-09T05:16:13"',
        '"2018-10-09"',
        '"2018-02-30T05:16:13Z"',
        '"2018-10-09T05:16:13+25:00"',
        '"1969-12-31T23:59:59Z"',
        '"9999-12-31T23:59:59-01:00"',
        '"-1"',
        '"\N{FULLWIDTH DIGIT ONE}539062173"',
        "-0.5",
        "1e400",
        "1e999999999",
        "1539062173." + "0" * 40 + "1",
        "true",
        "[1539062173]",
    ],
)
def test_what_may_be_several_moments_or_none_is_malformed(timestamp: str) -> None:
    """No zone, no such day, before 1970, after 9999, no number."""
    with pytest.raises(MalformedError, match=r"event\.timestamp"):
        parse(bounce(timestamp=timestamp))


@pytest.mark.parametrize(
    "name",
    [
        "Hard_Bounced",
        "HARD_BOUNCED",
        "hard-bounced",
        "hard bounced",
        "Hard Bounced",
        "hardBounced",
        " hard_bounced\n",
        "\u00a0hard_bounced",
    ],
)
def test_a_known_name_is_known_in_every_dress(name: str) -> None:
    """Case, what stands around it, and what stands between its words."""
    event = parse(bounce(name=name))
    assert (event.name, event.id) == ("hard_bounced", ID)


@pytest.mark.parametrize("name", ["Complined", "COMPLAINED", " complined "])
def test_both_spellings_of_the_complaint_are_known_so(name: str) -> None:
    """They are one event here as well."""
    assert parse(bounce(name=name)).name == "complained"


@pytest.mark.parametrize("data", ["{}", "null", "[]", '""'])
def test_empty_data_is_empty_however_it_is_written(data: str) -> None:
    """PHP writes an empty object as an empty list."""
    event = parse(bounce(data=data))
    assert (event.data, event.id) == ({}, ID)


def test_data_that_is_no_object_counts_for_identity() -> None:
    """It does not hide what happened, to what and when; it tells events apart."""
    read = [
        parse(bounce(data=data))
        for data in ("[1]", "[2]", "1", '"1"', "false", "0", "1.5", '{"value":1}', "{}")
    ]
    assert {event.name for event in read} == {"hard_bounced"}
    assert all(event.data == {} for event in read[:7])
    assert len({event.id for event in read}) == len(read)


def test_a_byte_order_mark_is_no_part_of_the_event() -> None:
    """Windows puts one in front."""
    assert parse(b"\xef\xbb\xbf" + PLAIN) == parse(PLAIN)


@pytest.mark.parametrize("message_id", ['"1"', "1", "1.0", "1e0"])
def test_an_id_is_the_same_as_number_and_as_text(message_id: str) -> None:
    """`1`, as it is in the provider's documentation."""
    assert parse(bounce(message_id=message_id)).id == ID


def test_ids_beyond_64_bits_keep_all_their_digits() -> None:
    """Two messages are not taken for one."""
    long = [parse(bounce(message_id=f"1844674407370955161{digit}")).message_id for digit in range(6, 10)]
    assert long == [
        "18446744073709551616",
        "18446744073709551617",
        "18446744073709551618",
        "18446744073709551619",
    ]


@pytest.mark.parametrize("text", [r"\ud83d", r"a\udc00b", r"\ud800\ud800"])
def test_lone_surrogates_are_read(text: str) -> None:
    """A link that was cut in the middle of an emoji, in a value or a key, does not hide a bounce."""
    value, key = parse(bounce(data=f'{{"a":"{text}"}}')), parse(bounce(data=f'{{"{text}":"a"}}'))
    assert value.name == key.name == "hard_bounced"
    assert len({value.id, key.id, ID, parse(bounce(data='{"a":"?"}')).id}) == 4
    spaced = json.dumps(json.loads(bounce(data=f'{{"a":"{text}"}}')), indent=1)
    assert parse(spaced.encode()).id == value.id


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("18446744073709551616", "18446744073709551617"),
        ("-9223372036854775809", "-9223372036854775810"),
        ("0.10000000000000000001", "0.10000000000000000002"),
        ("0.1", "0.10000000000000000001"),
        ("1e400", "1e401"),
        ("1e-400", "2e-400"),
        ("1" * 5000, "1" * 4999 + "2"),
    ],
)
def test_numbers_that_no_float_holds_tell_events_apart(one: str, other: str) -> None:
    """Wherever they stand in the data."""
    for around in ("%s", '{"n":%s}', '{"a":[{"n":%s}]}'):
        assert parse(bounce(data=around % one)).id != parse(bounce(data=around % other)).id


def test_the_exact_value_of_a_number_counts_not_how_it_is_written() -> None:
    """A number that no float holds, in two spellings."""
    spellings = (
        "18446744073709551617",
        "18446744073709551617.0",
        "1.8446744073709551617e19",
        "184467440737095516170e-1",
    )
    assert len({parse(bounce(data=f'{{"n":{number}}}')).id for number in spellings}) == 1


@pytest.mark.parametrize(
    ("body", "identity"),
    [
        (PLAIN, ID),
        (
            b'{"message":{"id":2},"event":{"name":"complined","timestamp":1539062173}}',
            "24d03186ba0fb668352119c00c0fc4d1",
        ),
        (
            b'{"message":{"id":18446744073709551615},"event":{"name":"opened","timestamp":253402300799,"data":null}}',
            "a5e19fef5c0b600944e67298bce85675",
        ),
        (
            (
                b'{"message":{"id":3},"event":{"name":"newfangled","timestamp":0,"data":'
                b'{"price":0.1,"n":1e20,"more":[1,-2.5,true,null,{"b":"\\u00e9","a":18446744073709551615}]}}}'
            ),
            "faaceee8d0f6c6fe07a6c40311dc1c14",
        ),
        (
            (
                b'{"message":{"id":"a b"},"event":{"name":"clicked","timestamp":5,'
                b'"data":{"url":"\\ud83d\\ude00","e":-0.0,"big":100000000000000000000}}}'
            ),
            "30ea4fb13ee65cb13a8a3779b48371ec",
        ),
    ],
    ids=["bounce", "complaint", "64 bits", "numbers", "text"],
)
def test_identities_are_what_they_were_before(body: bytes, identity: str) -> None:
    """What an earlier release could read has the id that it gave: its repeats are known."""
    assert parse(body).id == identity


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters())
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters()), inner, max_size=3),
)
LOOSE = st.fixed_dictionaries(
    {
        "message": st.fixed_dictionaries({"id": SCALARS}),
        "event": st.fixed_dictionaries(
            {
                "name": st.sampled_from(sorted(events.KNOWN_NAMES)) | st.text(st.characters()),
                "timestamp": SCALARS | st.integers(0, 2**50).map(str),
                "data": JSON,
            }
        ),
    }
)


@given(LOOSE)
def test_what_is_read_can_be_written_into_a_message(document: dict[str, Any]) -> None:
    """Name and message id have their place in headers and routing key, which are UTF-8 and short."""
    with suppress(MalformedError):
        event = parse(json.dumps(document).encode())
        assert 0 < len(event.name.encode()) <= events.MAX_NAME_BYTES
        assert event.name != events.MALFORMED
        assert 0 < len(event.message_id.encode()) <= 4 * events.MAX_MESSAGE_ID_CHARACTERS
        assert (event.name + event.message_id).isprintable()
        assert 0 <= event.timestamp <= events.MAX_TIMESTAMP


@given(JSON, JSON)
def test_different_data_has_different_identities(one: Any, other: Any) -> None:
    """Numbers and text that orjson cannot write included."""
    bodies = [bounce(data=json.dumps({"a": data})) for data in (one, other)]
    with suppress(MalformedError):
        first, second = map(parse, bodies)
        assert (first.id == second.id) == (_exactly(one) == _exactly(other))


def _exactly(value: Any) -> str:
    """Python's JSON tells values apart; but what orjson reads as a float always was one."""
    if isinstance(value, int) and not -(2**63) <= value < 2**64 and Decimal(repr(float(value))) == value:
        return _exactly(float(value))
    if isinstance(value, list):
        return f"[{','.join(map(_exactly, value))}]"
    if isinstance(value, dict):
        return (
            f"{{{','.join(sorted(f'{json.dumps(key)}:{_exactly(inner)}' for key, inner in value.items()))}}}"
        )
    return json.dumps(value)
