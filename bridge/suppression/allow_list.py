"""The allow-list: addresses and domains that are written to although events have put them on the suppression list."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import delete, func, select

from bridge.suppression import bulk, current_state, key_moves, model
from bridge.suppression.address_keys import domain_of, is_hash
from bridge.suppression.addresses import InvalidAddressError, normalise
from bridge.suppression.change_log import NewChange, append_changes
from bridge.suppression.database import shielded
from bridge.suppression.errors import NoSuchRuleError, ProtectedComplaintError
from bridge.suppression.policy import wins_over
from bridge.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.bulk import Insert
    from bridge.suppression.change import Action
    from bridge.suppression.database import Database
    from bridge.suppression.policy import Reason

_HOST: Final = "x@"
"""Makes an address of a domain, so that both are normalised by the same rules."""


@dataclass(frozen=True, slots=True)
class AllowRule:
    """An address or a domain that is allowed."""

    pattern: str
    """The key of an address, or a domain: lower case, IDNA. A domain does not stand for its subdomains."""
    over_complaints: bool
    """Whether it wins over complaints, too."""
    created_at: int
    """Unix seconds."""
    actor: str
    note: str

    def allows(self, reason: Reason) -> bool:
        """Whether an entry with this reason does not suppress where this rule holds."""
        return wins_over(reason, over_complaints=self.over_complaints)

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON; the time in RFC 3339."""
        return {
            "pattern": self.pattern,
            "over_complaints": self.over_complaints,
            "created_at": rfc3339(self.created_at),
            "actor": self.actor,
            "note": self.note,
        }


class PutRule(NamedTuple):
    """What `AllowList.put` has done."""

    rule: AllowRule
    created: bool
    """False where there was such a rule before."""


class AllowList:
    """The rules. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(self, database: Database, clock: Callable[[], float], keys: AddressKeys) -> None:
        """Args: the list's database; the time in Unix seconds; under which key each address stands."""
        self._database = database
        self._clock = clock
        self._keys = keys

    @shielded
    async def put(
        self, pattern: str, *, actor: str, note: str, over_complaints: bool = False, override: bool = False
    ) -> PutRule:
        """Allow an address or a domain. A rule that stands already is replaced; the time when it was made stays.

        Args:
            pattern: an address in any spelling, or a domain with or without an @-sign before it.
            actor: who allows it, for the change log.
            note: why, for the change log.
            over_complaints: win over complaints, too.
            override: needed for `over_complaints`, with an actor and a note.

        Raises:
            InvalidAddressError: it is neither an address nor a domain.
            ProtectedComplaintError: it is to win over complaints, and the override, the actor or the note is missing.
        """
        key = self.key_of(pattern)
        if over_complaints and not (override and actor.strip() and note.strip()):
            raise ProtectedComplaintError(
                f"to allow {pattern} in spite of complaints needs an override, and a note and a name for the log"
            )
        now = int(self._clock())
        async with self._database.write() as connection:
            await current_state.exclude_writers(connection)
            if _domain_of(pattern) is None:
                key = (await key_moves.places(connection, self._keys, [pattern]))[pattern].key
            before = await _read(connection, key)
            rule = AllowRule(key, over_complaints, before.created_at if before else now, actor, note)
            row = {name: getattr(rule, name) for name in AllowRule.__slots__}
            await connection.execute(
                _put_statement(connection.dialect.name), bulk.as_parameters(connection, [row])
            )
            if before is None or (before.over_complaints, before.note) != (over_complaints, note):
                await self._log(connection, "allowed", rule, now=now)
        return PutRule(rule, before is None)

    @shielded
    async def get(self, pattern: str) -> AllowRule | None:
        """The rule of exactly this address or domain; None if there is none.

        Raises:
            InvalidAddressError: it is neither an address nor a domain.
        """
        async with self._database.read() as connection:
            for key in self._possible_keys(pattern):
                if (rule := await _read(connection, key)) is not None:
                    return rule
        return None

    @shielded
    async def delete(self, pattern: str, *, actor: str, note: str) -> AllowRule:
        """Take a rule away: what suppresses the address is in force again at once. Returns the rule.

        Args:
            pattern: as in `put`.
            actor: who takes it away, for the change log.
            note: why, for the change log.

        Raises:
            InvalidAddressError: it is neither an address nor a domain.
            NoSuchRuleError: there is no such rule.
        """
        now = int(self._clock())
        table = model.allow_rules
        async with self._database.write() as connection:
            await current_state.exclude_writers(connection)
            for key in self._possible_keys(pattern):
                rule = await _read(connection, key)
                if rule is not None:
                    await connection.execute(delete(table).where(table.c.pattern == key))
                    ended = AllowRule(key, rule.over_complaints, rule.created_at, actor, note)
                    await self._log(connection, "disallowed", ended, now=now)
                    return rule
        raise NoSuchRuleError(f"{pattern} is not on the allow-list")

    @shielded
    async def rules(self, *, limit: int, after: str | None = None) -> list[AllowRule]:
        """One page of the rules, ordered by pattern. Args: the maximum number; the last pattern of the page before."""
        table = model.allow_rules
        query = select(table).order_by(table.c.pattern).limit(limit)
        if after is not None:
            query = query.where(table.c.pattern > after)
        async with self._database.read() as connection:
            return [_rule_of(row) for row in await connection.execute(query)]

    @shielded
    async def count(self) -> int:
        """The number of rules."""
        async with self._database.read() as connection:
            return (
                await connection.execute(select(func.count()).select_from(model.allow_rules))
            ).scalar_one()

    async def rules_for(
        self, connection: AsyncConnection, addresses: Collection[str]
    ) -> dict[str, AllowRule]:
        """Address -> the rule that holds for it: its own, else that of its domain. Without those that have none.

        Whoever checks many addresses asks only for those that have entries.

        Args:
            connection: to the list.
            addresses: normalised, or keys.
        """
        return await rules_for(connection, {address: self._keys.looked_up(address) for address in addresses})

    def key_of(self, pattern: str) -> str:
        """The pattern of the rule for this address or domain, as it is stored.

        Raises:
            InvalidAddressError: it is neither an address nor a domain.
        """
        domain = _domain_of(pattern)
        return self._keys.written(pattern) if domain is None else domain

    def _possible_keys(self, pattern: str) -> Sequence[str]:
        domain = _domain_of(pattern)
        return self._keys.looked_up(pattern) if domain is None else (domain,)

    async def _log(self, connection: AsyncConnection, action: Action, rule: AllowRule, *, now: int) -> None:
        """Log what was done. For an address the change says what suppresses it now; for a domain nobody knows whom."""
        reasons = None
        if "@" in rule.pattern or is_hash(rule.pattern):
            found = await current_state.read(connection, [rule.pattern])
            reasons = found.reasons(rule.pattern, now)
        change = NewChange(
            action, rule.pattern, None, note=rule.note, reasons=reasons, expires_at=None, actor=rule.actor
        )
        await append_changes(connection, [change], actor=rule.actor, now=now)


