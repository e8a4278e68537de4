"""What each part of the list has: its database, the clock, and the keys under which addresses stand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bridge.suppression.address_keys import PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.suppression.address_keys import AddressKeys
    from bridge.suppression.database import Database


class ListPart:
    """A part of the list. Every method may raise `StoreError`, and `StoreUnavailableError` where waiting may help."""

    def __init__(
        self, database: Database, clock: Callable[[], float] = time.time, *, keys: AddressKeys = PLAIN
    ) -> None:
        """Args: a database with the newest revision; the time in Unix seconds; under which key each address stands."""
        self._database = database
        self._clock = clock
        self._keys = keys

    def _now(self) -> int:
        return int(self._clock())
