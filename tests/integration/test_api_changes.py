"""The API's feed of changes: nothing is missed, and a request may wait for what comes next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.suppression.errors import StoreUnavailableError
from tests.support.api_client import serving
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.api_client import Answer, ApiClient

CHANGES = "/v1/changes"


@pytest.fixture
async def api(database_url: str) -> AsyncIterator[ApiClient]:
    async with serving(database_url) as client:
        yield client


async def add(api: ApiClient, *names: str) -> None:
    for name in names:
        await api.store.add(f"{name}@example.org", actor="ann", note="")


def names(answer: Answer) -> list[str]:
    assert answer.status == 200
    return [change["address"].partition("@")[0] for change in answer.body["changes"]]


async def waiting(api: ApiClient, after: int) -> asyncio.Task[Answer]:
    """A request that waits by now."""
    others = api.feed.waiting
    task = asyncio.create_task(api.get(CHANGES, after=after, wait=30))
    await eventually(lambda: api.feed.waiting > others)
    return task


async def test_changes_are_read_from_anywhere_on(api: ApiClient) -> None:
    """In their order; `next` is where to go on, also where there is nothing yet."""
    assert (await api.get(CHANGES)).body == {"changes": [], "next": 0}
    await add(api, "a", "b", "c")
    first = await api.get(CHANGES, limit=2)
    assert names(first) == ["a", "b"]
    assert first.body["changes"][0]["actor"] == "ann"
    second = await api.get(CHANGES, after=first.body["next"])
    assert names(second) == ["c"]
    last = second.body["next"]
    assert (await api.get(CHANGES, after=last)).body == {"changes": [], "next": last}
    for name, bad in (
        ("after", "-1"),
        ("after", "x"),
        ("after", "9" * 30),
        ("wait", "61"),
        ("wait", "1.5"),
        ("limit", "0"),
    ):
        answer = await api.get(CHANGES, **{name: bad})
        assert (answer.status, answer.places) == (422, [f"query.{name}"])


async def test_a_request_waits_for_the_next_change(api: ApiClient) -> None:
    """All that wait get it; one that asks for a later one goes on waiting, until its time is up."""
    await add(api, "a")
    known = (await api.get(CHANGES)).body["next"]
    first, second = await waiting(api, known), await waiting(api, known)
    later = asyncio.create_task(api.get(CHANGES, after=known + 1000, wait=1))
    await add(api, "b")
    assert [names(answer) for answer in await asyncio.gather(first, second)] == [["b"], ["b"]]
    assert names(await later) == []


async def test_waiting_ends_when_the_server_stops(database_url: str) -> None:
    """At once, with an answer that has nothing in it."""
    async with serving(database_url) as api:
        task = await waiting(api, 0)
        await api.feed.close(api.app)
        assert (await task).body == {"changes": [], "next": 0}
        assert (await api.get(CHANGES, wait=30)).body == {"changes": [], "next": 0}


async def test_a_list_that_fails_ends_waiting_with_a_problem(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits does not wait for a list that cannot be read; afterwards it works again."""

    async def fail(*_: object) -> None:
        raise StoreUnavailableError("gone")

    task = await waiting(api, 0)
    with monkeypatch.context() as patch:
        patch.setattr(type(api.store), "feed", fail)
        assert (await task).problem == "list-unavailable"
    task = await waiting(api, 0)
    await add(api, "a")
    assert names(await task) == ["a"]


async def test_a_client_that_goes_away_is_forgotten(api: ApiClient) -> None:
    """Nothing waits for it any longer."""
    task = await waiting(api, 0)
    task.cancel()
    await eventually(lambda: not api.feed.waiting)
