"""Operations on what the list keeps of a person: erasing, hashing, and the keys of the hashes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from bridge.operations.suppressions import open_list
from bridge.spool.erasing import erase_events

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.settings.sections import Settings
    from bridge.spool.erasing import SpoolErasure
    from bridge.suppression.erasing import Erased
    from bridge.suppression.hashing import KeyCount


class Erasure(NamedTuple):
    """What was erased, or would be."""

    database: Erased
    spool: SpoolErasure
    """Of the folder on this machine."""


async def erase(settings: Settings, address: str, *, actor: str, note: str, dry_run: bool = False) -> Erasure:
    """Erase a person from the spool folder of this machine, and from the list. A dry run only counts.

    Raises:
        InvalidAddressError: it is not an address.
        NoPrivacyKeyError: there is no key to make the hash with that stays.
        StoreError: the list cannot be read or written.
        OSError: the spool folder cannot be read.
    """
    async with open_list(settings) as store:
        # First the spool: the list knows which messages its events name, until it has forgotten them.
        messages = await store.erasures.message_ids(address)
        erasing = partial(erase_events, settings.spool.directory, messages, address, dry_run=dry_run)
        spool = await asyncio.to_thread(erasing)
        if dry_run:
            return Erasure(await store.erasures.preview(address), spool)
        return Erasure(await store.erasures.erase(address, actor=actor, note=note), spool)


async def hash_all(settings: Settings, progress: Callable[[int], None]) -> int:
    """Put a hash in the place of each address of the list. Returns how many there were.

    Raises:
        NoPrivacyKeyError: the settings do not say that only hashes are kept.
        StoreError: the list cannot be written.
    """
    async with open_list(settings) as store:
        return await store.hashing.hash_all(progress)


async def count_keys(settings: Settings) -> list[KeyCount]:
    """How many rows stand under each key.

    Raises:
        StoreError: the list cannot be read.
    """
    async with open_list(settings) as store:
        return await store.hashing.count_keys()
