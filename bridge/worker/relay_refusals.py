"""What the relay makes of a failure: how it is logged, and how long the next attempt waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge.amqp.backoff import backoff_seconds
from bridge.amqp.publish_errors import NackedError, PublishError, ReturnedError
from bridge.telemetry import logs
from bridge.worker.change_bindings import BindingsRefusedError

if TYPE_CHECKING:
    from bridge.suppression.errors import StoreUnavailableError

log = logs.logger("worker")

_MAX_UNBOUND_SECONDS: Final = 30.0
"""The longest wait while changes reach no queue. No queue has a copy of them, so it need not be as long as after a nack."""
_SETTLE_SECONDS: Final = 5.0
"""How long somebody else has, who binds the queues one after the other, to bind the others after the first."""

_NACKED_TEXT: Final = (
    "RabbitMQ nacks a change, as it does where a queue bound to the changes is full and rejects; until it takes it, no change "
    "reaches anybody: `bridge doctor` names the queue (`queues that refuse`)"
)
_UNBOUND_TEXT: Final = (
    "a change has reached no queue, although a service is known that follows the changes: it waits until the queue is bound again. "
    "The worker binds it if it may, else `bridge topology apply` does"
)


class StillBindingError(PublishError):
    """RabbitMQ has taken a change for the first time after somebody else has begun to bind the queues: others may have missed it."""


class RelayRefusals:
    """How often in a row RabbitMQ has refused the oldest change: nacked it, returned it, or refused the bindings that it needs."""

    def __init__(self) -> None:
        self._count = 0
        self._returned = self._settling = False
        self.nacked = False
        """Whether the last one was a nack: one queue refuses the change, and each attempt adds a copy to the others."""

    def __bool__(self) -> bool:
        """Whether the last attempt was refused."""
        return self._count > 0

    def clear(self) -> None:
        """The last attempt was not refused."""
        self._count = 0
        self._settling = False

    @property
    def left_to_others(self) -> bool:
        """Whether this worker could not make the bindings: somebody else has to, and may not have made all when the first is there."""
        return self._count > self._returned and not (self.nacked or self._settling)

    def note(self, error: PublishError | StoreUnavailableError) -> None:
        """Log a failed attempt. One that is no refusal ends the row."""
        self.nacked = isinstance(error, NackedError)
        self._returned = isinstance(error, ReturnedError)
        self._settling = isinstance(error, StillBindingError)
        if self.nacked or self._returned or isinstance(error, BindingsRefusedError):
            self._count += 1
        else:
            self._count = int(self._settling)
        if self._settling:
            log.info(
                "changes reach a queue again; the first is published once more, as others may have been bound after it",
                action="relay.bound",
            )
        elif self._returned:
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
        if self._settling:
            return _SETTLE_SECONDS
        if self._returned and self._count == 1:
            return 0.0
        return min(backoff_seconds(self._count), _MAX_UNBOUND_SECONDS)
