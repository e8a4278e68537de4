"""Which of RabbitMQ, the database and the provider is down, for the strip on top of every page."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.console.parts import parts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp import web

KNOWN: Final = "known"
"""The parameter by which a page says what it shows."""
_HASH_CHARACTERS: Final = 12


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
    parts = parts_of(request)
    found: list[Problem] = []
    if parts.freshness.problem:
        found.append(
            Problem(
                "The database of the suppression list does not answer",
                parts.freshness.problem,
                "Addresses cannot be looked up or changed. Events are still received; they wait in RabbitMQ.",
            )
        )
    return found


def fingerprint(found: Sequence[Problem]) -> str:
    """The same for the same problems: a page that shows them already need not be told again."""
    return sha256(repr(list(found)).encode()).hexdigest()[:_HASH_CHARACTERS]
