"""Entries that are set aside in a spool file: kept, out of the way, and tried again with growing pauses."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from bridge.spool import set_aside_entries
from bridge.spool.entries import SpoolContents, SpoolEntry
from bridge.spool.listing import read_contents, read_set_aside, retry_now
from bridge.spool.set_aside_entries import (
    FORBIDDEN,
    MAX_KINDS,
    NACKED,
    Refusal,
    SetAsideKind,
    to_find_due_kinds,
    to_record_confirmed,
    to_record_refusal,
    to_retry_soon,
    to_set_aside,
    to_take_due,
)
from bridge.spool.spool_file import SpoolFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1000
HOUR = 3600 * SECOND
ENTRIES = [SpoolEntry(number, 100 * number, b"%d" % number) for number in range(1, 11)]
NACK = Refusal(NACKED, "opened", "basic.nack")
FORBID = Refusal(FORBIDDEN, "newname", "ACCESS_REFUSED")


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time, as the test says it."""
    made = Clock()
    monkeypatch.setattr(set_aside_entries, "unix_ms_now", made)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool-0.sqlite3"


@pytest.fixture
def file(path: Path) -> Iterator[SpoolFile]:
    """A file with ten entries."""
    opened = SpoolFile(path, min_free_bytes=0)
    opened.write(ENTRIES, ())
    yield opened
    opened.close()


def due(file: SpoolFile) -> list[str]:
    return [kind for kind, _ in file.run_task(to_find_due_kinds(10))]


def tried(file: SpoolFile, refusal: Refusal, limit: int = 1) -> list[int]:
    return [row[0] for row in file.run_task(to_take_due(refusal.kind, limit))]


def test_what_is_set_aside_is_kept_and_out_of_the_way(file: SpoolFile) -> None:
    """It is not read with the others, and is counted with them."""
    before = file.contents()
    file.run_task(to_set_aside(FORBID, (1, 3)))
    assert [entry.id for entry in file.read(0, 100)] == [2, 4, 5, 6, 7, 8, 9, 10]
    assert (file.contents(), file.oldest()) == (before, 100)
    file.write((), (1, 2))
    assert file.contents().entries == 8


def test_what_is_set_aside_is_there_when_the_file_is_opened_again(path: Path) -> None:
    """With RabbitMQ's words, and the time of the next attempt."""
    with closing(SpoolFile(path, min_free_bytes=0)) as first:
        first.write(ENTRIES, ())
        first.run_task(to_set_aside(FORBID, (1, 3)))
        (seen,) = first.run_task(set_aside_entries.to_read_set_aside())
    with closing(SpoolFile(path, min_free_bytes=0)) as again:
        assert again.contents().entries == 10
        assert read_set_aside(path) == (seen,)
        assert seen == SetAsideKind(FORBIDDEN, "newname", "ACCESS_REFUSED", 1, seen.retry_at, 2)


def test_the_pauses_grow_from_a_second_to_ten_minutes(file: SpoolFile, clock: Clock) -> None:
    """An entry that is nacked each time has at most 14 attempts in an hour, beside its first publish."""
    file.run_task(to_set_aside(NACK, (1,)))
    began, attempts = clock.now, []
    while True:
        (seen,) = file.run_task(set_aside_entries.to_read_set_aside())
        clock.now = seen.retry_at
        if clock.now - began > HOUR:
            break
        assert due(file) == [NACK.kind]
        if tried(file, NACK):
            attempts.append(clock.now - began)
    assert 10 <= len(attempts) <= 14
    pauses = [later - sooner for sooner, later in pairwise(attempts)]
    assert attempts[0] >= SECOND
    assert pauses == sorted(pauses) or max(pauses) > 600 * SECOND
    assert max(pauses) <= 1.2 * 600 * SECOND


def test_no_entry_is_tried_more_often_because_others_pass(file: SpoolFile, clock: Clock) -> None:
    """A queue that takes one now and then: each that is nacked again keeps its own pauses."""
    file.run_task(to_set_aside(NACK, [entry.id for entry in ENTRIES]))
    began, attempts = clock.now, dict.fromkeys(range(1, 11), 0)
    while clock.now - began < HOUR:
        clock.now += SECOND
        if due(file):
            for one in tried(file, NACK, 5):
                attempts[one] += 1
            file.run_task(to_record_confirmed(NACK.kind))
    assert max(attempts.values()) <= 14


