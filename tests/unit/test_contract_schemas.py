"""The contract's schemas: they are valid, every example holds to them, and what is wrong does not."""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, get_args

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from bridge import events
from bridge.broker import messages
from bridge.broker.topology import Names
from bridge.contract import meanings, schemas
from bridge.contract.examples import Example, examples
from bridge.contract.vocabulary import BASE, DIALECT
from bridge.dead_letters import history
from bridge.suppression.announcements import InvalidAnnouncementError, read_announcement
from bridge.suppression.change import Action
from tests.support import contract
from tests.support.spellings import SPELLINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

ALL = schemas.schemas()
EXAMPLES = {example.name: example for example in examples(Names())}
MADE_BY_THE_BRIDGE = {schemas.EVENT, schemas.MALFORMED, schemas.CHANGE, schemas.DEAD_LETTER}


@pytest.mark.parametrize("name", ALL)
def test_a_schema_is_valid_and_says_what_it_is(name: str) -> None:
    """By the dialect's own schema. A generator of another language finds an id, a title and descriptions."""
    schema = ALL[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"{BASE}{name}.json"
    assert schema["title"]
    for place, inner in subschemas(schema):
        assert inner.get("description") or "$ref" in inner or set(inner) <= {"type"}, place


def subschemas(schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield place, schema
    for name, inner in schema.get("properties", {}).items():
        yield from subschemas(inner, f"{place}/{name}")
    if "items" in schema:
        yield from subschemas(schema["items"], f"{place}/items")
    for number, inner in enumerate(schema.get("anyOf", ())):
        yield from subschemas(inner, f"{place}/{number}")


def test_each_kind_of_message_has_its_schemas() -> None:
    """Body, properties and headers; and no schema belongs to nothing."""
    of_kinds = {
        name
        for kind in schemas.KINDS
        for name in (kind, schemas.properties_of(kind), schemas.headers_of(kind))
    }
    assert of_kinds | {schemas.SENT_MESSAGE, schemas.headers_of(schemas.RETRY)} == ALL.keys()
    assert {example.kind for example in EXAMPLES.values()} == set(schemas.KINDS)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_is_valid(example: Example) -> None:
    """Properties, headers and body."""
    body = orjson.dumps(example.body)
    assert contract.problems(example.exchange, example.routing_key, example.properties, body) == []
    assert contract.kind_of(example.exchange, example.routing_key, example.properties) == example.kind


def test_there_is_an_example_of_everything() -> None:
    """Each name and each action in the code, a name that nobody knows, and the other kinds."""
    kinds = {example.routing_key for example in EXAMPLES.values()}
    assert events.KNOWN_NAMES | set(get_args(Action)) | {events.MALFORMED} <= kinds
    assert meanings.EVENTS.keys() == events.KNOWN_NAMES
    (unknown,) = (
        one
        for one in EXAMPLES.values()
        if one.kind == schemas.EVENT and one.routing_key not in meanings.EVENTS
    )
    assert unknown.name == "event-unknown"


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_what_lacks_something_is_invalid(example: Example) -> None:
    """Each property, header and field that the schema requires, one after the other; and each of another type."""
    tried = 0
    for name, value in (
        (example.kind, example.body),
        (schemas.properties_of(example.kind), example.properties),
    ):
        for changed in mutations(ALL[name], value):
            assert contract.mismatches(name, changed), changed
            tried += 1
    assert tried or example.kind == schemas.SENT


def mutations(schema: dict[str, Any], value: Any) -> Iterator[Any]:
    """The value without what is required, and with each field of another type."""
    if "$ref" in schema:
        schema = ALL[schema["$ref"].removesuffix(".json")]
    for name in schema.get("required", ()):
        yield {key: inner for key, inner in value.items() if key != name}
    for name, inner in schema.get("properties", {}).items():
        if name not in value:
            continue
        if inner.keys() - {"description"}:
            yield (
                value | {name: {"an": "object"}} if not isinstance(value[name], dict) else value | {name: 1.5}
            )
        for changed in mutations(inner, value[name]):
            yield value | {name: changed}


def test_the_schemas_name_each_header_of_the_code() -> None:
    """No header that the code sets is missing, and none is there that it does not set."""
    for example in EXAMPLES.values():
        if example.kind in MADE_BY_THE_BRIDGE:
            described = ALL[schemas.headers_of(example.kind)]["properties"].keys()
            assert example.properties["headers"].keys() <= described
            assert described - set(ALL[schemas.headers_of(example.kind)]["required"]) <= {
                "CC", "undecodable-properties", "left-out-headers", *ALL["event-headers"]["properties"]
            }  # fmt: skip
            assert example.properties.keys() <= ALL[schemas.properties_of(example.kind)]["properties"].keys()
    of_dead_letters = ALL["dead-letter-headers"]["properties"].keys()
    assert {*history.RETRY_HEADERS, *history.DEAD_LETTER_HEADERS} <= of_dead_letters
    assert set(ALL["retry-headers"]["required"]) == set(history.RETRY_HEADERS)


@settings(max_examples=60, deadline=None)
@given(
    st.one_of(st.integers(0, 2**64 - 1), st.text(st.characters(codec="utf-8"), min_size=1, max_size=130), st.just(7.0)),
    st.one_of(st.sampled_from([*events.KNOWN_NAMES, "complined", "Hard-Bounced"]), st.text(st.characters(codec="utf-8"), max_size=300)),
    st.one_of(st.integers(0, events.MAX_TIMESTAMP * 1000), st.floats(0, 1e12), st.just("2018-10-09T05:16:13Z")),
    st.one_of(st.none(), st.just([]), st.just(3), st.dictionaries(st.text(st.characters(codec="utf-8")), st.integers(0, 9), max_size=2)),
)  # fmt: skip
def test_whatever_the_receiver_accepts_holds_to_the_contract(
    message_id: Any, name: str, timestamp: Any, data: Any
) -> None:
    """The provider may write it in any way: the message is an event or malformed, and valid as such."""
    document = {"message": {"id": message_id}, "event": {"name": name, "timestamp": timestamp, "data": data}}
    message = messages.message_from_body(
        orjson.dumps(document), exchange=Names().events, received_at=1539062173640
    )
    assert contract.problems_of(message) == []


def test_every_known_spelling_of_an_event_holds_to_the_contract() -> None:
    """Byte order marks, lone surrogates, numbers as text, other separators."""
    for body in SPELLINGS.values():
        message = messages.message_from_body(body(7), exchange=Names().events, received_at=1539062173640)
        assert contract.problems_of(message) == []


@pytest.mark.parametrize("body", [
    {"id": 1}, {"to": "jane@example.org"}, {"messages": []}, {"messages": [{"id": 1}]}, {"id": "", "to": "jane@example.org"},
    {"messages": {"id": 1, "to": "jane@example.org"}}, [{"id": 1, "to": "jane@example.org"}], {"id": True, "to": "jane@example.org"},
], ids=str)  # fmt: skip
def test_the_schema_of_announcements_refuses_what_the_worker_refuses(body: Any) -> None:
    """A sender who validates before publishing finds out there, and not in the quarantine."""
    assert contract.mismatches(schemas.SENT, body)
    with suppress(InvalidAnnouncementError):  # raised where nothing of it can be read
        assert read_announcement(orjson.dumps(body)).problems


def test_the_worker_reads_the_examples_of_announcements() -> None:
    """What the contract shows is known afterwards."""
    for example in EXAMPLES.values():
        if example.kind == schemas.SENT:
            assert read_announcement(orjson.dumps(example.body)).problems == ()


def test_no_description_speaks_of_python() -> None:
    """The readers' languages have other words."""
    descriptions = re.findall(r'"description":"([^"]*)"', orjson.dumps(ALL).decode())
    assert len(descriptions) > 100
    assert not re.findall(r"None|True|False|dict|tuple", " ".join(descriptions))


def test_the_schemas_are_the_same_each_time() -> None:
    """Nobody has to look at a difference that is none."""
    assert orjson.dumps(schemas.schemas()) == orjson.dumps(copy.deepcopy(ALL))
    assert [one.document() for one in examples(Names())] == [one.document() for one in EXAMPLES.values()]
