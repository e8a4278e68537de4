"""What goes wrong in a run, and when: drawn from a seed, so that the same seed is the same schedule on every machine."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

RECEIVERS: Final = 2
WORKERS: Final = 3
ALL: Final = "all"
"""Everything with a disk or a process, at once."""
SECONDS_EACH: Final = 1.8
"""Of a schedule's length, for each fault in it: they last 0 to 6 s, so that two or three overlap."""
_FEWEST: Final = 3
_QUIET_END: Final = 0.25
"""Of a schedule's length, without a new fault."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that goes wrong, and is put right again."""

    at: float
    """Seconds after the load has begun."""
    kind: str
    target: str
    """A part of the stack (`worker-1`, `rabbitmq-0`), or a way from one to another (`worker-1>postgresql`)."""
    seconds: float
    """How long it lasts; 0: it is over in a moment."""
    argument: str = ""

    def __str__(self) -> str:
        lasts = f"for {self.seconds:.1f} s" if self.seconds else "at once"
        return f"{self.at:5.1f} s  {self.kind:<9} {self.target:<22} {lasts:<10} {self.argument}".rstrip()


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault, and what it may be drawn with."""

    weight: float
    """How often it is drawn, against others."""
    targets: Mapping[str, Sequence[str]]
    """Target -> arguments that go with it."""
    shortest: float = 0.0
    longest: float = 0.0
    """Seconds."""
    with_broker_away: float = 0.0
    """The share of them beside which the target receiver cannot reach RabbitMQ: alone they would hardly be felt."""


@dataclass(slots=True)
class _Drawn:
    """What a schedule has so far."""

    faults: list[Fault] = field(default_factory=list)

    def has(self, kind: str, *targets: str) -> bool:
        return any(one.kind == kind and (not targets or one.target in targets) for one in self.faults)


def draw(seed: int, *, seconds: float, nodes: int = 1) -> list[Fault]:
    """The schedule of a seed, by time.

    Args:
        seed: any integer.
        seconds: how long the load runs; no fault begins in its last quarter.
        nodes: of RabbitMQ.
    """
    chance = random.Random(seed)  # noqa: S311 -- it has to be the same again, not secret
    offered = kinds(nodes)
    names, weights = list(offered), [kind.weight for kind in offered.values()]
    middle = max(_FEWEST, round(seconds / SECONDS_EACH))
    count = chance.randint(max(_FEWEST, middle - 2), middle + 2)
    drawn = _Drawn()
    while len(drawn.faults) < count:
        [name] = chance.choices(names, weights)
        for fault in _drawn_of(name, offered[name], chance, seconds):
            if _bearable(fault, drawn, nodes):
                drawn.faults.append(fault)
    return sorted(drawn.faults)


def kinds(nodes: int = 1) -> dict[str, Kind]:
    """All that can go wrong with so many nodes of RabbitMQ, by name."""
    brokers = [f"rabbitmq-{number}" for number in range(nodes)]
    receivers = [f"receiver-{number}" for number in range(RECEIVERS)]
    workers = [f"worker-{number}" for number in range(WORKERS)]
    machines = [*receivers, *workers, *brokers, "postgresql"]
    ways = [
        *(f"{role}>rabbitmq" for role in (*receivers, *workers)),
        *(f"{worker}>postgresql" for worker in workers),
        *(f"provider>{receiver}" for receiver in receivers),
        "workers>provider",
    ]
    return {
        "kill": Kind(4, {key: [""] for key in machines}, 0.1, 3),
        "pause": Kind(3, {key: [""] for key in machines}, 0.5, 6),
        "power cut": Kind(3, {key: [""] for key in [*receivers, *brokers, "postgresql", ALL]}, 0.1, 2),
        "cut": Kind(4, {key: ["reset", "refused", "silent", "silent out", "silent in"] for key in ways}, 0.5, 5),
        "slow": Kind(2, {key: ["0.05 s", "0.2 s", "0.6 s"] for key in ways}, 1, 6),
        "clock": Kind(2, {key: ["+60 s", "-60 s", "+6 h", "-6 h"] for key in (*receivers, *workers)}, 1, 4),
        "full disk": Kind(2, {key: [""] for key in receivers}, 1, 5, with_broker_away=0.7),
        "alarm": Kind(2, {key: ["memory", "disk"] for key in brokers}, 1, 5),
        "rights": Kind(
            3,
            {
                "rabbitmq": ["configure", "write", "read", "all"],
                "postgresql": ["tables", "sequences", "login"],
            },
            1, 4,
        ),
        "scale": Kind(2, {key: ["up", "down"] for key in ("receivers", "workers")}, 1, 5),
        "delete": Kind(
            2,
            {
                "queue": ["suppression", "delays", "subscriber", "dead", "malformed"],
                "binding": ["suppression", "subscriber"],
                "exchange": ["events", "changes"],
            },
            0.5, 2,
        ),
        "provider": Kind(
            3, {"provider": ["500", "429", "401", "slow", "hanging", "garbage", "reset", "404"]}, 1, 5
        ),
    }  # fmt: skip


def shown(faults: Sequence[Fault]) -> str:
    """A schedule for people: a line for each fault."""
    return "\n".join(str(fault) for fault in faults)


def as_json(faults: Sequence[Fault]) -> list[list[float | str]]:
    """A schedule for programs."""
    return [[one.at, one.kind, one.target, one.seconds, one.argument] for one in faults]


def _drawn_of(name: str, kind: Kind, chance: random.Random, length: float) -> Iterator[Fault]:
    """One fault of this kind, and perhaps one that goes with it."""
    target = chance.choice(list(kind.targets))
    argument = chance.choice(list(kind.targets[target]))
    at = round(chance.uniform(0, length * (1 - _QUIET_END)), 1)
    lasting = round(chance.uniform(kind.shortest, kind.longest), 1)
    yield Fault(at, name, target, lasting, argument)
    if chance.random() < kind.with_broker_away:
        yield Fault(at, "cut", f"{target}>rabbitmq", lasting, "refused")


def _bearable(fault: Fault, drawn: _Drawn, nodes: int) -> bool:
    """Whether what is promised still covers this one beside the others.

    A suppression queue that has missed events is filled from the archive, and the archive is a stream, of which a power
    cut of RabbitMQ may cost the end: both in one run is a loss that the documentation announces. And a RabbitMQ that is
    killed right after a quorum queue was made may start it again as one that confirms nothing (docs/reference/topology.md).
    """
    brokers = [ALL, *(f"rabbitmq-{number}" for number in range(nodes))]
    if fault.target in brokers and fault.kind in {"power cut", "kill"}:
        return not drawn.has("delete", *(["queue"] if fault.kind == "kill" else []))
    if fault.kind == "delete":
        deadly = ["power cut", "kill"] if fault.target == "queue" else ["power cut"]
        return not any(drawn.has(kind, *brokers) for kind in deadly)
    return True
