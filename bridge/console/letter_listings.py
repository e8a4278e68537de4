"""The dead letters as somebody saw them: what is replayed or discarded is chosen from these, and nothing that came later."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web

from bridge.console.errors import PageError
from bridge.operations.letter_groups import grouped
from bridge.tasks import mark_exception_retrieved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from bridge.dead_letters.dead_letter_description import DeadLetter
    from bridge.operations.letter_groups import LetterGroup
    from bridge.operations.queue_messages import QueueOperations

FRESH_SECONDS: Final = 3.0
"""For so long a listing is shown to others, too: each reading takes all letters once."""
_MOST_KEPT: Final = 200
_MOST_LETTERS: Final = 50_000
"""In all listings together. A letter takes about a kilobyte here."""
_EVERYTHING: Final = "everything"


@dataclass(frozen=True)
class Listing:
    """All dead letters within reach, as they were at one time."""

    id: str
    at: float
    """Unix seconds."""
    letters: Sequence[DeadLetter]
    """Oldest first."""
    unseen: int
    """How many lie beyond those, and cannot be read before some of them are removed."""

    @cached_property
    def groups(self) -> list[LetterGroup]:
        return grouped(self.letters)

    @cached_property
    def places(self) -> dict[DeadLetter, int]:
        """Letter -> its place in `letters`, by which a form names it."""
        return {letter: place for place, letter in enumerate(self.letters)}

    def group(self, key: str) -> LetterGroup:
        """The group with this key.

        Raises:
            PageError: there is none.
        """
        for group in self.groups:
            if group.key == key:
                return group
        raise _out_of_date()

    def at_places(self, places: Iterable[str]) -> list[DeadLetter]:
        """The letters at these places.

        Raises:
            PageError: a form cannot have come from this listing.
        """
        try:
            wanted = sorted({int(place) for place in places})
        except ValueError:
            raise _out_of_date() from None
        if wanted and not 0 <= wanted[0] <= wanted[-1] < len(self.letters):
            raise _out_of_date()
        return [self.letters[place] for place in wanted]


class Listings:
    """Reads the dead letters for all who look at them, and keeps what was seen for a while."""

    def __init__(self, operations: QueueOperations[DeadLetter]) -> None:
        """Args: of the dead letters."""
        self.operations = operations
        self._kept: dict[str, Listing] = {}
        self._reading: asyncio.Task[Listing] | None = None
        self._moved_at = 0.0

    def begin(self) -> asyncio.Task[Listing]:
        """A reading: the one that goes on, or another. It ends with an error of `QueueOperations`."""
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read(), name="console.dead_letters")
            self._reading.add_done_callback(mark_exception_retrieved)  # who asked for it may be gone
        return self._reading

    def latest(self) -> Listing | None:
        """The last listing of all letters, however old."""
        return next((one for one in reversed(self._kept.values()) if one.id.startswith(_EVERYTHING)), None)

    def fresh(self) -> Listing | None:
        """One that is only some seconds old."""
        found = self.latest()
        since = max(self._moved_at, time.time() - FRESH_SECONDS)
        return found if found is not None and found.at > since else None

    def expire(self) -> None:
        """Something was moved: who looks next reads again."""
        self._moved_at = time.time()

    def get(self, listing_id: str) -> Listing:
        """The listing with this id.

        Raises:
            PageError: it is not kept any more.
        """
        try:
            return self._kept[listing_id]
        except KeyError:
            raise _out_of_date() from None

    def keep_one(self, letter: DeadLetter) -> Listing:
        """A listing of one letter."""
        return self._keep(Listing(secrets.token_hex(8), time.time(), (letter,), 0))

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])

    async def _read(self) -> Listing:
        found = await self.operations.select(lambda _: True)
        return self._keep(
            Listing(f"{_EVERYTHING}-{secrets.token_hex(8)}", time.time(), found.messages, found.unseen)
        )

    def _keep(self, listing: Listing) -> Listing:
        self._kept[listing.id] = listing
        while len(self._kept) > 1 and (
            len(self._kept) > _MOST_KEPT
            or sum(len(one.letters) for one in self._kept.values()) > _MOST_LETTERS
        ):
            del self._kept[next(iter(self._kept))]
        return listing


def _out_of_date() -> PageError:
    return PageError(
        "What you saw is too long ago, and the dead letters may be others now. Nothing was changed. Open the page of the "
        "dead letters once more.",
        title="The list is out of date",
        status=HTTPStatus.CONFLICT,
    )


LISTINGS: Final = web.AppKey("console.letter_listings", Listings)


async def readings(app: web.Application) -> AsyncIterator[None]:
    """For `cleanup_ctx`: a reading that goes on when the process stops is ended."""
    yield
    await app[LISTINGS].close()
