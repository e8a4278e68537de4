"""The API role, from its settings to its orderly shutdown. It never speaks to RabbitMQ; the console that it may serve does."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web
from pydantic import TypeAdapter

from bridge.api import server
from bridge.api.access import Access
from bridge.api.application import Parts, application, mount_console
from bridge.api.freshness import Freshness
from bridge.api.open_list import OpenList
from bridge.broker.topology import Names
from bridge.contract.files import contract_files
from bridge.roles.identity import SETTINGS, settings_file
from bridge.roles.token_file import TokenFile
from bridge.settings.api_section import ApiTokens, read_token
from bridge.settings.errors import InvalidSettingsError
from bridge.suppression.address_keys import keys_of
from bridge.suppression.errors import StoreUnavailableError
from bridge.suppression.store import Store
from bridge.tasks import background_task
from bridge.telemetry import health, logs
from bridge.telemetry.health import Readiness
from bridge.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from bridge.roles.lifetime import Lifetime
    from bridge.settings.sections import Settings

log = logs.logger("roles")

API_HEALTH_PORT: Final = 8092
"""The default of `health.port`. Each role has another one, so that all can run on one machine."""
_TOKENS: Final = "api.tokens"
_SWITCH_SECONDS: Final = 0.0005
"""After which the loop's thread gives way to SQLite's, which a check enters several times; Python's default is 5 ms."""
_OPEN_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """What the API gives the console."""

    settings: Settings
    access: Access
    opened: OpenList
    freshness: Freshness
    metrics: Metrics


ConsoleFactory = Callable[[ConsoleParts], web.Application]
"""Makes the console, which the API serves under /console."""


async def api(settings: Settings, lifetime: Lifetime, *, console: ConsoleFactory | None = None) -> None:
    """Answer requests until the stop event is set; then stop listening, finish what is in flight, and close.

    It listens at once. While the database does not answer yet, requests about the list are answered 503.

    Args:
        settings: all settings.
        lifetime: `started` is set when the list is open, or its database was found not to answer.
        console: makes the console, where `console.enabled` does not forbid it.

    Raises:
        InvalidSettingsError: there is no token.
        StoreError: the list cannot be opened, and waiting does not help.
        PortTakenError: an address cannot be bound.
    """
    if not settings.api.tokens:
        raise InvalidSettingsError(
            f"{_TOKENS}: at least one is needed, of the form name:scope+scope:TOKEN (BRIDGE_API__TOKENS)"
        )
    metrics, freshness, opened = Metrics(), Freshness(), OpenList()
    tokens = [one.get_secret_value() for one in settings.api.tokens]
    access = Access(map(read_token, tokens), rate=settings.api.rate)
    token_file = TokenFile(_TOKENS, settings.origin.files.get(_TOKENS), tokens, kind=TypeAdapter(ApiTokens))

    def replace_tokens(valid: Sequence[str]) -> None:
        access.replace_tokens(map(read_token, valid))

    def readiness() -> Readiness:
        return Readiness(
            ready=not freshness.problem,
            parts={
                "database": freshness.description(),
                "tokens": token_file.description(),
                SETTINGS: settings_file(settings.origin),
            },
        )

    contract = contract_files(Names(settings.rabbitmq.prefix))
    app = application(Parts(settings.api, opened, freshness, access, metrics, contract))
    if console is not None and settings.console.enabled:
        mount_console(app, console(ConsoleParts(settings, access, opened, freshness, metrics)))

    async def started(port: int) -> None:
        await opened.tried.wait()
        # What is loaded by now stays: a collection during an answer of 10,000 addresses need not look through it.
        gc.freeze()
        sys.setswitchinterval(_SWITCH_SECONDS)
        lifetime.started.set()
        log.info("API started", action="api.started", port=port)

    async with (
        health.serve(
            settings.health, *health.process_health(metrics, readiness), default_port=API_HEALTH_PORT
        ),
        background_task(token_file.follow(replace_tokens), name="tokens") as following,
        _list_opened(settings, opened, freshness) as opening,
        server.serve(settings.api, app) as lifetime.port,
        background_task(started(lifetime.port), name="api.start"),
    ):
        await lifetime.wait_until_stopped(opening, following)
        log.info("API stopping", action="api.stopping")
    log.info("API stopped", action="api.stopped")


@asynccontextmanager
async def _list_opened(
    settings: Settings, opened: OpenList, freshness: Freshness
) -> AsyncIterator[asyncio.Task[None]]:
    """Opens the list as soon as its database answers, and from then on asks it how far it may be behind.

    The task raises `StoreError` where the list cannot be opened, and waiting does not help.
    """
    url, keys = settings.suppression.database_url.get_secret_value(), keys_of(settings.suppression)
    async with AsyncExitStack() as closing:

        async def keep_open() -> None:
            store: Store | None = None
            while store is None:
                try:
                    store = await closing.enter_async_context(Store.open(url, keys=keys, role="api"))
                except StoreUnavailableError as error:
                    freshness.failed(error)
                    opened.failed(error)
                    await asyncio.sleep(_OPEN_EVERY_SECONDS)
            await freshness.refresh(store.freshness.read)
            opened.opened(store)
            await freshness.run(store.freshness.read)

        async with background_task(keep_open(), name="api.list") as keeping:
            yield keeping
