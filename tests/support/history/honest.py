"""Histories of a bridge that keeps its promises: played by chance, on a clock of its own, with a policy written out once more.

The checker's own tests are made of them: such a history is accepted, and one that is changed anywhere is not.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from tests.support.history import records
from tests.support.history.records import (
    Changed,
    Delivered,
    FinalChanges,
    FinalList,
    Leftover,
    ListEntry,
    PostEnded,
    PostInvoked,
    ReadEnded,
    ReadInvoked,
    Subscribed,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from tests.support.history.records import Record

EVERYTHING: Final = "everything"
COMPLAINTS: Final = "complaints"
CHANGES: Final = "changes"
QUEUES: Final = {EVERYTHING: ("#",), COMPLAINTS: ("complained",)}
REASONS: Final = {"hard_bounced": "hard_bounce", "complained": "complaint"}
_NAMES: Final = ("delivered", "hard_bounced", "hard_bounced", "complained")
_BEGAN: Final = 1_700_000_000
_SECOND: Final = 1_000_000_000


class HonestRun:
    """One run. All that happens is put into its calendar, and done in the order of time."""

    def __init__(
        self, random: Random, *, events: int, addresses: int, reads: int = 0, listening: bool = True
    ) -> None:
        """Draw what is posted, and when.

        Args:
            random: all chance comes from it.
            events: how many are posted.
            addresses: to how many recipients.
            reads: how often the list is looked at.
            listening: whether somebody hears the changes.
        """
        self.records: list[Record] = []
        self._random = random
        self._listening = listening
        self._calendar: list[tuple[int, int, Callable[[int], None]]] = []
        self._numbers, self._ops = count(), count(1)
        self._entries: dict[str, dict[str, ListEntry]] = {}
        """Address -> reason -> entry."""
        self._log: list[tuple[int, str]] = []
        self._last_published = 0
        for queue, names in QUEUES.items():
            self.records.append(Subscribed(at=0, wall=0.0, queue=queue, names=names))
        if listening:
            self.records.append(Subscribed(at=0, wall=0.0, queue=CHANGES, to="changes"))
        span = events * _SECOND // 100
        for number in range(1, events + 1):
            recipient = f"recipient{random.randint(1, addresses)}@example.org"
            self._later(random.randint(1, span), self._posting(number, recipient))
        for _ in range(reads):
            recipient = f"recipient{random.randint(1, addresses)}@example.org"
            self._later(random.randint(1, 2 * span), self._reading(recipient))

    def play(self) -> list[Record]:
        """Everything, to its end. Returns the history."""
        now = 0
        while self._calendar:
            now, _, action = heappop(self._calendar)
            action(now)
        self._note(
            FinalList, now + 1, entries=tuple(one for some in self._entries.values() for one in some.values())
        )
        self._note(FinalChanges, now + 1, changes=tuple(self._log))
        self._note(Leftover, now + 1, where="outbox", what=())
        return self.records

    def _later(self, at: int, action: Callable[[int], None]) -> None:
        heappush(self._calendar, (at, next(self._numbers), action))

    def _soon(self, now: int) -> int:
        return now + self._random.randint(1, _SECOND)

    def _note(self, type_: type[Record], now: int, **values: Any) -> None:
        self.records.append(type_(client="honest", at=now, wall=_BEGAN + now / _SECOND, **values))

    def _posting(self, number: int, address: str) -> Callable[[int], None]:
        name = self._random.choice(_NAMES)
        event_at = _BEGAN + self._random.randint(0, 20)
        body, event_id = records.body_hash(b"%d" % number), f"event-{number}"
        result = self._random.choices((records.OK, records.INFO, records.FAIL), (20, 2, 1))[0]

        def post(now: int) -> None:
            op = next(self._ops)
            self._note(
                PostInvoked, now, op=op, body=body, message=str(number), name=name, event_at=event_at, address=address
            )  # fmt: skip
            told: dict[str, Any] = {"status": "400"} if result == records.FAIL else {}
            if result == records.OK:
                durability = self._random.choice(("confirmed", "spooled"))
                told = {"status": "200", "durability": durability, "event_id": event_id}
            self._later(
                self._soon(now), lambda then: self._note(PostEnded, then, op=op, result=result, **told)
            )
            if result == records.FAIL:
                return
            for queue, bound in QUEUES.items():
                if (bound == ("#",) or name in bound) and self._happens(result):
                    self._deliver(now, queue, event_id, name, body)
            if name in REASONS and self._happens(result):
                self._later(self._soon(now), self._applying(number, name, event_at, address, event_id))

        return post

    def _happens(self, result: str) -> bool:
        """What has no answer may have come here, or not."""
        return result == records.OK or self._random.random() < 0.5

    def _deliver(self, now: int, queue: str, event_id: str, name: str, body: str) -> None:
        for again in range(1 + (self._random.random() < 0.1)):
            self._later(
                self._soon(now),
                lambda then, again=bool(again): self._note(  # type: ignore[misc]  # mypy cannot infer a lambda's default
                    Delivered, then, queue=queue, event_id=event_id, name=name, body=body, redelivered=again
                ),
            )

    def _applying(
        self, number: int, name: str, event_at: int, address: str, event_id: str
    ) -> Callable[[int], None]:
        def apply(now: int) -> None:
            reason = REASONS[name]
            entries = self._entries.setdefault(address, {})
            known = entries.get(reason)
            one = ListEntry(address, reason, 1, event_at, event_at, str(number))
            if known is not None:
                earliest = min(known, one, key=lambda entry: (entry.first_event_at, entry.message))
                one = ListEntry(
                    address,
                    reason,
                    known.count + 1,
                    earliest.first_event_at,
                    max(known.last_event_at, event_at),
                    earliest.message,
                )
            entries[reason] = one
            id_ = len(self._log) + 1
            self._log.append((id_, address))
            reasons = tuple(sorted(entries))
            self._publish(
                now,
                id=id_,
                action="added" if known is None else "updated",
                address=address,
                reason=reason,
                event_id=event_id,
                message=str(number),
                reasons=reasons,
            )

        return apply

    def _publish(self, now: int, **values: Any) -> None:
        if not self._listening:
            return
        self._last_published = max(self._soon(now), self._last_published + 1)
        for again in range(1 + (self._random.random() < 0.05)):
            self._later(
                self._last_published + again * _SECOND,
                lambda then: self._note(Changed, then, queue=CHANGES, **values),
            )

    def _reading(self, address: str) -> Callable[[int], None]:
        def read(now: int) -> None:
            op = next(self._ops)
            self._note(ReadInvoked, now, op=op, address=address)

            def look(then: int) -> None:
                seen = tuple(self._entries.get(address, {}).values())
                self._later(
                    self._soon(then),
                    lambda end: self._note(ReadEnded, end, op=op, result=records.OK, entries=seen),
                )

            self._later(self._soon(now), look)

        return read


def honest_history(
    random: Random, *, events: int = 30, addresses: int = 4, reads: int = 10, listening: bool = True
) -> list[Record]:
    """What a bridge that keeps its promises leaves behind. See `HonestRun`."""
    return HonestRun(random, events=events, addresses=addresses, reads=reads, listening=listening).play()
