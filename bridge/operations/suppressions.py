"""Operations on the suppression list: check, list, add and remove addresses, and read the history of one."""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.suppression.address_keys import PLAIN, keys_of
from bridge.suppression.store import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence

    from bridge.settings.sections import Settings
    from bridge.suppression.change import Change
    from bridge.suppression.checking import Checked
    from bridge.suppression.entries import Entry
    from bridge.suppression.list_filter import ListFilter
    from bridge.suppression.policy import Reason
    from bridge.suppression.reading import StateThen

PAGE: Final = 500
"""How many entries are read at once."""
AT_ONCE: Final = 10_000
"""How many addresses of a file are asked for with one query."""


class ListQuery(NamedTuple):
    """Which entries of the list are read."""

    wanted: ListFilter
    limit: int | None
    after: tuple[str, str] | None
    """Address and reason of the entry before."""


class CheckedLines(NamedTuple):
    """How many addresses of a file are what."""

    allowed: int
    suppressed: int
    invalid: int
    """They are no addresses."""


class Listed(NamedTuple):
    """What was read."""

    shown: int
    total: int
    following: str | None
    """For `--after`; None where nothing follows."""


class Addition(NamedTuple):
    """What `add` has done, or would do."""

    entry: Entry | None
    """None in a dry run."""
    in_force: list[Entry]
    """What forbids writing to the address now."""


class Removal(NamedTuple):
    """What `remove` has done, or would do."""

    removed: list[Entry]
    left: list[Entry]
    """What forbids writing to the address all the same."""


class History(NamedTuple):
    """A part of an address's history."""

    changes: list[Change]
    """Oldest first."""
    total: int
    following: str | None
    """For `--after`; None where nothing follows."""
    complete_since: int | None
    """Unix seconds: of the time before, the log has not everything any more; None: it has all."""


async def check(settings: Settings, addresses: Sequence[str]) -> list[list[Entry]]:
    """What forbids writing to each of them.

    Raises:
        InvalidAddressError: one is no address; none was looked up.
        StoreError: the list cannot be read.
    """
    for address in addresses:
        PLAIN.written(address)
    async with open_list(settings) as store:
        return [await store.check(address) for address in addresses]


async def check_lines(
    settings: Settings, addresses: Iterable[str], show: Callable[[str, Checked], None]
) -> CheckedLines:
    """Ask for many addresses, `AT_ONCE` with each query, and call `show` with each as it was given and its answer.

    Raises:
        StoreError: the list cannot be read. What was shown before holds.
    """
    counts: Counter[str] = Counter()
    lines = iter(addresses)
    async with open_list(settings) as store:
        while some := list(islice(lines, AT_ONCE)):
            for line, answer in zip(some, await store.check_many(some), strict=True):
                counts["invalid" if answer.error else "allowed" if answer.allowed else "suppressed"] += 1
                show(line, answer)
    return CheckedLines(counts["allowed"], counts["suppressed"], counts["invalid"])


async def list_entries(settings: Settings, query: ListQuery, show: Callable[[Entry], None]) -> Listed:
    """Read the list page by page, as it may be longer than the memory, and call `show` with each entry.

    Raises:
        StoreError: the list cannot be read.
    """
    async with open_list(settings) as store:
        return await _show_pages(store, query, show)


async def _show_pages(store: Store, query: ListQuery, show: Callable[[Entry], None]) -> Listed:
    wanted, most, after = query
    shown = 0
    more = True
    last = after
    while more and (most is None or shown < most):
        size = PAGE if most is None else min(PAGE, most - shown)
        entries = await store.entries(wanted, limit=size + 1, after=last)
        more = len(entries) > size
        for entry in entries[:size]:
            show(entry)
            last = (entry.address, entry.reason.value)
            shown += 1
    if after is None and not more:
        return Listed(shown, shown, None)  # as many as there were, whatever comes meanwhile
    total = await store.count(wanted)
    return Listed(shown, total, f"{last[1]}:{last[0]}" if more and last is not None else None)


async def add(settings: Settings, address: str, *, actor: str, note: str, dry_run: bool) -> Addition:
    """Put an address on the list, with the reason `manual`. A dry run changes nothing.

    Raises:
        InvalidAddressError: it is no address.
        StoreError: the list cannot be changed.
    """
    async with open_list(settings) as store:
        entry = None if dry_run else await store.add(address, actor=actor, note=note)
        return Addition(entry, await store.check(address))


async def remove(
    settings: Settings,
    address: str,
    *,
    reason: Reason | None,
    actor: str,
    note: str,
    override: bool,
    dry_run: bool,
) -> Removal:
    """Take an address off the list. A dry run changes nothing, and fails where the removal would.

    Raises:
        InvalidAddressError: it is no address.
        StoreError: it is not on the list, or has complained and the override or the note is missing, or the list cannot
            be changed.
    """
    async with open_list(settings) as store:
        removed = await store.remove(
            address, reason=reason, actor=actor, note=note, override=override, dry_run=dry_run
        )
        gone = {entry.reason for entry in removed}
        return Removal(removed, [entry for entry in await store.check(address) if entry.reason not in gone])


async def history(settings: Settings, address: str, *, limit: int | None, after: int | None) -> History:
    """The changes of an address: at most `limit`, behind the change with the id `after`.

    Raises:
        InvalidAddressError: it is no address.
        StoreError: the list cannot be read.
    """
    async with open_list(settings) as store:
        changes = await store.history(address, limit=None if limit is None else limit + 1, after=after)
        more = limit is not None and len(changes) > limit
        changes = changes[:limit]
        whole = after is None and not more
        total = len(changes) if whole else await store.count_changes(address)
        since = await store.retention.changes_deleted_until()
        return History(changes, total, str(changes[-1].id) if more else None, since)


async def state_at(settings: Settings, address: str, at: int) -> StateThen:
    """What the list said of an address at this time (Unix seconds).

    Raises:
        InvalidAddressError: it is no address.
        StoreError: the list cannot be read.
    """
    async with open_list(settings) as store:
        return await store.suppressed_at(address, at)


@asynccontextmanager
async def open_list(settings: Settings) -> AsyncIterator[Store]:
    """The list; a missing one is an error."""
    url = settings.suppression.database_url.get_secret_value()
    async with Store.open(url, create=False, keys=keys_of(settings.suppression)) as store:
        yield store
