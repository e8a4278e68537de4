"""Tokens in a file of their own: it is read again when it changes, so that a new token needs no restart."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from bridge.settings import sources
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.values import complaint_of
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydantic import SecretStr, TypeAdapter

log = logs.logger("roles")

CHECK_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _FileContent:
    """The content of the file when it was read."""

    text: str
    problem: str = ""
    """Why it cannot be read."""


class TokenFile:
    """The tokens of one setting. While its file is followed, they are those in the file."""

    def __init__(
        self,
        setting: str,
        path: Path | None,
        tokens: Sequence[str],
        *,
        kind: TypeAdapter[tuple[SecretStr, ...]],
    ) -> None:
        """Make one that rests until `follow`.

        Args:
            setting: its name, such as `receiver.tokens`.
            path: of the file; None where the tokens are given otherwise: then they never change.
            tokens: as they were read at the start.
            kind: reads and checks the text of the file.
        """
        self._setting = setting
        self._path = path
        self._tokens = tuple(tokens)
        self._kind = kind
        self.problem = ""
        """Why the file is not followed at the moment; empty while it is."""

    def description(self) -> dict[str, Any]:
        """How many tokens are valid, and why their file is not followed, for `/readyz`."""
        kept = {"state": "kept", "reason": self.problem} if self.problem else {}
        return {"valid": len(self._tokens)} | kept

    async def follow(self, on_change: Callable[[tuple[str, ...]], None]) -> None:
        """Read the file each second, until cancelled. If it cannot be used, the valid tokens stay, and the log says so.

        It is opened by its name each time: some programs write into a file, others put another one in its place. Content
        is used only if it was read twice in a row, so that a file is not used while it is being written.

        Args:
            on_change: called with the tokens that are valid from now on.
        """
        if self._path is None:
            await asyncio.Event().wait()
            return
        read = partial(_read_file, self._setting, self._path)
        before = applied = None
        while True:
            seen = await run_abandonable(read)
            if seen == before and seen != applied:
                applied = seen
                self._apply(seen, on_change)
            before = seen
            await asyncio.sleep(CHECK_EVERY_SECONDS)

    def _apply(self, seen: _FileContent, on_change: Callable[[tuple[str, ...]], None]) -> None:
        try:
            tokens = self._usable(seen)
        except InvalidSettingsError as error:
            self.problem = f"{error}; the tokens that were read before stay valid"
            log.warning(
                "the file of the tokens cannot be used: those that were read before stay valid",
                action="tokens.kept",
                setting=self._setting,
                tokens=len(self._tokens),
                reason=str(error),
            )
            return
        self.problem = ""
        if tokens != self._tokens:
            self._tokens = tokens
            on_change(tokens)
            log.info(
                "other tokens are valid from now on",
                action="tokens.changed",
                setting=self._setting,
                tokens=len(tokens),
            )

    def _usable(self, seen: _FileContent) -> tuple[str, ...]:
        if seen.problem:
            raise InvalidSettingsError(seen.problem)
        try:
            tokens = self._kind.validate_python(seen.text)
        except ValidationError as invalid:
            raise InvalidSettingsError(f"{self._setting}: {complaint_of(invalid)}") from None
        if not tokens:
            raise InvalidSettingsError(f"{self._setting}: {self._path} is empty")
        return tuple(token.get_secret_value() for token in tokens)


def _read_file(setting: str, path: Path) -> _FileContent:
    try:
        return _FileContent(sources.read(setting, path))
    except InvalidSettingsError as error:
        return _FileContent("", str(error))
