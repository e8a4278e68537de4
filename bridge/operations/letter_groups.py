"""Groups dead letters that died of the same thing, so that a person decides once for all of them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bridge.dead_letters.dead_letter_description import DeadLetter

_PARTICULARS: Final = re.compile(
    r"""
      '[^']*' | "[^"]*"               # what is quoted: values, names of hosts
    | \S+@\S+                         # addresses
    | \b[0-9a-fA-F]{8,}(?:-[0-9a-fA-F]+)*\b  # ids
    | \d+(?:[.:]\d+)*                 # numbers, times, IP addresses
    """,
    re.VERBOSE,
)
_ANYTHING: Final = "…"


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Dead letters with the same reason, and errors that differ only in ids, addresses and numbers."""

    key: str
    """For a URL."""
    reason: str
    error: str
    """With `…` in place of what differs from letter to letter."""
    letters: Sequence[DeadLetter]
    """Oldest first."""

    @property
    def events(self) -> list[tuple[str, int]]:
        """Name -> how many, the most frequent first."""
        return Counter(letter.event for letter in self.letters).most_common()

    @property
    def oldest(self) -> int | None:
        """When the first of them died, Unix milliseconds; None if no letter says."""
        return min(self._died, default=None)

    @property
    def newest(self) -> int | None:
        return max(self._died, default=None)

    @property
    def _died(self) -> list[int]:
        return [letter.died_at for letter in self.letters if letter.died_at is not None]


def grouped(letters: Iterable[DeadLetter]) -> list[LetterGroup]:
    """The groups of these letters, the largest first."""
    kinds: defaultdict[tuple[str, str], list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        kinds[letter.reason, kind_of_error(letter.error)].append(letter)
    groups = [
        LetterGroup(_key(reason, error), reason, error, found) for (reason, error), found in kinds.items()
    ]
    return sorted(groups, key=lambda group: (-len(group.letters), group.reason, group.error))


def kind_of_error(error: str) -> str:
    """The error without what belongs to one message: `the provider does not know message …`."""
    return _PARTICULARS.sub(_ANYTHING, error)


def _key(reason: str, error: str) -> str:
    return hashlib.blake2b(f"{reason}\0{error}".encode(errors="replace"), digest_size=8).hexdigest()
