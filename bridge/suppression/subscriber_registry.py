"""Subscribers that were added while everything ran: they are kept with the list, so that all machines know them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pydantic import ValidationError
from sqlalchemy import delete, insert, select, text, update

from bridge.settings.subscribers import Subscriber, conflict
from bridge.settings.values import complaint_of
from bridge.suppression import opening
from bridge.suppression.database import shielded
from bridge.suppression.errors import StoreError, SubscriberConflictError
from bridge.suppression.model import subscribers
from bridge.telemetry import logs
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.database import Database

log = logs.logger("suppression")

_UNREAD: Final = "subscribers that were added by a newer bridge are not known: this one cannot read those of {}; use the newer one"


@dataclass(frozen=True, slots=True)
class RegisteredSubscriber:
    """A row of the registry."""

    subscriber: Subscriber
    added_at: int
    """Unix seconds."""
    added_by: str
    in_force: bool
    """Whether workers declare its queues: not while it is being added or removed, nor where that was interrupted."""

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON; the time in RFC 3339."""
        return {
            **self.subscriber.model_dump(mode="json"),
            "added_at": rfc3339(self.added_at),
            "added_by": self.added_by,
            "in_force": self.in_force,
        }


class SubscriberRegistry:
    """The registered subscribers. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help.

    One is reserved, its queues are declared, and only then it is in force: no worker declares one that could not be added.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        """Args: the list's database, with the newest revision; the time in Unix seconds."""
        self._database = database
        self._clock = clock

    @shielded
    async def all(self) -> list[RegisteredSubscriber]:
        """All of them, by name. One that cannot be read is logged, and left out."""
        async with self._database.read() as connection:
            return await _read(connection)

    @shielded
    async def names(self) -> list[str]:
        """The queues of all of them, also of those that cannot be read."""
        async with self._database.read() as connection:
            return list((await connection.execute(select(subscribers.c.queue))).scalars())

    async def current(self) -> list[Subscriber]:
        """Those in force: the ones whose queues are to be there."""
        return [one.subscriber for one in await self.all() if one.in_force]

    async def get(self, queue: str) -> RegisteredSubscriber | None:
        """The one with this queue, which is named without `rabbitmq.prefix`; None if there is none."""
        return next((one for one in await self.all() if one.subscriber.queue == queue), None)

    @shielded
    async def reserve(self, subscriber: Subscriber, *, actor: str) -> RegisteredSubscriber:
        """Register it, not in force yet. Args: it; who adds it.

        Raises:
            SubscriberConflictError: its queue, or that of its dead letters, is another one's that is registered.
        """
        added = RegisteredSubscriber(subscriber, int(self._clock()), actor, in_force=False)
        async with self._database.write() as connection:
            await _exclude_others(connection)
            registered = await _read(connection)
            if (reason := conflict(subscriber, [one.subscriber for one in registered])) is not None:
                raise SubscriberConflictError(_told(subscriber, registered, reason))
            row = {
                "queue": subscriber.queue,
                "settings": subscriber.model_dump_json(exclude_defaults=True),
                "added_at": added.added_at,
                "added_by": actor,
                "in_force": False,
            }
            await connection.execute(insert(subscribers).values(row))
        return added

    @shielded
    async def set_in_force(self, queue: str, *, in_force: bool) -> bool:
        """Whether workers declare its queues from now on. Returns whether it is registered at all."""
        async with self._database.write() as connection:
            put = update(subscribers).where(subscribers.c.queue == queue).values(in_force=in_force)
            return bool((await connection.execute(put.returning(subscribers.c.queue))).all())

    @shielded
    async def remove(self, queue: str) -> None:
        """Take it out of the registry. It need not be there any more."""
        async with self._database.write() as connection:
            await connection.execute(delete(subscribers).where(subscribers.c.queue == queue))


class Registered(NamedTuple):
    """What a command finds in the registry."""

    subscribers: tuple[RegisteredSubscriber, ...]
    note: str | None
    """Why it could not be read, one line; None: it was."""

    @property
    def current(self) -> list[Subscriber]:
        """As `SubscriberRegistry.current`."""
        return [one.subscriber for one in self.subscribers if one.in_force]


async def read_registered(database_url: str) -> Registered:
    """What is registered in this database, for commands that work without one, too. Nothing is made or migrated.

    Args:
        database_url: `suppression.database_url`.
    """
    try:
        async with opening.database_at(database_url) as database:
            database.check_before_connecting(create=False)
            if (await database.revisions()).is_newest:
                registry = SubscriberRegistry(database)
                found = tuple(await registry.all())
                unread = set(await registry.names()) - {one.subscriber.queue for one in found}
                return Registered(found, _UNREAD.format(", ".join(sorted(unread))) if unread else None)
            reason = f"{database.name} has another revision than this bridge; see `bridge db status`"
    except StoreError as error:
        reason = str(error)
    return Registered((), f"subscribers that were added by `bridge subscribers add` are not known: {reason}")


def _told(subscriber: Subscriber, registered: Sequence[RegisteredSubscriber], reason: str) -> str:
    same = next((one for one in registered if one.subscriber.queue == subscriber.queue), None)
    if same is None:
        return reason
    if same.in_force:
        return f"'{subscriber.queue}' is registered already, by {same.added_by} at {rfc3339(same.added_at)}"
    return (
        f"'{subscriber.queue}' is being added or removed, or that was interrupted: "
        f"`bridge subscribers remove {subscriber.queue}` ends it"
    )


async def _exclude_others(connection: AsyncConnection) -> None:
    """Two that add at once do it one after the other. SQLite has one writer at a time anyway."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"LOCK TABLE {subscribers.name} IN SHARE ROW EXCLUSIVE MODE"))


async def _read(connection: AsyncConnection) -> list[RegisteredSubscriber]:
    rows = await connection.execute(select(subscribers).order_by(subscribers.c.queue))
    return [one for row in rows if (one := _registered(row)) is not None]


def _registered(row: Row[Any]) -> RegisteredSubscriber | None:
    try:
        subscriber = Subscriber.model_validate_json(row.settings)
    except ValidationError as invalid:
        log.warning(
            "a registered subscriber cannot be read, and is left out; was it added by a newer bridge?",
            action="subscribers.unreadable",
            queue=row.queue,
            reason=complaint_of(invalid),
        )
        return None
    return RegisteredSubscriber(subscriber, row.added_at, row.added_by, in_force=row.in_force)
