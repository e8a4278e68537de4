"""Checks everything that the bridge needs, and says what to do. Changes nothing, and each check has a timeout."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from bridge.amqp.connection import connect, connect_to_any
from bridge.amqp.errors import BrokerUnavailableError, session_errors_as_loss
from bridge.broker import management
from bridge.diagnostics import (
    broker_alarms,
    broker_checks,
    broker_delivery_limit,
    broker_policies,
    broker_refusing_queues,
    broker_subscribers,
    broker_unconfirming_queues,
    database_checks,
    machine_checks,
    provider_checks,
    role_checks,
)
from bridge.diagnostics.broker_checks import BrokerContext
from bridge.diagnostics.broker_connection import CONNECTION_NAME, close_quietly, cut, version_of
from bridge.diagnostics.finding import CheckStatus, failed, ok, skipped, warning
from bridge.settings.errors import InvalidSettingsError
from bridge.suppression.subscriber_registry import Registered, read_registered
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import ManagementApi
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings

    _BrokerCheck = Callable[[str, BrokerContext], Awaitable[Finding | list[Finding]]]

TIMEOUT_SECONDS: Final = 6.0
"""For one check. They run side by side; only those of the broker wait until it is known whether it has an alarm."""

_ALARMS: Final = "alarms"
_BROKER_CHECKS: Final[dict[str, _BrokerCheck]] = {
    "RabbitMQ version": broker_checks.version,
    "permissions": broker_checks.permissions,
    "topology": broker_checks.topology_check,
    "backfill": broker_checks.backfill,
    "delivery limit": broker_delivery_limit.delivery_limit,
    "policies": broker_policies.policies,
    "queues that refuse": broker_refusing_queues.refusing_queues,
    "queues that confirm": broker_unconfirming_queues.unconfirming_queues,
    "subscribers": broker_subscribers.subscribers,
    "alternate exchange": broker_checks.alternate_exchange,
    "workers on SQLite": broker_checks.workers_on_sqlite,
}


async def run_checks(load: Callable[[], Settings]) -> list[Finding]:
    """Run every check. Returns the findings in the order in which to repair things.

    Args:
        load: reads the settings. If that fails, it is the only finding.
    """
    try:
        settings = load()
    except InvalidSettingsError as error:
        return [failed("settings", str(error), "correct it; `bridge config show` lists what there is")]
    parts = await asyncio.gather(
        _roles(settings),
        _broker(settings),
        _database(settings),
        _provider(settings),
        _clock(settings),
        _machine(settings),
    )
    return [_settings(settings), *(finding for part in parts for finding in part)]


def _settings(settings: Settings) -> Finding:
    if not settings.receiver.tokens:
        return warning(
            "settings", "receiver.tokens is empty: a receiver cannot start", "set BRIDGE_RECEIVER__TOKENS"
        )
    return ok("settings", "can be read")


async def _broker(settings: Settings) -> list[Finding]:
    check = "RabbitMQ reachable"
    connection, problems = await _connect_all(settings)
    if connection is None:
        return [
            failed(check, "; ".join(problems), "start it, or correct rabbitmq.urls (BRIDGE_RABBITMQ__URL)"),
            *(skipped(name, "RabbitMQ cannot be reached") for name in (_ALARMS, *_BROKER_CHECKS)),
        ]
    reachable = (
        warning(
            check,
            f"some URLs do not answer: {'; '.join(problems)}",
            "start those nodes, or remove them from the list",
        )
        if problems
        else ok(check, f"{len(settings.rabbitmq.urls)} of {len(settings.rabbitmq.urls)} URLs answer")
    )
    try:
        async with (
            management.connect(settings.rabbitmq) as api,
            _publishing(settings, api) as (alarm, unblocked),
        ):
            version = version_of(connection)
            context = BrokerContext(
                settings, connection, version, api, unblocked, await _registered(settings)
            )
            found = await asyncio.gather(
                *(_run_broker_check(check, name, context) for name, check in _BROKER_CHECKS.items())
            )
            return [reachable, alarm, *(finding for findings in found for finding in findings)]
    finally:
        await close_quietly(connection)


@asynccontextmanager
async def _publishing(
    settings: Settings, api: ManagementApi
) -> AsyncIterator[tuple[Finding, AbstractConnection | None]]:
    """Whether there is an alarm; and if there is none, a connection to try publishes on.

    During an alarm RabbitMQ stops reading a connection that has published. So publishes are tried on a connection of
    their own.
    """
    connection: AbstractConnection | None = None
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            connection = await connect_to_any(settings.rabbitmq, name=CONNECTION_NAME)
            alarm = await broker_alarms.alarm_on(connection)
            finding = await broker_alarms.alarm_finding(_ALARMS, alarm, api)
    except BrokerUnavailableError as loss:
        finding = failed(_ALARMS, str(loss), "look again; see RabbitMQ's log")
    except TimeoutError:
        finding = _timed_out(_ALARMS)
    unblocked = connection if finding.status is CheckStatus.OK else None
    try:
        yield finding, unblocked
    finally:
        if connection is not None:
            if unblocked is None:
                cut(connection)
            await close_quietly(connection)


async def _connect_all(settings: Settings) -> tuple[AbstractConnection | None, list[str]]:
    """A connection to the first URL that answers, and the errors of those that do not."""
    outcomes = await asyncio.gather(
        *(
            connect(settings.rabbitmq, url.get_secret_value(), name=CONNECTION_NAME)
            for url in settings.rabbitmq.urls
        ),
        return_exceptions=True,
    )
    connections, problems = [], []
    for outcome in outcomes:
        if isinstance(outcome, BrokerUnavailableError):
            problems.append(str(outcome))
        elif isinstance(outcome, BaseException):
            raise outcome
        else:
            connections.append(outcome)
    for spare in connections[1:]:
        await close_quietly(spare)
    return (connections[0] if connections else None), problems


async def _registered(settings: Settings) -> Registered:
    """The subscribers that are not in the settings. Without them the others are checked all the same."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await read_registered(settings.suppression.database_url.get_secret_value())
    except TimeoutError:
        return Registered((), f"registered subscribers are not known: no answer in {TIMEOUT_SECONDS:g} s")


