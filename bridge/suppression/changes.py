"""The change log: the list's audit trail, and the outbox from which other services are told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import orjson
from sqlalchemy import func, select, update

from bridge.suppression import bulk, model
from bridge.suppression.database import uninterrupted
from bridge.suppression.lease import Lease
from bridge.suppression.policy import Reason
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Row

    from bridge.suppression.database import Database

Action = Literal["added", "updated", "removed"]

TURN: Final = "publish changes"
"""The name of the lease that the one process has which publishes."""
TURN_SECONDS: Final = 10.0
"""How long the turn lasts where nobody says otherwise."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the log."""

    id: int
    """Ascending: of two changes of one entry, the later has the greater id."""
    at: int
    """When the list was changed, Unix seconds (not when the event happened)."""
    action: Action
    address: str
    """Normalised."""
    reason: Reason
    actor: str
    note: str
    event_id: str | None
    """None where a person made the change."""
    message_id: str | None
    evidence: bytes | None
    """The provider's bytes; of a removal, those that had caused the entry."""
    published_at: int | None
    reasons: tuple[Reason, ...] | None = None
    """Those for which the address is suppressed after this change; None: it was made before this was kept."""

    def document(self) -> dict[str, Any]:
        """What others get to know of it, ready for JSON: everything but the evidence; times in RFC 3339."""
        document: dict[str, Any] = {
            "id": self.id,
            "action": self.action,
            "address": self.address,
            "reason": self.reason.value,
            "at": rfc3339(self.at),
            "actor": self.actor,
            "note": self.note,
            "event_id": self.event_id,
            "message_id": self.message_id,
        }
        if self.reasons is not None:
            document["still_suppressed"] = bool(self.reasons)
            document["reasons"] = [reason.value for reason in self.reasons]
        return document

    def body(self) -> bytes:
        """The document as JSON: the body of the message that tells other services."""
        return orjson.dumps(self.document())


class Lag(NamedTuple):
    """How far the outbox is behind."""

    changes: int
    """Those that are not published yet."""
    seconds: int
    """Age of the oldest of them; 0 where there is none."""


class Outbox:
    """Changes that were committed with the list and still have to be published.

    A change stays until it is marked, so one that is published twice (the mark was lost) has the same id. Of the
    processes that share a database, one at a time has the turn to publish: a lease in that database.
    """

    def __init__(self, database: Database, clock: Callable[[], float], *, turn_seconds: float) -> None:
        """Make an outbox whose turn we do not have.

        Args:
            database: the list's.
            clock: the time in Unix seconds.
            turn_seconds: after which another process may take the turn, when we do not renew it.
        """
        self._database = database
        self._clock = clock
        self._turn = Lease(database, TURN, seconds=turn_seconds)

    @property
    def in_turn(self) -> bool:
        """Whether it is our turn to publish at this moment. Who has been held up since `pending` must look again."""
        return self._turn.held

    @property
    def turn_is_due(self) -> bool:
        """Whether it is time to `claim_turn`."""
        return self._turn.due

    @property
    def renew_turn_every(self) -> float:
        """Seconds after which that is so again."""
        return self._turn.renew_every

    async def pending(self, limit: int) -> list[Change]:
        """Up to `limit` changes that are not published, oldest first; none while another process has the turn.

        It takes the turn where that is free. Who has claimed it before only reads.

        One whose transaction was slower than those behind it is there once it is committed. Those of one entry are
        committed in the order of their ids: each was written under the lock of that entry.

        Raises:
            StoreError: the list cannot be read or written (`StoreUnavailableError` where waiting may help).
        """
        return await self._oldest(limit) if await self._turn.take() else []

    async def turn_is_free(self) -> bool:
        """Whether nobody has the turn. This only reads.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        return await self._turn.free()

    async def claim_turn(self) -> bool:
        """Renew the turn, or take it where it is free; whether it is ours. This writes.

        Raises:
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        return await self._turn.claim()

    async def leave_turn(self) -> None:
        """Let another process publish at once. The next `pending` asks for the turn again.

        Raises:
            StoreError: the list cannot be written: another process waits until the turn has run out.
        """
        await self._turn.give_back()

    @uninterrupted
    async def _oldest(self, limit: int) -> list[Change]:
        query = (
            select(model.changes)
            .where(model.changes.c.published_at.is_(None))
            .order_by(model.changes.c.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [change_of(row) for row in await connection.execute(query)]

    @uninterrupted
    async def mark_published(self, ids: Collection[int]) -> None:
        """These have been confirmed by the broker. Marking one again changes nothing.

        Raises:
            StoreError: the list cannot be written (`StoreUnavailableError` where waiting may help).
        """
        if not ids:
            return
        now = int(self._clock())
        async with self._database.write() as connection:
            for some in bulk.among(connection, model.changes.c.id, ids):
                await connection.execute(
                    update(model.changes)
                    .where(some, model.changes.c.published_at.is_(None))
                    .values(published_at=now)
                )

    @uninterrupted
    async def lag(self) -> Lag:
        """How many changes wait, and for how long the oldest has.

        Raises:
            StoreError: the list cannot be read (`StoreUnavailableError` where waiting may help).
        """
        query = select(func.count(), func.min(model.changes.c.at)).where(
            model.changes.c.published_at.is_(None)
        )
        async with self._database.read() as connection:
            count, oldest = (await connection.execute(query)).one()
        return Lag(count, 0 if oldest is None else max(0, int(self._clock()) - oldest))


def change_of(row: Row[Any]) -> Change:
    """A row of the table `changes`, as data."""
    return Change(
        id=row.id,
        at=row.at,
        action=row.action,
        address=row.address,
        reason=Reason(row.reason),
        actor=row.actor,
        note=row.note,
        event_id=row.event_id,
        message_id=row.message_id,
        evidence=row.evidence,
        published_at=row.published_at,
        reasons=None if row.reasons is None else tuple(Reason(one) for one in row.reasons.split(",") if one),
    )
