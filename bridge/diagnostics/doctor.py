"""Looks at everything that the bridge needs, and says what to do. Changes nothing, and waits for nobody for long."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from bridge.amqp.errors import BrokerUnavailableError, losses_of
from bridge.broker import management
from bridge.diagnostics import (
    alarms,
    broker_checks,
    database_checks,
    delivery_limit,
    machine_checks,
    policies,
    provider_checks,
    refusing_queues,
    role_checks,
)
from bridge.diagnostics.broker_checks import Bench
from bridge.diagnostics.broker_connection import cut, leave, reach, reach_any, version_of
from bridge.diagnostics.finding import Verdict, failed, ok, skipped, warning
from bridge.settings.sections import InvalidSettingsError
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aio_pika.abc import AbstractConnection

    from bridge.broker.management import Management
    from bridge.diagnostics.finding import Finding
    from bridge.settings.sections import Settings

PATIENCE_SECONDS: Final = 6.0
"""For one check. They run side by side; only those of the broker wait until it is known whether it has an alarm."""

_ALARMS: Final = "alarms"
_OF_THE_BROKER: Final = {
    "RabbitMQ version": broker_checks.version,
    "permissions": broker_checks.permissions,
    "topology": broker_checks.as_declared,
    "backfill": broker_checks.backfill,
    "delivery limit": delivery_limit.delivery_limit,
    "policies": policies.policies,
    "queues that refuse": refusing_queues.refusing_queues,
    "alternate exchange": broker_checks.alternate_exchange,
    "workers on SQLite": broker_checks.workers_on_sqlite,
}


async def examine(load: Callable[[], Settings]) -> list[Finding]:
    """Every check, in the order in which to repair things.

    Args:
        load: reads the settings; that it cannot is a finding, too, and the only one.
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
            "settings", "receiver.tokens is empty: a receiver would not start", "set BRIDGE_RECEIVER__TOKENS"
        )
    return ok("settings", "can be read")


async def _broker(settings: Settings) -> list[Finding]:
    check = "RabbitMQ reachable"
    connection, problems = await _first_that_answers(settings)
    if connection is None:
        return [
            failed(check, "; ".join(problems), "start it, or correct rabbitmq.urls (BRIDGE_RABBITMQ__URL)"),
            *(skipped(name, "RabbitMQ cannot be reached") for name in (_ALARMS, *_OF_THE_BROKER)),
        ]
    reachable = (
        warning(
            check, f"not all of it: {'; '.join(problems)}", "start those nodes, or take them out of the list"
        )
        if problems
        else ok(check, f"{len(settings.rabbitmq.urls)} of {len(settings.rabbitmq.urls)} URLs answer")
    )
    try:
        async with management.connect(settings.rabbitmq) as api, _publishing(settings, api) as (alarm, free):
            bench = Bench(settings, connection, version_of(connection), api, free)
            return [reachable, alarm] + await asyncio.gather(
                *(
                    _bounded(name, partial(_on_the_line, examiner, name, bench))
                    for name, examiner in _OF_THE_BROKER.items()
                )
            )
    finally:
        await leave(connection)


@asynccontextmanager
async def _publishing(
    settings: Settings, api: Management
) -> AsyncIterator[tuple[Finding, AbstractConnection | None]]:
    """Whether there is an alarm; and where there is none, a connection for what publishes.

    One on which something was published is dead while there is an alarm: all else is asked on another.
    """
    connection: AbstractConnection | None = None
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            connection = await reach_any(settings.rabbitmq)
            alarm = await alarms.alarm_on(connection)
            finding = await alarms.found(_ALARMS, alarm, api)
    except BrokerUnavailableError as loss:
        finding = failed(_ALARMS, str(loss), "look again; see RabbitMQ's log")
    except TimeoutError:
        finding = _late(_ALARMS)
    free = connection if finding.verdict is Verdict.OK else None
    try:
        yield finding, free
    finally:
        if connection is not None:
            if free is None:
                cut(connection)
            await leave(connection)


async def _first_that_answers(settings: Settings) -> tuple[AbstractConnection | None, list[str]]:
    """A connection, and what is to be said of the URLs that do not answer."""
    outcomes = await asyncio.gather(
        *(reach(settings.rabbitmq, url.get_secret_value()) for url in settings.rabbitmq.urls),
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
        await leave(spare)
    return (connections[0] if connections else None), problems


async def _on_the_line(
    examiner: Callable[[str, Bench], Awaitable[Finding]], name: str, bench: Bench
) -> Finding:
    try:
        with losses_of(bench.connection):
            return await examiner(name, bench)
    except BrokerUnavailableError as loss:
        return failed(name, f"the connection was {loss}", "look again; see RabbitMQ's log")


async def _roles(settings: Settings) -> list[Finding]:
    check = "settings in force"
    return [await _bounded(check, lambda: role_checks.settings_in_force(check, settings))]


async def _database(settings: Settings) -> list[Finding]:
    return [await _bounded("database", lambda: database_checks.database("database", settings))]


async def _provider(settings: Settings) -> list[Finding]:
    checks = ("provider token", "webhook")
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await provider_checks.token_and_webhook(checks, settings)
    except TimeoutError:
        return [_late(name) for name in checks]


async def _clock(settings: Settings) -> list[Finding]:
    return [await _bounded("clock", lambda: provider_checks.clock("clock", settings))]


async def _machine(settings: Settings) -> list[Finding]:
    def on_disk(name: str, examiner: Callable[[], Finding]) -> Callable[[], Awaitable[Finding]]:
        async def examined() -> Finding:
            try:
                return await run_abandonable(examiner)
            except OSError as error:
                return failed(name, f"{error.filename}: {error.strerror}", "see whether the disk is there")

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
            *(_bounded(name, on_disk(name, examiner)) for name, examiner in examiners.items())
        )
    )


async def _bounded(name: str, examiner: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await examiner()
    except TimeoutError:
        return _late(name)


def _late(name: str) -> Finding:
    return failed(
        name, f"no answer in {PATIENCE_SECONDS:g} s", "see what it waits for: network, disk or broker"
    )
