"""The simulator's ledger, read while it is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.programs.stack.answers import Answers

if TYPE_CHECKING:
    from pathlib import Path

CONFIRMED = b'{"id":"a","event":"opened","durability":"confirmed"}\n'
SPOOLED = b'{"id":"b","event":"opened","durability":"spooled"}\n'
REFUSED = b'{"event":"opened","status":"503","why":"refused"}\n'
UNSENT = b'{"event":"opened","status":"no answer","why":"not sent: too many wait"}\n'
INTERRUPTED = b'{"event":"opened","status":"no answer","why":"interrupted"}\n'
UNANSWERED = b'{"event":"opened","status":"no answer","why":"cannot connect"}\n'


def test_a_line_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    """However the simulator's writes are cut, each answer counts once."""
    ledger = tmp_path / "ledger"
    answers = Answers(ledger)
    assert answers.read_on() == 0
    with ledger.open("ab", buffering=0) as file:
        file.write(CONFIRMED + SPOOLED[:7])
        assert answers.read_on() == 1
        file.write(SPOOLED[7:] + CONFIRMED)
        assert answers.read_on() == 2
    assert answers.accepted == {"a": 2, "b": 1}


def test_a_stretch_has_what_was_answered_since_it_began(tmp_path: Path) -> None:
    """Each kind of answer on its own."""
    ledger = tmp_path / "ledger"
    ledger.write_bytes(CONFIRMED)
    answers = Answers(ledger)
    answers.read_on()
    answers.begin()
    with ledger.open("ab") as file:
        file.write(CONFIRMED + SPOOLED + REFUSED + UNANSWERED + UNANSWERED + UNSENT + INTERRUPTED)
    answers.read_on()
    seen = answers.stretch()
    assert (seen.accepted, seen.spooled, seen.refused, seen.unanswered) == (2, 1, 1, 2)
    assert answers.refused == {"503": 1, "no answer": 2}
    assert (answers.unsent, answers.interrupted) == (1, 1)
