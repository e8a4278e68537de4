"""Closed forms of queueing theory, for what the simulation is compared with, and for the page. Rates are a second."""

from __future__ import annotations

import math


def mm1_wait(arrivals: float, services: float) -> float:
    """Mean seconds in the queue, before the service: random arrivals, random services, one server.

    Raises:
        ValueError: it takes no less than comes, and the queue grows for ever.
    """
    return _utilisation(arrivals, services) / (services - arrivals)


def md1_wait(arrivals: float, services: float) -> float:
    """The same where each service takes as long as the other: half of it (Pollaczek and Khinchine)."""
    return mm1_wait(arrivals, services) / 2


def bursts_wait(arrivals: float, services: float, burst: int) -> float:
    """As `md1_wait`, where events come in bursts of so many at once, and the bursts at random.

    To the wait for the work of earlier bursts comes that for the others of the own one.
    """
    busy = _utilisation(arrivals, services)
    return (busy + burst - 1) / (2 * services * (1 - busy))


def mmc_wait(arrivals: float, services: float, servers: int) -> float:
    """As `mm1_wait`, with several servers at one queue, of which each has this rate (Erlang's C)."""
    offered = arrivals / services
    busy = _utilisation(arrivals, services * servers)
    one_free = sum(offered**number / math.factorial(number) for number in range(servers))
    all_busy = offered**servers / math.factorial(servers) / (1 - busy)
    return all_busy / (one_free + all_busy) / (services * servers - arrivals)


def drain_seconds(backlog: float, arrivals: float, services: float) -> float:
    """How long it takes until a backlog is gone, beside what arrives meanwhile."""
    _utilisation(arrivals, services)
    return backlog / (services - arrivals)


def _utilisation(arrivals: float, services: float) -> float:
    if arrivals >= services:
        raise ValueError(
            f"{arrivals:g} a second come, and {services:g} are handled: the queue grows for ever"
        )
    return arrivals / services
