"""The state of the whole bridge: roles, broker, queues, spool, and everything that is wrong."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from bridge.broker import management, topology
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics import role_status, spool_status
from bridge.diagnostics.broker_status import BrokerMonitor
from bridge.diagnostics.counter_rates import CounterRates, event_age
from bridge.diagnostics.problems import (
    Problem,
    ProblemKind,
    lines_of,
    open_breakers,
    wrong_backfill,
    wrong_broker,
    wrong_quarantine,
    wrong_receivers_spool,
    wrong_roles,
    wrong_spool,
)
from bridge.diagnostics.subscriber_status import (
    registered_subscribers,
    subscriber_statuses,
    unseen_subscribers,
    wrong_subscribers,
)
from bridge.roles.identity import identity_of
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from typing import Self

    from bridge.diagnostics.broker_status import BrokerStatus
    from bridge.diagnostics.counter_rates import EventAge
    from bridge.diagnostics.role_status import RoleStatus
    from bridge.diagnostics.spool_status import SpoolStatus
    from bridge.diagnostics.subscriber_status import SubscriberStatus
    from bridge.settings.sections import Settings
    from bridge.suppression.subscriber_registry import Registered

_DISK_SECONDS: Final = 3.0
_REGISTRY_SECONDS: Final = 30.0
"""After which the registered subscribers are read again."""

_RECEIVED: Final = "bridge_events_received_total"
_DEAD: Final = "bridge_dead_letters_total"
_ANSWERED: Final = "bridge_answers_total"
_BREAKER: Final = "bridge_breaker_state"
_BACKFILLED: Final = "bridge_backfill_events_total"


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events of a name the receivers have accepted."""

    name: str
    total: int
    """Since the receivers' start."""
    rate: float | None
    """Events a second since the last look; None at the first one."""


@dataclass(frozen=True, slots=True)
class AnswerCount:
    """How many requests the receivers have answered so."""

    answer: str
    """As in `bridge_answers_total`, for example `confirmed`."""
    total: int
    """Since the receivers' start."""
    rate: float | None
    """Answers a second since the last look; None at the first one."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state at one time. None: not known."""

    at: float
    """Unix seconds."""
    roles: tuple[RoleStatus, ...]
    events: tuple[EventCount, ...]
    answers: tuple[AnswerCount, ...]
    age: EventAge | None
    """Of the events that were handled since the last look; None at the first one, and if there were none."""
    broker: BrokerStatus
    spool: SpoolStatus | None
    workers: int | None
    """Consumers of the suppression queue."""
    dead_letters: int | None
    """Messages in the dead-letter queue."""
    dead_by_reason: Mapping[str, int]
    """Messages moved to the dead letters since the workers' start."""
    quarantined: int | None
    """Messages in the quarantine."""
    subscribers: tuple[SubscriberStatus, ...]
    """Other services, by their queues."""
    breakers: Mapping[str, float]
    """Dependency -> state of its circuit breaker, 0 while it is closed."""
    problems: tuple[Problem, ...]
    """Everything that is wrong."""
    unseen: tuple[str, ...]
    """What is not known, and why. That alone is not wrong."""

    @property
    def wrong(self) -> tuple[str, ...]:
        """Everything that is wrong, one line each."""
        return lines_of(self.problems)

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


