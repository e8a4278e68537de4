"""Which dead letters are meant, and where those go that are let go."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson
import pytest

from bridge.amqp.message_types import Delivery
from bridge.amqp.properties import decode_properties
from bridge.dead_letters.dead_letter_description import DeadLetter, DeadLetterFilter
from bridge.dead_letters.message_file import MessageFile, MessageFileError, dead_letter_document, unused_path
from bridge.dead_letters.queue_reader import HeldMessage

if TYPE_CHECKING:
    from pathlib import Path

LETTER = DeadLetter("a", "complined", "malformed", "", 1, died_at=1000, first_failure=None, where="")
TIMELESS = DeadLetter("b", "opened", "unknown", "", 1, died_at=None, first_failure=None, where="")


@pytest.mark.parametrize(
    ("wanted", "matches"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(ids=frozenset("a")), True),
        (DeadLetterFilter(ids=frozenset("b")), False),
        (DeadLetterFilter(events=frozenset({"complained"})), True),
        (DeadLetterFilter(events=frozenset({"opened"})), False),
        (DeadLetterFilter(reasons=frozenset({"malformed"}), events=frozenset({"opened"})), False),
        (DeadLetterFilter(died_before=1000, died_after=1000), True),
        (DeadLetterFilter(died_before=999), False),
        (DeadLetterFilter(died_after=1001), False),
    ],
)
def test_every_condition_must_hold(wanted: DeadLetterFilter, *, matches: bool) -> None:
    """Ids, events in either spelling, reasons and times narrow each other."""
    assert wanted.matches(LETTER) is matches


@pytest.mark.parametrize("wanted", [DeadLetterFilter(died_before=2**60), DeadLetterFilter(died_after=0)])
def test_a_letter_without_a_time_is_neither_old_nor_young(wanted: DeadLetterFilter) -> None:
    """It is left alone by whoever asks for an age."""
    assert not wanted.matches(TIMELESS)


def test_a_file_of_letters_gets_a_name_that_is_free(tmp_path: Path) -> None:
    """Two in one second have two names."""
    first = unused_path(tmp_path, "dead-letters")
    first.touch()
    second = unused_path(tmp_path, "dead-letters")
    assert first.suffix == second.suffix == ".jsonl"
    assert not second.exists()


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """Even one that came between the name and the first letter."""
    path = tmp_path / "kept.jsonl"
    path.write_text("mine")
    with (
        MessageFile(path, dead_letter_document) as file,
        pytest.raises(MessageFileError, match="is not overwritten"),
    ):
        file.append([])
    assert path.read_text() == "mine"


def test_a_file_that_somebody_removes_is_written_again(tmp_path: Path) -> None:
    """The dead letters in it are nowhere else any more; another file that has its name is left alone."""
    path = tmp_path / "letters.jsonl"
    with MessageFile(path, dead_letter_document) as file:
        file.append([found(1)])
        path.unlink()
        file.append([found(2)])
        assert ids_in(path) == ["1", "2"]
        path.rename(tmp_path / "elsewhere")
        path.write_text("mine")
        file.append([found(3)])
        assert path.read_text() == "mine"
        assert file.path == tmp_path / "letters-1.jsonl"
        assert ids_in(file.path) == ["1", "2", "3"]


def found(number: int) -> HeldMessage[DeadLetter]:
    """A dead letter of this id, unacknowledged."""
    message = Delivery(number, False, "", "suppression", bytes(2), b"{}")  # noqa: FBT003 -- a tuple's field
    return HeldMessage(replace(LETTER, id=str(number)), message, decode_properties(message.properties))


def ids_in(path: Path) -> list[str]:
    return [orjson.loads(line)["id"] for line in path.read_text().splitlines()]
