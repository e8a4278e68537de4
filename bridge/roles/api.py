"""The API role, from its settings to its orderly shutdown. It never speaks to RabbitMQ."""

from __future__ import annotations

import asyncio
import gc
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from bridge.api import server
from bridge.api.access import Access
from bridge.api.application import Parts, application
from bridge.api.freshness import Freshness
from bridge.broker.topology import Names
from bridge.contract.files import contract_files
from bridge.roles.identity import SETTINGS, settings_file
from bridge.roles.token_file import TokenFile
from bridge.settings.api_section import ApiTokens, read_token
from bridge.settings.errors import InvalidSettingsError
from bridge.suppression.address_keys import keys_of
from bridge.suppression.errors import StoreUnavailableError
from bridge.suppression.store import Store
from bridge.tasks import background_task, wait_while_running
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


async def api(settings: Settings, lifetime: Lifetime) -> None:
    """Answer requests until the stop event is set; then stop listening, finish what is in flight, and close.

    It waits for a database that does not answer yet.

    Raises:
        InvalidSettingsError: there is no token.
        StoreError: the list cannot be opened, and waiting does not help.
        PortTakenError: an address cannot be bound.
    """
    if not settings.api.tokens:
        raise InvalidSettingsError(
            f"{_TOKENS}: at least one is needed, of the form name:scope+scope:TOKEN (BRIDGE_API__TOKENS)"
        )
    metrics, freshness = Metrics(), Freshness()
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

    async with (
        health.serve(
            settings.health, *health.process_health(metrics, readiness), default_port=API_HEALTH_PORT
        ),
        background_task(token_file.follow(replace_tokens), name="tokens") as following,
        _open_list(settings, freshness, lifetime.stop) as store,
    ):
        if store is None:
            log.info("stopped before the list could be opened", action="api.stopped")
            return
        read = store.freshness.read
        await freshness.refresh(read)
        contract = contract_files(Names(settings.rabbitmq.prefix))
        app = application(Parts(settings.api, store, freshness, access, metrics, contract))
        async with (
            background_task(freshness.run(read), name="api.freshness") as refreshing,
            server.serve(settings.api, app) as lifetime.port,
        ):
            # What is loaded by now stays: a collection during an answer of 10,000 addresses need not look through it.
            gc.freeze()
            sys.setswitchinterval(_SWITCH_SECONDS)
            lifetime.started.set()
            log.info("API started", action="api.started", port=lifetime.port)
            await lifetime.wait_until_stopped(refreshing, following)
            log.info("API stopping", action="api.stopping")
    log.info("API stopped", action="api.stopped")


@asynccontextmanager
async def _open_list(
    settings: Settings, freshness: Freshness, stop: asyncio.Event
) -> AsyncIterator[Store | None]:
    """The list, as soon as its database answers; None if the role must stop before.

    Raises:
        StoreError: the list cannot be opened, and waiting does not help.
    """
    url, keys = settings.suppression.database_url.get_secret_value(), keys_of(settings.suppression)
    async with AsyncExitStack() as opened:
        store: Store | None = None

        async def open_it() -> None:
            nonlocal store
            while store is None:
                try:
                    store = await opened.enter_async_context(Store.open(url, keys=keys, role="api"))
                except StoreUnavailableError as error:
                    freshness.failed(error)
                    await asyncio.sleep(_OPEN_EVERY_SECONDS)

        async with background_task(open_it(), name="api.open") as opening:
            await wait_while_running(stop, opening)
        yield store