async def rules_for(
    connection: AsyncConnection, keys_of: Mapping[str, Sequence[str]]
) -> dict[str, AllowRule]:
    """Address -> the rule that holds for it: its own, else that of its domain. Without those that have none.

    Args:
        connection: to the list.
        keys_of: address, normalised or a key -> the keys under which it may stand.
    """
    patterns = {key for keys in keys_of.values() for key in keys} | set(map(domain_of, keys_of)) - {""}
    found = {rule.pattern: rule for rule in await _read_some(connection, patterns)}
    if not found:
        return {}
    holding = {}
    for address, keys in keys_of.items():
        for pattern in (*keys, domain_of(address)):
            if pattern in found:
                holding[address] = found[pattern]
                break
    return holding


async def _read(connection: AsyncConnection, pattern: str) -> AllowRule | None:
    found = await _read_some(connection, [pattern])
    return found[0] if found else None


async def _read_some(connection: AsyncConnection, patterns: Collection[str]) -> list[AllowRule]:
    table = model.allow_rules
    found: list[AllowRule] = []
    for some in bulk.column_in(connection, table.c.pattern, patterns):
        found += map(_rule_of, await connection.execute(select(table).where(some)))
    return found


def _rule_of(row: Row[Any]) -> AllowRule:
    return AllowRule(row.pattern, row.over_complaints, row.created_at, row.actor, row.note)


def _domain_of(pattern: str) -> str | None:
    """The domain, if the pattern is one, in the spelling that the addresses on the list have; None: it is an address."""
    text = pattern.strip()
    marked = text.startswith("@")
    domain = text.removeprefix("@")
    if "@" in domain or (":" in domain and not marked):  # with a colon, the key of an address
        return None
    if "." not in domain and not marked:
        raise InvalidAddressError("neither an e-mail address nor a domain, such as example.org or @localhost")
    return normalise(_HOST + domain).removeprefix(_HOST)


@lru_cache(maxsize=4)
def _put_statement(dialect: str) -> Insert:
    table = model.allow_rules
    adding = bulk.insert_statement(dialect, table, tuple(column.name for column in table.c))
    changing = ("over_complaints", "actor", "note")
    return adding.on_conflict_do_update(
        index_elements=[table.c.pattern], set_={name: adding.excluded[name] for name in changing}
    )