def test_one_stands_for_its_kind_until_it_has_passed(file: SpoolFile, clock: Clock) -> None:
    """While it fails the others are not tried; after it they may all be."""
    file.run_task(to_set_aside(FORBID, range(1, 9)))
    assert due(file) == []
    clock.now += 2 * SECOND
    assert due(file) == [FORBID.kind]
    assert tried(file, FORBID) == [1]
    assert due(file) == []
    file.run_task(to_record_refusal(FORBID.kind, "still"))
    clock.now += 3 * SECOND
    assert due(file) == [FORBID.kind]
    assert tried(file, FORBID) == [2], "another one than the last time"
    file.run_task(to_record_confirmed(FORBID.kind))
    file.write((), (2,))
    assert due(file) == [FORBID.kind]
    assert sorted(tried(file, FORBID, 100)) == [1, 3, 4, 5, 6, 7, 8]
    assert read_set_aside(file.path)[0].reply_text == "still"
    file.write((), range(1, 9))
    clock.now += HOUR
    assert tried(file, FORBID) == []
    assert due(file) == [], "nothing of this kind is left"


def test_an_entry_counts_its_attempt_before_it_is_tried(path: Path, file: SpoolFile, clock: Clock) -> None:
    """Whoever is killed between the publish and its outcome does not find it due at once."""
    file.run_task(to_set_aside(NACK, (1,)))
    clock.now += 2 * SECOND
    assert tried(file, NACK) == [1]
    with closing(sqlite3.connect(path)) as other:
        (row,) = other.execute("SELECT attempts, retry_at FROM set_aside").fetchall()
    assert row[0] == 2
    assert row[1] >= clock.now + 2 * SECOND


def test_what_the_disk_would_not_remove_is_not_tried(file: SpoolFile, clock: Clock) -> None:
    """It is in RabbitMQ already."""
    file.run_task(to_set_aside(FORBID, (1, 2)))
    clock.now += 2 * SECOND
    assert [row[0] for row in file.run_task(to_take_due(FORBID.kind, 10), {1})] == [2]


def test_names_beyond_count_share_one_kind(file: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider may think of any number of them, and each kind is tried now and then."""
    monkeypatch.setattr(set_aside_entries, "MAX_KINDS", 3)
    assert MAX_KINDS > 3
    for entry in ENTRIES:
        file.run_task(to_set_aside(Refusal(FORBIDDEN, f"name{entry.id}", ""), (entry.id,)))
    assert sorted(seen.entries for seen in read_set_aside(file.path)) == [1, 1, 1, 7]


def test_somebody_may_have_all_of_it_tried_now(file: SpoolFile, clock: Clock) -> None:
    """By hand, while a receiver has the file."""
    file.run_task(to_set_aside(NACK, (1, 2)))
    assert due(file) == []
    retry_now(file.path)
    assert due(file) == [NACK.kind]
    assert sorted(tried(file, NACK, 10)) == [1, 2]
    del clock


def test_what_may_be_over_is_tried_soon(file: SpoolFile, clock: Clock) -> None:
    """Not at once, and no other kind with it."""
    file.run_task(to_set_aside(NACK, (1,)))
    file.run_task(to_set_aside(FORBID, (2,)))
    for _ in range(5):
        clock.now += HOUR
        tried(file, NACK)
        tried(file, FORBID)
    file.run_task(to_retry_soon([NACK.kind]))
    assert due(file) == []
    clock.now += 2 * SECOND
    assert due(file) == [NACK.kind]
    assert tried(file, NACK) == [1]


def test_a_file_of_an_older_release_can_be_looked_at(path: Path) -> None:
    """It has no place for what is set aside until a receiver opens it."""
    with closing(sqlite3.connect(path)) as old:
        old.execute("CREATE TABLE entries (id INTEGER PRIMARY KEY, received_at INTEGER, body BLOB)")
        old.execute("INSERT INTO entries VALUES (1, 5, x'01020304')")
        old.commit()
    assert read_contents(path) == SpoolContents(1, 68, 5, 1)
    assert read_set_aside(path) == ()
    retry_now(path)
    opened = SpoolFile(path, min_free_bytes=0)
    opened.run_task(to_set_aside(FORBID, (1,)))
    assert opened.contents() == SpoolContents(1, 68, 5, 1)
    opened.close()


def test_set_aside_entries_of_an_older_release_are_read(path: Path) -> None:
    """Tables and columns keep their names: a file outlives the release that wrote it."""
    with closing(SpoolFile(path, min_free_bytes=0)) as file:
        file.write(ENTRIES[:1], ())
    with closing(sqlite3.connect(path)) as old:
        old.execute(
            "INSERT INTO set_aside (id, received_at, body, kind, attempts, retry_at) "
            "VALUES (7, 5, x'01', 'forbidden newname', 0, 6)"
        )
        old.execute(
            "INSERT INTO refusals (kind, reason, routing_key, said, attempts, retry_at) "
            "VALUES ('forbidden newname', 'forbidden', 'newname', 'ACCESS_REFUSED', 1, 6)"
        )
        old.commit()
    assert read_set_aside(path) == (SetAsideKind(FORBIDDEN, "newname", "ACCESS_REFUSED", 1, 6, 1),)
