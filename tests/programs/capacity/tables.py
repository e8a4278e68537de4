"""The tables of docs/capacity.md: made of the figures, the model and the simulation."""

from __future__ import annotations

from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Final

from tests.programs.capacity import queueing, simulation
from tests.programs.capacity.figures import Limits, measured
from tests.programs.capacity.model import Load, Plan, plan
from tests.programs.capacity.simulation import Arrivals, Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIMULATED: Final = Path(__file__).with_name("simulated.md")
"""What the simulation has said, since that takes a minute."""
EXAMPLES: Final = (Load(10e6), Load(100e6), Load(1e9))
_UNITS: Final = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
_HOUR, _MINUTE = 3600, 60

_ROWS: Final[tuple[tuple[str, Callable[[Plan], str]], ...]] = (
    ("events/s: mean, at the peak", lambda it: f"{it.mean:,.0f}, {it.at_peak:,.0f}"),
    (
        "of these change the list: mean, at the peak",
        lambda it: f"{it.suppressing_mean:,.0f}, {it.suppressing_at_peak:,.0f}",
    ),
    ("receivers: cores used at the peak", lambda it: f"{it.receiver_cores:.1f}"),
    ("receiver processes", lambda it: f"{it.receivers}"),
    ("workers: cores used at the peak", lambda it: f"{it.worker_cores:.2f}"),
    ("worker processes", lambda it: f"{it.workers}"),
    ("PostgreSQL: cores used at the peak, at most", lambda it: f"{it.database_cores:.2f}"),
    ("RabbitMQ clusters of three nodes", lambda it: f"{it.clusters}"),
    ("RabbitMQ: cores used on each node at the peak", lambda it: f"{it.broker_cores:.1f}"),
    ("archive of 7 days, on each node", lambda it: size(it.archive_bytes)),
    ("look-ups a day, if nothing is announced", lambda it: f"{it.lookups_a_day:,.0f}"),
    ("`provider.rate` that they need", lambda it: f"{it.lookup_rate:,.0f}"),
    ("or share of the messages to announce at a rate of 10", lambda it: f"{it.announced_needed:.0%}"),
    (
        "which then takes, in 90 days",
        lambda it: (
            f"{it.announced_rows / 1e6:,.0f} million rows, {size(it.announced_bytes)}"
            if it.announced_rows
            else "nothing"
        ),
    ),
    ("list and its log: growth a day, at most", lambda it: size(it.list_bytes_a_day)),
    ("list and its log after 400 days, at most", lambda it: size(it.list_bytes)),
    ("write-ahead log of PostgreSQL a day", lambda it: size(it.wal_bytes_a_day)),
    (
        "RabbitMQ away for an hour of the peak: in all spools",
        lambda it: f"{it.spool_entries / 1e6:,.1f} million",
    ),
    ("`spool.max_bytes` for that, of each receiver", lambda it: size(it.spool_bytes)),
    ("and the time to drain them, beside the mean load", lambda it: duration(it.spool_drain_seconds)),
)


def examples(loads: Sequence[Load] = EXAMPLES, limits: Limits = Limits()) -> str:  # noqa: B008 -- it is frozen
    """What each of these loads takes."""
    costs = measured()
    plans = [plan(load, costs, limits) for load in loads]
    head = ["", *(f"{load.events_a_day / 1e6:,.0f} million events a day" for load in loads)]
    return _table(head, [[name, *map(cell, plans)] for name, cell in _ROWS])


def costs() -> str:
    """What the model is made of."""
    it, limits = measured(), Limits()
    rows = [
        ("receiver, a confirmed event", f"{it.receiver_us:.0f} us", "[Performance](performance.md), measured"),
        ("receiver, a spooled event", f"{it.spooled_us:.0f} us", "the same"),
        ("RabbitMQ, one node, an event (archive; worker's queue if it suppresses)", f"{it.broker_us:.0f} us", "the same"),
        ("RabbitMQ, each further queue that gets it", f"{it.copy_us:.0f} us", "the same, at 200 events/s, where batches are small"),
        ("worker, an event that changes the list, PostgreSQL", f"{it.worker_us:.0f} us", "the same"),
        ("recording an event on 10,000,000 entries: client and PostgreSQL", f"{it.database_us:.0f} us", "[below](#cost-against-size), measured"),
        ("an event in the archive", f"{it.archived_bytes:.0f} bytes", "the same"),
        ("an entry with its change and its handled event, PostgreSQL", f"{it.listed_bytes:,.0f} bytes", "the same"),
        ("write-ahead log for an event that is recorded", f"{it.wal_bytes:,.0f} bytes", "the same, with 10,000,000 entries"),
        ("an announced message, PostgreSQL", f"{it.known_bytes:.0f} bytes", "measured once, by hand"),
        ("an event in the spool", f"{it.spooled_bytes:.0f} bytes", "its body, and 64"),
        ("drain of one spool beside live traffic", f"{it.drain_rate:,.0f} events/s", "[Reliability](reliability.md), measured on two cores"),
        ("one queue or stream", f"{limits.queue_rate:,.0f} events/s", "assumed: [see below](#where-one-queue-is-no-longer-enough)"),
        ("look-ups at the provider", f"{limits.lookups:g} a second", "`provider.rate`; the provider documents no limit"),
        ("use of a core at the peak", f"{limits.utilisation:.0%}", "chosen"),
    ]  # fmt: skip
    return _table(["what", "figure", "from"], rows, numbers=False)


