"""What an event means: find its address, and put the incident on the list, a batch in one transaction."""

from __future__ import annotations

import asyncio
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from bridge import events
from bridge.amqp.errors import task_group
from bridge.amqp.properties import read
from bridge.suppression.addresses import InvalidAddressError, normalise
from bridge.suppression.database import RefusedValueError, StoreUnavailableError
from bridge.suppression.store import Incident
from bridge.telemetry import instruments, logs
from bridge.telemetry.scrubbing import masked
from bridge.worker import failures
from bridge.worker.consumer import Verdict, failed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.amqp.deliveries import Delivery
    from bridge.events import Event
    from bridge.settings.sections import Settings
    from bridge.suppression.policy import Policy, Reason
    from bridge.suppression.store import Recorded, Store
    from bridge.telemetry.metrics import Metrics
    from bridge.worker.address_lookup import LookUps
    from bridge.worker.dependencies import Dependency, Work

    Settle = Callable[[Verdict], None]

T = TypeVar("T")

log = logs.logger("worker")

ACTOR = "worker"
"""Who made the change, in the log of the list."""

_SAID: Final = MappingProxyType(
    {
        "repeated": "was handled before",
        "outdated": "has happened before a person took the address off the list: it stays off",
    }
)
"""What is said of an event that changes nothing."""


class _Case(NamedTuple):
    """A delivery that suppresses somebody; the address may still be unknown."""

    delivery: Delivery
    event: Event
    reason: Reason
    address: str | None = None
    looked_up: bool = False


