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
from bridge.diagnostics.subscriber_status import (
    registered_subscribers,
    subscriber_statuses,
    unseen_subscribers,
    wrong_subscribers,
)
from bridge.roles.identity import identity_of
from bridge.spool.set_aside_entries import NACKED
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
    from typing import Self

    from bridge.diagnostics.broker_status import BrokerStatus, QueueStatus
    from bridge.diagnostics.role_status import LabelledValues, RoleStatus
    from bridge.diagnostics.spool_status import SpoolStatus
    from bridge.diagnostics.subscriber_status import SubscriberStatus
    from bridge.settings.sections import Settings
    from bridge.suppression.subscriber_registry import Registered

_DISK_SECONDS: Final = 3.0
_STALE_SPOOL_SECONDS: Final = 60.0
"""Events that wait longer in the spool are reported."""

_SPOOL: Final = "`bridge spool status`"
_WHERE: Final = {NACKED: f"{_SPOOL}; `bridge doctor` names the queue that rejects"}
"""Reason of a refusal -> where to look."""

_RECEIVED: Final = "bridge_events_received_total"
_DEAD: Final = "bridge_dead_letters_total"
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
class Status:
    """The state at one time. None: not known."""

    at: float
    """Unix seconds."""
    roles: tuple[RoleStatus, ...]
    events: tuple[EventCount, ...]
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
    wrong: tuple[str, ...]
    """Everything that is wrong, one line each."""
    unseen: tuple[str, ...]
    """What is not known, and why. That alone is not wrong."""

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong


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
        self._planned = planned_topology(settings, registered.current)
        self._before: tuple[float, LabelledValues] | None = None

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
        asked, broker, (waiting, problem) = await asyncio.gather(
            role_status.ask_all(self._session, self._urls), self._broker.read(), self._spool()
        )
        seen = role_status.without_others(asked, identity_of(self._settings.rabbitmq, broker.cluster))
        names = topology.Names(self._settings.rabbitmq.prefix)
        queues = {queue.name: queue for queue in broker.queues}
        suppression, dead = queues[names.suppression], queues[names.dead]
        subscribers = subscriber_statuses(self._planned.queues, queues, seen)
        breakers: LabelledValues = {}
        for role in seen:
            for dependency, state in role.by_label(_BREAKER).items():
                breakers[dependency] = max(state, breakers.get(dependency, 0))
        return Status(
            at=time.time(),
            roles=tuple(seen),
            events=tuple(self._events(role_status.sum_by_label(seen, _RECEIVED))),
            broker=broker,
            spool=waiting,
            workers=suppression.consumers,
            dead_letters=dead.ready,
            dead_by_reason={reason: int(n) for reason, n in role_status.sum_by_label(seen, _DEAD).items()},
            quarantined=queues[names.malformed].ready,
            subscribers=tuple(subscribers),
            breakers=breakers,
            wrong=(
                *_wrong_roles(seen),
                *(f"workers wait for the {name}: its circuit breaker is open" for name in _open(breakers)),
                *_wrong_broker(broker, suppression, dead),
                *wrong_subscribers(subscribers),
                *_wrong_quarantine(queues[names.malformed]),
                *_wrong_backfill(queues[names.backfill], role_status.sum_by_label(seen, _BACKFILLED)),
                *([problem] if problem else []),
                *(_wrong_spool(waiting) if waiting else []),
            ),
            unseen=(*unseen_ages(broker, subscribers), *unseen_subscribers(self._registered, subscribers)),
        )

    def _events(self, totals: LabelledValues) -> list[EventCount]:
        """A counter that fell was reset by a restart, so all of its value is new, as in Prometheus."""
        now = time.monotonic()
        rates: dict[str, float] = {}
        if self._before is not None:
            then, before = self._before
            for name, total in totals.items():
                grown = total - before.get(name, 0)
                rates[name] = (grown if grown >= 0 else total) / max(now - then, 1e-9)
        self._before = now, totals
        return [EventCount(name, int(total), rates.get(name)) for name, total in sorted(totals.items())]

    async def _spool(self) -> tuple[SpoolStatus | None, str]:
        """The state of the spool, or why it is not known."""
        directory = self._settings.spool.directory
        try:
            async with asyncio.timeout(_DISK_SECONDS):
                return await run_abandonable(lambda: spool_status.read_spool_status(directory)), ""
        except TimeoutError:
            return None, f"spool {directory}: the disk does not answer in {_DISK_SECONDS:g} s"
        except OSError as error:
            return None, f"spool {directory}: {error.strerror}"


def _open(breakers: LabelledValues) -> list[str]:
    return sorted(name for name, state in breakers.items() if state)


def _wrong_roles(seen: Sequence[RoleStatus]) -> list[str]:
    found = []
    for role in seen:
        if role.problem:
            found.append(f"{role.url} cannot be asked: {role.problem}")
        elif not role.ready or role.reasons:
            found.append(f"{role.kind} {role.url}: {'; '.join(role.reasons) or 'not ready'}")
    return found


def _wrong_broker(broker: BrokerStatus, suppression: QueueStatus, dead: QueueStatus) -> list[str]:
    if broker.problem:
        return [f"RabbitMQ cannot be reached: {broker.problem}"]
    found = [f"{queue.name}: {queue.problem}" for queue in broker.queues if queue.problem]
    for node in broker.nodes or ():
        if not node.running:
            found.append(f"node {node.name} does not run")
        found.extend(
            f"node {node.name} has a {alarm} alarm: RabbitMQ blocks publishers" for alarm in node.alarms
        )
    found.extend(
        f"'{binding.queue}' is not bound to '{binding.exchange}' with '{binding.key}': run `bridge topology apply`"
        for binding in broker.unbound or ()
    )
    if suppression.consumers == 0:
        found.append("no worker consumes the suppression queue: start `bridge worker`")
    if dead.ready:
        found.append(f"{dead.ready:,} dead letters: see `bridge dead list`")
    return found


def _wrong_quarantine(quarantine: QueueStatus) -> list[str]:
    if not quarantine.ready:
        return []
    count = f"{quarantine.ready:,} bod{'y is' if quarantine.ready == 1 else 'ies are'}"
    return [f"{count} in the quarantine: see `bridge quarantine list`"]


def _wrong_backfill(markers: QueueStatus, events: LabelledValues) -> list[str]:
    if not markers.ready:
        return []
    so_far = f"{int(sum(events.values())):,} events since the workers' start"
    return [
        f"the suppression queue has missed events (it was deleted, or lost bindings), and is still being refilled from the archive: {so_far}"
    ]


def _wrong_spool(seen: SpoolStatus) -> list[str]:
    found = list(seen.problems)
    refused: dict[tuple[str, str], int] = {}
    for one in seen.set_aside:
        cause = one.reason, one.reply_text
        refused[cause] = refused.get(cause, 0) + one.entries
    found += [
        f"{entries:,} events are set aside, because RabbitMQ refuses them ({reason}): {said}; see {_WHERE.get(reason, _SPOOL)}"
        for (reason, said), entries in refused.items()
    ]
    waiting = seen.entries - sum(one.entries for one in seen.set_aside)
    if waiting > 0 and seen.oldest_age is not None and seen.oldest_age > _STALE_SPOOL_SECONDS:
        found.append(f"{waiting:,} events wait in the spool, the oldest for {seen.oldest_age:.0f} s")
    if seen.left_behind:
        found.append(
            f"{seen.left_behind:,} events are in spool files that no receiver uses: "
            "start one, or `bridge spool drain`"
        )
    return found


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
