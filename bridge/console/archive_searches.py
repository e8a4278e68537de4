"""Searches of the archive that the console has started: what was asked, and what was found so far."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web

from bridge.broker.archive_selection import CLOCK_SKEW, ArchiveSelection, InvalidTimeError, parse_time
from bridge.console.errors import InvalidFieldError, NotFoundError
from bridge.console.jobs import JobOrder
from bridge.operations.archive_scan import ArchiveProgress
from bridge.operations.archive_search import ArchiveFindings, search
from bridge.settings.api_section import READ

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.console.jobs import Job, Jobs
    from bridge.console.visitor import Visitor
    from bridge.settings.sections import Settings

ROWS: Final = 50
"""Events that are listed. All are counted."""
BACK: Final = "/archive"
_ABANDONED_SECONDS: Final = 20.0
"""A search whose page was left is stopped after this time."""
_REUSED_SECONDS: Final = 15.0
"""For so long the same question has the same answer."""
_AT_ONCE: Final = 2
"""More scans at once would take the process's time from everybody else."""
_MOST_KEPT: Final = 30
_MOST_NAMES: Final = 50
_MOST_CHARACTERS: Final = 1000
_A_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody looks for, as the form has it."""

    name: str = ""
    """Names of events, with commas between them."""
    message: str = ""
    """The provider's id of a message."""
    since: str = ""
    until: str = ""
    from_offset: str = ""

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Asked:
        """From a query or a form.

        Raises:
            InvalidFieldError: a field is too long.
        """
        values = {}
        for field in ("name", "message", "since", "until", "from_offset"):
            value = given.get(field, "")
            values[field] = value.strip() if isinstance(value, str) else ""
            if len(values[field]) > _MOST_CHARACTERS:
                raise InvalidFieldError(
                    f"The field “{field}” is longer than {_MOST_CHARACTERS:,} characters."
                )
        return cls(**values)

    def query(self, **more: str) -> str:
        """The same for a link."""
        fields = {
            "name": self.name,
            "message": self.message,
            "since": self.since,
            "until": self.until,
            "from_offset": self.from_offset,
        }
        return urlencode({name: value for name, value in (fields | more).items() if value})

    def selection(self) -> ArchiveSelection:
        """What the archive is searched for.

        Raises:
            InvalidFieldError: a time is none, or there are too many names.
        """
        names = [name.strip() for name in self.name.split(",") if name.strip()]
        if len(names) > _MOST_NAMES:
            raise InvalidFieldError(
                f"These are more than {_MOST_NAMES} names. Leave the field empty to find all events."
            )
        since, until = _moment(self.since), _moment(self.until)
        if since is not None and until is not None and since >= until:
            raise InvalidFieldError("The time from which to look is not before the time until which to look.")
        return ArchiveSelection.of(names, [self.message] if self.message else [], since=since, until=until)

    def offset(self) -> int | None:
        """Where to begin.

        Raises:
            InvalidFieldError: it is no offset.
        """
        if not self.from_offset:
            return None
        if not (self.from_offset.isascii() and self.from_offset.isdigit() and int(self.from_offset) < 2**63):
            raise InvalidFieldError("An offset is a whole number, as an interrupted replay says it.")
        return int(self.from_offset)

    def words(self) -> str:
        """What is looked for, in words. The fields are those of a `selection`."""
        what = f"events {self.name}" if self.name else "all events"
        of = f"of message {self.message}" if self.message else ""
        begin = f"behind offset {self.from_offset}" if self.from_offset else ""
        return " ".join(part for part in (what, of, self._period(), begin) if part)

    def _period(self) -> str:
        since, until = _moment(self.since), _moment(self.until)
        if since is not None and until == since + _A_DAY and since == _midnight(since):
            return f"of {_day(since)}"
        parts = [
            f"{word} {_day(at)}, {at:%H:%M} UTC"
            for word, at in (("from", since), ("until", until))
            if at is not None
        ]
        return " ".join(parts)


class Preset:
    """A period that is asked for often."""

    def __init__(self, title: str, since: datetime, until: datetime | None = None) -> None:
        self.title = title
        self.query = Asked(since=_minute(since), until="" if until is None else _minute(until)).query(
            search="yes"
        )


def presets(now: datetime) -> list[Preset]:
    """Periods up to now, days in UTC."""
    today = _midnight(now)
    return [
        Preset("Last hour", now - timedelta(hours=1)),
        Preset("Today", today, today + _A_DAY),
        Preset("Yesterday", today - _A_DAY, today),
        Preset("The day before", today - 2 * _A_DAY, today - _A_DAY),
        Preset("Last 7 days", today - 6 * _A_DAY, today + _A_DAY),
    ]


@dataclass(frozen=True, slots=True)
class Search:
    """One question, and what was found so far."""

    asked: Asked
    job: Job
    findings: ArchiveFindings
    progress: ArchiveProgress

    @property
    def is_past_its_time(self) -> bool:
        """Whether the reading has come behind the time that was asked for: what follows are only events from spools."""
        until, reached = _moment(self.asked.until), self.progress.reached
        return until is not None and reached is not None and reached > (until + CLOCK_SKEW).timestamp() * 1000


class Searches:
    """The searches of this process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._searches: dict[str, Search] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def begin(self, asked: Asked, jobs: Jobs, visitor: Visitor) -> Search:
        """A search: the same question's, if it is new enough.

        Raises:
            PageError: what is asked cannot be, or too much is going on.
        """
        for search_ in self._searches.values():
            if search_.asked == asked and _can_be_shown_again(search_.job):
                return search_
        selection, offset = asked.selection(), asked.offset()
        findings, progress = ArchiveFindings(ROWS), ArchiveProgress()

        async def work(job: Job) -> None:
            def moved() -> None:
                first, last, following = progress.first, progress.last, progress.next
                if first is not None and last is not None and following is not None:
                    job.move(following - first, last - first + 1)

            async with self._turn:
                await search(self._settings, selection, findings, progress, moved, from_offset=offset)
            job.outcome = f"{findings.total:,} events were found."

        order = JobOrder(
            "search_archive", "Search of the archive", READ, BACK, abandoned_after=_ABANDONED_SECONDS
        )
        started = Search(asked, jobs.start(order, visitor, work), findings, progress)
        self._searches[started.job.id] = started
        while len(self._searches) > _MOST_KEPT:
            del self._searches[next(iter(self._searches))]
        return started

    def get(self, job_id: str) -> Search:
        """The search of this job.

        Raises:
            NotFoundError: it is not kept any more.
        """
        try:
            return self._searches[job_id]
        except KeyError:
            raise NotFoundError("Search once more.", title="This search is not kept any more") from None


def _can_be_shown_again(job: Job) -> bool:
    return job.running or (job.state == "finished" and time.time() - (job.ended_at or 0) < _REUSED_SECONDS)


def _moment(text: str) -> datetime | None:
    """Raises InvalidFieldError: it is no time."""
    try:
        return parse_time(text, now=datetime.now(UTC)) if text else None
    except InvalidTimeError as error:
        raise InvalidFieldError(f"{error}.") from None


def _midnight(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def _minute(at: datetime) -> str:
    """As a browser's field for times writes it."""
    return at.strftime("%Y-%m-%dT%H:%M")


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b %Y}"


SEARCHES: Final = web.AppKey("console.archive_searches", Searches)