class Suppressor:
    """The worker's `Work`: deliveries in, entries on the suppression list out."""

    def __init__(
        self,
        *,
        settings: Settings,
        policy: Policy,
        store: Store,
        database: Dependency,
        look_ups: LookUps,
        recorded: Callable[[], None],
        metrics: Metrics,
    ) -> None:
        """Make the work, which rests until `run`.

        Args:
            settings: the worker's batches, and whether addresses are logged.
            policy: which events suppress.
            store: the list.
            database: its circuit breaker.
            look_ups: ask the provider for addresses.
            recorded: called after each transaction that changed the list.
            metrics: how large the transactions are.
        """
        self._worker = settings.worker
        self._policy = policy
        self._store = store
        self._database = database
        self._look_ups = look_ups
        self._recorded = recorded
        self._sizes = metrics.spread(metrics.batch_size, instruments.SIZES)
        self.steps = 0
        """How many verdicts there were, and answers of the database."""
        self._shown = masked if settings.logs.mask_addresses else str

    async def run(self, inbox: asyncio.Queue[Delivery], settle: Settle) -> None:
        """Handle deliveries until cancelled. A slow look-up holds up only its own delivery.

        Raises:
            StoreError: the list is broken in a way that waiting does not mend.
        """
        cases: asyncio.Queue[_Case] = asyncio.Queue()

        def decide(verdict: Verdict) -> None:
            self.steps += 1
            settle(verdict)

        async with task_group() as tasks:
            tasks.create_task(self._read(inbox, cases, decide), name="worker.read")
            while True:
                batch = await self._collect(cases)
                missing = await self._handle(batch, decide)
                for case in missing:
                    tasks.create_task(self._look_up(case, cases, decide), name="worker.look_up")

    async def _read(
        self, inbox: asyncio.Queue[Delivery], cases: asyncio.Queue[_Case], settle: Settle
    ) -> None:
        tell = log.bind()  # once: the logger would be made anew for each line
        while True:
            delivery = await inbox.get()
            if (problem := read(delivery.properties).error) is not None:
                settle(failed(delivery, failures.undecodable(problem)))
                continue
            try:
                event = events.parse(delivery.body)
            except (events.NotJsonError, events.MalformedError) as error:
                settle(failed(delivery, failures.malformed(error)))
                continue
            reason = self._policy.reason_for(event.name)
            if reason is None:
                settle(Verdict(delivery, "ignored"))
                tell.debug("suppresses nobody", action="worker.ignored", event_id=event.id, name=event.name)
            else:
                cases.put_nowait(_Case(delivery, event, reason))

    async def _collect(self, cases: asyncio.Queue[_Case]) -> list[_Case]:
        """The next batch: as many as there are, waiting a little for more, up to `batch_size`.

        While one batch is written, the next gathers in the queue: a full one does not wait.
        """
        batch = [await cases.get()]
        try:
            async with asyncio.timeout(self._worker.linger):
                while len(batch) < self._worker.batch_size:
                    batch.append(await cases.get())
        except TimeoutError:
            pass
        return batch

    async def _handle(self, batch: Sequence[_Case], settle: Settle) -> list[_Case]:
        """Record what has an address; returns the cases that need a look-up.

        Of a batch that the database refuses each half is tried, down to the one that is to blame.
        """
        try:
            return await self._handle_whole(batch, settle)
        except RefusedValueError as error:
            if len(batch) == 1:
                settle(failed(batch[0].delivery, failures.of(error)))
                return []
        middle = len(batch) // 2
        missing = await self._handle(batch[:middle], settle)
        return missing + await self._handle(batch[middle:], settle)

    async def _handle_whole(self, batch: Sequence[_Case], settle: Settle) -> list[_Case]:
        missing: list[_Case] = []
        ready: list[tuple[_Case, Incident]] = []
        hopeless: list[Verdict] = []
        for case in await self._with_known_addresses(batch):
            if case.address is None:
                missing.append(case)
                continue
            try:
                ready.append((case, _incident(case, case.address)))
            except InvalidAddressError as error:
                hopeless.append(failed(case.delivery, failures.of(error)))
        if ready:
            await self._record(ready, settle)
        # Only now: a batch that was refused is handled once more.
        for verdict in hopeless:
            settle(verdict)
        return missing

    async def _with_known_addresses(self, batch: Sequence[_Case]) -> list[_Case]:
        wanted = {case.event.message_id for case in batch if case.address is None}
        if not wanted:
            return list(batch)
        known = await self._patiently(lambda: self._store.known_addresses(wanted), work="read")
        return [
            case if case.address is not None else case._replace(address=known.get(case.event.message_id))
            for case in batch
        ]

    async def _record(self, ready: Sequence[tuple[_Case, Incident]], settle: Settle) -> None:
        looked_up = {
            case.event.message_id: case.address for case, _ in ready if case.looked_up and case.address
        }
        incidents = [incident for _, incident in ready]
        recorded = await self._patiently(
            lambda: self._store.record(incidents, actor=ACTOR, addresses=looked_up), work="write"
        )
        self._sizes.observe(len(ready))
        tell = log.bind()  # once: the logger would be made anew for each line
        for (case, incident), done in zip(ready, recorded, strict=True):
            settle(_verdict(case, done))
            tell.info(
                _SAID.get(done.outcome, "suppressed"),
                action=f"suppression.{done.outcome}",
                event_id=incident.event_id,
                reason=incident.reason.value,
                address=self._shown(normalise(incident.address)),
            )
        self._recorded()

    async def _look_up(self, case: _Case, cases: asyncio.Queue[_Case], settle: Settle) -> None:
        log.debug(
            "asks the provider for the address",
            action="worker.look_up",
            event_id=case.event.id,
            message_id=case.event.message_id,
        )
        try:
            address = await self._look_ups.address(case.event.message_id)
        except failures.OF_THE_MESSAGE as error:
            settle(failed(case.delivery, failures.of(error)))
        else:
            cases.put_nowait(case._replace(address=address, looked_up=True))

    async def _patiently(self, call: Callable[[], Awaitable[T]], *, work: Work) -> T:
        """What the database answers, however long it is away: its breaker says when to ask again."""
        while True:
            try:
                return await self._database.ask(call, failing=failures.AGAINST_THE_DATABASE, work=work)
            except StoreUnavailableError:
                continue
            finally:
                self.steps += 1


def _verdict(case: _Case, recorded: Recorded) -> Verdict:
    # What is not on the list now says nothing of how long its event took to get there.
    happened_at = None if recorded.outcome in _SAID else case.event.timestamp
    return Verdict(case.delivery, recorded.outcome, happened_at=happened_at)


def _incident(case: _Case, address: str) -> Incident:
    """Raises InvalidAddressError where the address is none."""
    normalise(address)
    return Incident(
        address=address,
        reason=case.reason,
        event_id=case.event.id,
        event_at=case.event.timestamp,
        message_id=case.event.message_id,
        evidence=case.delivery.body,
    )
