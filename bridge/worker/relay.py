"""Publishes every change of the list to other services: from the outbox, in order, marked once it is confirmed."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from bridge.amqp.publish_errors import NackedError, NotConnectedError, PublishError
from bridge.suppression.errors import StoreUnavailableError
from bridge.tasks import background_task
from bridge.telemetry import logs
from bridge.worker.change_publish import ChangePublish
from bridge.worker.failures import DATABASE_ERRORS
from bridge.worker.relay_refusals import RelayRefusals, StillBindingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.amqp.publish_errors import PublishCallback
    from bridge.amqp.publisher import Publisher
    from bridge.suppression.change import Change
    from bridge.suppression.changes import Outbox
    from bridge.telemetry.metrics import Metrics
    from bridge.telemetry.spans import Spans
    from bridge.worker.change_bindings import ChangeBindings
    from bridge.worker.dependencies import Dependency

log = logs.logger("worker")

_BATCH: Final = 250
_POLL_SECONDS: Final = 1.0
"""How often the outbox is read for changes of other processes, such as `bridge suppressions add`."""


class Relay:
    """Publishes the outbox. A change is marked only after RabbitMQ has confirmed it, so none is lost.

    It makes the bindings of those who follow the changes before it publishes anything, and while one of them is known, what
    reaches no queue is not marked either.

    Of the workers that share a database, one holds a lease and publishes. The others check regularly whether the lease is
    free. It expires unless its holder renews it, and a holder publishes nothing after that.
    """

    def __init__(
        self,
        outbox: Outbox,
        publisher: Publisher,
        *,
        exchange: str,
        bindings: ChangeBindings,
        database: Dependency,
        metrics: Metrics,
        spans: Spans | None = None,
    ) -> None:
        """Make a relay that does nothing until `run`.

        Args:
            outbox: the changes that are not published yet.
            publisher: sends them.
            exchange: to which they are published.
            bindings: of this exchange.
            database: its circuit breaker.
            metrics: count what was published, and show who holds the lease.
            spans: makes those of the traces that are recorded; None: none are.
        """
        self._outbox = outbox
        self._database = database
        self._publisher = publisher
        self._bindings = bindings
        self._changes = ChangePublish(publisher, exchange=exchange, spans=spans)
        self._metrics = metrics
        metrics.before_scrape(lambda: metrics.outbox_lease.set(outbox.holds_lease))
        self._wake_up = asyncio.Event()
        self._batch_size = _BATCH
        self._logged_as_holder = False
        """Whether the log has named this worker as the holder of the lease."""
        self._refusals = RelayRefusals()
        self.busy = False
        """Whether it waits for the database or for RabbitMQ."""
        self.steps = 0
        """How many steps have ended: an answer of the database, or RabbitMQ's answers to a batch, refusals included."""

    def changes_pending(self) -> None:
        """There are new changes: read the outbox now."""
        self._wake_up.set()

    async def run(self) -> None:
        """Relay until cancelled."""
        while True:
            self.busy = True
            try:
                advanced = await self._advance()
            except (PublishError, StoreUnavailableError) as error:
                advanced = False
                self.steps += 1
                self._refusals.note(error)
                if isinstance(error, NotConnectedError):
                    await self._release_lease()  # another worker may be connected to RabbitMQ
            else:
                self._refusals.clear()
            self.busy = False
            if self._refusals:
                await self._wait_after_refusal()
            elif not advanced:
                await self._rest()
            self._wake_up.clear()

    async def _rest(self) -> None:
        """Wait for new changes, or until it is time to read the outbox. Without the lease, another worker publishes them."""
        if not self._outbox.holds_lease:
            await asyncio.sleep(_POLL_SECONDS)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await self._wake_up.wait()

    async def _wait_after_refusal(self) -> None:
        """Wait as `RelayRefusals` says, and keep the lease: another worker would be refused, too.

        New changes do not end the wait. After a nack the next attempt uses a new channel (rabbitmq-server#12206).
        """
        ends_at = time.monotonic() + self._refusals.wait_seconds
        while (left := ends_at - time.monotonic()) > 0:
            await asyncio.sleep(min(left, self._outbox.lease_renew_seconds))
            with suppress(StoreUnavailableError):  # then it expires
                await self._keep_lease()
        if self._refusals.nacked:
            with suppress(NotConnectedError):
                await self._publisher.renew_channel()

    async def _release_lease(self) -> None:
        self._logged_as_holder = False
        with suppress(StoreUnavailableError):  # then it expires
            await self._outbox.release_lease()

    async def _advance(self) -> bool:
        """Publish the oldest changes. Returns whether some were published: then there may be more.

        Raises:
            PublishError: the first of them was not confirmed, or has to be published again.
        """
        if not self._outbox.holds_lease and not self._publisher.usable:
            return False
        changes: Sequence[Change] = ()
        if await self._take_lease():
            if self._bindings.due and not await self._make_bindings():
                return False
            changes = await self._database.call(
                lambda: self._outbox.pending(self._batch_size), errors=DATABASE_ERRORS
            )
        self.steps += 1
        outcomes = await self._publish(changes)
        self.steps += 1
        # Mark only up to the first failure. The changes behind it are published again after it, so that a service that
        # gets a change twice ends with the latest one. Until the failed change is confirmed, it is published alone.
        published = list(takewhile(lambda outcome: outcome is None, outcomes))
        if len(published) < len(outcomes) and not isinstance(outcomes[len(published)], NackedError):
            self._bindings.may_be_missing()
        if published and self._refusals.left_to_others:
            raise StillBindingError("it is published once more")
        ids = [change.id for change, _ in zip(changes, published, strict=False)]
        if ids:
            await self._database.call(
                lambda: self._outbox.mark_published(ids), errors=DATABASE_ERRORS, operation="write"
            )
        self.steps += 1
        self._metrics.relayed.inc(len(published))
        self._batch_size = _BATCH if published else 1
        if outcomes and not published and outcomes[0] is not None:
            raise outcomes[0]
        return bool(published)

    async def _make_bindings(self) -> bool:
        """Make the bindings, and keep the lease meanwhile. Returns whether they are made: an alarm of RabbitMQ is waited out.

        Raises:
            PublishError: they cannot be made.
        """
        if self._publisher.connection is not None and not self._publisher.usable:
            return False
        async with background_task(self._bindings.make(), name="worker.change_bindings") as making:
            while not (await asyncio.wait([making], timeout=self._outbox.lease_renew_seconds))[0]:
                with suppress(StoreUnavailableError):  # then it expires, and nothing is published
                    await self._keep_lease()
            making.result()
        self.steps += 1
        return True

    async def _take_lease(self) -> bool:
        """Take the lease if it is free, or renew it. Returns whether it is ours."""
        if not self._outbox.holds_lease:
            self._bindings.may_be_missing()  # another may have published meanwhile, and somebody deleted the exchange
        mine = self._outbox.holds_lease or await self._database.call(
            self._outbox.lease_is_free, errors=DATABASE_ERRORS
        )
        if mine:
            mine = await self._keep_lease()
        if mine and not self._logged_as_holder:
            log.info(
                "this worker publishes the changes of the list from now on", action="relay.lease_acquired"
            )
        elif self._logged_as_holder and not mine:
            log.warning(
                "another worker publishes the changes of the list from now on", action="relay.lease_lost"
            )
        self._logged_as_holder = mine
        return mine

    async def _keep_lease(self) -> bool:
        if not self._outbox.lease_renewal_due:
            return True
        return await self._database.call(
            self._outbox.write_lease_holder, errors=DATABASE_ERRORS, operation="write"
        )

    async def _publish(self, changes: Sequence[Change]) -> list[PublishError | None]:
        """Publish the changes. Returns an error or None for each, in order, up to the first that could not be sent."""
        answers = _Answers()
        mandatory = self._bindings.followed
        for change in changes:
            # If this process was stopped meanwhile, another may hold the lease now: the changes must be read again.
            if not self._outbox.holds_lease:
                break
            callback = answers.expect()
            try:
                self._changes.send(change, callback, mandatory=mandatory)
            except PublishError as error:
                callback(error)
                break
        while not await answers.complete_within(self._outbox.lease_renew_seconds):
            with suppress(
                StoreUnavailableError
            ):  # go on waiting for what is in flight, however long it takes
                await self._keep_lease()
        return answers.outcomes


class _Answers:
    """RabbitMQ's answers to the changes of one batch. A future for each change would cost as much as to publish it."""

    def __init__(self) -> None:
        self.outcomes: list[PublishError | None] = []
        """In the order of `expect`: an error, or None."""
        self._missing = 0
        self._complete = asyncio.Event()
        self._complete.set()

    def expect(self) -> PublishCallback:
        """The callback for the answer to one more change."""
        self._missing += 1
        self._complete.clear()
        self.outcomes.append(None)
        return partial(self._take, len(self.outcomes) - 1)

    def _take(self, place: int, error: PublishError | None) -> None:
        self.outcomes[place] = error
        self._missing -= 1
        if not self._missing:
            self._complete.set()

    async def complete_within(self, seconds: float) -> bool:
        """Wait for all answers, at most so long. Returns whether all are there."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._complete.wait()
        return not self._missing
