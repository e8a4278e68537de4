"""The files of a history: written while something runs, read afterwards."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.history import __main__ as command
from tests.support.history.checker import check
from tests.support.history.history import History
from tests.support.history.mail import mail_of, mails
from tests.support.history.records import HistoryError, ListEntry, OutOfSight, line_of
from tests.support.history.telling import Told, entry

if TYPE_CHECKING:
    from pathlib import Path

MAIL = mail_of(1, "complined", 100, "jane@example.org")
CHANGE = {"id": 1, "action": "added", "address": "jane@example.org", "reason": "complaint", "event_id": "e1", "message_id": "1"}  # fmt: skip


def test_what_two_clients_write_is_one_history(tmp_path: Path) -> None:
    """Each has a file, and counts its operations by itself; both spellings of the complaint are one."""
    with (
        History.open(tmp_path / "poster") as poster,
        History.open(tmp_path / "reader") as reader,
    ):
        reader.subscribed("all", ["complined", "complained"])
        reader.subscribed("changes", to="changes")
        asked = reader.read_invoked("jane@example.org")
        op = poster.post_invoked(MAIL)
        reader.has_read(asked, [])
        poster.post_answered(op, 200, {"status": "accepted", "id": "e1", "durability": "spooled"})
        reader.delivered("all", "e1", "complained", MAIL.body)
        reader.changed("changes", CHANGE)
        reader.final_list([ListEntry("jane@example.org", "complaint", 1, 100, 100)])
        reader.final_changes([(1, "jane@example.org")])
        reader.left("outbox")
    history = History.read(tmp_path / "reader", tmp_path / "poster")
    assert check(history) == []
    (post,) = history.posts
    assert (post.invoked.name, post.result) == ("complained", "ok")
    assert history.subscriptions[0][0].names == ("complained",)


@pytest.mark.parametrize(("status", "result"), [(200, "ok"), (400, "fail"), (404, "fail"), (503, "info")])
def test_what_an_answer_means(tmp_path: Path, status: int, result: str) -> None:
    """Of a 503 nobody knows: the event may have been published before the answer was given up."""
    with History.open(tmp_path / "poster") as poster:
        poster.post_answered(poster.post_invoked(MAIL), status, {})
        poster.post_unanswered(poster.post_invoked(MAIL), "reset")
        poster.post_unanswered(poster.post_invoked(MAIL), "refused", sent=False)
    results = [post.result for post in History.read(tmp_path / "poster").posts]
    assert results == [result, "info", "fail"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Each kind of record, in the order of time."""
    told = Told().posted(1).came(1).changed(1, "added", 1, reasons=("hard_bounce",)).looked(entry(1))
    told.ends(entry(1), log={1: "jane@example.org"}).left("outbox").out_of_sight("else.example")
    told.history().write(tmp_path / "merged")
    assert History.read(tmp_path / "merged").records == told.records


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    """As a file that was cut off, or is something else."""
    file = tmp_path / "cut"
    file.write_bytes(line_of(OutOfSight(domain="else.example")) + b'{"kind":"post","op":1')
    with pytest.raises(HistoryError, match=r"cut, line 2 is no record of a history"):
        History.read(file)


def test_an_outcome_without_an_invocation_is_named() -> None:
    """A file is missing."""
    with pytest.raises(
        HistoryError, match=r"line 3: operation 1 of client 'told' has ended, and was not begun"
    ):
        History(Told().posted(1).records[:2] + Told().posted(1).records[3:])


def test_a_kept_history_can_be_checked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a command, whose exit code says whether all was kept."""
    good, bad = tmp_path / "good", tmp_path / "bad"
    Told().posted(1).came(1).changed(1, "added", 1).history().write(good)
    Told().posted(1, name="opened").history().write(bad)
    for file, code, words in ((good, 0, "0 violations"), (bad, 1, "lost-event: opened of message 1")):
        monkeypatch.setattr(sys, "argv", ["history", str(file), "--merged", str(tmp_path / "merged")])
        assert command.main() == code
        assert words in capsys.readouterr().out
        assert (tmp_path / "merged").read_bytes() == file.read_bytes()


def test_mails_are_the_mix_of_a_newsletter() -> None:
    """Each of a message of its own, to so many recipients as are asked for."""
    some = mails(addresses=7)
    thousand = [next(some) for _ in range(1000)]
    assert len({mail.body for mail in thousand}) == len({mail.message for mail in thousand}) == 1000
    assert len({mail.address for mail in thousand}) == 7
    assert sum(mail.name == "hard_bounced" for mail in thousand) == 15
