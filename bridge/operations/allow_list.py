"""Operations on the allow-list: list, add and remove rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from bridge.operations.suppressions import open_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.settings.sections import Settings
    from bridge.suppression.allow_list import AllowRule, PutRule

_PAGE: Final = 500


class RulesListed(NamedTuple):
    """What was read."""

    shown: int
    total: int
    following: str | None
    """For `--after`; None where nothing follows."""


async def list_rules(
    settings: Settings, *, limit: int | None, after: str | None, show: Callable[[AllowRule], None]
) -> RulesListed:
    """Read the rules page by page, and call `show` with each.

    Raises:
        StoreError: the list cannot be read.
    """
    shown, last, more = 0, after, True
    async with open_list(settings) as store:
        while more and (limit is None or shown < limit):
            size = _PAGE if limit is None else min(_PAGE, limit - shown)
            rules = await store.allow_list.rules(limit=size + 1, after=last)
            more = len(rules) > size
            for rule in rules[:size]:
                show(rule)
                last = rule.pattern
                shown += 1
        total = shown if after is None and not more else await store.allow_list.count()
    return RulesListed(shown, total, last if more else None)


async def add_rule(
    settings: Settings, pattern: str, *, actor: str, note: str, over_complaints: bool, override: bool
) -> PutRule:
    """Allow an address or a domain.

    Raises:
        InvalidAddressError: it is neither.
        StoreError: it is to win over complaints and the override or the note is missing, or the list cannot be changed.
    """
    async with open_list(settings) as store:
        return await store.allow_list.put(
            pattern, actor=actor, note=note, over_complaints=over_complaints, override=override
        )


async def remove_rule(settings: Settings, pattern: str, *, actor: str, note: str) -> AllowRule:
    """Take a rule away. Returns it.

    Raises:
        InvalidAddressError: it is neither an address nor a domain.
        StoreError: there is no such rule, or the list cannot be changed.
    """
    async with open_list(settings) as store:
        return await store.allow_list.delete(pattern, actor=actor, note=note)
