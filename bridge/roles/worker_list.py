"""Opens the list for a worker, which waits for a database that does not answer yet."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

from bridge.suppression.address_keys import keys_of
from bridge.suppression.errors import StoreUnavailableError
from bridge.suppression.policy import Policy
from bridge.suppression.store import Store
from bridge.tasks import background_task, wait_while_running
from bridge.worker import failures

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

    from bridge.settings.sections import Settings
    from bridge.worker.dependencies import Dependency


@asynccontextmanager
async def open_list(
    settings: Settings, database: Dependency, stop: asyncio.Event
) -> AsyncIterator[Store | None]:
    """The list, as soon as its database answers; None if the worker must stop before.

    Raises:
        StoreError: the list cannot be opened, and waiting does not help.
    """
    url = settings.suppression.database_url.get_secret_value()
    keys = keys_of(settings.suppression)
    async with AsyncExitStack() as opened:
        store: Store | None = None

        async def open_it() -> None:
            nonlocal store
            while store is None:
                with suppress(StoreUnavailableError):
                    store = await database.call(
                        lambda: opened.enter_async_context(
                            Store.open(
                                url,
                                lease_seconds=settings.worker.take_over_after,
                                keys=keys,
                                policy=Policy.of(settings.suppression),
                            )
                        ),
                        errors=failures.DATABASE_ERRORS,
                    )

        async with background_task(open_it(), name="worker.open") as opening:
            await wait_while_running(stop, opening)
        yield store
