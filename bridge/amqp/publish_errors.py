"""The outcomes of a publish: errors for the caller, labels for the metrics."""

from __future__ import annotations

from collections.abc import Callable

CONFIRMED, NACKED, RETURNED, LOST = "confirmed", "nacked", "returned", "lost"
"""Labels for the metrics."""


class PublishError(Exception):
    """A message was not confirmed. The text of the error says why."""


class NotConnectedError(PublishError):
    """There is no open channel. Nothing was sent."""


class WindowFullError(PublishError):
    """Too many messages wait for their confirm. Nothing was sent."""


class NackedError(PublishError):
    """RabbitMQ refused the message (`basic.nack`)."""


class ReturnedError(PublishError):
    """The message matches no binding, and no alternate exchange took it (`basic.return`)."""


class LostError(PublishError):
    """The channel was lost before the confirm. The message may have arrived or not."""


class ChannelClosedError(LostError):
    """RabbitMQ closed the channel or the connection because of one of the messages in flight."""

    def __init__(self, code: int, text: str) -> None:
        """Args: RabbitMQ's, for example 403 and `ACCESS_REFUSED - access to topic …`."""
        super().__init__(f"RabbitMQ closed the channel before the confirm: {text}")
        self.code = code
        self.text = text


PublishCallback = Callable[[PublishError | None], None]
"""Called once for each message: with None when RabbitMQ has confirmed it, else with the error. It must not raise."""
