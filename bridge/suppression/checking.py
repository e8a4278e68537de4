"""May one write to these addresses? One query for thousands of them, without the cost of an entry for each."""

from __future__ import annotations

from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
from sqlalchemy import text

from bridge.suppression.policy import Reason
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.allow_list import AllowRule


class InForce(NamedTuple):
    """A reason for which an address must not be written to now. Times are Unix seconds."""

    reason: Reason
    since: int
    """When its first event happened, or when a person added it."""
    expires: int | None
    """When it ends; None: never."""

    def document(self) -> dict[str, Any]:
        """Ready for JSON, times in RFC 3339."""
        return {
            "reason": self.reason.value,
            "since": rfc3339(self.since),
            "expires": None if self.expires is None else rfc3339(self.expires),
        }


class Checked(NamedTuple):
    """The answer for one address."""

    address: str | None
    """Normalised; None where it is no address."""
    allowed: bool
    """Whether one may write to it."""
    reasons: tuple[InForce, ...] = ()
    """Why not, ordered by reason; without those over which the allow-list wins."""
    allow_rule: str | None = None
    """The rule of the allow-list, an address or a domain, that wins over a reason for which it is on the list."""
    error: str | None = None
    """Why it is no address. Such a one is not allowed."""

    def document(self) -> dict[str, Any]:
        """Ready for JSON, times in RFC 3339."""
        return {
            "address": self.address,
            "allowed": self.allowed,
            "reasons": [reason.document() for reason in self.reasons],
            "allow_rule": self.allow_rule,
            "error": self.error,
        }


_STATEMENTS: Final = {
    "postgresql": text("""
        SELECT stored.address, stored.reason, stored.first_event_at, stored.expires_at
        FROM unnest(CAST(:keys AS text[])) AS given CROSS JOIN suppressions AS stored
        WHERE stored.address = given AND (stored.expires_at IS NULL OR stored.expires_at > :now)
    """),
    "sqlite": text("""
        SELECT stored.address, stored.reason, stored.first_event_at, stored.expires_at
        FROM json_each(:keys) AS given CROSS JOIN suppressions AS stored
        WHERE stored.address = given.value AND (stored.expires_at IS NULL OR stored.expires_at > :now)
    """),
}
"""Driven by the keys: one look into the index for each of them, however long the list is."""

_ORDER: Final = itemgetter(0, 1)  # what is equal in both may end at a time or never, which cannot be compared


async def read_in_force(
    connection: AsyncConnection, keys: AbstractSet[str], now: int
) -> dict[str, tuple[InForce, ...]]:
    """Key -> the reasons in force at `now` (Unix seconds), ordered; keys without any are not there."""
    dialect = connection.dialect.name
    given: Any = list(keys) if dialect == "postgresql" else orjson.dumps(list(keys)).decode()
    rows = await connection.execute(_STATEMENTS[dialect], {"keys": given, "now": now})
    found: dict[str, tuple[InForce, ...]] = {}
    for key, reason, since, expires in rows:
        found[key] = (*found.get(key, ()), InForce(Reason(reason), since, expires))
    return {key: tuple(sorted(reasons, key=_ORDER)) for key, reasons in found.items()}


def listed(
    addresses: Iterable[str], keys: Iterable[Sequence[str]], found: Mapping[str, tuple[InForce, ...]]
) -> dict[str, Sequence[str]]:
    """Those of these normalised addresses that are on the list, each with its keys."""
    on_list = found.keys()
    return {address: its for address, its in zip(addresses, keys, strict=True) if not on_list.isdisjoint(its)}


def answers(
    addresses: Iterable[str | ValueError],
    keys: Iterable[Sequence[str]],
    found: Mapping[str, tuple[InForce, ...]],
    rules: Mapping[str, AllowRule],
) -> list[Checked]:
    """An answer for each address, in order.

    Args:
        addresses: normalised, or why it is none.
        keys: of each that is one, in the same order.
        found: as `read_in_force` returns it.
        rules: address -> the rule of the allow-list that holds for it.
    """
    ours = iter(keys)
    done = []
    for address in addresses:
        if not isinstance(address, str):
            done.append(Checked(None, allowed=False, error=str(address)))
            continue
        reasons = _of_all([found[key] for key in next(ours) if key in found])
        done.append(
            _answer(address, reasons, rules.get(address)) if reasons else Checked(address, allowed=True)
        )
    return done


def _answer(address: str, reasons: tuple[InForce, ...], rule: AllowRule | None) -> Checked:
    left = tuple(one for one in reasons if rule is None or not rule.allows(one.reason))
    wins = rule is not None and len(left) < len(reasons)
    return Checked(address, not left, left, rule.pattern if rule is not None and wins else None)


def _of_all(found: Sequence[tuple[InForce, ...]]) -> tuple[InForce, ...]:
    """The reasons of one address, which may stand under several keys."""
    if len(found) <= 1:
        return found[0] if found else ()
    merged: dict[Reason, InForce] = {}
    for one in sorted(chain.from_iterable(found), key=_ORDER):
        before = merged.setdefault(one.reason, one)
        ends = None if before.expires is None or one.expires is None else max(before.expires, one.expires)
        merged[one.reason] = InForce(one.reason, before.since, ends)
    return tuple(merged.values())
