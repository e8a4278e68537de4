"""What is looked at until nothing is wrong. No Docker is needed for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.programs.stack import settling
from tests.programs.stack.engine import EngineError
from tests.programs.stack.settling import still_wrong

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_LOOK_EVERY_SECONDS", 0)


async def test_what_settles_is_well() -> None:
    """A command that fails meanwhile is no end of it: a role may be starting."""
    look = _one_after_the_other(["no worker"], EngineError("the role does not answer"), [])
    assert await still_wrong(look, patience=60) == []


async def test_what_does_not_settle_is_told_as_it_was_in_the_end() -> None:
    """Be it a command that fails."""
    assert await still_wrong(_one_after_the_other(["no worker"]), patience=0) == [
        "no worker (still so after 0 s)"
    ]
    assert await still_wrong(_one_after_the_other(EngineError("no Docker")), patience=0) == [
        "no Docker (still so after 0 s)"
    ]


def _one_after_the_other(*looks: list[str] | EngineError) -> Callable[[], Awaitable[list[str]]]:
    left = iter(looks)

    async def look() -> list[str]:
        seen = next(left)
        if isinstance(seen, EngineError):
            raise seen
        return seen

    return look
