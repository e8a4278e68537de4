"""Which of RabbitMQ, the database and the provider is down, for the strip on top of every page."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.console.monitor import MONITOR
from bridge.diagnostics.problems import ProblemKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

    from bridge.console.standing import Standing

KNOWN: Final = "known"
"""The parameter by which a page says what it shows."""
_HASH_CHARACTERS: Final = 12


_STRIP: Final = {
    ProblemKind.BROKER_DOWN: {
        "": (
            "RabbitMQ does not answer",
            "Receivers keep events in their spools; nothing is lost. Dead letters, the archive and the tail cannot be seen.",
        )
    },
    ProblemKind.BREAKER_OPEN: {
        "provider": (
            "The provider's API does not answer the workers",
            "Bounces whose address is not known yet wait in RabbitMQ. All else goes on.",
        )
    },
}
"""Kind and what it is about -> what is said of it on every page."""


class Problem(NamedTuple):
    """A dependency that does not answer."""

    dependency: str
    """Such as "The database of the list"."""
    detail: str
    """Since when, and what was said."""
    consequence: str
    """What does not work meanwhile, and what goes on."""


def problems(request: web.Request) -> list[Problem]:
    """What is down now, as far as it is known."""
    monitor = request.config_dict[MONITOR]
    seen = monitor.latest.standing if monitor.latest else ()
    since = {one.problem.kind: f"Since {_time(one)}." for one in seen}
    found: list[Problem] = []
    if monitor.list_problem:
        found.append(
            Problem(
                "The database of the suppression list does not answer",
                f"{monitor.list_problem}. {since.get(ProblemKind.DATABASE_DOWN, '')}".strip(),
                "Addresses cannot be looked up or changed. Events are still received; they wait in RabbitMQ.",
            )
        )
    for one in seen:
        if one.problem.kind in _STRIP and one.problem.about in _STRIP[one.problem.kind]:
            title, consequence = _STRIP[one.problem.kind][one.problem.about]
            found.append(Problem(title, f"{one.problem.line}. Since {_time(one)}.", consequence))
    return found


def _time(one: Standing) -> str:
    """In UTC; of what stood already when we began to look it is only known that it is older."""
    moment = datetime.fromtimestamp(one.since, UTC)
    return f"{'before ' if one.is_older else ''}{moment:%H:%M:%S} UTC"


def fingerprint(found: Sequence[Problem]) -> str:
    """The same for the same problems: a page that shows them already need not be told again."""
    return sha256(repr(list(found)).encode()).hexdigest()[:_HASH_CHARACTERS]
