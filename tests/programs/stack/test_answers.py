"""The simulator's ledger, read while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.programs.stack.answers import Answers
from tests.support.history.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.history.recorder import Recorder


def line(number: int, **values: str) -> bytes:
    """As the simulator writes it."""
    body = {"message": {"id": number}, "event": {"name": "complined", "timestamp": 100, "data": {}}}
    return orjson.dumps(
        {"event": "complined", "body": orjson.dumps(body).decode(), **values},
        option=orjson.OPT_APPEND_NEWLINE,
    )


CONFIRMED = line(1, id="a", durability="confirmed")
SPOOLED = line(2, id="b", durability="spooled")
REFUSED = line(3, status="503", why="refused")
UNSENT = line(4, status="no answer", why="not sent: too many wait")
INTERRUPTED = line(5, status="no answer", why="interrupted")
UNANSWERED = line(6, status="no answer", why="cannot connect")


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    with History.open(tmp_path / "history") as recorder:
        yield recorder


def test_a_line_is_taken_when_it_is_whole(tmp_path: Path, recorder: Recorder) -> None:
    """However the simulator's writes are cut, each answer counts once."""
    ledger = tmp_path / "ledger"
    answers = Answers(ledger, recorder)
    assert answers.read_on() == 0
    with ledger.open("ab", buffering=0) as file:
        file.write(CONFIRMED + SPOOLED[:7])
        assert answers.read_on() == 1
        file.write(SPOOLED[7:] + CONFIRMED)
        assert answers.read_on() == 2
    assert answers.accepted == {"a": 2, "b": 1}


def test_a_stretch_has_what_was_answered_since_it_began(tmp_path: Path, recorder: Recorder) -> None:
    """Each kind of answer on its own."""
    ledger = tmp_path / "ledger"
    ledger.write_bytes(CONFIRMED)
    answers = Answers(ledger, recorder)
    answers.read_on()
    answers.begin()
    with ledger.open("ab") as file:
        file.write(CONFIRMED + SPOOLED + REFUSED + UNANSWERED + UNANSWERED + UNSENT + INTERRUPTED)
    answers.read_on()
    seen = answers.stretch()
    assert (seen.accepted, seen.spooled, seen.refused, seen.unanswered) == (2, 1, 1, 2)
    assert answers.refused == {"503": 1, "no answer": 2}
    assert (answers.unsent, answers.interrupted) == (1, 1)


def test_each_line_is_a_post_of_the_history(tmp_path: Path, recorder: Recorder) -> None:
    """An event that was not even sent is one that was not accepted; of one without an answer nobody knows."""
    ledger = tmp_path / "ledger"
    ledger.write_bytes(CONFIRMED + SPOOLED + REFUSED + UNSENT + INTERRUPTED + UNANSWERED)
    Answers(ledger, recorder).read_on()
    recorder.flush()
    posts = History.read(tmp_path / "history").posts
    assert [post.result for post in posts] == ["ok", "ok", "info", "fail", "info", "info"]
    assert {(post.invoked.name, post.invoked.address) for post in posts[:1]} == {
        ("complained", "recipient1@example.org")
    }
    assert [post.ended.event_id for post in posts if post.ended is not None][:2] == ["a", "b"]
