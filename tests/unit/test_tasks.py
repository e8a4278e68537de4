"""Tasks that belong together end together, and what one of them raises comes out as it is."""

from __future__ import annotations

import asyncio

import pytest

from bridge.tasks import run_until_first_ends, task_group


class BrokenError(Exception):
    pass


async def broken() -> None:
    raise BrokenError("what happened")


async def endless(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("endless")


async def test_the_first_part_to_end_ends_the_others_and_its_error_comes_out() -> None:
    """A session does not go on with one part missing."""
    ended: list[str] = []
    with pytest.raises(BrokenError, match="what happened"):
        await run_until_first_ends(first=broken(), second=endless(ended))
    assert ended == ["endless"]


async def test_cancelling_them_ends_all_parts() -> None:
    """Whoever stops a session leaves none of its tasks behind."""
    ended: list[str] = []
    task = asyncio.create_task(run_until_first_ends(first=endless(ended), second=endless(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["endless", "endless"]


async def test_an_error_in_a_task_group_can_be_caught_by_its_name() -> None:
    """However deep the groups are: a role's command prints one line for it, no traceback."""
    ended: list[str] = []

    async def nested() -> None:
        async with task_group() as outer:
            outer.create_task(endless(ended))
            async with task_group() as inner:
                inner.create_task(broken())

    with pytest.raises(BrokenError):
        await nested()
    assert ended == ["endless"]
