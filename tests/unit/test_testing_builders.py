"""`bridge.testing`: messages for the tests of consumers, made by the code that publishes them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest

from bridge import events
from bridge.broker import messages
from bridge.suppression.change import Action
from bridge.testing import change, dead_letter, event, from_body, malformed

AT = 1539062173
MOMENT = datetime.fromtimestamp(AT, UTC)


@pytest.mark.parametrize("name", [*sorted(events.KNOWN_NAMES), "teleported"])
def test_an_event_is_what_the_bridge_publishes_for_its_body(name: str) -> None:
    """Known names and new ones: the receiver's own function makes the same message of the body."""
    made = event(name, message_id=77)
    published = messages.message_from_body(made.body, exchange="email.events", received_at=AT * 1000 + 1000)
    assert made.published == published
    assert (made.exchange, made.routing_key, made.type) == ("email.events", name, name)
    assert made.headers["cloudEvents:subject"] == "77"
    assert made.properties["timestamp"] == MOMENT


def test_the_same_call_makes_a_repeat_and_another_one_another_event() -> None:
    """The id is made of what happened, so a consumer can be shown both."""
    ids = {event("opened").message_id, event("opened").message_id}
    others = {event("opened", message_id=2), event("opened", at=AT + 1), event("opened", data={"a": 1})}
    assert len(ids) == 1
    assert not ids & {one.message_id for one in others}
    assert len({one.message_id for one in others}) == 3


def test_both_spellings_of_a_complaint_are_one_event() -> None:
    """The name is canonical, the body has the provider's spelling, and `CC` has the other key."""
    theirs, ours = event("complined"), event("complained")
    assert theirs.message_id == ours.message_id
    assert theirs.routing_key == "complained"
    assert theirs.json()["event"]["name"] == "complined"
    assert theirs.headers["CC"] == ["complined"]


def test_times_are_seconds_or_moments() -> None:
    """A moment without a zone is none."""
    there = MOMENT.astimezone(timezone(timedelta(hours=3)))
    assert event(at=AT) == event(at=MOMENT) == event(at=there)
    assert event(received_at=MOMENT).headers["received-at"] == AT * 1000
    assert event(received_at=5).headers["received-at"] == 5
    with pytest.raises(ValueError, match="no time zone"):
        event(at=MOMENT.replace(tzinfo=None))


def test_a_click_has_a_link() -> None:
    """As the provider's page says; other events have no data unless it is given."""
    assert event("clicked").json()["event"]["data"] == {"url": "https://example.com/"}
    assert (
        event("clicked", data={"url": "https://example.org/"}).json()["event"]["data"]["url"].endswith("org/")
    )
    assert event("opened").json()["event"]["data"] == {}


@pytest.mark.parametrize("name", ["malformed", "", "a\nb", "a" * 256])
def test_what_is_no_event_is_refused(name: str) -> None:
    """The bridge would quarantine it."""
    with pytest.raises(ValueError, match=r"event\.name is not"):
        event(name)


def test_a_body_is_what_it_would_be() -> None:
    """An event or a message for the quarantine: as the receiver decides."""
    body = b' {"event":{"name":"Hard-Bounced","timestamp":"1539062173"}, "message":{"id":"x"}}'
    assert from_body(body).routing_key == "hard_bounced"
    assert from_body(body).body == body
    assert from_body(b"[]") == malformed(b"[]")


def test_what_is_malformed_says_why() -> None:
    """With the bridge's reason, or another one; of an event there is none."""
    assert malformed().headers["malformed-reason"] == "message is missing or not an object"
    assert malformed(reason="because").headers["malformed-reason"] == "because"
    assert malformed().routing_key == malformed().type == "malformed"
    with pytest.raises(ValueError, match="this body is an event 'delivered'"):
        malformed(event().body)


