"""What `bridge status` shows to people: everything that is known, and no column of which nothing is."""

from __future__ import annotations

from dataclasses import replace

from bridge.broker.management_views import Node
from bridge.broker.topology import Queue
from bridge.cli.status_view import lines
from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
from bridge.diagnostics.counter_rates import EventAge
from bridge.diagnostics.role_status import RoleStatus
from bridge.diagnostics.spool_status import SpoolStatus
from bridge.diagnostics.status import AnswerCount, EventCount, Status, unseen_ages
from bridge.diagnostics.subscriber_status import IDLE, OLDEST, SubscriberStatus, subscriber_statuses


def status_of(*queues: QueueStatus) -> Status:
    """All is well, with these queues."""
    return Status(
        at=1_539_062_173.0,
        roles=(RoleStatus("http://127.0.0.1:8090", kind="receiver", ready=True),),
        events=(EventCount("clicked", 5, 0.5),),
        answers=(AnswerCount("confirmed", 5, 0.5), AnswerCount("503", 1, None)),
        age=EventAge(0.5, 1.94, 0.5),
        broker=BrokerStatus("", "4.0.5", (Node("a@b", running=True, alarms=()),), "", queues),
        spool=SpoolStatus(
            directory="spool",
            files=1,
            entries=0,
            bytes=0,
            oldest_age=None,
            left_behind=0,
            set_aside=(),
            problems=(),
        ),
        workers=1,
        dead_letters=0,
        dead_by_reason={},
        quarantined=0,
        subscribers=(),
        breakers={"database": 0.0},
        problems=(),
        unseen=(),
    )


def test_subscribers_have_a_table_of_their_own() -> None:
    """Depth, age, consumers, unacknowledged and dead letters of each, and for how long nothing was consumed."""
    seen = replace(
        status_of(
            QueueStatus("suppression", ready=0, unacknowledged=0, consumers=1),
            QueueStatus("crm", ready=5, unacknowledged=2, consumers=0),
            QueueStatus("crm.dead", ready=3, unacknowledged=0, consumers=0),
        ),
        subscribers=(
            SubscriberStatus("crm", "crm.dead", True, 5, 2, 0, 3, 7200.0, 3660.0),  # noqa: FBT003 -- `there`
            SubscriberStatus("shop", "shop.dead", False, None, None, None, None, None, None),  # noqa: FBT003 -- the same
        ),
    )
    assert [row[0] for row in rows_of_queues(seen)] == ["Queue", "suppression"]
    rows = [line.split("\t") for line in lines(seen)]
    at = next(at for at, row in enumerate(rows) if row[0] == "Subscriber")
    assert rows[at : at + 3] == [
        ["Subscriber", "Ready", "Unacknowledged", "Consumers", "Dead letters", "Oldest", "Not consumed for"],
        ["crm", "5", "2", "0", "3", "7200", "3660"],
        ["shop (not there)", "?", "?", "?", "?", "?", "?"],
    ]


def test_where_nothing_is_to_be_consumed_nothing_waits() -> None:
    """The workers' look is some seconds old: what they saw then has been consumed since. What is not known may be held."""
    planned = [Queue(f"{name}.dead", {}, name, for_dead_letters=True) for name in ("crm", "shop", "till")]
    planned += [Queue(name, {}, name) for name in ("crm", "shop", "till")]
    counted = {one.name: QueueStatus(one.name, ready=0, unacknowledged=0, consumers=1) for one in planned}
    counted["shop"] = replace(counted["shop"], unacknowledged=1)
    counted["till"] = replace(counted["till"], unacknowledged=None)
    waited = {"crm": 13.0, "shop": 13.0, "till": 13.0}
    worker = RoleStatus("http://127.0.0.1:8091", kind="worker", counts={OLDEST: waited, IDLE: waited})
    subscribers = subscriber_statuses(planned, counted, [worker])
    assert [(one.oldest_age, one.idle) for one in subscribers] == [(0, 0), (13, 13), (13, 13)]
    rows = [line.split("\t") for line in lines(replace(status_of(), subscribers=tuple(subscribers)))]
    at = next(at for at, row in enumerate(rows) if row[0] == "Subscriber")
    assert [row[-2:] for row in rows[at + 1 : at + 4]] == [["0", "0"], ["13", "13"], ["13", "13"]]


def test_answers_and_ages_are_shown() -> None:
    """How the receivers have answered, and how long events take until they are on the list."""
    shown = list(lines(status_of()))
    assert "Answers\tconfirmed 5 (0.5 a second), 503 1" in shown
    assert "From event to list\thalf of the events within 0.5 s, 95% within 1.9 s" in shown
    quiet = list(lines(replace(status_of(), age=None)))
    assert "From event to list\tno event was handled between the two looks" in quiet


def test_whose_dead_letters_and_whose_ages() -> None:
    """Subscribers have dead letters and ages of their own, in their table: these are the bridge's."""
    assert "Dead letters of the worker\t0 wait" in list(lines(status_of()))
    own = QueueStatus("suppression", ready=0, unacknowledged=0, consumers=1)
    of_crm = QueueStatus("crm", ready=1, unacknowledged=0, consumers=1, oldest_age=5.0)
    crm = SubscriberStatus("crm", "crm.dead", True, 1, 0, 1, 0, 5.0, 0.0)  # noqa: FBT003 -- `there`
    [note] = unseen_ages(status_of(own, of_crm).broker, [crm])
    assert note.startswith("ages of the oldest messages in the bridge's own queues: ")
    assert unseen_ages(status_of(replace(own, oldest_age=5.0), of_crm).broker, [crm]) == []


def rows_of_queues(seen: Status) -> list[list[str]]:
    rows = [line.split("\t") for line in lines(seen)]
    start = next(at for at, row in enumerate(rows) if row[0] == "Queue")
    return rows[start : rows.index([""], start)]


def test_where_all_is_counted_nothing_is_unknown() -> None:
    """RabbitMQ has no ages of quorum queues and streams: there is no column of question marks for them."""
    seen = status_of(QueueStatus("suppression", ready=2, unacknowledged=1, consumers=1))
    assert rows_of_queues(seen) == [
        ["Queue", "Ready", "Unacknowledged", "Consumers"],
        ["suppression", "2", "1", "1"],
    ]
    assert not any("?" in line for line in lines(seen))


def test_ages_are_shown_where_one_is_known() -> None:
    """Of the others it is said that they are not."""
    seen = status_of(
        QueueStatus("a", ready=1, unacknowledged=0, consumers=0, oldest_age=3700.4),
        QueueStatus("b", ready=1, consumers=0),
    )
    assert rows_of_queues(seen) == [
        ["Queue", "Ready", "Unacknowledged", "Consumers", "Oldest"],
        ["a", "1", "0", "0", "3700"],
        ["b", "1", "?", "0", "?"],
    ]
