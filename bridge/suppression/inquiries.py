"""What a person asks who looks for somebody: which addresses begin like this, and all that is known of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import func, select, union

from bridge.suppression import model, reading
from bridge.suppression.address_keys import is_hash
from bridge.suppression.addresses import InvalidAddressError, folded, normalise, normalise_domain
from bridge.suppression.allow_list import rules_for
from bridge.suppression.database import shielded
from bridge.suppression.list_part import ListPart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Column, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.allow_list import AllowRule
    from bridge.suppression.change import Change
    from bridge.suppression.entries import Entry

_LAST: Final = "\U0010ffff"
"""Behind every character, in the order of both databases: it is that of code points."""


class Found(NamedTuple):
    """An address that was searched for."""

    address: str
    """As it stands on the list; the one that was typed in full, normalised."""
    known: bool
    """Whether the list, its log or the allow-list has anything of it."""


class Erasure(NamedTuple):
    """When a person was erased, and by whom."""

    key: str
    """The hash that stands for the person."""
    at: int
    """Unix seconds."""
    actor: str
    note: str


@dataclass(frozen=True, slots=True)
class Known:
    """All that is known of one address now, but for its history. Times are Unix seconds."""

    address: str
    """Normalised; a hash where that was asked for."""
    entries: tuple[Entry, ...]
    """Ordered by reason: also those that have ended, and those over which the allow-list wins."""
    rule: AllowRule | None
    """The rule of the allow-list that holds for it: its own, or that of its domain."""
    erasure: Erasure | None
    soft_bounces: int
    """How many are kept that came after the last delivery: the policy counts those within its window."""
    delivered_at: int | None
    """When a message was last delivered to it, as far as that is kept: beside soft bounces."""
    changes: int
    """How many are in the log."""
    at: int
    """When this was read."""

    @property
    def in_force(self) -> tuple[Entry, ...]:
        """The entries that suppress it now."""
        return tuple(entry for entry in self._not_ended if not self._is_allowed(entry))

    @property
    def overruled(self) -> tuple[Entry, ...]:
        """The entries over which the allow-list wins."""
        return tuple(entry for entry in self._not_ended if self._is_allowed(entry))

    @property
    def ended(self) -> tuple[Entry, ...]:
        """The entries that have ended and are not deleted yet."""
        return tuple(entry for entry in self.entries if entry not in self._not_ended)

    @property
    def _not_ended(self) -> tuple[Entry, ...]:
        return tuple(
            entry for entry in self.entries if entry.expires_at is None or entry.expires_at > self.at
        )

    def _is_allowed(self, entry: Entry) -> bool:
        return self.rule is not None and self.rule.allows(entry.reason)


class Inquiries(ListPart):
    """Answers people. None of it waits for a writer, and none of it grows with the list."""

    @shielded
    async def search(self, text: str, *, limit: int) -> list[Found]:
        """The addresses that begin with this text, in order, and the text itself where it is an address.

        That one comes first, or last if nothing is known of it. It is found by its hashes, too; another of which only a
        hash is kept is found by the hash alone. Addresses that are not on the list any more are found as long as the log
        has them.

        Args:
            text: the beginning of an address in any case, or `@` and the beginning of a domain.
            limit: the maximum number.
        """
        wanted = text.strip()
        if not wanted:
            return []
        whole = self._whole(wanted)
        async with self._database.read() as connection:
            rows = await connection.scalars(_beginning(wanted, 2 * limit))
            # Rules for domains, and their changes, are no addresses.
            found = [Found(key, known=True) for key in rows if "@" in key or is_hash(key)]
            known = whole is not None and await _is_known(connection, self._keys.looked_up(whole))
        if whole is None:
            return found[:limit]
        others = [one for one in found if one.address != whole][: limit - 1]
        # What nobody knows is perhaps not typed to its end.
        return [Found(whole, known), *others] if known else [*others, Found(whole, known)]

    @shielded
    async def about(self, address: str) -> Known:
        """All that is known of this address now.

        Raises:
            InvalidAddressError: it is no address.
        """
        normalised = address if is_hash(address) else normalise(address)
        keys, now = self._keys.looked_up(normalised), self._now()
        bounces, deliveries, erasures = model.soft_bounces, model.deliveries, model.erasures
        async with self._database.read() as connection:
            entries = await reading.read_entries(connection, keys)
            rule = (await rules_for(connection, {normalised: keys})).get(normalised)
            erased = (
                await connection.execute(
                    select(erasures.c.key, erasures.c.erased_at, erasures.c.actor, erasures.c.note)
                    .where(erasures.c.key.in_(keys))
                    .limit(1)
                )
            ).first()
            delivered = await connection.scalar(
                select(func.max(deliveries.c.delivered_at)).where(deliveries.c.address.in_(keys))
            )
            bounced = await connection.scalar(
                select(func.count())
                .select_from(bounces)
                .where(bounces.c.address.in_(keys), bounces.c.at > (delivered or 0))
            )
            changes = await reading.count_changes(connection, keys)
        return Known(
            address=normalised,
            entries=tuple(entries),
            rule=rule,
            erasure=None if erased is None else Erasure(*erased),
            soft_bounces=bounced or 0,
            delivered_at=delivered or None,  # 0: there are only bounces
            changes=changes,
            at=now,
        )

    @shielded
    async def latest_changes(self, address: str, *, limit: int, before: int | None = None) -> list[Change]:
        """The changes of this address, newest first.

        Args:
            address: in any spelling.
            limit: the maximum number.
            before: the id of the last change of the page before.

        Raises:
            InvalidAddressError: it is no address.
        """
        keys = self._keys.looked_up(address)
        async with self._database.read() as connection:
            return await reading.read_latest_changes(connection, keys, limit=limit, before=before)

    def _whole(self, text: str) -> str | None:
        """The normalised address, if the text is one."""
        if is_hash(text):
            return text
        try:
            return normalise(text)
        except InvalidAddressError:
            return None


def _beginning(text: str, limit: int) -> Select[Any]:
    """The addresses that begin so: each index is read from there, and no further than the limit."""
    stored = model.suppressions.c
    if text.startswith("@"):
        start = _domain(text)
        return (
            select(stored.address, stored.domain)
            # Nothing is said of hashes: they have no domain.
            .where(stored.domain >= start if start else stored.domain > "", stored.domain < start + _LAST)
            .order_by(stored.domain, stored.address)
            .limit(limit)
            .distinct()
        )
    start = folded(text)
    columns = (stored.address, model.changes.c.address, model.allow_rules.c.pattern)
    together = union(*(_from_index(column, start, limit) for column in columns)).subquery()
    return select(together.c.address).order_by(together.c.address).limit(limit)


def _domain(text: str) -> str:
    try:
        return normalise_domain(text)
    except InvalidAddressError:  # not yet: nothing is typed behind the @-sign, or half a character of IDNA
        return folded(text.removeprefix("@"))


def _from_index(column: Column[str], start: str, limit: int) -> Select[Any]:
    some = (
        select(column.label("address"))
        .where(column >= start, column < start + _LAST)
        .order_by(column)
        .limit(limit)
        .distinct()
        .subquery()
    )
    return select(some.c.address)


async def _is_known(connection: AsyncConnection, keys: Sequence[str]) -> bool:
    columns = (
        model.suppressions.c.address,
        model.changes.c.address,
        model.allow_rules.c.pattern,
        model.erasures.c.key,
    )
    together = union(*(select(column.label("key")).where(column.in_(keys)) for column in columns)).subquery()
    return await connection.scalar(select(together.c.key).limit(1)) is not None
