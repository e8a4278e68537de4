"""The suppression list as soon as its database answers: the API listens before, and says what it waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.suppression.errors import StoreUnavailableError

if TYPE_CHECKING:
    from bridge.suppression.store import Store


class OpenList:
    """Holds the list once it is open. Whoever asks before is told why it is not."""

    def __init__(self, store: Store | None = None) -> None:
        """Args: the list, where it is open already."""
        self._store = store
        self._reason = "the list is not open yet"
        self.tried = asyncio.Event()
        """Set when the first attempt to open it has ended, well or not."""

    @property
    def store(self) -> Store:
        """The list.

        Raises:
            StoreUnavailableError: it could not be opened so far; the message says why.
        """
        if self._store is None:
            raise StoreUnavailableError(self._reason)
        return self._store

    def opened(self, store: Store) -> None:
        """From now on this is the list."""
        self._store = store
        self.tried.set()

    def failed(self, error: StoreUnavailableError) -> None:
        """It could not be opened this time."""
        self._reason = str(error)
        self.tried.set()
