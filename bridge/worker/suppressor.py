"""Handles the events: finds the address of each, and records it on the list, a batch in one transaction."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from bridge.broker.trace_headers import trace_field
from bridge.suppression.address_keys import PLAIN
from bridge.suppression.addresses import InvalidAddressError
from bridge.suppression.errors import RefusedValueError, StoreUnavailableError
from bridge.suppression.suppressing_events import Delivered, event_of_address
from bridge.tasks import task_group
from bridge.telemetry import logs, metric_definitions
from bridge.telemetry.scrubbing import masked
from bridge.worker import failures
from bridge.worker.delivery_result import DeliveryResult, failed_delivery
from bridge.worker.event_of_delivery import event_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from bridge.amqp.message_types import Delivery
    from bridge.events import Event
    from bridge.settings.sections import Settings
    from bridge.suppression.policy import Policy
    from bridge.suppression.suppressing_events import ListEvent, RecordedEvent
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.dependencies import Dependency, Operation

    Report = Callable[[DeliveryResult], None]

T = TypeVar("T")

log = logs.logger("worker")

ACTOR = "worker"
"""The actor of the worker's changes, in the change log."""

_UNCHANGED: Final = MappingProxyType(
    {
        "repeated": "event was handled before",
        "outdated": "event does not count: the address was taken off the list since, or what it suppressed is over",
        "counted": "soft bounce counted: the list stays as it is",
    }
)
"""Outcome -> message of the log, for an event that changes no entry."""


class Recorder(Protocol):
    """What it does with the list: `Store` can."""

    async def known_addresses(self, message_ids: Collection[str]) -> dict[str, str]: ...

    async def record(
        self, events: Sequence[ListEvent], *, actor: str, addresses: Mapping[str, str]
    ) -> list[RecordedEvent]: ...


class Lookup(Protocol):
    """Finds the address of a message: `AddressLookup`."""

    async def address(self, message_id: str) -> str: ...


class _PendingEvent(NamedTuple):
    """A delivery whose event the policy uses; its address may still be unknown."""

    delivery: Delivery
    event: Event
    address: str | None = None
    looked_up: bool = False


