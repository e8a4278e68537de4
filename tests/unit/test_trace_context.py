"""Trace contexts: what W3C says of the headers, and how a message carries them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pamqp import commands as spec

from bridge.amqp.message_types import Delivery, make_message
from bridge.amqp.properties import decode_properties
from bridge.broker.archive import ArchivedEvent, copy_of_event
from bridge.broker.copies import copy_of
from bridge.broker.messages import malformed_message, message_from_body
from bridge.broker.moved_properties import moved_properties
from bridge.broker.trace_headers import trace_field, trace_of, with_trace
from bridge.dead_letters.dead_letter_message import DeadLetterCause, dead_letter_message
from bridge.dead_letters.history import RetryHistory
from bridge.dead_letters.quarantine import describe_body, event_message_of
from bridge.telemetry.trace_context import TraceContext, from_headers, from_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.message_types import Message

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{TRACE_ID}-{SPAN_ID}-01"
BODY = b'{"message":{"id":1},"event":{"name":"complined","timestamp":1539062173}}'
STATE = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
TRACE = TraceContext(VALID, STATE)

INVALID = {
    "no version": f"{TRACE_ID}-{SPAN_ID}-01",
    "upper case": f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
    "no hexadecimal digit": f"00-{TRACE_ID[:-1]}g-{SPAN_ID}-01",
    "too long": f"{VALID}0",
    "version 00 with more": f"{VALID}-00",
    "too short": VALID[:-1],
    "the version that is none": f"ff{VALID[2:]}",
    "trace id of zeros": f"00-{'0' * 32}-{SPAN_ID}-01",
    "span id of zeros": f"00-{TRACE_ID}-{'0' * 16}-01",
    "another digit": f"00-{TRACE_ID}-{SPAN_ID}-0\N{ARABIC-INDIC DIGIT ONE}",
    "with a space": f"00-{TRACE_ID}-{SPAN_ID}-0 ",
    "two in one": f"{VALID},{VALID}",
    "empty": "",
    "a line break": f"{VALID}\n",
}


@pytest.mark.parametrize("value", INVALID.values(), ids=INVALID)
def test_an_invalid_traceparent_is_none(value: str) -> None:
    """As where there is no header; what stands beside it does not count then."""
    assert from_headers([value], [STATE]) is None


def test_several_headers_are_none() -> None:
    """Also where they are the same."""
    assert from_headers([VALID, VALID], []) is None
    assert from_headers([], [STATE]) is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (VALID, VALID),
        (f"00-{TRACE_ID}-{SPAN_ID}-00", f"00-{TRACE_ID}-{SPAN_ID}-00"),
        (f"00-{TRACE_ID}-{SPAN_ID}-ff", f"00-{TRACE_ID}-{SPAN_ID}-03"),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01", VALID),
        (f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be", VALID),
    ],
)
def test_a_valid_one_is_of_version_00(value: str, read: str) -> None:
    """A later version is read as far as it is known; flags without a meaning are not passed on."""
    found = from_headers([value], [])
    assert found == TraceContext(read)
    assert (found.trace_id, found.span_id, found.sampled) == (TRACE_ID, SPAN_ID, not read.endswith("00"))


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([STATE], STATE),
        (["a=1", " b=2 ,\t, c=3"], "a=1,b=2,c=3"),
        (["tenant@system=1,0a=x y"], "tenant@system=1,0a=x y"),
        (["a=1,a=2"], ""),
        (["no value"], ""),
        (["a="], ""),
        (["A=1"], ""),
        (["a=\N{LATIN SMALL LETTER E WITH ACUTE}"], ""),
        ([",".join(f"k{number}=1" for number in range(33))], ""),
        (["a=" + "x" * 257], ""),
        (["long=" + "x" * 200, "a=1", "other=" + "y" * 240, "third=" + "z" * 200], "a=1"),
        ([",".join(f"k{number:02}=" + "v" * 96 for number in range(8))], ",".join(f"k{number:02}=" + "v" * 96 for number in range(5))),
    ],
)  # fmt: skip
def test_a_tracestate_is_read_or_left_out(values: list[str], read: str) -> None:
    """An invalid one costs no trace; one that is too long loses its long members first, then its last ones."""
    assert from_headers([VALID], values) == TraceContext(VALID, read)


@pytest.mark.parametrize("context", [TraceContext(VALID), TRACE])
def test_a_text_keeps_both(context: TraceContext) -> None:
    """As it is stored in a database; what is no context any more is none."""
    assert from_text(context.text) == context
    assert from_text(None) is from_text("") is from_text("nonsense of somebody") is None


def event(body: bytes = BODY) -> Message:
    return message_from_body(body, exchange="email.events", received_at=1)


def bare() -> Message:
    """Without content type and headers."""
    return make_message("", "queue", spec.Basic.Properties(message_id="1", app_id="other"), b"{}")


@pytest.mark.parametrize(
    "message",
    [event(), malformed_message(b"[]", "no event", exchange="email.events", received_at=1), bare()],
    ids=["event", "malformed", "without headers"],
)
def test_a_message_has_the_context_behind_its_headers(message: Message) -> None:
    """All else stays as it is, byte for byte."""
    traced = with_trace(message, TRACE)
    before, after = decode_properties(message.properties), decode_properties(traced.properties)
    assert after.error is None
    assert after.raw == before.raw
    assert after.entries[: len(before.entries)] == before.entries
    assert after.headers == before.headers | {"traceparent": VALID, "tracestate": STATE}
    assert trace_of(traced.properties) == traced.trace == TRACE
    assert trace_field(traced.properties) == {"trace_id": TRACE_ID}
    assert trace_of(message.properties) is None
    assert trace_field(message.properties) == {}
    assert with_trace(message, None) is message


@pytest.mark.parametrize("value", [*INVALID.values(), 1, bytearray(b"\xff"), None])
def test_what_another_program_puts_into_a_message_is_read_as_strictly(value: Any) -> None:
    """It is no context, and nothing fails."""
    headers = {"traceparent": value, "tracestate": 7}
    assert trace_of(spec.Basic.Properties(headers=headers).marshal()) is None
    assert trace_field(b"\x0btraceparent") == {}


@dataclass(frozen=True, slots=True)
class Held:
    """A message as `QueueReader` hands it out."""

    message: Delivery
    summary: Any


def delivered(message: Message) -> Delivery:
    return Delivery(
        1, redelivered=False, exchange="", routing_key="", properties=message.properties, body=message.body
    )


def quarantined(message: Message) -> Message:
    """Replayed from the quarantine, because it can be read now."""
    delivery = delivered(message)
    held: Any = Held(delivery, describe_body(delivery, decode_properties(message.properties)))
    return event_message_of(held, exchange="email.events")


def dead(message: Message) -> Message:
    cause = DeadLetterCause(
        "unknown-message", RetryHistory(1, 1, "unknown", "provider@host", "unknown-message", 1)
    )
    return dead_letter_message(message.properties, message.body, cause, queue="dead", at=1)


def moved(message: Message) -> Message:
    message_id, properties = moved_properties(message.properties)
    return message._replace(message_id=message_id, properties=properties)


COPIES: dict[str, Callable[[Message], Message]] = {
    "delay queue": lambda one: copy_of(one.properties, one.body, exchange="", routing_key="q", headers={"retry-attempt": 1}),
    "dead letter": dead,
    "dead letter that is replayed": lambda one: copy_of(dead(one).properties, one.body, exchange="", routing_key="q", without=("dead-reason",)),
    "from the archive to a queue": lambda one: copy_of_event(ArchivedEvent(1, "complained", one.properties, one.body), exchange="", routing_key="q"),
    "from the archive through the exchange": lambda one: copy_of_event(ArchivedEvent(1, "complained", one.properties, one.body), exchange="e", routing_key="complained"),
    "to another queue and back": moved,
    "quarantine that is replayed": quarantined,
}  # fmt: skip


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_belongs_to_the_same_trace(copied: Callable[[Message], Message]) -> None:
    """Whatever a message is copied for, it keeps its context; and has none if it had none."""
    assert trace_of(copied(with_trace(event(), TRACE)).properties) == TRACE
    assert trace_of(copied(event()).properties) is None
