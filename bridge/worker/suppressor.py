"""Handles the events: finds the address of each, and records it on the list, a batch in one transaction."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from bridge import events
from bridge.amqp.properties import decode_properties
from bridge.suppression.addresses import InvalidAddressError, normalise
from bridge.suppression.errors import RefusedValueError, StoreUnavailableError
from bridge.suppression.incidents import Incident
from bridge.tasks import task_group
from bridge.telemetry import logs, metric_definitions
from bridge.telemetry.scrubbing import masked
from bridge.worker import failures
from bridge.worker.delivery_result import DeliveryResult, failed_delivery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.amqp.message_types import Delivery
    from bridge.events import Event
    from bridge.settings.sections import Settings
    from bridge.suppression.incidents import RecordedIncident
    from bridge.suppression.policy import Policy, Reason
    from bridge.suppression.store import Store
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.address_lookup import AddressLookup
    from bridge.worker.dependencies import Dependency, Operation

    Report = Callable[[DeliveryResult], None]

T = TypeVar("T")

log = logs.logger("worker")

ACTOR = "worker"
"""The actor of the worker's changes, in the change log."""

_UNCHANGED: Final = MappingProxyType(
    {
        "repeated": "was handled before",
        "outdated": "has happened before a person took the address off the list: it stays off",
    }
)
"""Outcome -> message of the log, for an event that changes nothing."""


class _Case(NamedTuple):
    """A delivery whose event suppresses an address, which may still be unknown."""

    delivery: Delivery
    event: Event
    reason: Reason
    address: str | None = None
    looked_up: bool = False


class Suppressor:
    """The worker's `DeliveryHandler`: records the events of deliveries on the suppression list."""

    def __init__(
        self,
        *,
        settings: Settings,
        policy: Policy,
        store: Store,
        database: Dependency,
        address_lookup: AddressLookup,
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
        cases: asyncio.Queue[_Case] = asyncio.Queue()

        def report_step(result: DeliveryResult) -> None:
            self.steps += 1
            report(result)

        async with task_group() as tasks:
            tasks.create_task(self._read(inbox, cases, report_step), name="worker.read")
            while True:
                batch = await self._collect(cases)
                missing = await self._handle(batch, report_step)
                for case in missing:
                    tasks.create_task(self._look_up(case, cases, report_step), name="worker.look_up")

    async def _read(
        self, inbox: asyncio.Queue[Delivery], cases: asyncio.Queue[_Case], report: Report
    ) -> None:
        bound = log.bind()  # once: else structlog would make a logger for each line
        while True:
            delivery = await inbox.get()
            if (problem := decode_properties(delivery.properties).error) is not None:
                report(failed_delivery(delivery, failures.undecodable(problem)))
                continue
            try:
                event = events.parse(delivery.body)
            except (events.NotJsonError, events.MalformedError) as error:
                report(failed_delivery(delivery, failures.malformed(error)))
                continue
            reason = self._policy.reason_for(event.name)
            if reason is None:
                report(DeliveryResult(delivery, "ignored"))
                bound.debug(
                    "event ignored: it suppresses nobody",
                    action="worker.ignored",
                    event_id=event.id,
                    name=event.name,
                )
            else:
                cases.put_nowait(_Case(delivery, event, reason))

    async def _collect(self, cases: asyncio.Queue[_Case]) -> list[_Case]:
        """The next batch: up to `batch_size` cases, after a short wait for more (`linger`).

        While one batch is written, the next one gathers in the queue. A full batch does not wait.
        """
        batch = [await cases.get()]
        try:
            async with asyncio.timeout(self._worker.linger):
                while len(batch) < self._worker.batch_size:
                    batch.append(await cases.get())
        except TimeoutError:
            pass
        return batch

    async def _handle(self, batch: Sequence[_Case], report: Report) -> list[_Case]:
        """Record the cases that have an address. Returns those that need a look-up.

        If the database refuses a batch, each half is tried, down to the case that is to blame.
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

    async def _handle_whole(self, batch: Sequence[_Case], report: Report) -> list[_Case]:
        missing: list[_Case] = []
        ready: list[tuple[_Case, Incident]] = []
        invalid: list[DeliveryResult] = []
        for case in await self._with_known_addresses(batch):
            if case.address is None:
                missing.append(case)
                continue
            try:
                ready.append((case, _incident(case, case.address)))
            except InvalidAddressError as error:
                invalid.append(failed_delivery(case.delivery, failures.failure_of(error)))
        if ready:
            await self._record(ready, report)
        # Only now: a refused batch is handled again, and each result is reported once.
        for result in invalid:
            report(result)
        return missing

    async def _with_known_addresses(self, batch: Sequence[_Case]) -> list[_Case]:
        wanted = {case.event.message_id for case in batch if case.address is None}
        if not wanted:
            return list(batch)
        known = await self._ask_until_answered(lambda: self._store.known_addresses(wanted), operation="read")
        return [
            case if case.address is not None else case._replace(address=known.get(case.event.message_id))
            for case in batch
        ]

    async def _record(self, ready: Sequence[tuple[_Case, Incident]], report: Report) -> None:
        looked_up = {
            case.event.message_id: case.address for case, _ in ready if case.looked_up and case.address
        }
        incidents = [incident for _, incident in ready]
        recorded = await self._ask_until_answered(
            lambda: self._store.record(incidents, actor=ACTOR, addresses=looked_up), operation="write"
        )
        self._sizes.observe(len(ready))
        bound = log.bind()  # once: else structlog would make a logger for each line
        for (case, incident), done in zip(ready, recorded, strict=True):
            report(_result(case, done))
            bound.info(
                _UNCHANGED.get(done.outcome, "suppressed"),
                action=f"suppression.{done.outcome}",
                event_id=incident.event_id,
                reason=incident.reason.value,
                address=self._shown(normalise(incident.address)),
            )
        self._on_recorded()

    async def _look_up(self, case: _Case, cases: asyncio.Queue[_Case], report: Report) -> None:
        log.debug(
            "asking the provider for the address",
            action="worker.look_up",
            event_id=case.event.id,
            message_id=case.event.message_id,
        )
        try:
            address = await self._address_lookup.address(case.event.message_id)
        except failures.LOOKUP_ERRORS as error:
            report(failed_delivery(case.delivery, failures.failure_of(error)))
        else:
            cases.put_nowait(case._replace(address=address, looked_up=True))

    async def _ask_until_answered(self, call: Callable[[], Awaitable[T]], *, operation: Operation) -> T:
        """Ask the database until it answers. Its breaker decides when to ask again."""
        while True:
            try:
                return await self._database.ask(call, errors=failures.DATABASE_ERRORS, operation=operation)
            except StoreUnavailableError:
                continue
            finally:
                self.steps += 1


def _result(case: _Case, recorded: RecordedIncident) -> DeliveryResult:
    # What is not on the list now says nothing of how long its event took to get there.
    happened_at = None if recorded.outcome in _UNCHANGED else case.event.timestamp
    return DeliveryResult(case.delivery, recorded.outcome, happened_at=happened_at)


def _incident(case: _Case, address: str) -> Incident:
    """Raises InvalidAddressError where the address is invalid."""
    normalise(address)
    return Incident(
        address=address,
        reason=case.reason,
        event_id=case.event.id,
        event_at=case.event.timestamp,
        message_id=case.event.message_id,
        evidence=case.delivery.body,
    )
