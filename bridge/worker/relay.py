"""Tells other services of every change of the list: from the outbox, in order, confirmed, then marked."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from pamqp import commands as spec

from bridge.amqp.backoff import after_refusals
from bridge.amqp.frames import composed
from bridge.amqp.publish_errors import NackedError, NotConnectedError, PublishError
from bridge.broker.messages import APP_ID, CONTENT_TYPE, PERSISTENT
from bridge.suppression.database import StoreUnavailableError
from bridge.telemetry import logs
from bridge.worker.failures import AGAINST_THE_DATABASE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.amqp.frames import Message
    from bridge.amqp.publisher import Publisher
    from bridge.suppression.changes import Change, Outbox
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.dependencies import Dependency

log = logs.logger("relay")

_AT_ONCE: Final = 200
_LOOK_EVERY_SECONDS: Final = 1.0
"""For changes made by other processes, such as `bridge suppressions add`."""


class Relay:
    """Publishes the outbox. A change is marked only when RabbitMQ has confirmed it, so none is lost.

    Of the workers that share a database one has the turn; the others look now and then whether it has become free.
    The turn is a lease: it runs out when its holder does not renew it, and nothing is sent after that.
    """

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        *,
        exchange: str,
        database: Dependency,
        metrics: Metrics,
    ) -> None:
        self._outbox = outbox
        self._database = database
        self._publisher = publisher
        self._exchange = exchange
        self._metrics = metrics
        metrics.before_reading(lambda: metrics.outbox_turn.set(outbox.in_turn))
        self._woken = asyncio.Event()
        self._at_once = _AT_ONCE
        self._has_turn = False
        self._nacks = 0
        """So often in a row the oldest change was refused."""
        self.busy = False
        """Whether it waits for an answer: of the database, or of RabbitMQ."""
        self.steps = 0
        """How many steps have ended: an answer of the database, or of RabbitMQ to all that was published, even a refusal."""

    def wake(self) -> None:
        """There are new changes: do not wait for the next look."""
        self._woken.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            self.busy = True
            try:
                advanced = await self._advance()
            except (PublishError, StoreUnavailableError) as error:
                log.warning("changes wait to be published", action="relay.waiting", error=str(error))
                advanced = False
                self.steps += 1
                if isinstance(error, NotConnectedError):
                    # RabbitMQ may be there for another worker. One who was refused stays: another would be, too.
                    await self._leave_turn()
                self._nacks = self._nacks + 1 if isinstance(error, NackedError) else 0
            else:
                self._nacks = 0
            self.busy = False
            if self._nacks:
                await self._rest_after_nack()
            elif not advanced:
                await self._rest()
            self._woken.clear()

    async def _rest(self) -> None:
        """Until there are new changes, or it is time to look; without the turn they are for another to publish."""
        if not self._outbox.in_turn:
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_SECONDS):
                await self._woken.wait()

    async def _rest_after_nack(self) -> None:
        """A queue that refuses: the others have the change, and each attempt puts a copy of it there.

        New changes are no reason to hurry. The next attempt has a channel of its own (rabbitmq-server#12206).
        """
        ends_at = time.monotonic() + after_refusals(self._nacks)
        while (left := ends_at - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._outbox.renew_turn_every))
            with suppress(StoreUnavailableError):  # then it runs out by itself
                await self._keep_turn()
        with suppress(NotConnectedError):
            await self._publisher.renew()

    async def _leave_turn(self) -> None:
        self._has_turn = False
        with suppress(StoreUnavailableError):  # then it runs out by itself
            await self._outbox.leave_turn()

    async def _advance(self) -> bool:
        """Publish the oldest changes; whether some were published, so that there may be more.

        Raises:
            PublishError: the first of them was not confirmed.
        """
        if not self._outbox.in_turn and not self._publisher.usable:
            return False
        changes: Sequence[Change] = ()
        if await self._in_turn():
            changes = await self._database.ask(
                lambda: self._outbox.pending(self._at_once), failing=AGAINST_THE_DATABASE
            )
        self.steps += 1
        outcomes = await self._publish(changes)
        self.steps += 1
        # Only up to the first that failed: those behind it are published once more after it, so that whoever
        # hears of a change twice ends with the latest. Until it is through, it is tried alone.
        published = list(takewhile(lambda outcome: outcome is None, outcomes))
        ids = [change.id for change, _ in zip(changes, published, strict=False)]
        if ids:
            await self._database.ask(
                lambda: self._outbox.mark_published(ids), failing=AGAINST_THE_DATABASE, work="write"
            )
        self.steps += 1
        self._metrics.relayed.inc(len(published))
        self._at_once = _AT_ONCE if published else 1
        if outcomes and not published and outcomes[0] is not None:
            raise outcomes[0]
        return bool(published)

    async def _in_turn(self) -> bool:
        """Take the turn if it is free, and keep it; whether it is ours."""
        mine = self._outbox.in_turn or await self._database.ask(
            self._outbox.turn_is_free, failing=AGAINST_THE_DATABASE
        )
        if mine:
            mine = await self._keep_turn()
        if mine and not self._has_turn:
            log.info("this worker publishes the changes of the list now", action="relay.turn")
        elif self._has_turn and not mine:
            log.warning("another worker publishes the changes of the list now", action="relay.turn_lost")
        self._has_turn = mine
        return mine

    async def _keep_turn(self) -> bool:
        if not self._outbox.turn_is_due:
            return True
        return await self._database.ask(self._outbox.claim_turn, failing=AGAINST_THE_DATABASE, work="write")

    async def _publish(self, changes: Sequence[Change]) -> list[BaseException | None]:
        """What became of each, in their order, up to the first that could not even be sent."""
        messages = [message_of(change, self._exchange) for change in changes]
        confirms: list[asyncio.Future[None]] = []
        unsent: list[PublishError] = []
        for message in messages:
            # Who was stopped or held up since the changes were read may have been replaced: it must read again.
            if not self._outbox.in_turn:
                break
            try:
                confirms.append(self._publisher.publish(message))
            except PublishError as error:
                unsent.append(error)
                break
        await self._confirmed(confirms)
        return [*await asyncio.gather(*confirms, return_exceptions=True), *unsent]

    async def _confirmed(self, confirms: Sequence[asyncio.Future[None]]) -> None:
        """Wait for RabbitMQ, however long it takes, and keep the turn meanwhile."""
        waiting = set(confirms)
        while waiting:
            _, waiting = await asyncio.wait(waiting, timeout=self._outbox.renew_turn_every)
            if waiting:
                with suppress(StoreUnavailableError):  # what is in flight is waited for all the same
                    await self._keep_turn()


def message_of(change: Change, exchange: str) -> Message:
    """A change as other services get it: the key is its action, the id that of the change."""
    return composed(
        exchange=exchange,
        routing_key=change.action,
        properties=spec.Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_type=change.action,
            message_id=f"change-{change.id}",
            app_id=APP_ID,
            timestamp=datetime.fromtimestamp(change.at, UTC),
        ),
        body=change.body(),
        mandatory=False,  # whether anybody has bound a queue for changes is theirs to decide
    )
