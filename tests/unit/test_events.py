"""Any bytes at all are an event, malformed, or not JSON; and an event has one identity, however it is written."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge import events
from bridge.events import MalformedError, NotJsonError, parse

if TYPE_CHECKING:
    from bridge.events import Event

DOCUMENTED = b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173, "data": {"url": "https://example.com"}}}'

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)
NAMES = st.sampled_from(sorted(events.KNOWN_NAMES)) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40
).filter(lambda name: name != events.MALFORMED)
DATA = st.dictionaries(st.text(max_size=8), JSON, max_size=4)
DOCUMENTS = st.fixed_dictionaries(
    {
        "message": st.fixed_dictionaries({"id": st.integers(-(2**63), 2**64 - 1)}),
        "event": st.fixed_dictionaries(
            {"name": NAMES, "timestamp": st.integers(0, events.MAX_TIMESTAMP)},
            optional={"data": st.none() | DATA},
        ),
    }
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "message": JSON | st.fixed_dictionaries({"id": JSON}),
        "event": JSON | st.fixed_dictionaries({"name": JSON, "timestamp": JSON, "data": JSON}),
    },
)
"""Documents that have something of an event."""


def attempt(body: bytes) -> Event | None:
    """The event, or none; fails on any other outcome than the two that are documented."""
    try:
        return parse(body)
    except (NotJsonError, MalformedError) as refusal:
        reason = str(refusal)
        assert reason
        assert reason.isprintable(), "it goes into an answer and a header"
        return None


def test_the_documented_body_is_read() -> None:
    """The example of the provider's own page."""
    event = parse(DOCUMENTED)
    assert (event.name, event.message_id, event.timestamp) == ("clicked", "1", 1539062173)
    assert event.data == {"url": "https://example.com"}
    assert event.other_spellings == ()


@pytest.mark.parametrize("name", sorted(events.KNOWN_NAMES))
def test_every_documented_name_is_its_own(name: str) -> None:
    """Eight names, each of them the routing key."""
    assert parse(body(name=name)).name == name


def test_both_spellings_of_the_complaint_are_one() -> None:
    """`complined` is read as `complained`, which says under what else a queue may be bound."""
    russian, english = parse(body(name="complined")), parse(body(name="complained"))
    assert russian == english
    assert russian.name == "complained"
    assert russian.other_spellings == ("complined",)


@pytest.mark.parametrize("data", [{}, {"data": None}, {"data": {}}])
def test_data_may_be_empty_null_or_absent(data: dict[str, Any]) -> None:
    """They are the same, and have the same identity."""
    document = {"message": {"id": 1}, "event": {"name": "opened", "timestamp": 1, **data}}
    event = parse(orjson.dumps(document))
    assert event.data == {}
    assert event.id == parse(body(name="opened", timestamp=1)).id


@given(st.binary())
@example(b"\x00")
@example(b"\xef\xbb\xbf")
@example("{}".encode("utf-32"))
def test_any_bytes_have_a_documented_outcome(content: bytes) -> None:
    """Nothing that is posted can fail in another way."""
    attempt(content)


@given(JSON | NEARLY)
def test_any_json_is_an_event_or_malformed(document: Any) -> None:
    """JSON is never refused as if it were none: what we do not understand, we keep."""
    with suppress(MalformedError):
        parse(orjson.dumps(document))


@given(DOCUMENTS)
def test_every_event_of_the_documented_shape_is_read(document: dict[str, Any]) -> None:
    """Whatever its name and its data."""
    event = parse(orjson.dumps(document))
    assert event.name == events.canonical_name(document["event"]["name"])
    assert event.message_id == str(document["message"]["id"])
    assert event.timestamp == document["event"]["timestamp"]
    assert event.data == (document["event"].get("data") or {})
    assert len(event.id) == 32
    assert int(event.id, 16) >= 0


@given(DOCUMENTS, st.integers(0, 4), st.booleans(), st.randoms(use_true_random=False))
def test_identity_does_not_depend_on_how_it_is_written(
    document: dict[str, Any], indent: int, ensure_ascii: Any, random: Any
) -> None:
    """White space, escapes, the order of keys and fields that we do not know leave it as it is."""
    shuffled = _shuffled(document, random) | {"new": [1]}
    other = json.dumps(shuffled, indent=indent, ensure_ascii=ensure_ascii)
    assert parse(other.encode()).id == parse(orjson.dumps(document)).id


