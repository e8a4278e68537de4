"""A history as a whole: read from the files of all its writers, merged by time, invocations and outcomes put together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from tests.support.history import records
from tests.support.history.recorder import Recorder
from tests.support.history.records import (
    INFO,
    Changed,
    Delivered,
    FinalChanges,
    FinalList,
    HistoryError,
    Leftover,
    OutOfSight,
    PostEnded,
    PostInvoked,
    ReadEnded,
    ReadInvoked,
    Subscribed,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self

    from tests.support.history.records import Record, Result


T = TypeVar("T")


class Post(NamedTuple):
    """A POST, and what came of it."""

    invoked: PostInvoked
    ended: PostEnded | None
    """None: the history ends before it did."""
    lines: tuple[int, ...]

    @property
    def result(self) -> Result:
        return INFO if self.ended is None else self.ended.result


class Read(NamedTuple):
    """A look at the list that was answered."""

    invoked: ReadInvoked
    ended: ReadEnded
    lines: tuple[int, int]


class Arrival(NamedTuple):
    """An event that a queue has handed over."""

    delivered: Delivered
    line: int


class Published(NamedTuple):
    """A change that was published."""

    changed: Changed
    line: int


class History:
    """All records, in the order in which they were made. Lines count from 1."""

    def __init__(self, made: Iterable[Record]) -> None:
        """Put together what was recorded, in any order.

        Raises:
            HistoryError: an outcome has no invocation.
        """
        self.records = sorted(made, key=lambda record: record.at)
        self.posts: list[Post] = []
        self.reads: list[Read] = []
        self.arrivals: list[Arrival] = []
        self.changes: list[Published] = []
        self.subscriptions: list[tuple[Subscribed, int]] = []
        self.final_list: tuple[FinalList, int] | None = None
        """The last one."""
        self.final_changes: tuple[FinalChanges, int] | None = None
        """The last one."""
        self.leftovers: dict[str, tuple[Leftover, int]] = {}
        """Place -> the last look at it."""
        self.out_of_sight: set[str] = set()
        """Domains."""
        self._posting: dict[tuple[str, int], tuple[PostInvoked, int]] = {}
        self._reading: dict[tuple[str, int], tuple[ReadInvoked, int]] = {}
        for line, record in enumerate(self.records, start=1):
            self._take(record, line)
        self.posts += [Post(invoked, None, (line,)) for invoked, line in self._posting.values()]
        self.posts.sort(key=lambda post: post.lines)

    @property
    def has_change_listener(self) -> bool:
        """Whether somebody has heard all changes."""
        return any(one.to == "changes" for one, _ in self.subscriptions)

    @staticmethod
    def open(path: Path) -> AbstractContextManager[Recorder]:
        """Write one. See `Recorder`."""
        return Recorder.open(path)

    @classmethod
    def read(cls, *paths: Path) -> Self:
        """Read the files of all the writers.

        Raises:
            HistoryError: a line is no record, or an outcome has no invocation.
            OSError: a file cannot be read.
        """
        return cls(
            records.record_of(line, where=f"{path.name}, line {number}")
            for path in paths
            for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        )

    def write(self, path: Path) -> None:
        """All of it in one file, whose lines are those that a violation names."""
        path.write_bytes(b"".join(map(records.line_of, self.records)))

    def _take(self, record: Record, line: int) -> None:  # noqa: C901 -- a case for each kind of record, and nothing else
        match record:
            case Delivered():
                self.arrivals.append(Arrival(record, line))
            case PostInvoked():
                self._posting[record.client, record.op] = (record, line)
            case PostEnded():
                invoked, began = _begun(self._posting, record, line)
                self.posts.append(Post(invoked, record, (began, line)))
            case Changed():
                self.changes.append(Published(record, line))
            case ReadInvoked():
                self._reading[record.client, record.op] = (record, line)
            case ReadEnded():
                asked, began = _begun(self._reading, record, line)
                if record.result == records.OK:
                    self.reads.append(Read(asked, record, (began, line)))
            case Subscribed():
                self.subscriptions.append((record, line))
            case FinalList():
                self.final_list = (record, line)
            case FinalChanges():
                self.final_changes = (record, line)
            case Leftover():
                self.leftovers[record.where] = (record, line)
            case OutOfSight():
                self.out_of_sight.add(record.domain)


def _begun(
    begun: dict[tuple[str, int], tuple[T, int]], ended: PostEnded | ReadEnded, line: int
) -> tuple[T, int]:
    try:
        return begun.pop((ended.client, ended.op))
    except KeyError:
        raise HistoryError(
            f"line {line}: operation {ended.op} of client {ended.client!r} has ended, and was not begun"
        ) from None
