"""What an address costs that a sender asks the API for, in a check of 1,000."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import aiohttp

from tests.programs.bench import lists
from tests.programs.bench.asking import TOKEN, RunningApi
from tests.programs.cost.callgrind import CostError, Counted
from tests.programs.cost.subject import Measured
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.programs.cost.place import Place

ADDRESSES: Final = 1_000
"""Of one request."""
ENTRIES: Final = 100_000
_SHARE: Final = 0.1
"""Of the addresses, how many are on the list."""
_LOOK_EVERY_SECONDS: Final = 0.1


@asynccontextmanager
async def on_sqlite(place: Place) -> AsyncIterator[Measured]:
    folder, port = place.folder("api"), free_port()
    database_url = f"sqlite+aiosqlite:///{folder}/list.sqlite3"
    await lists.fill(database_url, ENTRIES)
    chance = random.Random(1)  # noqa: S311 -- the same addresses in each run
    url = f"http://127.0.0.1:{port}"
    async with (
        Counted.running(
            "bridge", "api", folder=folder, environment=RunningApi.environment(database_url, port)
        ) as process,
        aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):

        async def check(requests: int) -> None:
            for _ in range(requests):
                asked = lists.addresses(ADDRESSES, ENTRIES, share=_SHARE, chance=chance)
                async with session.post("/v1/suppressions/check", json={"addresses": asked}) as answer:
                    if answer.status != 200 or len((await answer.json())["results"]) != len(asked):
                        raise CostError(f"the API answered {answer.status}: {(await answer.text())[:400]}")

        async def is_ready() -> bool:
            process.check()
            try:
                async with session.get(RunningApi.READY) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        while not await is_ready():  # noqa: ASYNC110 -- another process: there is no event
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        yield Measured(process, check)