class Suppressor:
    """The worker's `DeliveryHandler`: records the events of deliveries on the suppression list."""

    def __init__(
        self,
        *,
        settings: Settings,
        policy: Policy,
        store: Recorder,
        database: Dependency,
        address_lookup: Lookup,
        on_recorded: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """Make a suppressor that does nothing until `run`.

        Args:
            settings: size of the worker's batches, and whether addresses are masked in the log.
            policy: which events suppress.
            store: the list.
            database: its circuit breaker.
            address_lookup: asks the provider for addresses.
            on_recorded: called after each transaction that changes the list.
            metrics: show the size of the transactions.
        """
        self._worker = settings.worker
        self._policy = policy
        self._store = store
        self._database = database
        self._address_lookup = address_lookup
        self._on_recorded = on_recorded
        self._sizes = metrics.buffered_histogram(metrics.batch_size, metric_definitions.SIZE_BUCKETS)
        self.steps = 0
        """How many results were reported, and how often the database has answered."""
        self._shown = masked if settings.logs.mask_addresses else str

    async def run(self, inbox: asyncio.Queue[Delivery], report: Report) -> None:
        """Handle deliveries until cancelled. A slow look-up delays only its own delivery.

        Raises:
            StoreError: the list cannot be used, and waiting does not help.
        """
        queue: asyncio.Queue[_PendingEvent] = asyncio.Queue()

        def report_step(result: DeliveryResult) -> None:
            self.steps += 1
            report(result)

        async with task_group() as tasks:
            tasks.create_task(self._read(inbox, queue, report_step), name="worker.read")
            while True:
                batch = await self._collect(queue)
                missing = await self._handle(batch, report_step)
                for pending in missing:
                    tasks.create_task(self._look_up(pending, queue, report_step), name="worker.look_up")

    async def _read(
        self, inbox: asyncio.Queue[Delivery], queue: asyncio.Queue[_PendingEvent], report: Report
    ) -> None:
        bound = log.bind()  # once: else structlog would make a logger for each line
        while True:
            delivery = await inbox.get()
            event = event_of(delivery)
            if isinstance(event, failures.Failure):
                report(failed_delivery(delivery, event))
                continue
            if self._policy.uses(event.name):
                queue.put_nowait(_PendingEvent(delivery, event))
            else:
                report(DeliveryResult(delivery, "ignored"))
                bound.debug(
                    "event ignored: it suppresses nobody",
                    action="worker.ignored",
                    event_id=event.id,
                    name=event.name,
                )

    async def _collect(self, queue: asyncio.Queue[_PendingEvent]) -> list[_PendingEvent]:
        """The next batch: up to `batch_size` events, after a short wait for more (`linger`).

        While one batch is written, the next one gathers in the queue. A full batch does not wait.
        """
        size = self._worker.batch_size
        batch = [await queue.get()]
        try:
            while len(batch) < size and not queue.empty():
                batch.append(queue.get_nowait())
            if len(batch) < size:
                async with asyncio.timeout(self._worker.linger):
                    while len(batch) < size:
                        batch.append(await queue.get())
        except TimeoutError:
            pass
        return batch

    async def _handle(self, batch: Sequence[_PendingEvent], report: Report) -> list[_PendingEvent]:
        """Record the events that have an address. Returns those that need a look-up.

        If the database refuses a batch, each half is tried, down to the event that is to blame.
        """
        try:
            return await self._handle_whole(batch, report)
        except RefusedValueError as error:
            if len(batch) == 1:
                report(failed_delivery(batch[0].delivery, failures.failure_of(error)))
                return []
        middle = len(batch) // 2
        missing = await self._handle(batch[:middle], report)
        return missing + await self._handle(batch[middle:], report)

    async def _handle_whole(self, batch: Sequence[_PendingEvent], report: Report) -> list[_PendingEvent]:
        missing: list[_PendingEvent] = []
        ready: list[tuple[_PendingEvent, ListEvent]] = []
        rest: list[DeliveryResult] = []
        for pending in await self._with_known_addresses(batch):
            if pending.address is None:
                # There are many deliveries, and most are to addresses that never bounce: nobody is asked for those.
                if self._policy.uses_delivery(pending.event.name):
                    rest.append(DeliveryResult(pending.delivery, "ignored"))
                else:
                    missing.append(pending)
                continue
            try:
                event = event_of_address(
                    pending.event, pending.address, pending.delivery.body, policy=self._policy
                )
            except InvalidAddressError as error:
                rest.append(failed_delivery(pending.delivery, failures.failure_of(error)))
            else:
                ready.append((pending, event))
        if ready:
            await self._record(ready, report)
        # Only now: a refused batch is handled again, and each result is reported once.
        for result in rest:
            report(result)
        return missing

    async def _with_known_addresses(self, batch: Sequence[_PendingEvent]) -> list[_PendingEvent]:
        wanted = {pending.event.message_id for pending in batch if pending.address is None}
        if not wanted:
            return list(batch)
        known = await self._call_until_answered(lambda: self._store.known_addresses(wanted), operation="read")
        return [
            pending
            if pending.address is not None
            else _PendingEvent(pending.delivery, pending.event, known.get(pending.event.message_id))
            for pending in batch
        ]

    async def _record(self, ready: Sequence[tuple[_PendingEvent, ListEvent]], report: Report) -> None:
        looked_up = {
            pending.event.message_id: pending.address
            for pending, _ in ready
            if pending.looked_up and pending.address
        }
        happened = [event for _, event in ready]
        recorded = await self._call_until_answered(
            lambda: self._store.record(happened, actor=ACTOR, addresses=looked_up),
            operation="write",
        )
        self._sizes.observe(len(ready))
        for (pending, _), done in zip(ready, recorded, strict=True):
            report(_result(pending, done))
        logs.info_many("worker", self._lines(ready, recorded))
        self._on_recorded()

    def _lines(
        self, ready: Sequence[tuple[_PendingEvent, ListEvent]], recorded: Sequence[RecordedEvent]
    ) -> Iterator[Mapping[str, str]]:
        """What the log says of recorded events."""
        for (pending, event), done in zip(ready, recorded, strict=True):
            if isinstance(event, Delivered):
                continue  # there are many, and few of them end an entry: the change log has those
            yield {
                "event": _UNCHANGED.get(done.outcome, "suppressed"),
                "action": f"suppression.{done.outcome}",
                "event_id": event.event_id,
                "reason": str(event.reason),
                "address": self._shown(PLAIN.written(event.address)),
                **trace_field(pending.delivery.properties),
            }

    async def _look_up(
        self, pending: _PendingEvent, queue: asyncio.Queue[_PendingEvent], report: Report
    ) -> None:
        log.debug(
            "asking the provider for the address",
            action="worker.look_up",
            event_id=pending.event.id,
            message_id=pending.event.message_id,
        )
        try:
            address = await self._address_lookup.address(pending.event.message_id)
        except failures.LOOKUP_ERRORS as error:
            report(failed_delivery(pending.delivery, failures.failure_of(error)))
        else:
            queue.put_nowait(pending._replace(address=address, looked_up=True))

    async def _call_until_answered(self, call: Callable[[], Awaitable[T]], *, operation: Operation) -> T:
        """Call the database until it answers. Its breaker decides when to try again."""
        while True:
            try:
                return await self._database.call(call, errors=failures.DATABASE_ERRORS, operation=operation)
            except StoreUnavailableError:
                continue
            finally:
                self.steps += 1


def _result(pending: _PendingEvent, recorded: RecordedEvent) -> DeliveryResult:
    # What is not on the list now says nothing of how long its event took to get there.
    happened_at = None if recorded.outcome in _UNCHANGED else pending.event.timestamp
    return DeliveryResult(pending.delivery, recorded.outcome, happened_at=happened_at)
