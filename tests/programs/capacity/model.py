"""How much is needed for how many events: the formulas of docs/capacity.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.programs.capacity import queueing

if TYPE_CHECKING:
    from tests.programs.capacity.figures import Costs, Limits

DAY: Final = 86_400
_MICRO: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Load:
    """What comes in, and what is done with it."""

    events_a_day: float
    peak: float = 5.0
    """Events a second in the busiest minute, to the mean of the day."""
    suppressing: float = 0.017
    """Share of the events that change the list: 15 hard bounces and 2 complaints of 1,000 in the benchmark's mix."""
    announced: float = 0.0
    """Share of the messages whose address the sender announces, so that it need not be looked up."""
    copies: float = 1.0
    """Queues of other services that get an event, on average."""
    archive_days: float = 7.0
    list_days: float = 400.0
    """How long changes with their evidence are looked at: `retention.evidence_days`."""
    known_days: float = 90.0
    """How long announced messages are known: `retention.known_messages_days`."""
    events_of_a_message: float = 1.6
    """In the benchmark's mix, where each message is delivered, bounces or is skipped once."""
    outage_seconds: float = 3600.0
    """How long RabbitMQ may be away, for the spool."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What this load takes."""

    mean: float
    """Events a second over the day; so are the next three, at the peak or of those that change the list."""
    at_peak: float
    suppressing_mean: float
    suppressing_at_peak: float
    receiver_cores: float
    """Cores that are used up at the peak."""
    receivers: int
    """Processes of one core each, of which each is used up to the planned share; so are the workers."""
    worker_cores: float
    workers: int
    database_cores: float
    """Of PostgreSQL and of the workers while they wait for it: an upper limit."""
    clusters: int
    """Of RabbitMQ, each with an archive, so that none gets more than one queue takes."""
    broker_cores: float
    """Of each node, at the peak: each node of a cluster has each of its events."""
    archive_bytes: float
    """On each node, in `archive_days`."""
    lookups_a_day: float
    lookup_rate: float
    """Look-ups a second, over the day: what `provider.rate` has to be at the least."""
    announced_needed: float
    """Share of the messages that have to be announced where the provider allows `Limits.lookups`."""
    announced_rows: float
    """That known messages take up if so many are announced; 0 if none has to be."""
    announced_bytes: float
    list_bytes_a_day: float
    """If each event is about another address: an upper limit."""
    list_bytes: float
    """In `list_days`."""
    wal_bytes_a_day: float
    spool_entries: float
    """Of all receivers, after the outage at the peak."""
    spool_bytes: float
    """Of each receiver, as `spool.max_bytes` counts them."""
    spool_drain_seconds: float
    """Until the spools are empty, beside the mean load."""


def plan(load: Load, costs: Costs, limits: Limits) -> Plan:
    """What this load takes, at these costs."""
    mean = load.events_a_day / DAY
    at_peak = mean * load.peak
    suppressing, suppressing_at_peak = mean * load.suppressing, at_peak * load.suppressing
    receiver_cores = at_peak * costs.receiver_us * _MICRO
    worker_cores = suppressing_at_peak * costs.worker_us * _MICRO
    receivers, workers = _processes(receiver_cores, limits), _processes(worker_cores, limits)
    clusters = max(1, math.ceil(at_peak / limits.queue_rate))
    looked_up = suppressing * (1 - load.announced)
    announced = max(0.0, 1 - limits.lookups / suppressing) if suppressing else 0.0
    announced_rows = load.events_a_day / load.events_of_a_message * announced * load.known_days
    spooled = at_peak * load.outage_seconds
    takes = min(receivers * costs.drain_rate + mean, clusters * limits.queue_rate)
    return Plan(
        mean=mean,
        at_peak=at_peak,
        suppressing_mean=suppressing,
        suppressing_at_peak=suppressing_at_peak,
        receiver_cores=receiver_cores,
        receivers=receivers,
        worker_cores=worker_cores,
        workers=workers,
        database_cores=suppressing_at_peak * costs.database_us * _MICRO,
        clusters=clusters,
        broker_cores=at_peak * (costs.broker_us + load.copies * costs.copy_us) * _MICRO / clusters,
        archive_bytes=load.events_a_day * load.archive_days * costs.archived_bytes / clusters,
        lookups_a_day=looked_up * DAY,
        lookup_rate=looked_up,
        announced_needed=announced,
        announced_rows=announced_rows,
        announced_bytes=announced_rows * costs.known_bytes,
        list_bytes_a_day=suppressing * DAY * costs.listed_bytes,
        list_bytes=suppressing * DAY * costs.listed_bytes * load.list_days,
        wal_bytes_a_day=suppressing * DAY * costs.wal_bytes,
        spool_entries=spooled,
        spool_bytes=spooled * costs.spooled_bytes / receivers,
        spool_drain_seconds=queueing.drain_seconds(spooled, mean, takes),
    )


def _processes(cores: float, limits: Limits) -> int:
    """Two at the least, so that one may end."""
    return max(2, math.ceil(cores / limits.utilisation))
