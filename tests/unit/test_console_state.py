"""What the console makes of what it has seen: since when something is wrong, trends, the verdict, and what is to be done."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bridge.console.advice import advice_on
from bridge.console.figures import queue_rows, subscriber_rows, total_rate
from bridge.console.live import MOST_ROWS, Window
from bridge.console.overview import coded
from bridge.console.standing import Memory
from bridge.console.trends import Trends, point_of
from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
from bridge.diagnostics.problems import Problem, ProblemKind
from bridge.diagnostics.role_status import RoleStatus
from bridge.diagnostics.status import EventCount, Status
from bridge.diagnostics.subscriber_status import SubscriberStatus
from bridge.operations.tail import TailedEvent

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[2]
ARCHIVE = "email.events.archive"


def status_of(*queues: QueueStatus, at: float = 1000.0, broker: str = "", role: str = "") -> Status:
    """All that was seen is well, but for what is given."""
    return Status(
        at=at,
        roles=(RoleStatus("http://127.0.0.1:8091", role, kind="worker", ready=not role),),
        events=(),
        answers=(),
        age=None,
        broker=BrokerStatus(broker, "4.0.5", (), "", queues, ()),
        spool=None,
        workers=1,
        dead_letters=0,
        dead_by_reason={},
        quarantined=0,
        subscribers=(),
        breakers={},
        problems=(),
        unseen=(),
    )


def dead_letters(count: int) -> Problem:
    return Problem(ProblemKind.DEAD_LETTERS, "", f"{count} dead letters")


BROKER_DOWN = Problem(ProblemKind.BROKER_DOWN, "", "RabbitMQ cannot be reached: refused")


def test_a_problem_keeps_its_time_while_its_numbers_change() -> None:
    """What the first look sees may be older than that; what comes later has begun since."""
    memory = Memory()
    [first] = memory.add(100, [dead_letters(3)], status_of())
    assert (first.since, first.is_older) == (100, True)
    later, again = memory.add(105, [dead_letters(4), BROKER_DOWN], status_of())
    assert (again.since, again.is_older, again.problem.line) == (100, True, "4 dead letters")
    assert (later.since, later.is_older) == (105, False)


def test_a_problem_that_ends_is_told_with_both_times() -> None:
    """And if it comes again, it is a new one."""
    memory = Memory()
    memory.add(100, [], status_of())
    memory.add(105, [dead_letters(3)], status_of())
    assert memory.add(110, [], status_of()) == ()
    [over] = memory.ended
    assert (over.since, over.until, over.problem.line) == (105, 110, "3 dead letters")
    [anew] = memory.add(115, [dead_letters(1)], status_of())
    assert (anew.since, anew.is_older) == (115, False)


@pytest.mark.parametrize(
    "blind", [status_of(broker="refused"), None], ids=["RabbitMQ is away", "the look failed"]
)
def test_what_could_not_be_seen_is_not_over(blind: Status | None) -> None:
    """Dead letters that RabbitMQ cannot be asked about are as old as before when it answers again."""
    memory = Memory()
    memory.add(100, [], status_of())
    memory.add(105, [dead_letters(3)], status_of())
    assert [one.problem.kind for one in memory.add(110, [BROKER_DOWN], blind)] == [ProblemKind.BROKER_DOWN]
    [again] = memory.add(115, [dead_letters(3)], status_of())
    assert again.since == 105
    assert [one.problem for one in memory.ended] == [BROKER_DOWN]


@pytest.mark.parametrize("kind", ProblemKind)
def test_for_every_problem_it_is_said_what_to_do(kind: ProblemKind) -> None:
    """What it costs meanwhile, and where to read on."""
    advice = advice_on(Problem(kind, "", ""))
    assert advice.meanwhile
    assert advice.do
    file, _, section = advice.read.partition(", “")
    assert f"## {section.removesuffix('”')}\n" in (ROOT / file).read_text()


def test_what_is_in_the_quarantine_is_not_among_the_dead_letters() -> None:
    """Its advice leads nowhere else."""
    advice = advice_on(Problem(ProblemKind.QUARANTINE, "", ""))
    assert (advice.page, advice.read) == ("", "docs/operate.md, “Bodies in the quarantine”")


def test_trends_of_a_queue_in_words() -> None:
    """By its depth over the last minutes; the stream of the archive does not wait."""
    trends = Trends()
    for at, ready in ((0, 10), (30, 20), (60, 40)):
        seen = status_of(QueueStatus("suppression", ready=ready), QueueStatus(ARCHIVE, ready=7), at=at)
        trends.add(point_of(seen, ARCHIVE))
    rows = queue_rows(seen, trends, ARCHIVE)
    assert [(row.name, row.trend, row.is_archive) for row in rows] == [
        ("suppression", "grows by 30 a minute", False),
        (ARCHIVE, "", True),
    ]
    assert trends.points[-1].document()["queues"] == {"suppression": 40}


def test_only_a_quarter_of_an_hour_is_kept() -> None:
    """At a look each 5 s that is 181 points, however long the process runs."""
    trends = Trends()
    for number in range(1000):
        trends.add(point_of(status_of(at=5.0 * number), ARCHIVE))
    assert len(trends.points) == 181


def test_rates_that_are_not_known_are_not_zero() -> None:
    """Before two looks nothing can be compared."""
    assert total_rate([EventCount("opened", 5, None)]) is None
    assert total_rate([EventCount("opened", 5, 1.5), EventCount("clicked", 5, 0.5)]) == 2.0
    assert total_rate([]) == 0


CRM = SubscriberStatus("crm", "crm.dead", True, 5, 0, 1, 0, 3.0, 0.0, 990.0, 100, 95)  # noqa: FBT003 -- `there`


@pytest.mark.parametrize(
    ("subscriber", "kind", "state"),
    [
        (CRM, "good", "consumes"),
        (replace(CRM, ready=0), "good", "has consumed everything"),
        (replace(CRM, there=False, ready=None), "bad", "its queue is missing"),
        (replace(CRM, ready=None, consumers=None), "quiet", "not known: RabbitMQ does not answer"),
        (replace(CRM, consumers=0), "bad", "nobody consumes"),
        (replace(CRM, consumers=0, ready=0), "warn", "nobody consumes"),
        (replace(CRM, idle=120.0), "warn", "connected, but acknowledges nothing"),
        (replace(CRM, idle=1000.0), "bad", "connected, but acknowledges nothing"),
        (replace(CRM, dead_letters=2), "warn", "consumes, but has dead letters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_how_a_subscriber_is(subscriber: SubscriberStatus, kind: str, state: str) -> None:
    """In a few words; and what to do where something is."""
    [row] = subscriber_rows(replace(status_of(), subscribers=(subscriber,)), Trends())
    assert (row.kind, row.state) == (kind, state)
    assert bool(row.what_to_do) == (kind in {"bad", "warn"})


def test_how_fast_a_subscriber_consumes_and_when_it_has_last() -> None:
    """By RabbitMQ's count; when RabbitMQ forgets its count, it begins anew. The workers may have seen it before us."""
    trends = Trends()
    for at, consumed in ((1000, 95), (1010, 195), (1020, 30), (1030, 30)):
        one = replace(CRM, consumed=consumed)
        seen = replace(status_of(QueueStatus("crm", ready=5), at=at), subscribers=(one,))
        trends.add(point_of(seen, ARCHIVE))
    [row] = subscriber_rows(seen, trends)
    assert (row.rate, row.consumed_at) == (130 / 30, 1020)
    [before] = subscriber_rows(seen, Trends())
    assert (before.rate, before.consumed_at) == (None, 990)


