"""What `make others` counts: from the history of one bridge under one fault to its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from tests.programs.others import tables
from tests.programs.others.comparison import CUT_OFF, TOO_LATE, UNREACHABLE, Row, compare
from tests.support.history.history import History
from tests.support.history.records import Delivered, PostEnded, PostInvoked, Subscribed

if TYPE_CHECKING:
    from tests.support.history.records import Record

SECOND = 1_000_000_000
QUEUE, ARCHIVE = "ledger", "archive"
HEALED = 100 * SECOND


class Run:
    """A history in the making; times are seconds."""

    def __init__(self) -> None:
        self.records: list[Record] = [Subscribed(at=0, queue=QUEUE)]

    def post(
        self, op: int, outcome: str, *, at: float = 1.0, took: float = 0.01, durability: str = ""
    ) -> None:
        """`outcome` is a status, or why there is none."""
        began, ended = int(at * SECOND), int((at + took) * SECOND)
        self.records.append(
            PostInvoked(at=began, op=op, body=f"b{op}", message=str(op), name="opened", event_at=1)
        )
        status = outcome if outcome.isdigit() else ""
        result: Literal["ok", "fail", "info"] = "info"
        if status == "200":
            result = "ok"
        elif outcome == UNREACHABLE:
            result = "fail"
        self.records.append(
            PostEnded(
                at=ended,
                op=op,
                result=result,
                status=status,
                why="" if status else outcome,
                event_id=f"id{op}" if status == "200" else "",
                durability=durability,
            )
        )

    def deliver(self, op: int, *, queue: str = QUEUE, at: float = 200.0, redelivered: bool = False) -> None:
        self.records.append(
            Delivered(
                at=int(at * SECOND),
                queue=queue,
                event_id=f"id{op}",
                name="opened",
                body=f"b{op}",
                redelivered=redelivered,
            )
        )

    def row(self, *, archive: str | None = None, hangs: bool = False, did_not_stop: int = 0) -> Row:
        return compare(
            History(self.records),
            bridge="a bridge",
            fault="a fault",
            queue=QUEUE,
            healed=HEALED,
            archive=archive,
            hangs=hangs,
            did_not_stop=did_not_stop,
        )


@pytest.fixture
def run() -> Run:
    return Run()


def test_lost_is_what_was_answered_200_and_never_came(run: Run) -> None:
    """Not what was refused, which the provider has to send again."""
    for op, outcome in enumerate(["200", "200", "503"], start=1):
        run.post(op, outcome)
    run.deliver(1)
    row = run.row()
    assert (row.posted, row.accepted, row.lost, row.refused, row.gone) == (3, 2, 1, 1, 1)


def test_what_the_archive_has_is_not_lost(run: Run) -> None:
    """It is counted by itself: somebody has to replay it."""
    for op in (1, 2):
        run.post(op, "200")
    run.deliver(2, queue=ARCHIVE)
    assert (run.row(archive=ARCHIVE).lost, run.row(archive=ARCHIVE).archived) == (1, 1)
    assert (run.row().lost, run.row().archived) == (2, 0)


def test_what_the_provider_would_send_again_is_there_twice_then_or_gone_without(run: Run) -> None:
    """A refused event, one without an answer and one that nobody heard of: by whether the queue has it."""
    for op, outcome in enumerate([CUT_OFF, TOO_LATE, UNREACHABLE, "500"], start=1):
        run.post(op, outcome)
    run.deliver(1)
    row = run.row()
    assert (row.accepted, row.lost, row.refused, row.unanswered) == (0, 0, 1, 3)
    assert (row.would_double, row.gone) == (1, 3)
    assert row.outcomes == {CUT_OFF: 1, TOO_LATE: 1, UNREACHABLE: 1, "500": 1}


def test_a_second_copy_is_one_and_a_redelivery_is_none(run: Run) -> None:
    """RabbitMQ hands over again what was not acknowledged: the bridge has no part in that."""
    for op in (1, 2):
        run.post(op, "200", durability="spooled" if op == 1 else "confirmed")
        run.deliver(op)
    run.deliver(1)
    run.deliver(2, redelivered=True)
    row = run.row()
    assert (row.duplicates, row.spooled, row.lost) == (1, 1, 0)


def test_waits_count_for_what_was_answered_200(run: Run) -> None:
    """An answer after more than five seconds comes too late for some providers."""
    run.post(1, "200", took=0.2)
    run.post(2, "200", took=6.5)
    run.post(3, TOO_LATE, took=15.0)
    row = run.row()
    assert (row.longest, row.slow) == (6.5, 1)


def test_recovery_ends_with_the_last_event_that_was_not_answered_200(run: Run) -> None:
    """Those before the end of the fault do not count."""
    run.post(1, "503", at=99)
    assert run.row().recovery == 0.0
    run.post(2, "503", at=101.5)
    run.post(3, "200", at=103)
    assert run.row().recovery == 1.5


def test_what_nobody_sent_is_said(run: Run) -> None:
    """The checker of histories looks for more than losses."""
    run.deliver(9)
    assert "nobody has posted" in run.row().broken[0]


def test_a_row_says_in_words_what_no_figure_can(run: Run) -> None:
    """That a bridge does not recover, does not stop, or has events in its archive."""
    run.post(1, "200")
    run.deliver(1, queue=ARCHIVE)
    cells = dict(
        zip(tables.COLUMNS, tables.cells(run.row(archive=ARCHIVE, hangs=True, did_not_stop=2)), strict=True)
    )
    assert cells["lost of these"] == "0 (1 in the archive)"
    assert cells["recovery"] == "none in 45 s; did not stop in 30 s, 2 times"
    assert cells["longest wait for a 200"] == "10 ms"
