"""The suppression list: its questions, its changes, and its other parts in one object."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from bridge.suppression import opening
from bridge.suppression.address_keys import PLAIN
from bridge.suppression.allow_list import AllowList
from bridge.suppression.browsing import Browsing
from bridge.suppression.changes import LEASE_SECONDS, Outbox
from bridge.suppression.erasing import Erasures
from bridge.suppression.errors import StoreError
from bridge.suppression.expiry import Expiry
from bridge.suppression.freshness import Freshness
from bridge.suppression.hashing import Hashing
from bridge.suppression.inquiries import Inquiries
from bridge.suppression.list_reader import ListReader
from bridge.suppression.list_writer import ListWriter
from bridge.suppression.policy import DEFAULT_POLICY
from bridge.suppression.retention import Retention
from bridge.suppression.subscriber_registry import SubscriberRegistry
from bridge.suppression.transfer.exporting import Exporter
from bridge.suppression.transfer.importing import Imports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from typing import Self

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.database import Database
    from bridge.suppression.policy import Policy
    from bridge.suppression.privileges import Role

_RELEASE_SECONDS: Final = 0.5
"""How long the end of a process may wait for the release of its lease; otherwise the lease expires."""


class Store(ListReader, ListWriter):
    """The list: what `ListReader` answers and what `ListWriter` changes, and its other parts as attributes.

    Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help.
    """

    def __init__(
        self,
        database: Database,
        clock: Callable[[], float] = time.time,
        *,
        lease_seconds: float = LEASE_SECONDS,
        keys: AddressKeys = PLAIN,
        policy: Policy = DEFAULT_POLICY,
    ) -> None:
        """Use `open` instead. Args: a database with the newest revision; otherwise as there."""
        super().__init__(database, clock, keys=keys)
        self._policy = policy
        self.expiry = Expiry(database, clock, keys=keys)
        """What has ended."""
        self.outbox = Outbox(database, clock, lease_seconds=lease_seconds)
        """The changes that are not published yet."""
        self.freshness = Freshness(database, clock)
        """How far the list may be behind."""
        self.inquiries = Inquiries(database, clock, keys=keys)
        """What a person asks who looks for somebody."""
        self.browsing = Browsing(database, clock, keys=keys)
        """The list, step by step."""
        self.allow_list = AllowList(database, clock, keys)
        """Who is written to all the same."""
        self.erasures = Erasures(database, clock, keys)
        """Who was erased."""
        self.hashing = Hashing(database, keys)
        """The way from addresses to hashes of them."""
        self.retention = Retention(database, clock, lease_seconds=lease_seconds)
        """What is deleted when it is old."""
        self.subscribers = SubscriberRegistry(database, clock)
        """Queues of other services."""
        self.exports = Exporter(database, clock)
        """The list as a file."""
        self.imports = Imports(database, clock, keys)
        """Files that are put on the list."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        database_url: str,
        *,
        create: bool = True,
        clock: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
        keys: AddressKeys = PLAIN,
        policy: Policy = DEFAULT_POLICY,
        role: Role = "worker",
    ) -> AsyncIterator[Self]:
        """Open the list in this database, and migrate it to the newest revision.

        Args:
            database_url: `sqlite+aiosqlite:///file` or `postgresql+asyncpg://user:password@host:port/database`.
            create: make the list if there is none. Without it that is a `StoreError`, so that a wrong path does not look
                like an empty list.
            clock: the time in Unix seconds.
            lease_seconds: how long another process waits before it takes over publishing.
            keys: under which key each address stands.
            policy: for how long events suppress.
            role: whose rights the user of the database must have.
        """
        async with opening.open_database(database_url, create=create, role=role) as database:
            store = cls(database, clock, lease_seconds=lease_seconds, keys=keys, policy=policy)
            try:
                yield store
            finally:
                with suppress(StoreError, TimeoutError):
                    async with asyncio.timeout(_RELEASE_SECONDS):
                        await store.outbox.release_lease()