def tailed(message_id: str, url: str | None = None) -> TailedEvent:
    return TailedEvent("opened", "e" + message_id, message_id, 1_539_062_173, 1, url, None)


def test_what_does_not_fit_on_the_page_is_counted() -> None:
    """The newest are shown, the newest first."""
    window = Window("")
    for number in range(MOST_ROWS + 5):
        window.add(tailed(str(number)))
    rows, more = window.take()
    assert [row.message_id for row in rows[:2]] == [str(MOST_ROWS + 4), str(MOST_ROWS + 3)]
    assert (len(rows), more) == (MOST_ROWS, 5)
    assert window.take() == ([], 0)


def test_the_tail_is_filtered_by_text() -> None:
    """Of message id, event id or URL, in either case of letters."""
    window = Window("Shop")
    for event in (tailed("1"), tailed("2", "https://SHOP.example.org/"), tailed("shop-3")):
        window.add(event)
    rows, more = window.take()
    assert [row.message_id for row in rows] == ["shop-3", "2"]
    assert more == 0


def test_commands_are_code_and_nothing_else_is_markup() -> None:
    """What came from the provider or from RabbitMQ stays text."""
    assert coded("see `bridge dead list` <b>") == "see <code>bridge dead list</code> &lt;b&gt;"
    assert coded("not `closed <b>") == "not `closed &lt;b&gt;"
