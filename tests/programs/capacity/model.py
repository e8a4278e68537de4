"""How much is needed for how many events: the formulas of docs/capacity.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

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
    handled_days: float = 90.0
    outage_seconds: float = 3600.0
    """How long RabbitMQ may be away, for the spool."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What this load takes."""

    mean: float
    """Events a second over the day; so are the next three."""
    at_peak: float
    suppressing_mean: float
    suppressing_at_peak: float
    receiver_cores: float
    """Cores that are used up at the peak; so are the next three."""
    receivers: int
    """Processes of one core each, of which each is used up to the planned share; so are the workers."""
    worker_cores: float
    workers: int
    broker_cores: float
    """Of each of the nodes: each has each event."""
    database_cores: float
    shards: int
    """Archives, each with a cluster of its own, so that none gets more than a queue takes."""
    lookups_a_day: float
    lookups_possible: float
    announced_needed: float
    """Share of the messages that have to be announced, so that the provider's rate is enough over a day."""
    archive_bytes: float
    """On each node."""
    list_bytes_a_day: float
    """If each event is about another address: an upper limit."""
    list_bytes: float
    wal_bytes_a_day: float
    spool_entries: float
    """Of all receivers, after the outage at the peak."""
    spool_drain_seconds: float
    """Until the receivers' spools are empty, beside the mean load."""


def plan(load: Load, costs: Costs, limits: Limits) -> Plan:
    """What this load takes, at these costs."""
    mean = load.events_a_day / DAY
    at_peak = mean * load.peak
    suppressing, suppressing_at_peak = mean * load.suppressing, at_peak * load.suppressing
    receiver_cores = at_peak * costs.receiver_us * _MICRO
    worker_cores = suppressing_at_peak * costs.worker_us * _MICRO
    receivers, workers = (_processes(cores, limits) for cores in (receiver_cores, worker_cores))
    looked_up = suppressing * (1 - load.announced) * DAY
    possible = limits.lookups * DAY
    spooled = at_peak * load.outage_seconds
    return Plan(
        mean=mean,
        at_peak=at_peak,
        suppressing_mean=suppressing,
        suppressing_at_peak=suppressing_at_peak,
        receiver_cores=receiver_cores,
        receivers=receivers,
        worker_cores=worker_cores,
        workers=workers,
        broker_cores=at_peak * (costs.broker_us + load.copies * costs.copy_us) * _MICRO,
        database_cores=suppressing_at_peak * costs.database_us * _MICRO,
        shards=max(1, math.ceil(at_peak / limits.queue_rate)),
        lookups_a_day=looked_up,
        lookups_possible=possible,
        announced_needed=max(0.0, 1 - possible / (suppressing * DAY)) if suppressing else 0.0,
        archive_bytes=load.events_a_day * load.archive_days * costs.archived_bytes,
        list_bytes_a_day=suppressing * DAY * costs.listed_bytes,
        list_bytes=suppressing * DAY * costs.listed_bytes * load.list_days,
        wal_bytes_a_day=suppressing * DAY * costs.wal_bytes,
        spool_entries=spooled,
        spool_drain_seconds=spooled / (receivers * costs.drain_rate),
    )


def _processes(cores: float, limits: Limits) -> int:
    """Two at the least, so that one may end."""
    return max(2, math.ceil(cores / limits.utilisation))
