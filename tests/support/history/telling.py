"""A history told by hand: a second passes with each line. For tests, which want it short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.history.history import History
from tests.support.history.records import (
    INFO,
    OK,
    Changed,
    Delivered,
    FinalChanges,
    FinalList,
    Leftover,
    ListEntry,
    OutOfSight,
    PostEnded,
    PostInvoked,
    ReadEnded,
    ReadInvoked,
    Subscribed,
)

if TYPE_CHECKING:
    from typing import Self

    from tests.support.history.records import Record, Result

JANE = "jane@example.org"
_SECOND = 1_000_000_000


class Told:
    """Each method adds its lines, and returns the same history, so that it reads as a sequence."""

    def __init__(self) -> None:
        """Nothing has happened; queue `all` is bound to every event, and `changes` to every change."""
        self.records: list[Record] = []
        self._ops = 0
        self._add(Subscribed, queue="all").add_listener()

    def history(self) -> History:
        return History(self.records)

    def add_listener(self) -> Self:
        return self._add(Subscribed, queue="changes", to="changes")

    def without(self, type_: type[Record]) -> Self:
        """As if nobody had written such a record."""
        self.records = [record for record in self.records if not isinstance(record, type_)]
        return self

    def subscribed(self, queue: str, *names: str) -> Self:
        return self._add(Subscribed, queue=queue, names=names)

    def began(
        self,
        number: int,
        *,
        name: str = "hard_bounced",
        at: int = 100,
        address: str | None = JANE,
        body: str = "",
    ) -> Self:
        """A POST begins, and does not end. Args: number: of the message; at: when the event happened."""
        self._ops += 1
        return self._add(
            PostInvoked,
            op=self._ops,
            body=body or f"body-{number}",
            message=str(number),
            name=name,
            event_at=at,
            address=address,
        )

    def posted(self, number: int, *, result: Result = OK, event_id: str | None = None, **event: Any) -> Self:
        """A POST and its end: answered 200 unless it is said otherwise."""
        self.began(number, **event)
        if result != OK:
            return self._add(PostEnded, op=self._ops, result=result, status="" if result == INFO else "400")
        id_ = f"e{number}" if event_id is None else event_id
        return self._add(
            PostEnded, op=self._ops, result=OK, status="200", durability="confirmed", event_id=id_
        )

    def came(
        self,
        number: int,
        *,
        name: str = "hard_bounced",
        queue: str = "all",
        event_id: str | None = None,
        body: str = "",
    ) -> Self:
        """The event of this message is delivered."""
        id_ = f"e{number}" if event_id is None else event_id
        return self._add(Delivered, queue=queue, event_id=id_, name=name, body=body or f"body-{number}")

    def changed(self, id_: int, action: str, number: int, **other: Any) -> Self:
        """A change is published, about the event of this message."""
        values: dict[str, Any] = {
            "address": JANE,
            "reason": "hard_bounce",
            "event_id": f"e{number}",
            "message": str(number),
        }
        return self._add(Changed, queue="changes", id=id_, action=action, **values | other)

    def looked(self, *entries: ListEntry, address: str = JANE) -> Self:
        """The list is read, and shows this."""
        return self.asks(address).sees(*entries)

    def asks(self, address: str = JANE) -> Self:
        self._ops += 1
        return self._add(ReadInvoked, op=self._ops, address=address)

    def sees(self, *entries: ListEntry) -> Self:
        """The look that was begun last has ended."""
        return self._add(ReadEnded, op=self._ops, result=OK, entries=entries)

    def ends(self, *entries: ListEntry, log: dict[int, str] | None = None) -> Self:
        """The list at the end, and perhaps its log."""
        if log is not None:
            self._add(FinalChanges, changes=tuple(log.items()))
        return self._add(FinalList, entries=entries)

    def left(self, where: str, *what: str) -> Self:
        return self._add(Leftover, where=where, what=what)

    def out_of_sight(self, domain: str) -> Self:
        return self._add(OutOfSight, domain=domain)

    def _add(self, type_: type[Record], **values: Any) -> Self:
        at = (len(self.records) + 1) * _SECOND
        self.records.append(type_(client="told", at=at, wall=at / _SECOND, **values))
        return self


def entry(
    count: int,
    first: int = 100,
    last: int | None = None,
    *,
    reason: str = "hard_bounce",
    address: str = JANE,
    message: str | None = None,
) -> ListEntry:
    """An entry of the list."""
    return ListEntry(address, reason, count, first, first if last is None else last, message)
