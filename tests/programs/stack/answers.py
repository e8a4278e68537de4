"""What the simulator was answered, read from its ledger while it writes, and written into the history."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from tests.support.history.mail import Mail, recipient

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.history.recorder import Recorder

_LOOK_EVERY_SECONDS: Final = 0.02
_PATIENCE_SECONDS: Final = 90.0
NO_ANSWER: Final = "no answer"
_UNSENT: Final = "not sent"
"""How `bridge simulate` begins to say so."""
_INTERRUPTED: Final = "interrupted"
"""And how it says this."""


class SilentError(AssertionError):
    """The answer that is waited for does not come."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What was answered in a stretch of time."""

    accepted: int = 0
    """Events answered 200."""
    spooled: int = 0
    """How many of them from the spool."""
    refused: int = 0
    """Answered otherwise."""
    unanswered: int = 0
    """Whose connection could not be made, or broke."""
    gap: float = 0.0
    """The longest time, in seconds, without an answer `confirmed`."""


class Answers:
    """Follows the ledger, as `bridge simulate --ledger-refused` writes it: a JSON line for each answer."""

    def __init__(self, ledger: Path, recorder: Recorder) -> None:
        """Args: ledger: nothing was posted yet; recorder: of the history."""
        self.accepted: Counter[str] = Counter()
        """Event id -> how often it was answered 200."""
        self.durability: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        """Status, or `no answer` -> how many."""
        self.unsent = 0
        """Events that the simulator did not even send, because too many waited before them."""
        self.interrupted = 0
        """Events that were on their way when the load was stopped."""
        self._ledger = ledger
        self._recorder = recorder
        self._began_at = time.monotonic_ns()
        self._read = 0
        self._news = asyncio.Condition()
        self._began = Stretch()
        self._confirmed_at = time.monotonic()
        self._gap = 0.0

    async def run(self) -> None:
        """Follow it until cancelled."""
        while True:
            if self.read_on():
                async with self._news:
                    self._news.notify_all()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def read_on(self) -> int:
        """Take what is new, up to the last line that is whole; returns how many lines."""
        try:
            with self._ledger.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return 0
        whole = new[: new.rfind(b"\n") + 1]
        self._read += len(whole)
        lines = whole.splitlines()
        for line in lines:
            self._take(orjson.loads(line))
        return len(lines)

    def begin(self) -> None:
        """A new stretch begins now."""
        self._began = self._so_far()
        self._gap = 0.0
        self._confirmed_at = time.monotonic()

    def stretch(self) -> Stretch:
        """The one that began last, until now."""
        now, then = self._so_far(), self._began
        return Stretch(
            accepted=now.accepted - then.accepted,
            spooled=now.spooled - then.spooled,
            refused=now.refused - then.refused,
            unanswered=now.unanswered - then.unanswered,
            gap=max(self._gap, time.monotonic() - self._confirmed_at),
        )

    async def confirmed(self, *, more: int) -> None:
        """Wait for so many more answers `confirmed`.

        Raises:
            SilentError: they do not come.
        """
        enough = self.durability["confirmed"] + more
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS), self._news:
                await self._news.wait_for(lambda: self.durability["confirmed"] >= enough)
        except TimeoutError:
            raise SilentError(
                f"in {_PATIENCE_SECONDS:g} s there were not {more} answers `confirmed`; since the stretch began: "
                f"{self.stretch()}"
            ) from None

    def _so_far(self) -> Stretch:
        unanswered = self.refused[NO_ANSWER]
        return Stretch(
            accepted=self.durability.total(),
            spooled=self.durability["spooled"],
            refused=self.refused.total() - unanswered,
            unanswered=unanswered,
        )

    def _take(self, entry: dict[str, Any]) -> None:
        unsent = entry.get("why", "").startswith(_UNSENT)
        op = self._recorder.post_invoked(_mail(entry["body"].encode()), at=self._began_at)
        if "id" in entry:
            self._recorder.post_answered(op, 200, entry)
            self._accept(entry)
        elif entry["status"] == NO_ANSWER:
            self._recorder.post_unanswered(op, entry["why"], sent=not unsent)
            if unsent:
                self.unsent += 1
            elif entry["why"] == _INTERRUPTED:
                self.interrupted += 1
            else:
                self.refused[NO_ANSWER] += 1
        else:
            self._recorder.post_answered(op, int(entry["status"]), entry)
            self.refused[entry["status"]] += 1

    def _accept(self, entry: dict[str, Any]) -> None:
        self.accepted[entry["id"]] += 1
        self.durability[entry["durability"]] += 1
        if entry["durability"] == "confirmed":
            now = time.monotonic()
            self._gap = max(self._gap, now - self._confirmed_at)
            self._confirmed_at = now


def _mail(body: bytes) -> Mail:
    """What the simulator has posted, and to whom it says that it has sent the message."""
    document = orjson.loads(body)
    message, event = document["message"]["id"], document["event"]
    return Mail(str(message), event["name"], event["timestamp"], recipient(message), body)
