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
    from collections.abc import Iterable, Mapping

    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.allow_list import AllowRule
    from bridge.suppression.database import Database


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


_new: Final = tuple.__new__

_STATEMENTS: Final = {
    "postgresql": text("""
        SELECT stored.address, stored.reason, stored.first_event_at, stored.expires_at,
            EXISTS (SELECT * FROM allow_rules)
        FROM unnest(string_to_array(:keys, chr(10))) AS given CROSS JOIN suppressions AS stored
        WHERE stored.address = given AND (stored.expires_at IS NULL OR stored.expires_at > :now)
    """),
    "sqlite": text("""
        SELECT stored.address, stored.reason, stored.first_event_at, stored.expires_at,
            EXISTS (SELECT * FROM allow_rules)
        FROM json_each(:keys) AS given CROSS JOIN suppressions AS stored
        WHERE stored.address = given.value AND (stored.expires_at IS NULL OR stored.expires_at > :now)
    """),
}
"""Driven by the keys: one look into the index for each of them, however long the list is."""


class Found(NamedTuple):
    """What is on the list."""

    in_force: dict[str, list[InForce]]
    """Address -> its reasons in force, ordered; addresses without any are not there."""
    rules: bool
    """Whether there is any rule on the allow-list; False, too, where nothing is in force."""


async def read_in_force(
    database: Database,
    connection: AsyncConnection,
    addresses: Iterable[str],
    further_keys: Mapping[str, str],
    now: int,
) -> Found:
    """What suppresses these addresses, apart from the allow-list.

    Args:
        database: the list's.
        connection: of its `read_autocommit`.
        addresses: normalised.
        further_keys: under which they may stand besides, each with its address.
        now: Unix seconds.
    """
    # In the order of the index, each of its pages is read once.
    keys = sorted(chain(addresses, further_keys))
    dialect = connection.dialect.name
    # One text goes to the driver in a fraction of the time of a list. No key has a line break in it.
    given = "\n".join(keys) if dialect == "postgresql" else orjson.dumps(keys).decode()
    found: dict[str, list[InForce]] = {}
    rules = False
    rows = await database.fetch(connection, _STATEMENTS[dialect], {"keys": given, "now": now})
    for key, reason, since, expires, any_rules in rows:
        rules = bool(any_rules)
        found.setdefault(further_keys.get(key, key), []).append(InForce(Reason(reason), since, expires))
    return Found({address: _merged(reasons) for address, reasons in found.items()}, rules)


def _merged(found: list[InForce]) -> list[InForce]:
    """One of each reason, in order: an address that stands under several keys may have it under each."""
    if len(found) == 1:
        return found
    merged: dict[Reason, InForce] = {}
    for one in sorted(found, key=itemgetter(0, 1)):
        before = merged.setdefault(one.reason, one)
        ends = None if before.expires is None or one.expires is None else max(before.expires, one.expires)
        merged[one.reason] = InForce(one.reason, before.since, ends)
    return list(merged.values())


def answers(
    addresses: Iterable[str | ValueError],
    found: Mapping[str, list[InForce]],
    rules: Mapping[str, AllowRule],
) -> list[Checked]:
    """An answer for each address, in order.

    Args:
        addresses: normalised, or why it is none.
        found: address -> its reasons in force.
        rules: address -> the rule of the allow-list that holds for it.
    """
    # Nearly all are allowed, and there may be ten thousand: made as `Checked` itself does it, without a call for each.
    return [
        _new(Checked, (address, True, (), None, None))
        if address not in found and isinstance(address, str)
        else _answer(address, found, rules)
        for address in addresses
    ]


def _answer(
    address: str | ValueError, found: Mapping[str, list[InForce]], rules: Mapping[str, AllowRule]
) -> Checked:
    if not isinstance(address, str):
        return Checked(None, allowed=False, error=str(address))
    reasons, rule = found[address], rules.get(address)
    if rule is None:
        return Checked(address, allowed=False, reasons=tuple(reasons))
    left = tuple(one for one in reasons if not rule.allows(one.reason))
    return Checked(address, not left, left, rule.pattern if len(left) < len(reasons) else None)
