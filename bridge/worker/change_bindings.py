"""Sees to it that the changes of the list reach those who follow them: who publishes changes makes the bindings first.

RabbitMQ confirms what is published to an exchange that stands without its bindings. Whoever has made such an exchange anew may
still be making the bindings, or know only some of the subscribers. So nobody relies on what others have made.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError, session_errors_as_loss
from bridge.amqp.publish_errors import NotConnectedError, PublishError

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from bridge.amqp.publisher import Publisher

_CHECK_SECONDS: Final = 30.0
"""How often they are made again, also while nothing seems to be missing: as often as the roles declare the topology."""


class ChangeTopology(Protocol):
    """Declares what the changes need."""

    async def declare(self, connection: AbstractConnection) -> bool:
        """Declare the exchange of the changes, and the queues of those who follow them, with their bindings.

        Returns:
            Whether anybody is known who follows them.

        Raises:
            TopologyRefusedError: there is no such exchange, and it may not be declared.
            BrokerUnavailableError, aiormq.exceptions.AMQPError: RabbitMQ does not answer, or the connection is lost.
        """


class BindingsRefusedError(PublishError):
    """RabbitMQ refuses what the changes need. Nothing was sent."""


class ChangeBindings:
    """What this worker knows of the bindings of the changes."""

    def __init__(self, publisher: Publisher, topology: ChangeTopology) -> None:
        """Args: publishes the changes, and the bindings are made on its connection; declares them."""
        self._publisher = publisher
        self._topology = topology
        self._made_on: AbstractConnection | None = None
        self._check_at = 0.0
        self.followed = False
        """Whether anybody is known who follows the changes. Then each change has to reach a queue."""

    @property
    def due(self) -> bool:
        """Whether `make` must come before the next change: this connection has not made them, or they may have gone."""
        return self._made_on is not self._publisher.connection or time.monotonic() >= self._check_at

    def may_be_missing(self) -> None:
        """Somebody may have deleted them, or the exchange: make them before the next change."""
        self._check_at = 0.0

    async def make(self) -> None:
        """Make them. What stands is left as it is.

        Raises:
            NotConnectedError: RabbitMQ does not answer.
            BindingsRefusedError: it refuses.
        """
        connection = self._publisher.connection
        if connection is None:
            raise NotConnectedError("there is no connection to RabbitMQ")
        try:
            with session_errors_as_loss(connection):
                self.followed = await self._topology.declare(connection)
        except TopologyRefusedError as refusal:
            raise BindingsRefusedError(str(refusal)) from refusal
        except BrokerUnavailableError as loss:
            raise NotConnectedError(str(loss)) from loss
        self._made_on = connection
        self._check_at = time.monotonic() + _CHECK_SECONDS
