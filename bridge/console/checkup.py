"""What `doctor` finds, for the pages: it runs while somebody looks, once a minute at the most, or when asked to."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bridge.diagnostics.doctor import run_checks
from bridge.diagnostics.finding import CheckStatus
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings

EVERY_SECONDS: Final = 60.0
SOONEST_SECONDS: Final = 5.0
"""Between two checks, however often they are asked for."""
_NOT_FROM_HERE: Final = frozenset({"settings", "spool writable", "file descriptors"})
"""They are of the process and the machine of a receiver, which the console's need not be."""
_OF_SPOOL: Final = frozenset({"spool disk", "spool space"})
"""The same where there is no spool here."""
_DISK_SECONDS: Final = 3.0
_WRONG: Final = frozenset({CheckStatus.FAILED, CheckStatus.WARNING})


@dataclass(frozen=True, slots=True)
class Found:
    """A finding that is no good news."""

    finding: Finding
    since: float
    """Unix seconds of the first checks that found it."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What the last checks have found."""

    at: float
    """Unix seconds of their end."""
    wrong: tuple[Found, ...]
    """Failed ones and warnings, in the order in which to repair things."""
    skipped: tuple[Finding, ...]
    """What could not be checked, and why."""
    well: tuple[Finding, ...]


class Checkup:
    """Runs the checks, and remembers since when each has failed."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        """Args: all settings; Unix seconds."""
        self._settings = settings
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._since: dict[tuple[str, CheckStatus], float] = {}
        self.latest: Findings | None = None
        """None: nothing was checked yet."""
        self._out_of_date = False

    async def run_if_due(self, every: float = EVERY_SECONDS) -> None:
        """Run all checks, unless the last ones are younger than so many seconds. It takes 6 s where nothing answers."""
        async with self._one_at_a_time:
            if self.latest is None or self._out_of_date or self._clock() - self.latest.at >= every:
                self._out_of_date = False
                found = await run_checks(lambda: self._settings)
                left_out = _NOT_FROM_HERE if await self._has_spool() else _NOT_FROM_HERE | _OF_SPOOL
                self._add([finding for finding in found if finding.check not in left_out])

    def expire(self) -> None:
        """What was found is no longer how things are: a dependency has gone, or has come back."""
        self._out_of_date = True

    async def run_now(self) -> None:
        """Run all checks because somebody has asked for it."""
        await self.run_if_due(SOONEST_SECONDS)

    async def _has_spool(self) -> bool:
        try:
            async with asyncio.timeout(_DISK_SECONDS):
                return await run_abandonable(self._settings.spool.directory.exists)
        except TimeoutError:
            return True  # the checks say what is wrong with the disk

    def _add(self, here: list[Finding]) -> None:
        at = self._clock()
        wrong = [finding for finding in here if finding.status in _WRONG]
        self._since = {
            (finding.check, finding.status): self._since.get((finding.check, finding.status), at)
            for finding in wrong
        }
        self.latest = Findings(
            at,
            tuple(Found(finding, self._since[finding.check, finding.status]) for finding in wrong),
            tuple(finding for finding in here if finding.status is CheckStatus.SKIPPED),
            tuple(finding for finding in here if finding.status is CheckStatus.OK),
        )
