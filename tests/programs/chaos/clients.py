"""Who uses the stack, and writes the history: the provider, the services behind the queues, a sender that reads the list."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yarl import URL

from bridge.amqp.connection import open_connection
from bridge.amqp.properties import decode_properties
from bridge.broker import archive
from bridge.broker.queue_counts import ready_messages
from bridge.tasks import background_task, wait_while_running
from tests.programs.chaos.stack import ADDRESSES, AUDIT, CHANGES, CRM, CRM_EVENTS, DELAYS
from tests.support.history.consuming import Consumer
from tests.support.history.list_reading import reading_list
from tests.support.history.mail import BUSY_MIX, mails
from tests.support.history.posting import Poster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator

    from aio_pika.abc import AbstractConnection

    from tests.programs.chaos.stack import Stack
    from tests.support.history.list_reading import ListReader
    from tests.support.history.mail import Mail
    from tests.support.history.recorder import Recorder

ARCHIVE: Final = "archive"
"""In the history: what is read out of the archive at the end, as of a queue for everything."""
_CONNECTIONS: Final = 16
_REPEATED: Final = 0.05
"""The share of events that the provider posts again, as one that had no answer."""
_REMEMBERED: Final = 200
_READ_EVERY_SECONDS: Final = 0.25
_NAMES: Final = {AUDIT: ("#",), CRM: CRM_EVENTS}


@dataclass(frozen=True, slots=True)
class Clients:
    stack: Stack
    recorder: Recorder
    poster: Poster
    reader: ListReader
    again: dict[str, asyncio.Event]
    """Queue -> set when its consumer should subscribe anew: RabbitMQ 3.10 does not tell it of every deletion."""
    strict_archive: bool
    """Whether all that was answered 200 has to be in the archive."""

    def subscribed(self, *queues: str) -> None:
        """These stand again, after a deletion."""
        for queue in queues:
            self.recorder.subscribed(queue, _NAMES[queue])
            self.again[queue].set()

    async def finish(self) -> None:
        """Write down what there is at the end.

        Raises:
            SQLAlchemyError, AMQPError, OSError: it cannot be read.
        """
        names = self.stack.names
        await self.reader.finish()
        self.recorder.left("spool", [f"{count} events"] if (count := await self.stack.spooled()) else [])
        async with await open_connection(self.stack.broker_urls[0], name="chaos") as connection:
            own = [names.suppression, names.backfill, *(names.retry(delay) for delay in DELAYS)]
            self.recorder.left("queue", await _not_empty(connection, own))
            self.recorder.left("dead letters", await _ids_in(connection, names.dead))
            if self.strict_archive:
                await self._read_archive(connection)
        self.recorder.flush()

    async def _read_archive(self, connection: AbstractConnection) -> None:
        async with aclosing(archive.read_archive(connection, self.stack.names.archive)) as found:
            async for events in found:
                for event in events:
                    properties = decode_properties(event.properties)
                    self.recorder.delivered(
                        ARCHIVE, properties.message_id or "", properties.values.get("type") or "", event.body
                    )


@asynccontextmanager
async def using(
    stack: Stack,
    recorder: Recorder,
    *,
    seed: int,
    rate: float,
    lost_by_deletion: Collection[str],
    archived: bool,
) -> AsyncIterator[Clients]:
    """All of them are there; the poster is the caller's to run.

    Args:
        stack: works.
        recorder: of the history.
        seed: which events are repeated, and which addresses are read, is drawn from it.
        rate: POSTs a second.
        lost_by_deletion: queues that miss what a fault deletes: they are judged from when they stand again.
        archived: whether the archive has to have everything.
    """
    chance = random.Random(seed)  # noqa: S311 -- it has to be the same again
    ports = [URL(stack.webhook(one)).port or 0 for one in stack.receivers]
    path = URL(stack.webhook(stack.receivers[0])).path
    posted = _repeated(mails(BUSY_MIX, addresses=ADDRESSES), chance)
    poster = Poster(ports, path, posted, recorder, rate=rate, connections=_CONNECTIONS)
    urls = stack.broker_urls
    consumers = {
        queue: Consumer(urls, recorder, events={queue: names}, announced=queue not in lost_by_deletion)
        for queue, names in _NAMES.items()
    } | {CHANGES: Consumer(urls, recorder, changes=[CHANGES])}
    again = {queue: asyncio.Event() for queue in consumers}
    if archived:
        recorder.subscribed(ARCHIVE)
    async with AsyncExitStack() as open_parts:
        reader = await open_parts.enter_async_context(reading_list(stack.database_url, recorder))
        for queue, consumer in consumers.items():
            consuming = _consumed(consumer, again[queue])
            await open_parts.enter_async_context(background_task(consuming, name=f"consumer of {queue}"))
        reading = reader.run(
            lambda: f"recipient{chance.randint(1, ADDRESSES)}@example.org", every=_READ_EVERY_SECONDS
        )
        await open_parts.enter_async_context(background_task(reading, name="list reader"))
        yield Clients(stack, recorder, poster, reader, again, archived)


def _repeated(posted: Iterator[Mail], chance: random.Random) -> Iterator[Mail]:
    """The same events, some of them twice."""
    before: deque[Mail] = deque(maxlen=_REMEMBERED)
    for mail in posted:
        yield mail
        before.append(mail)
        if chance.random() < _REPEATED:
            yield chance.choice(before)


async def _consumed(consumer: Consumer, again: asyncio.Event) -> None:
    """Without end; on a new connection each time that this is set."""
    while True:
        async with background_task(consumer.run(), name="consumer") as running:
            await wait_while_running(again, running)
        again.clear()


async def _ids_in(connection: AbstractConnection, name: str) -> list[str]:
    """Of the messages in a queue, which stay there."""
    found = []
    async with connection.channel() as channel:  # its end gives back what nobody has acknowledged
        queue = await channel.get_queue(name)
        while (message := await queue.get(fail=False)) is not None:
            found.append(message.message_id or "without an id")
    return found


async def _not_empty(connection: AbstractConnection, queues: Collection[str]) -> list[str]:
    found = []
    for queue in queues:
        count = await ready_messages(connection, queue)
        if count:
            found.append(f"{queue}: {count}")
    return found
