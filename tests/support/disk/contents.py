"""The data and the size of one file: what an fsync has put on the disk, and what only the page cache has. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Protocol

from tests.support.disk.lost import Lost

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

PAGE: Final = 4096
"""What the page cache writes back at once."""
SECTOR: Final = 512
"""What a disk writes whole or not at all: a page of which only some sectors are written is torn."""

Rule = Literal["posix", "journal"]
"""What is durable. `posix`: data and size of a file by its fsync, a name by the fsync of its folder, and nothing else.
`journal`, as ext4 and XFS do it: an fsync of anything also makes durable all that was done before it to names, and all
truncations; a file that grew has, from its beginning on, as much as was written back."""


class Store(Protocol):
    """The bytes of all files, as processes see them."""

    def read(self, inode: int, size: int, offset: int) -> bytes: ...
    def write(self, inode: int, data: bytes, offset: int) -> None: ...
    def truncate(self, inode: int, size: int) -> None: ...
    def remove(self, inode: int) -> None: ...


class Contents:
    """The store has the latest bytes of the file; here is what a power cut may bring back instead."""

    __slots__ = ("_before", "_inode", "_store", "size", "synced_size")

    def __init__(self, inode: int, store: Store) -> None:
        """Take a new, empty file."""
        self._inode = inode
        self._store = store
        self.size = 0
        self.synced_size = 0
        self._before: dict[int, bytes] = {}
        """Page number -> what the disk has of it, of each page that was changed since. Pages beyond `synced_size` are
        not in it: the disk has nothing of them."""

    @property
    def is_synced(self) -> bool:
        return not self._before and self.size == self.synced_size

    def write(self, data: bytes, offset: int) -> None:
        """As `pwrite`."""
        end = offset + len(data)
        if offset < self.synced_size:
            self._keep(range(offset // PAGE, _pages(min(end, self.synced_size))))
        self._store.write(self._inode, data, offset)
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        """As `ftruncate`: shorter, or longer by zeros."""
        if size < self.size:
            self._keep(range(size // PAGE, _pages(self.synced_size)))
        self._store.truncate(self._inode, size)
        self.size = size

    def sync(self) -> None:
        """All of it is on the disk."""
        self._before.clear()
        self.synced_size = self.size

    def sync_truncation(self, size: int) -> None:
        """That it once had this size is on the disk, in the journal; what was written to it is not."""
        if size < self.synced_size:
            for page in [page for page in self._before if page * PAGE >= size]:
                del self._before[page]
            if (last := size // PAGE) in self._before:
                self._before[last] = self._before[last][: size % PAGE]
        else:
            for page in range(_pages(self.synced_size), _pages(min(size, self.size))):
                self._before.setdefault(page, b"")
        self.synced_size = size

    def cut(self, random: Random, rule: Rule, *, share_kept: float | None = None) -> Lost:
        """Replace what is not on the disk by what the disk may have instead; returns what was lost.

        Args:
            random: draws it.
            rule: what is durable.
            share_kept: of the pages; None: drawn. Where it is 0, nothing is there that was not made durable.
        """
        if self.is_synced:
            return Lost()
        # Now and then nothing or all had been written back: such a file is whole, and old or new.
        if share_kept is None:
            share_kept = random.choice((0.0, 0.5, 0.5, 0.8, 1.0))
        before, self.size = self.size, self._size_after(random, rule, share_kept)
        lost = Lost(
            sizes=int(self.size != before),
            pages_dropped=max(0, _pages(before) - max(_pages(self.size), _pages(self.synced_size))),
        )
        if self.size != before:
            self._store.truncate(self._inode, self.size)
        last = _pages(self.size)
        if rule == "journal" and self.size > self.synced_size:
            # The end of a file moves only once what lies before it is there, the page in which it was before, too.
            last = self.synced_size // PAGE
        for page in self._changed_pages(last):
            # A truncation that did not take place has not zeroed what it cut off.
            is_lost = page >= _pages(before)
            lost += self._cut_page(page, random, 0.0 if is_lost else share_kept)
        self.sync()
        return lost

    def _size_after(self, random: Random, rule: Rule, share_kept: float) -> int:
        if share_kept == 0.0 or (rule == "journal" and self.size <= self.synced_size):
            return self.synced_size
        if self.size <= self.synced_size:
            return random.choice((self.size, self.synced_size))
        if share_kept == 1.0:
            return self.size
        if rule == "posix":
            return random.choice((self.synced_size, random.randint(self.synced_size, self.size), self.size))
        pages = random.randint(self.synced_size // PAGE, _pages(self.size))
        return min(self.size, max(self.synced_size, pages * PAGE))

    def _changed_pages(self, last: int) -> Iterator[int]:
        yield from (page for page in sorted(self._before) if page < last)
        yield from range(_pages(self.synced_size), last)

    def _cut_page(self, page: int, random: Random, share_kept: float) -> Lost:
        fate = random.random()
        if fate < share_kept:
            return Lost()
        size = min(PAGE, self.size - page * PAGE)
        new = self._store.read(self._inode, size, page * PAGE).ljust(size, b"\0")
        old = self._before.get(page, b"")[:size].ljust(size, b"\0")
        if new == old:
            return Lost()
        is_torn = share_kept > 0.0 and fate < share_kept + (1 - share_kept) / 2
        there = _torn(old, new, random) if is_torn else old
        self._store.write(self._inode, there, page * PAGE)
        return Lost(pages_torn=int(there not in {old, new}), pages_dropped=int(there == old))

    def _keep(self, pages: range) -> None:
        """These are about to change: keep what the disk has of them."""
        for page in pages:
            if page not in self._before:
                size = min(PAGE, self.synced_size - page * PAGE)
                self._before[page] = self._store.read(self._inode, size, page * PAGE)


def _torn(old: bytes, new: bytes, random: Random) -> bytes:
    """Some sectors of the old, and the others of the new: any, or those before one, as a head writes them."""
    count = PAGE // SECTOR
    if random.random() < 0.5:
        first_lost = random.randrange(1, count)
        chosen = frozenset(range(first_lost))
    else:
        chosen = frozenset(random.sample(range(count), random.randrange(1, count)))
    return b"".join(
        (new if sector in chosen else old)[sector * SECTOR : (sector + 1) * SECTOR] for sector in range(count)
    )


def _pages(size: int) -> int:
    """How many pages a file of this size has, the last one begun."""
    return -(-size // PAGE)
