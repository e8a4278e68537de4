"""What RabbitMQ is known to refuse: read from its own words, and forgotten when it takes it."""

from __future__ import annotations

import pytest
from pamqp import commands as spec
from structlog.testing import capture_logs

from bridge.amqp.message_types import Message, make_message
from bridge.amqp.publish_errors import ChannelClosedError, NackedError
from bridge.spool.known_refusals import MAX_NAMES, KnownRefusals, refuses_everything
from tests.support.clock import StillClock

IN = "in exchange 'email.events' in vhost '/' refused for user 'u'"
TOO_LARGE = ChannelClosedError(
    406, "PRECONDITION_FAILED - message size 30000 is larger than configured max size 20000"
)
NACK = NackedError("RabbitMQ refused the message (basic.nack)")


def forbidden(key: str, words: str = "access") -> ChannelClosedError:
    return ChannelClosedError(403, f"ACCESS_REFUSED - {words} to topic '{key}' {IN}")


def message(key: str, body: bytes = b"{}") -> Message:
    return make_message("email.events", key, spec.Basic.Properties(), body)


@pytest.mark.parametrize("words", ["access", "write access"], ids=["3.10", "4.0"])
@pytest.mark.parametrize("key", ["newname", "it's 'q' here", "в точке"])
def test_a_forbidden_name_is_known_from_rabbitmqs_words(words: str, key: str) -> None:
    """That name alone, until a message of it has passed."""
    refused = KnownRefusals()
    refused.learn_from(forbidden(key, words))
    assert refused.any
    known = refused.refusal_of(message(key))
    assert known is not None
    assert (known.reason, known.routing_key) == ("forbidden", key)
    assert refused.refusal_of(message("opened")) is None
    refused.note_accepted(message(key))
    assert refused.refusal_of(message(key)) is None
    assert not refused.any


def test_a_size_that_is_too_large_is_known_from_rabbitmqs_words() -> None:
    """What is larger than the limit, whatever its name, until such a one has passed."""
    refused = KnownRefusals()
    refused.learn_from(TOO_LARGE)
    assert refused.refusal_of(message("opened", b"x" * 20_000)) is None
    known = refused.refusal_of(message("opened", b"x" * 20_001))
    assert known is not None
    assert known.kind == "too-large"
    refused.note_accepted(message("opened"))
    assert refused.any, "a small one says nothing"
    refused.note_accepted(message("opened", b"x" * 20_001))
    assert not refused.any


def test_words_that_are_cut_off_name_nothing() -> None:
    """RabbitMQ ends its text after 255 bytes; whoever was alone on the channel is to blame."""
    refused, error = (
        KnownRefusals(),
        ChannelClosedError(403, f"ACCESS_REFUSED - access to topic '{'n' * 220}..."),
    )
    refused.learn_from(error)
    assert not refused.any
    assert not refuses_everything(error)
    assert refused.blame(message("n" * 255), error).routing_key == "n" * 255
    assert refused.refusal_of(message("n" * 255)) is not None


def test_blame_for_an_unknown_reason_is_not_remembered() -> None:
    """Nothing can be said of the next one; the entry is kept under the code."""
    refused = KnownRefusals()
    assert refused.blame(message("opened"), ChannelClosedError(541, "INTERNAL_ERROR")).kind == "refused 541"
    assert not refused.any


@pytest.mark.parametrize(
    ("error", "everything"),
    [
        (ChannelClosedError(403, f"ACCESS_REFUSED - access to exchange 'email.events' {IN}"), True),
        (ChannelClosedError(403, f"ACCESS_REFUSED - write access to exchange 'email.events' {IN}"), True),
        (ChannelClosedError(404, "NOT_FOUND - no exchange 'email.events' in vhost '/'"), True),
        (forbidden("access to exchange"), False),
        (TOO_LARGE, False),
        (ChannelClosedError(541, "INTERNAL_ERROR"), False),
    ],
)
def test_a_refusal_of_the_exchange_is_for_all_events(error: ChannelClosedError, *, everything: bool) -> None:
    """It is no single event's, and none is set aside for it."""
    assert refuses_everything(error) is everything


def test_with_very_many_forbidden_names_unknown_ones_are_not_tried() -> None:
    """The provider may think of any number, and each would close the channel; known names are not concerned."""
    refused = KnownRefusals()
    for number in range(MAX_NAMES):
        refused.learn_from(forbidden(f"name{number}"))
    assert refused.refusal_of(message("another")) is not None
    assert refused.refusal_of(message("opened")) is None
    assert refused.refusal_of(message("malformed")) is None
    refused.note_accepted(message("name1"))
    assert refused.refusal_of(message("another")) is None


def test_what_was_nacked_is_tried_soon_when_its_like_is_confirmed() -> None:
    """Once, and not while nacks come in between: a queue that takes one now and then is not over its limit's end."""
    clock = StillClock()
    refused = KnownRefusals(clock)
    assert refused.note_nack(message("clicked"), NACK).kind == "nacked clicked"
    refused.note_live_confirm("clicked")
    assert refused.recovered() == []
    clock.now += 11
    refused.note_live_confirm("opened")
    assert refused.recovered() == []
    refused.note_live_confirm("clicked")
    assert refused.recovered() == ["nacked clicked"]
    assert refused.recovered() == []
    refused.note_nack(message("clicked"), NACK)
    clock.now += 11
    refused.note_live_confirm("clicked")
    assert refused.recovered() == [], "so soon again it is left to its pauses"


def test_refusals_are_logged_with_counts_and_not_each() -> None:
    """A full queue refuses thousands."""
    refused = KnownRefusals()
    with capture_logs() as logs:
        for _ in range(1000):
            refused.report.add(refused.note_nack(message("clicked"), NACK))
        refused.report.add(refused.blame(message("newname"), forbidden("newname")), 5)
    assert [(line["action"], line["entries"]) for line in logs] == [
        ("spool.nacked", 1),
        ("spool.set_aside", 5),
    ]