class StatusMonitor:
    """Reads the state repeatedly. Rates are those between two looks."""

    def __init__(
        self,
        settings: Settings,
        broker: BrokerMonitor,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        registered: Registered,
    ) -> None:
        """Use `open` instead.

        Args:
            settings: all settings.
            broker: reads the state of RabbitMQ.
            session: for requests to the roles.
            urls: health URLs of the roles.
            registered: subscribers that are not in the settings.
        """
        self._settings = settings
        self._broker = broker
        self._session = session
        self._urls = tuple(urls)
        self._registered = registered
        self._registered_at = time.monotonic()
        self._planned = planned_topology(settings, registered.current)
        self._received, self._answered = CounterRates(_RECEIVED), CounterRates(_ANSWERED)
        self._handled = CounterRates(role_status.AGES)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, urls: Sequence[str] = ()) -> AsyncIterator[Self]:
        """Monitor these roles; without URLs, the roles of these settings on this machine."""
        registered = await registered_subscribers(settings)
        planned = planned_topology(settings, registered.current)
        async with AsyncExitStack() as stack:
            api = await stack.enter_async_context(management.connect(settings.rabbitmq))
            queues = [queue.name for queue in planned.queues]
            broker = await stack.enter_async_context(
                BrokerMonitor(settings.rabbitmq, api, queues, planned.bindings)
            )
            session = await stack.enter_async_context(aiohttp.ClientSession())
            yield cls(settings, broker, session, urls or role_status.health_urls(settings), registered)

    async def read(self) -> Status:
        """Read the state once. This takes a few seconds at most, even if something does not answer."""
        await self._follow_registry()
        asked, broker, (waiting, spool_problem) = await asyncio.gather(
            role_status.ask_all(self._session, self._urls), self._broker.read(), self._spool()
        )
        seen = role_status.without_others(asked, identity_of(self._settings.rabbitmq, broker.cluster))
        names = topology.Names(self._settings.rabbitmq.prefix)
        queues = {queue.name: queue for queue in broker.queues}
        suppression, dead = queues[names.suppression], queues[names.dead]
        subscribers = subscriber_statuses(self._planned.queues, queues, seen)
        breakers = role_status.greatest_by_label(seen, _BREAKER)
        return Status(
            at=time.time(),
            roles=tuple(seen),
            events=tuple(EventCount(*counted) for counted in _counted(seen, _RECEIVED, self._received)),
            answers=tuple(AnswerCount(*counted) for counted in _counted(seen, _ANSWERED, self._answered)),
            age=event_age(self._handled.read(seen) or {}),
            broker=broker,
            spool=waiting,
            workers=suppression.consumers,
            dead_letters=dead.ready,
            dead_by_reason={reason: int(n) for reason, n in role_status.sum_by_label(seen, _DEAD).items()},
            quarantined=queues[names.malformed].ready,
            subscribers=tuple(subscribers),
            breakers=breakers,
            problems=(
                *wrong_roles(seen),
                *open_breakers(breakers),
                *wrong_broker(broker, suppression, dead),
                *wrong_subscribers(subscribers),
                *wrong_quarantine(queues[names.malformed]),
                *wrong_backfill(queues[names.backfill], role_status.sum_by_label(seen, _BACKFILLED)),
                *spool_problem,
                *(wrong_spool(waiting) if waiting else []),
                *wrong_receivers_spool(*role_status.spooled(seen), waiting),
            ),
            unseen=(*unseen_ages(broker, subscribers), *unseen_subscribers(self._registered, subscribers)),
        )

    async def _follow_registry(self) -> None:
        """Who looks for long sees subscribers that were added or removed meanwhile. Without the database they stay."""
        if time.monotonic() - self._registered_at < _REGISTRY_SECONDS:
            return
        found = await registered_subscribers(self._settings)
        self._registered_at = time.monotonic()
        if found.note and not found.subscribers:
            found = found._replace(subscribers=self._registered.subscribers)
        if found.subscribers != self._registered.subscribers:
            self._planned = planned_topology(self._settings, found.current)
            self._broker.watch([queue.name for queue in self._planned.queues], self._planned.bindings)
        self._registered = found

    async def _spool(self) -> tuple[SpoolStatus | None, list[Problem]]:
        """The state of the spool, or why it is not known."""
        directory = self._settings.spool.directory
        try:
            async with asyncio.timeout(_DISK_SECONDS):
                return await run_abandonable(lambda: spool_status.read_spool_status(directory)), []
        except TimeoutError:
            problem = f"the disk does not answer in {_DISK_SECONDS:g} s"
        except OSError as error:
            problem = error.strerror or str(error)
        line = f"spool {directory}: {problem}"
        return None, [Problem(ProblemKind.SPOOL_UNREADABLE, str(directory), line)]


def _counted(
    roles: Sequence[RoleStatus], name: str, rates: CounterRates
) -> list[tuple[str, int, float | None]]:
    """Label, total and rate of a counter."""
    totals, by_label = role_status.sum_by_label(roles, name), rates.read(roles)
    return [
        (label, int(total), None if by_label is None else by_label.get(label))
        for label, total in sorted(totals.items())
    ]


def unseen_ages(broker: BrokerStatus, subscribers: Iterable[SubscriberStatus]) -> list[str]:
    """What RabbitMQ does not say of the bridge's own queues. Of the others' the workers estimate the ages."""
    if broker.blind:
        return [f"bindings, nodes, alarms, unacknowledged messages and their ages: {broker.blind}"]
    of_others = {name for one in subscribers for name in (one.queue, one.dead_queue)}
    if all(queue.oldest_age is None for queue in broker.queues if queue.name not in of_others):
        return [
            "ages of the oldest messages in the bridge's own queues: RabbitMQ reports them for classic queues only"
        ]
    return []
