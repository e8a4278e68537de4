"""A queue that is not up keeps nobody from the other parts of the topology."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from aiormq.exceptions import ChannelNotFoundEntity

from bridge.amqp.errors import BrokerUnavailableError, ConnectionLostError
from bridge.broker.declaring import apply_topology
from bridge.broker.topology import Queue, Topology

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

DOWN = "NOT_FOUND - home node 'a@b' of durable queue 'archive' in vhost '/' is down or inaccessible"
TOPOLOGY = Topology((), (Queue("archive", {}), Queue("crm", {})), ())


class Channel:
    """Declares every queue but the archive."""

    def __init__(self, error: Exception, declared: list[str]) -> None:
        self._error = error
        self._declared = declared

    async def declare_queue(self, name: str, **_: Any) -> None:
        if name == "archive":
            raise self._error
        self._declared.append(name)

    async def close(self) -> None:
        """As RabbitMQ's."""


class Connection:
    """Open."""

    transport = None

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.declared: list[str] = []

    async def channel(self, **_: Any) -> Channel:
        return Channel(self._error, self.declared)


async def test_a_queue_that_is_not_up_yet_is_no_lost_connection() -> None:
    """The others are declared, and the caller learns which one it is: it may go on, if it does not need that."""
    connection = Connection(ChannelNotFoundEntity(DOWN))
    [refused] = await apply_topology(
        cast("AbstractConnection", connection), TOPOLOGY, "always", required=["crm"]
    )
    assert connection.declared == ["crm"]
    assert not refused.required
    assert isinstance(refused.error, BrokerUnavailableError)
    assert not isinstance(refused.error, ConnectionLostError)
    assert str(refused.error) == f"queue 'archive' is not up yet: {DOWN}"


async def test_a_lost_connection_ends_it() -> None:
    """Nothing else can be declared on it."""
    connection = Connection(ConnectionResetError("reset by peer"))
    with pytest.raises(ConnectionLostError, match="reset by peer"):
        await apply_topology(cast("AbstractConnection", connection), TOPOLOGY, "always", required=[])
    assert connection.declared == []
