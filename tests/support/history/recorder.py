"""Writes a history while a program runs: one file for each process, and nothing that a loop would have to wait for."""

from __future__ import annotations

import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, BinaryIO, Final

from tests.support.history import records
from tests.support.history.records import FAIL, INFO, OK

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Literal

    from tests.support.history.mail import Mail
    from tests.support.history.records import ListEntry, Record, Result

_BUFFER: Final = 256 * 1024
"""Bytes that are written at once, into the page cache: half a millisecond."""


class Recorder:
    """Appends records to a file, under the name of one client."""

    def __init__(self, file: BinaryIO, client: str) -> None:
        """Write to this file, which is open. `Recorder.open` opens one."""
        self._file = file
        self._client = client
        self._ops = count(1)

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Recorder]:
        """Write a file; it is complete at the end of the context. The client is called as the file is.

        Raises:
            OSError: it cannot be written.
        """
        with path.open("wb", buffering=_BUFFER) as file:
            yield cls(file, path.stem)

    def flush(self) -> None:
        """What was recorded until now can be read then."""
        self._file.flush()

    def record(self, record: Record) -> None:
        self._file.write(records.line_of(record))

    def post_invoked(self, mail: Mail, *, at: int | None = None) -> int:
        """A POST of this event is about to be sent. Returns its number, for `post_answered` or `post_unanswered`.

        Args:
            mail: what is posted.
            at: where another process has posted it: not before this moment, ns of CLOCK_MONOTONIC.
        """
        op = next(self._ops)
        self.record(
            records.PostInvoked(
                client=self._client,
                at=time.monotonic_ns() if at is None else at,
                op=op,
                body=records.body_hash(mail.body),
                message=mail.message,
                name=records.canonical(mail.name),
                event_at=mail.event_at,
                address=mail.address,
            )
        )
        return op

    def post_answered(self, op: int, status: int, answer: Mapping[str, object]) -> None:
        """The POST was answered: with 200 the event is accepted, with 4xx refused; of anything else nobody knows."""
        if status == 200:
            result: Result = OK
        else:
            result = FAIL if 400 <= status < 500 else INFO
        self.record(
            records.PostEnded(
                client=self._client,
                op=op,
                result=result,
                status=str(status),
                durability=str(answer.get("durability") or answer.get("status") or ""),
                event_id=str(answer.get("id") or ""),
            )
        )

    def post_unanswered(self, op: int, why: str, *, sent: bool = True) -> None:
        """There is no answer. Args: sent: whether the event may have arrived all the same."""
        self.record(records.PostEnded(client=self._client, op=op, result=INFO if sent else FAIL, why=why))

    def subscribed(
        self,
        queue: str,
        names: Collection[str] = ("#",),
        *,
        to: Literal["events", "changes"] = "events",
    ) -> None:
        """This queue stands and is bound: it gets whatever is posted from now on under these names."""
        bound = tuple(dict.fromkeys(map(records.canonical, names)))
        self.record(records.Subscribed(client=self._client, queue=queue, to=to, names=bound))

    def delivered(
        self, queue: str, event_id: str, name: str, body: bytes, *, redelivered: bool = False
    ) -> None:
        self.record(
            records.Delivered(
                client=self._client,
                queue=queue,
                event_id=event_id,
                name=records.canonical(name),
                body=records.body_hash(body),
                redelivered=redelivered,
            )
        )

    def changed(self, queue: str, document: Mapping[str, object], *, redelivered: bool = False) -> None:
        """A change was published. Args: document: the body of its message, as docs/reference/messages.md has it."""
        reasons = document.get("reasons")
        self.record(
            records.Changed(
                client=self._client,
                queue=queue,
                id=int(str(document["id"])),
                action=str(document["action"]),
                address=str(document["address"]),
                reason=_text(document.get("reason")),
                event_id=_text(document.get("event_id")),
                message=_text(document.get("message_id")),
                reasons=tuple(map(str, reasons)) if isinstance(reasons, list) else None,
                redelivered=redelivered,
            )
        )

    def read_invoked(self, address: str) -> int:
        """The list is about to be asked for an address. Returns the number of it, for `has_read`."""
        op = next(self._ops)
        self.record(records.ReadInvoked(client=self._client, op=op, address=address))
        return op

    def has_read(self, op: int, entries: Iterable[ListEntry]) -> None:
        self.record(records.ReadEnded(client=self._client, op=op, result=OK, entries=tuple(entries)))

    def read_failed(self, op: int, why: str) -> None:
        self.record(records.ReadEnded(client=self._client, op=op, result=FAIL, why=why))

    def final_list(self, entries: Iterable[ListEntry]) -> None:
        self.record(records.FinalList(client=self._client, entries=tuple(entries)))

    def final_changes(self, changes: Iterable[tuple[int, str]]) -> None:
        """The log of changes at the end. Args: id and address of each."""
        self.record(records.FinalChanges(client=self._client, changes=tuple(changes)))

    def left(
        self, where: Literal["outbox", "dead letters", "spool", "queue"], what: Iterable[object] = ()
    ) -> None:
        """What is still there at the end; nothing says that it was looked at, and is empty."""
        self.record(records.Leftover(client=self._client, where=where, what=tuple(map(str, what))))

    def out_of_sight(self, domain: str) -> None:
        """Somebody else changes the list for addresses of this domain."""
        self.record(records.OutOfSight(client=self._client, domain=domain))


def _text(value: object) -> str | None:
    return None if value is None else str(value)
