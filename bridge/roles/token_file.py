"""Tokens that stand in a file of their own: read again when it changes, so that nobody is restarted for a new one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter, ValidationError

from bridge.settings import sources
from bridge.settings.errors import InvalidSettingsError
from bridge.settings.values import Tokens, complaint_of
from bridge.telemetry import logs
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pydantic import SecretStr

log = logs.logger("roles")

CHECK_EVERY_SECONDS: Final = 1.0

_TOKENS: Final[TypeAdapter[tuple[SecretStr, ...]]] = TypeAdapter(Tokens)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What stood in the file at one look."""

    text: str
    problem: str = ""
    """Why it cannot be read."""


class TokenFile:
    """The tokens of one setting, which are those of its file for as long as it is followed."""

    def __init__(self, setting: str, path: Path | None, tokens: Sequence[str]) -> None:
        """Make one that rests until `follow`.

        Args:
            setting: its name, such as `receiver.tokens`.
            path: of the file; None where the tokens stand elsewhere, and stay as they are.
            tokens: those in force, as they were read at the start.
        """
        self._setting = setting
        self._path = path
        self._tokens = tuple(tokens)
        self.problem = ""
        """Why the file is not followed at the moment; empty while it is."""

    async def follow(self, changed: Callable[[tuple[str, ...]], None]) -> None:
        """Look at the file each second, for ever. Where it cannot be used, the tokens in force stay, and the log says so.

        It is opened by its name each time: some write into a file, and some put another one in its place. What is seen
        twice in a row counts, so that none is read while it is being written.

        Args:
            changed: told the tokens that are valid from now on.
        """
        if self._path is None:
            await asyncio.Event().wait()
            return
        look = partial(_look, self._setting, self._path)
        before = judged = None
        while True:
            seen = await run_abandonable(look)
            if seen == before and seen != judged:
                judged = seen
                self._judge(seen, changed)
            before = seen
            await asyncio.sleep(CHECK_EVERY_SECONDS)

    def _judge(self, seen: _Seen, changed: Callable[[tuple[str, ...]], None]) -> None:
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
            changed(tokens)
            log.info(
                "other tokens are valid from now on",
                action="tokens.changed",
                setting=self._setting,
                tokens=len(tokens),
            )

    def _usable(self, seen: _Seen) -> tuple[str, ...]:
        if seen.problem:
            raise InvalidSettingsError(seen.problem)
        try:
            tokens = _TOKENS.validate_python(seen.text)
        except ValidationError as invalid:
            raise InvalidSettingsError(f"{self._setting}: {complaint_of(invalid)}") from None
        if not tokens:
            raise InvalidSettingsError(f"{self._setting}: {self._path} is empty")
        return tuple(token.get_secret_value() for token in tokens)


def _look(setting: str, path: Path) -> _Seen:
    try:
        return _Seen(sources.read(setting, path))
    except InvalidSettingsError as error:
        return _Seen("", str(error))