def simulation_tables() -> str:
    """All that is simulated."""
    parts = {
        "Mean waits": waits(),
        "RabbitMQ away for ten minutes": outages(),
        "A worker that takes batches": batches(),
    }
    return "\n".join(f"**{title}**\n\n{table}\n" for title, table in parts.items())


def waits() -> str:
    """The closed forms beside the simulation, each of the same case."""
    second = 1.0  # the time of one service: everything else is counted in it
    rows = []
    for busy in (0.6, 0.8, 0.9):
        queue = simulation.run_queue(Arrivals(busy), Workers(second), seconds=300_000, seed=17)
        rows.append(
            (
                f"events at random, {busy:.0%} busy",
                f"{queueing.md1_wait(busy, 1):.2f}",
                f"{mean(queue.waits):.2f}",
            )
        )
    for busy in (0.6, 0.8):
        queue = simulation.run_queue(Arrivals(busy, burst=100), Workers(second), seconds=500_000, seed=17)
        rows.append(
            (
                f"bursts of 100, {busy:.0%} busy",
                f"{queueing.bursts_wait(busy, 1, 100):.0f}",
                f"{mean(queue.waits):.0f}",
            )
        )
    workers = Workers(second, processes=4, spread="exponential")
    queue = simulation.run_queue(Arrivals(3.2), workers, seconds=100_000, seed=17)
    rows.append(
        (
            "four workers at one queue, 80% busy, services of random length",
            f"{queueing.mmc_wait(3.2, 1, 4):.2f}",
            f"{mean(queue.waits):.2f}",
        )
    )
    return _table(["mean wait, in services", "formula", "simulation"], rows)


def outages() -> str:
    """RabbitMQ away for ten minutes, at a hundredth of the rates, so at the same times."""
    rows = []
    for arrivals, broker, drain in (
        (5.0, 50.0, 32.5),
        (15.0, 50.0, 32.5),
        (15.0, 20.0, 32.5),
        (18.0, 20.0, 32.5),
    ):
        found = simulation.run_outage(
            Arrivals(arrivals), broker_rate=broker, drain_rate=drain, away_seconds=600, seed=17
        )
        formula = queueing.drain_seconds(600 * arrivals, arrivals, min(broker, drain + arrivals))
        rows.append(
            (
                f"{100 * arrivals:,.0f}",
                f"{100 * broker:,.0f}",
                f"{arrivals / broker:.0%}",
                f"{100 * found.most:,}",
                duration(formula),
                duration(found.drain_seconds),
            )
        )
    head = ["events/s", "RabbitMQ takes", "it is busy", "in the spool", "drained in, formula", "simulation"]
    return _table(head, rows)


def batches() -> str:
    """A worker whose transaction costs 5 ms, and each event in it 0.3 ms: how long events wait."""
    full = Workers(0.0003, batch=100, batch_seconds=0.005)
    rows = []
    for busy in (0.1, 0.5, 0.8, 0.9, 0.95):
        queue = simulation.run_queue(Arrivals(busy * full.rate), full, seconds=60, seed=17)
        found = sorted(queue.waits)
        rows.append(
            (
                f"{busy:.0%}",
                f"{busy * full.rate:,.0f}",
                f"{len(found) / queue.batches:.0f}",
                f"{mean(found) * 1e3:.0f} ms",
                f"{found[len(found) * 99 // 100] * 1e3:.0f} ms",
            )
        )
    return _table(["of what it can", "events/s", "events in a batch", "mean wait", "p99"], rows)


def size(count: float) -> str:
    """Bytes for people."""
    unit, name = next((one for one in _UNITS if count >= one[0]), _UNITS[-1])
    return f"{count / unit:,.1f} {name}"


def duration(seconds: float) -> str:
    """A time for people."""
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} h"
    return f"{seconds / _MINUTE:.0f} min" if seconds >= _MINUTE else f"{seconds:.0f} s"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = True) -> str:
    marks = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "\n".join(
        [f"| {' | '.join(head)} |", f"|{'|'.join(marks)}|", *(f"| {' | '.join(row)} |" for row in rows)]
    )