async def _run_broker_check(examiner: _BrokerCheck, name: str, context: BrokerContext) -> list[Finding]:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with session_errors_as_loss(context.connection):
                found = await examiner(name, context)
    except TimeoutError:
        found = _timed_out(name)
    except BrokerUnavailableError as loss:
        found = failed(name, f"the connection was {loss}", "look again; see RabbitMQ's log")
    return found if isinstance(found, list) else [found]


async def _roles(settings: Settings) -> list[Finding]:
    check = "settings in force"
    return [await _with_timeout(check, lambda: role_checks.settings_in_force(check, settings))]


async def _database(settings: Settings) -> list[Finding]:
    return [await _with_timeout("database", lambda: database_checks.database("database", settings))]


async def _provider(settings: Settings) -> list[Finding]:
    checks = ("provider token", "webhook")
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await provider_checks.token_and_webhook(checks, settings)
    except TimeoutError:
        return [_timed_out(name) for name in checks]


async def _clock(settings: Settings) -> list[Finding]:
    return [await _with_timeout("clock", lambda: provider_checks.clock("clock", settings))]


async def _machine(settings: Settings) -> list[Finding]:
    def on_disk(name: str, examiner: Callable[[], Finding]) -> Callable[[], Awaitable[Finding]]:
        async def examined() -> Finding:
            try:
                return await run_abandonable(examiner)
            except OSError as error:
                return failed(name, f"{error.filename}: {error.strerror}", "check the disk")

        return examined

    spool = settings.spool
    examiners: dict[str, Callable[[], Finding]] = {
        "spool writable": lambda: machine_checks.spool_writable("spool writable", spool),
        "spool disk": lambda: machine_checks.spool_disk("spool disk", spool),
        "spool space": lambda: machine_checks.spool_space("spool space", spool),
        "file descriptors": lambda: machine_checks.descriptors("file descriptors", settings.receiver),
    }
    return list(
        await asyncio.gather(
            *(_with_timeout(name, on_disk(name, examiner)) for name, examiner in examiners.items())
        )
    )


async def _with_timeout(name: str, examiner: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await examiner()
    except TimeoutError:
        return _timed_out(name)


def _timed_out(name: str) -> Finding:
    return failed(
        name, f"no answer in {TIMEOUT_SECONDS:g} s", "check what it waits for: network, disk or broker"
    )
