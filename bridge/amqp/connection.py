"""A supervised connection to RabbitMQ: connects to any of the URLs, runs a session on it, and reconnects for ever."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aio_pika
from aiormq.exceptions import AMQPConnectionError, AMQPError
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from bridge import fast_path
from bridge.amqp import tls_files
from bridge.amqp.channels import close_connection, server_says
from bridge.amqp.errors import (
    BrokerUnavailableError,
    TopologyRefusedError,
    close_reason,
    session_errors_as_loss,
)
from bridge.amqp.message_path import path_of
from bridge.amqp.plain_path import make_plain_connection
from bridge.settings.errors import InvalidSettingsError
from bridge.tasks import cancellation_kept, run_until_first_ends
from bridge.telemetry import logs
from bridge.text import error_line
from bridge.threads import run_abandonable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from aio_pika.abc import AbstractConnection
    from yarl import URL

    from bridge.amqp.message_path import Connection
    from bridge.settings.sections import RabbitMQ
    from bridge.telemetry.metrics import Metrics

    Session = Callable[[AbstractConnection], Coroutine[Any, Any, None]]

log = logs.logger("amqp")

_CLOSE_SECONDS: Final = 1.0
"""Timeout of an orderly close. A broker that does not answer must not delay a reconnect or the end of a role."""


class LinkState(StrEnum):
    DOWN = "down"
    UP = "up"
    BLOCKED = "blocked"
    """RabbitMQ has a memory or disk alarm. It reads nothing from this connection until the alarm clears."""


class Link:
    """The supervised connection for one use. RabbitMQ's alarms block publishers, so publish and consume have one each."""

    def __init__(self, settings: RabbitMQ, *, use: str, metrics: Metrics, on_demand: bool = False) -> None:
        """Create a link. It is down until `run`.

        Args:
            settings: where the brokers are and how long to wait for them.
            use: `publish`, `consume`, `drain` or `topology`; names the connection in RabbitMQ and labels the metrics.
            metrics: show the state.
            on_demand: it may never run. Until it does, the metrics do not show it.
        """
        self._settings = settings
        self._use = use
        self._metrics = metrics
        self._state = LinkState.DOWN
        self._reason = "not connected yet"
        self._was_up = False
        self.cluster = ""
        """What the RabbitMQ that was reached last calls itself."""
        self.attempts = 0
        """How often it has tried to connect."""
        self.up = asyncio.Event()
        """Set while the state is UP."""
        self.blocked = asyncio.Event()
        """Set while it is BLOCKED."""
        if not on_demand:
            self._export_state()

    @property
    def state(self) -> LinkState:
        return self._state

    @property
    def reason(self) -> str:
        """The reason for the state, for people."""
        return self._reason

    @property
    def was_up(self) -> bool:
        """Whether a session was ever ready for work."""
        return self._was_up

    def description(self) -> dict[str, str]:
        """State and reason, for `/readyz`."""
        return {"state": self._state.value, "reason": self._reason}

    async def run(self, session: Session) -> None:
        """Run a session, on a new connection after each loss, until it returns.

        Args:
            session: called with each new connection. It calls `opened` when it is ready for work, raises when
                its connection or channel is closed, and returns when there is nothing more to do.

        Raises:
            TopologyRefusedError: the very first session was refused; later refusals are logged and retried.
            InvalidSettingsError: a certificate or key that a URL names cannot be used; later that is waited out, too.
        """
        self._export_state()
        await self._check_tls_files()
        ended = False
        while not ended:
            async for attempt in self._retrying():
                with attempt:
                    ended = await self._run_session(session)

    async def _check_tls_files(self) -> None:
        """If the disk hangs, this is skipped: connecting will report it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.connect_timeout):
                for url in self._settings.urls:
                    if reason := await run_abandonable(partial(tls_files.problem, url.get_secret_value())):
                        raise InvalidSettingsError(f"rabbitmq.urls: {reason}")

    def opened(self) -> None:
        """The session is ready for work."""
        self._was_up = True
        self._set_state(LinkState.UP, "connected")
        self._metrics.connects.labels(self._use).inc()
        log.info("connected to RabbitMQ", action="broker.connected", use=self._use)

    def _retrying(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception_type(BrokerUnavailableError),
            wait=wait_random_exponential(multiplier=0.1, max=self._settings.reconnect_max),
            before_sleep=self._log_retry,
            reraise=True,
        )

    async def _run_session(self, session: Session) -> bool:
        """Run one session on one connection; returns whether the session ended by itself."""
        self.attempts += 1
        try:
            connection = await connect_to_any(self._settings, name=f"bridge {self._use}")
        except BrokerUnavailableError as error:
            self._set_state(LinkState.DOWN, str(error))
            raise
        self.cluster = server_says(connection, "cluster_name")
        began = time.monotonic()
        reason = "closed"
        try:
            with session_errors_as_loss(connection):
                watching = path_of(connection).watch(
                    connection, blocked=self._on_blocked, unblocked=self._on_unblocked
                )
                await run_until_first_ends(watch=watching, session=session(connection))
        except TopologyRefusedError as refusal:
            reason = str(refusal)
            if not self._was_up:
                raise
            raise BrokerUnavailableError(reason) from refusal
        except BrokerUnavailableError as loss:
            reason = str(loss)
            if time.monotonic() - began < self._settings.reconnect_max:
                raise
            log.warning("lost the connection to RabbitMQ", action="broker.lost", use=self._use, reason=reason)
            return False
        finally:
            self._set_state(LinkState.DOWN, reason)
            await _close_within_deadline(connection)
        return True

    def _log_retry(self, retrying: RetryCallState) -> None:
        log.warning(
            "RabbitMQ is not available, trying again",
            action="broker.retry",
            use=self._use,
            attempt=retrying.attempt_number,
            wait=round(retrying.upcoming_sleep, 2),
            reason=self._reason,
        )

    def _on_blocked(self, reason: str) -> None:
        if self._state is LinkState.UP:
            self._set_state(LinkState.BLOCKED, f"RabbitMQ blocks publishers: {reason}")
            log.warning("RabbitMQ blocks publishers", action="broker.blocked", use=self._use, reason=reason)

    def _on_unblocked(self) -> None:
        if self._state is LinkState.BLOCKED:
            self._set_state(LinkState.UP, "connected")
            log.info("RabbitMQ no longer blocks publishers", action="broker.unblocked", use=self._use)

    def _set_state(self, state: LinkState, reason: str) -> None:
        self._state = state
        self._reason = reason
        for event, its_state in ((self.up, LinkState.UP), (self.blocked, LinkState.BLOCKED)):
            if state is its_state:
                event.set()
            else:
                event.clear()
        self._export_state()

    def _export_state(self) -> None:
        self._metrics.broker_up.labels(self._use).set(self._state is LinkState.UP)
        for state in LinkState:
            self._metrics.broker_state.labels(self._use, state.value).set(self._state is state)


async def open_connection(
    url: str, *, name: str, heartbeat: int = 10, connect_timeout: float = 5.0
) -> AbstractConnection:
    """Open one connection. The caller closes it.

    Args:
        url: of the broker.
        name: the connection name that RabbitMQ shows.
        heartbeat: seconds.
        connect_timeout: seconds in which the broker must answer.

    Raises:
        TimeoutError: it did not answer in time.
        aiormq.exceptions.AMQPError: it refused; the message is RabbitMQ's own, where there is one.
        OSError: it cannot be reached.
    """
    connection = _make_connection(
        aio_pika.connection.make_url(url, heartbeat=heartbeat), {"connection_name": name}
    )
    try:
        with cancellation_kept():  # aiormq swallows one that comes while it cleans up after a failure
            async with asyncio.timeout(connect_timeout):
                await connection.connect()
    except BaseException as error:
        await connection.close()
        if isinstance(error, AMQPError) and (words := close_reason(connection)):
            raise AMQPConnectionError(words) from error
        raise
    return connection


async def connect(settings: RabbitMQ, url: str, *, name: str) -> AbstractConnection:
    """Open one connection to this URL, with the settings' heartbeat and timeout. The caller closes it.

    Raises:
        BrokerUnavailableError: RabbitMQ does not answer, or refuses us. The message has the URL without credentials, and
            names the file of this machine if it was for one.
    """
    try:
        return await open_connection(
            url, name=name, heartbeat=settings.heartbeat, connect_timeout=settings.connect_timeout
        )
    except TimeoutError:
        reason = f"no answer in {settings.connect_timeout:g} s"
    except (AMQPError, OSError) as error:
        reason = await run_abandonable(partial(tls_files.problem, url)) or error_line(error)
    raise BrokerUnavailableError(f"{_without_credentials(url)}: {reason}")


async def connect_to_any(settings: RabbitMQ, *, name: str) -> AbstractConnection:
    """As `connect`, to the first URL that answers. The error has the reasons of all."""
    failures = []
    for url in settings.urls:
        try:
            return await connect(settings, url.get_secret_value(), name=name)
        except BrokerUnavailableError as error:
            failures.append(str(error))
    raise BrokerUnavailableError("; ".join(failures))


def _make_connection(url: URL, client_properties: dict[str, str]) -> Connection:
    """A connection, not opened yet, on the path of this process."""
    if not fast_path.amqp_enabled():
        return make_plain_connection(url, client_properties=client_properties)
    # An unknown version of aiormq may not let it be imported.
    from bridge.amqp.aiormq_internals import make_fast_connection  # noqa: PLC0415 -- see above

    return make_fast_connection(url, client_properties=client_properties)


async def _close_within_deadline(connection: AbstractConnection) -> None:
    """Close in order, but abort when a hanging broker no longer reads."""
    aborting = asyncio.get_running_loop().call_later(_CLOSE_SECONDS / 2, path_of(connection).abort)
    try:
        await close_connection(connection, _CLOSE_SECONDS)
    finally:
        aborting.cancel()


def _without_credentials(url: str) -> str:
    """The URL without user, password and query."""
    return str(aio_pika.connection.make_url(url).with_user(None).with_query(None))
