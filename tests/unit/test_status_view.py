"""What `bridge status` shows to people: everything that is known, and no column of which nothing is."""

from __future__ import annotations

from bridge.broker.management_views import Node
from bridge.cli.status_view import lines
from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
from bridge.diagnostics.role_status import RoleStatus
from bridge.diagnostics.spool_status import SpoolStatus
from bridge.diagnostics.status import EventCount, Status


def status_of(*queues: QueueStatus) -> Status:
    """All is well, with these queues."""
    return Status(
        at=1_539_062_173.0,
        roles=(RoleStatus("http://127.0.0.1:8090", kind="receiver", ready=True),),
        events=(EventCount("clicked", 5, 0.5),),
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
        breakers={"database": 0.0},
        wrong=(),
        unseen=(),
    )


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
