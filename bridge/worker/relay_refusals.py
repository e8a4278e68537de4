"""What the relay makes of a failure: how it is logged, and how long the next attempt waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.backoff import backoff_seconds
from bridge.amqp.publish_errors import NackedError, ReturnedError
from bridge.telemetry import logs
from bridge.worker.change_bindings import BindingsRefusedError

if TYPE_CHECKING:
    from bridge.amqp.publish_errors import PublishError
    from bridge.suppression.errors import StoreUnavailableError

log = logs.logger("worker")

_MAX_UNBOUND_SECONDS: Final = 30.0
"""The longest wait while changes reach no queue. No queue has a copy of them, so it need not be as long as after a nack."""

_NACKED_TEXT: Final = (
    "RabbitMQ nacks a change, as it does where a queue bound to the changes is full and rejects; until it takes it, no change "
    "reaches anybody: `bridge doctor` names the queue (`queues that refuse`)"
)
_UNBOUND_TEXT: Final = (
    "a change has reached no queue, although a service is known that follows the changes: it waits until the queue is bound again. "
    "The worker binds it if it may, else `bridge topology apply` does"
)


class RelayRefusals:
    """How often in a row RabbitMQ has refused the oldest change: nacked it, returned it, or refused the bindings that it needs."""

    def __init__(self) -> None:
        self._count = 0
        self._returned = False
        self.nacked = False
        """Whether the last one was a nack: one queue refuses the change, and each attempt adds a copy to the others."""

    def __bool__(self) -> bool:
        """Whether the last attempt was refused."""
        return self._count > 0

    def clear(self) -> None:
        """The last attempt was not refused."""
        self._count = 0

    def note(self, error: PublishError | StoreUnavailableError) -> None:
        """Log a failed attempt. One that is no refusal ends the row."""
        self.nacked = isinstance(error, NackedError)
        self._returned = isinstance(error, ReturnedError)
        if self.nacked or self._returned or isinstance(error, BindingsRefusedError):
            self._count += 1
        else:
            self._count = 0
        if self._returned:
            log.warning(_UNBOUND_TEXT, action="relay.unbound", error=str(error))
        else:
            text = _NACKED_TEXT if self.nacked else "changes cannot be published now"
            log.warning(text, action="relay.waiting", error=str(error))

    @property
    def wait_seconds(self) -> float:
        """How long the next attempt is to wait.

        After a first return only for the bindings: the relay makes them again, and nothing else was missing, unless it may not.
        """
        if self.nacked:
            return backoff_seconds(self._count)
        if self._returned and self._count == 1:
            return 0.0
        return min(backoff_seconds(self._count), _MAX_UNBOUND_SECONDS)