@pytest.mark.parametrize("action", get_args(Action))
def test_a_change_says_what_is_in_force_after_it(action: str) -> None:
    """By default: the entry's reason after `added` and `updated`, and none after the others."""
    made = change(action, change_id=7, message_id=5)
    document = made.json()
    assert (made.exchange, made.routing_key, made.type) == ("suppression.changes", action, action)
    assert (made.message_id, document["id"], document["message_id"]) == ("change-7", 7, "5")
    assert document["still_suppressed"] is (action in {"added", "updated"})
    assert (document["reason"] is None) is (action in {"allowed", "disallowed", "erased"})
    assert made.headers["cloudEvents:type"] == f"suppression.{action}"
    assert made.headers["cloudEvents:subject"] == "recipient1@example.org"


def test_a_change_of_a_domains_rule_does_not_say_whom_it_concerns() -> None:
    """As the bridge does; and what is in force may be said."""
    assert "still_suppressed" not in change("allowed", "example.org").json()
    still = change("removed", reason="soft_bounce", reasons=["complaint"]).json()
    assert (still["reason"], still["reasons"], still["still_suppressed"]) == (
        "soft_bounce",
        ["complaint"],
        True,
    )
    with pytest.raises(ValueError, match="boredom"):
        change(reason="boredom")


def test_a_dead_letter_is_the_message_with_its_reason() -> None:
    """As it lies in `suppression.dead`: the same body and id, and headers that say what went wrong."""
    original = event("complained", message_id=9)
    made = dead_letter(original, reason="invalid-address", error="no @", attempts=3)
    assert (made.exchange, made.routing_key) == ("", "suppression.dead")
    assert (made.body, made.message_id, made.type) == (original.body, original.message_id, "complained")
    assert "CC" not in made.headers
    assert made.headers["dead-reason"] == made.headers["retry-reason"] == "invalid-address"
    assert made.headers["dead-error"] == "no @"
    assert made.headers["retry-attempt"] == 3
    assert made.headers["dead-at"] == AT * 1000 + 2000


@pytest.mark.parametrize("make", [event, malformed, change, dead_letter])
def test_the_prefix_is_in_front_of_every_name(make: Any) -> None:
    """As `rabbitmq.prefix`."""
    plain, behind = make(), make(prefix="staging.")
    assert behind.exchange == (f"staging.{plain.exchange}" if plain.exchange else "")
    assert behind.routing_key == (plain.routing_key if plain.exchange else f"staging.{plain.routing_key}")


async def test_aio_pika_gives_a_consumer_its_own_message() -> None:
    """Every property as from a broker; it may be acknowledged once, with nothing behind it."""
    made = event("clicked", message_id=5)
    message = made.to_aio_pika(redelivered=True)
    assert (message.exchange, message.routing_key, message.type) == ("email.events", "clicked", "clicked")
    assert message.headers == made.headers
    assert (message.message_id, message.app_id, message.timestamp) == (made.message_id, "bridge", MOMENT)
    assert (message.body, message.redelivered) == (made.body, True)
    async with message.process():
        pass
    assert message.processed


def test_pika_gives_a_consumer_its_own_arguments() -> None:
    """Channel, method, properties and body; times are seconds there."""
    made = change("removed", change_id=12)
    channel, method, properties, body = made.to_pika()
    assert (method.exchange, method.routing_key, method.redelivered) == (
        "suppression.changes",
        "removed",
        False,
    )
    assert (properties.message_id, properties.type, properties.timestamp) == ("change-12", "removed", AT)
    assert properties.headers == made.headers
    assert body == made.body
    channel.basic_ack(method.delivery_tag)
    assert channel.settlements.problems == []
    channel.basic_ack(method.delivery_tag)
    assert "406" in channel.settlements.problems[0]


def test_the_import_takes_nothing_that_a_consumer_does_not_need() -> None:
    """Neither the database's nor HTTP's libraries, nor settings, nor pytest; clients only when they are asked for."""
    program = (
        "import sys, bridge.testing; bridge.testing.event(); bridge.testing.change(); bridge.testing.dead_letter();"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert "bridge" in loaded
    assert not {"sqlalchemy", "aiohttp", "pydantic", "pytest", "aio_pika", "pika", "structlog"} & set(loaded)
