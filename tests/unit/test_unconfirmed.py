"""What RabbitMQ neither refuses nor confirms: one entry of each name, after growing pauses, until one is confirmed."""

from __future__ import annotations

import pytest
from pamqp import commands as spec

from bridge.amqp.message_types import Message, make_message
from bridge.spool.entries import SpoolEntry
from bridge.spool.unconfirmed import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Unconfirmed
from tests.support.clock import StillClock

LONG = 1000.0


@pytest.fixture
def clock() -> StillClock:
    return StillClock(LONG)


@pytest.fixture
def unconfirmed(clock: StillClock) -> Unconfirmed:
    return Unconfirmed(clock)


def entries(*names: str) -> list[SpoolEntry]:
    return [SpoolEntry(number, 1, name.encode()) for number, name in enumerate(names, 1)]


def compose(entry: SpoolEntry) -> Message:
    return make_message("email.events", entry.body.decode(), spec.Basic.Properties(), b"{}")


def chosen(unconfirmed: Unconfirmed, *names: str) -> list[int]:
    """Ids, from 1 on, of the entries with these names that go in one pass."""
    return [entry.id for entry in unconfirmed.choose(entries(*names), compose, set())]


def lose(unconfirmed: Unconfirmed, *names: str) -> None:
    assert unconfirmed.note(confirmed=(), lost=names) is False


def test_all_entries_go_while_rabbitmq_confirms(unconfirmed: Unconfirmed) -> None:
    """No name is known not to be confirmed."""
    assert chosen(unconfirmed, "opened", "opened", "clicked") == [1, 2, 3]
    assert not unconfirmed


def test_while_nothing_is_confirmed_one_of_each_name_goes(unconfirmed: Unconfirmed) -> None:
    """Also of the names that have not been tried: they may go to the same queue."""
    lose(unconfirmed, "opened")
    assert unconfirmed.is_silent
    assert chosen(unconfirmed, "opened", "opened", "clicked", "clicked") == [1, 3]


def test_names_that_are_confirmed_go_on_beside_one_that_is_not(unconfirmed: Unconfirmed) -> None:
    """A queue that does not confirm holds up only what is routed to it."""
    unconfirmed.note(confirmed=["clicked"], lost=["opened", "opened"])
    assert not unconfirmed.is_silent
    assert chosen(unconfirmed, "opened", "opened", "clicked", "clicked", "complained") == [1, 3, 4, 5]


def test_the_pauses_grow_up_to_the_bound(unconfirmed: Unconfirmed, clock: StillClock) -> None:
    """The first loss may be that of the connection: it costs no pause."""
    pauses = []
    for _ in range(8):
        lose(unconfirmed, "opened")
        began = clock.now
        while not unconfirmed.is_due("opened"):
            assert chosen(unconfirmed, "opened", "opened") == []
            clock.now += 0.5
        pauses.append(clock.now - began)
    assert pauses[:3] == [0, FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS]
    assert max(pauses) == pauses[-1] == MAX_PAUSE_SECONDS


def test_a_confirm_lets_all_of_its_name_go(unconfirmed: Unconfirmed) -> None:
    """And says so, for those that were passed over. Another name stays as it is."""
    lose(unconfirmed, "opened", "clicked")
    assert unconfirmed.note(confirmed=["opened"], lost=()) is True
    assert chosen(unconfirmed, "opened", "opened") == [1, 2]
    assert unconfirmed.names == ["clicked"]
    assert unconfirmed.note(confirmed=["opened"], lost=()) is False


def test_one_pass_tries_a_name_once(unconfirmed: Unconfirmed) -> None:
    """However many chunks it reads."""
    lose(unconfirmed, "opened")
    probed: set[str] = set()
    assert len(unconfirmed.choose(entries("opened", "opened"), compose, probed)) == 1
    assert unconfirmed.choose(entries("opened", "opened"), compose, probed) == []


def test_live_events_are_held_only_after_a_probe(unconfirmed: Unconfirmed) -> None:
    """The first loss may be that of the connection."""
    lose(unconfirmed, "opened")
    assert not unconfirmed.holds("opened")
    lose(unconfirmed, "opened")
    assert unconfirmed.holds("opened")
    assert not unconfirmed.holds("clicked")
    unconfirmed.note(confirmed=["opened"], lost=())
    assert not unconfirmed.holds("opened")


def test_names_that_nobody_documents_count_as_one(unconfirmed: Unconfirmed) -> None:
    """Their number has no limit, and each would have its probe."""
    lose(unconfirmed, *(f"new-{number}" for number in range(1000)))
    assert unconfirmed.names == ["others"]
    assert chosen(unconfirmed, "new-1", "never-seen", "opened") == [1, 3]
