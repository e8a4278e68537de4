"""Subscribers that were added while everything ran: they are kept with the list, so that all machines know them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import delete, insert, select, text, update

from bridge.settings.subscribers import Subscriber, conflict
from bridge.settings.values import complaint_of
from bridge.suppression import opening
from bridge.suppression.database import shielded
from bridge.suppression.errors import NoSuchSubscriberError, StoreError, SubscriberConflictError
from bridge.suppression.model import subscribers
from bridge.telemetry import logs
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.database import Database

log = logs.logger("suppression")


@dataclass(frozen=True, slots=True)
class RegisteredSubscriber:
    """A row of the registry."""

    subscriber: Subscriber
    added_at: int
    """Unix seconds."""
    added_by: str
    removing: bool = False
    """Whether its removal was begun: nobody declares its queue any more."""

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON; the time in RFC 3339."""
        return {
            **self.subscriber.model_dump(mode="json"),
            "added_at": rfc3339(self.added_at),
            "added_by": self.added_by,
            "removing": self.removing,
        }


class SubscriberRegistry:
    """The registered subscribers. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        """Args: the list's database, with the newest revision; the time in Unix seconds."""
        self._database = database
        self._clock = clock

    @shielded
    async def all(self) -> list[RegisteredSubscriber]:
        """All of them, by name. One that cannot be read is logged, and left out."""
        async with self._database.read() as connection:
            return await _read(connection)

    async def current(self) -> list[Subscriber]:
        """Those whose queues are to be there: without those that are being removed."""
        return [one.subscriber for one in await self.all() if not one.removing]

    @shielded
    async def add(
        self, subscriber: Subscriber, *, actor: str, of_settings: Sequence[Subscriber] = ()
    ) -> RegisteredSubscriber:
        """Register it.

        Args:
            subscriber: it.
            actor: who adds it.
            of_settings: those of the settings, beside which it must be able to stand, too.

        Raises:
            SubscriberConflictError: its queue, or that of its dead letters, is another subscriber's.
        """
        if (reason := conflict(subscriber, of_settings)) is not None:
            raise SubscriberConflictError(f"the settings ([[subscribers]]) have it: {reason}")
        added = RegisteredSubscriber(subscriber, int(self._clock()), actor)
        async with self._database.write() as connection:
            await _exclude_others(connection)
            registered = await _read(connection)
            for one in registered:
                if one.subscriber.queue == subscriber.queue and one.removing:
                    raise SubscriberConflictError(
                        f"the removal of '{subscriber.queue}' is not finished: run `bridge subscribers remove "
                        f"{subscriber.queue}` again first"
                    )
            if (reason := conflict(subscriber, [one.subscriber for one in registered])) is not None:
                raise SubscriberConflictError(f"it is registered already: {reason}")
            row = {
                "queue": subscriber.queue,
                "settings": subscriber.model_dump_json(exclude_defaults=True),
                "added_at": added.added_at,
                "added_by": actor,
            }
            await connection.execute(insert(subscribers).values(row))
        return added

    @shielded
    async def get(self, queue: str) -> RegisteredSubscriber:
        """The subscriber with this queue, named without `rabbitmq.prefix`.

        Raises:
            NoSuchSubscriberError: there is none.
        """
        async with self._database.read() as connection:
            for one in await _read(connection):
                if one.subscriber.queue == queue:
                    return one
        raise NoSuchSubscriberError(f"no subscriber '{queue}' is registered; see `bridge subscribers list`")

    @shielded
    async def mark_removing(self, queue: str, *, removing: bool) -> None:
        """From now on nobody declares its queue any more; or, where its removal has failed, everybody does again.

        Raises:
            NoSuchSubscriberError: there is none.
        """
        at = int(self._clock()) if removing else None
        async with self._database.write() as connection:
            marked = await connection.execute(
                update(subscribers).where(subscribers.c.queue == queue).values(removing_since=at)
            )
            if not marked.rowcount:
                raise NoSuchSubscriberError(f"no subscriber '{queue}' is registered any more")

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
        return [one.subscriber for one in self.subscribers if not one.removing]


async def read_registered(database_url: str) -> Registered:
    """What is registered in this database, for commands that work without one, too. Nothing is made or migrated.

    Args:
        database_url: `suppression.database_url`.
    """
    try:
        async with opening.database_at(database_url) as database:
            database.check_before_connecting(create=False)
            if (await database.revisions()).is_newest:
                return Registered(tuple(await SubscriberRegistry(database).all()), None)
            reason = f"{database.name} has another revision than this bridge; see `bridge db status`"
    except StoreError as error:
        reason = str(error)
    return Registered((), f"subscribers that were added by `bridge subscribers add` are not known: {reason}")


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
    return RegisteredSubscriber(
        subscriber, row.added_at, row.added_by, removing=row.removing_since is not None
    )
