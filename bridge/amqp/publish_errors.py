"""What can become of a publish, as errors for whoever waits and as words for the metrics."""

from __future__ import annotations

from collections.abc import Callable

CONFIRMED, NACKED, RETURNED, LOST = "confirmed", "nacked", "returned", "lost"
"""For the metrics."""


class PublishError(Exception):
    """A message is not known to be in RabbitMQ. Its message says why."""


class NotConnectedError(PublishError):
    """There is no open channel; nothing was sent."""


class WindowFullError(PublishError):
    """As many messages as allowed wait for their confirm; nothing was sent."""


class NackedError(PublishError):
    """RabbitMQ refused to keep the message."""


class ReturnedError(PublishError):
    """No queue is bound for the message, and no alternate exchange took it."""


class LostError(PublishError):
    """The channel was lost before the confirm came: the message may have arrived or not."""


class ChannelClosedError(LostError):
    """RabbitMQ closed the channel, or the connection, over something that was sent: one of the messages in flight."""

    def __init__(self, code: int, text: str) -> None:
        """Args: as RabbitMQ gave them; 403 and `ACCESS_REFUSED - access to topic …`, for example."""
        super().__init__(f"RabbitMQ closed the channel before the confirm: {text}")
        self.code = code
        self.text = text


Outcome = Callable[[PublishError | None], None]
"""Called once with what became of a message: nothing when RabbitMQ has confirmed it. It must not raise."""
