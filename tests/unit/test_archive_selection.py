"""Which archived events are meant, and how a time is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bridge.broker.archive import ArchivedEvent
from bridge.broker.archive_selection import ArchiveSelection, InvalidTimeError, parse_time
from bridge.broker.messages import message_from_body
from bridge.development.emission import event_body

NOW = datetime(2026, 5, 2, 10, 0, tzinfo=UTC)


def archived(name: str, message_id: int, received: datetime) -> ArchivedEvent:
    message = message_from_body(
        event_body(name, message_id, 1, {}), exchange="", received_at=round(received.timestamp() * 1000)
    )
    return ArchivedEvent(0, message.routing_key, message.properties, message.body)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("7d", timedelta(days=7)),
        ("1w", timedelta(weeks=1)),
        ("2026-05-02T09:00:00Z", timedelta(hours=1)),
        ("2026-05-02T11:00:00+02:00", timedelta(hours=1)),
        ("2026-05-02 09:00", timedelta(hours=1)),
        ("2026-05-01", timedelta(hours=34)),
    ],
)
def test_a_time_is_so_long_ago_or_a_date(text: str, ago: timedelta) -> None:
    """Without a zone it is UTC."""
    assert parse_time(text, now=NOW) == NOW - ago


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2 h", "yesterday", "999999999w", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With the text, and how to write one."""
    with pytest.raises(InvalidTimeError, match=f"'{text}'"):
        parse_time(text, now=NOW)


def test_all_that_is_said_must_hold() -> None:
    """One of the names, one of the messages, and the time, whose end is not included."""
    selection = ArchiveSelection.of(
        ["complined", "opened"], ["1", "2"], since=NOW, until=NOW + timedelta(milliseconds=2)
    )
    assert selection.takes(archived("complained", 1, NOW))
    assert selection.takes(archived("opened", 2, NOW + timedelta(milliseconds=1)))
    assert not selection.takes(archived("clicked", 1, NOW))
    assert not selection.takes(archived("opened", 12, NOW))
    assert not selection.takes(archived("opened", 1, NOW - timedelta(milliseconds=1)))
    assert not selection.takes(archived("opened", 1, NOW + timedelta(milliseconds=2)))


def test_nothing_said_takes_everything_and_a_time_only_what_has_one() -> None:
    """Somebody else's message says no time; it is not guessed."""
    foreign = ArchivedEvent(0, "opened", b"\x00\x00", b"{}")
    assert ArchiveSelection().takes(foreign)
    assert not ArchiveSelection.of((), (), since=NOW, until=None).takes(foreign)
    assert not ArchiveSelection.of((), ("1",), since=None, until=None).takes(foreign)


def test_an_event_is_meant_by_its_name_however_it_was_archived() -> None:
    """Earlier releases routed `Hard_Bounced` under just that; their archive has it so."""
    event = archived("hard_bounced", 1, NOW)._replace(routing_key="Hard_Bounced")
    assert ArchiveSelection.of(["hard-bounced"], [], since=None, until=None).takes(event)
    assert not ArchiveSelection.of(["opened"], [], since=None, until=None).takes(event)