@given(DOCUMENTS, DOCUMENTS)
def test_different_events_have_different_identities(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Message, name, time and data all count."""
    first, second = parse(orjson.dumps(one)), parse(orjson.dumps(other))
    assert (first.id == second.id) == (_told(first) == _told(second))


@pytest.mark.parametrize(
    "change",
    [
        {"message_id": 2},
        {"name": "opened"},
        {"timestamp": 2},
        {"data": {"url": "b"}},
        {"data": {"url": None}},
        {"data": {"URL": "a"}},
        {"data": {}},
        {"data": {"url": "a", "more": {}}},
    ],
)
def test_each_part_counts_for_identity(change: dict[str, Any]) -> None:
    """One part that differs makes another event."""
    same: dict[str, Any] = {"message_id": 1, "name": "clicked", "timestamp": 1, "data": {"url": "a"}}
    assert parse(body(**same)).id != parse(body(**(same | change))).id


def test_identity_is_what_it_was_in_the_first_release() -> None:
    """A new release must know repeats of events that an old one has published."""
    assert parse(DOCUMENTED).id == "2bb7db0d66ae97ea699f9f6b6f9dfc9a"


@pytest.mark.parametrize("message_id", [0, -1, 2**63, 2**64 - 1, "a", "x" * 128, "Ж"])
def test_ids_that_are_read(message_id: object) -> None:
    """64-bit integers of either sign, and short texts."""
    assert parse(body(message_id=message_id)).message_id == str(message_id)


@pytest.mark.parametrize("message_id", [10**400, 1.5, 1e300, True, None, "", "x" * 129, "a\nb", [], {}])
def test_ids_that_are_malformed(message_id: object) -> None:
    """Kept, with the reason."""
    content = {"message": {"id": message_id}, "event": {"name": "opened", "timestamp": 1}}
    with pytest.raises(MalformedError, match=r"message\.id|cannot be read"):
        parse(json.dumps(content).encode())


@pytest.mark.parametrize("name", ["", "a\nb", "a\x00", "x" * 256, "ж" * 128, "malformed", None, 1, True, []])
def test_names_that_are_malformed(name: object) -> None:
    """What cannot be a routing key, or is ours."""
    with pytest.raises(MalformedError, match=r"event\.name"):
        parse(body(name=name))


@pytest.mark.parametrize(
    "name",
    [
        "x" * 255,
        "ж" * 127,
        "with space",
        "a.b.c",
        "#",
        "*",
        "MALFORMED",
        "Opened again",
        "\N{CYRILLIC SMALL LETTER O}pened",
    ],
)
def test_names_nobody_knows_are_kept_as_they_are(name: str) -> None:
    """A new event of the provider is routed under its own name."""
    assert parse(body(name=name)).name == name


@pytest.mark.parametrize("timestamp", [-1, 253_402_300_800_000, -1.5, "", "soon", None, True, 10**400, []])
def test_times_that_are_malformed(timestamp: object) -> None:
    """Times from 1970 up to the year 9999, and nothing else."""
    content = {"message": {"id": 1}, "event": {"name": "opened", "timestamp": timestamp}}
    with pytest.raises(MalformedError, match=r"event\.timestamp|cannot be read"):
        parse(json.dumps(content).encode())


def test_the_last_second_is_read() -> None:
    """9999-12-31T23:59:59Z."""
    assert parse(body(timestamp=253_402_300_799)).timestamp == 253_402_300_799


@pytest.mark.parametrize(
    "content",
    [
        b"NaN",
        b"[NaN]",
        b"Infinity",
        b"[-Infinity]",
        b"'a'",
        b"{,}",
        b"[1,]",
        b"{}x",
        b"// c\n{}",
        b"\xff",
        b"01",
    ],
)
def test_what_is_not_json_is_told_from_what_is(content: bytes) -> None:
    """Also where Python's own parser is more lenient than JSON."""
    with pytest.raises(NotJsonError):
        parse(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"\\udfff":1}',
        b"[" * 2000 + b"]" * 2000,
        b'{"a":' * 900 + b"1" + b"}" * 900,
        b'{"message":{"id":1},"event":{"name":"a","timestamp":1,"data":'
        + b'{"a":' * 500
        + b"{}"
        + b"}" * 502,
        b"1" * 60_000,
        b"-" + b"9" * 5000 + b".5e999",
    ],
    ids=["surrogate key", "arrays", "objects", "deep data", "big int", "big float"],
)
def test_json_that_cannot_be_read_is_malformed(content: bytes) -> None:
    """It is JSON by its grammar, so it is kept."""
    with pytest.raises(MalformedError):
        parse(content)


def test_of_keys_that_come_twice_the_last_counts() -> None:
    """As in most parsers, so consumers read the same."""
    twice = DOCUMENTED.replace(b'"name": "clicked"', b'"name": "opened", "name": "clicked"')
    assert parse(twice) == parse(DOCUMENTED)


def test_64_kib_are_read() -> None:
    """The largest body that the receiver takes."""
    event = parse(body(name="clicked", data={"url": "x" * 65_000}))
    assert len(event.data["url"]) == 65_000


def body(
    *, message_id: object = 1, name: object = "opened", timestamp: object = 1539062173, data: object = None
) -> bytes:
    return orjson.dumps(
        {"message": {"id": message_id}, "event": {"name": name, "timestamp": timestamp, "data": data}}
    )


def _told(event: Event) -> tuple[str, str, int, bytes]:
    data = orjson.dumps(event.data, option=orjson.OPT_SORT_KEYS)
    return event.message_id, event.name, event.timestamp, data


def _shuffled(value: Any, random: Any) -> Any:
    if isinstance(value, dict):
        items = list(value.items())
        random.shuffle(items)
        return {key: _shuffled(inner, random) for key, inner in items}
    if isinstance(value, list):
        return [_shuffled(inner, random) for inner in value]
    return value
