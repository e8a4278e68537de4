"""Errors for refused declarations, with a message that says what to do."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
)

from bridge.amqp.errors import BrokerUnavailableError, TopologyRefusedError
from bridge.text import collapse

if TYPE_CHECKING:
    from collections.abc import Iterator

_NODE_STARTING: Final = "down or inaccessible"
"""RabbitMQ's text for a queue or stream on a node that is still starting. The code is also 404."""


class TopologyMismatchError(TopologyRefusedError):
    """An exchange or queue exists with other arguments than the bridge needs. The message says what to do."""

    def __init__(self, message: str, *, what: str, argument: str, difference: str) -> None:
        """Create the error.

        Args:
            message: one line.
            what: exists otherwise, for people: `queue 'crm'`.
            argument: the one that differs; `type` for an exchange of another type.
            difference: it and both its values, as RabbitMQ says it.
        """
        super().__init__(message)
        self.what = what
        self.argument = argument
        self.difference = difference


class DeclareRefusedError(TopologyRefusedError):
    """The broker user may not declare something, or it is missing and may not be declared here."""


@contextmanager
def explain_refusal(what: str, *, of_subscriber: bool = False) -> Iterator[None]:
    """Translate the channel errors with which RabbitMQ refuses a declaration.

    Args:
        what: is declared, for people: `queue 'crm'`.
        of_subscriber: whether it belongs to another service, which works with whatever arguments its queue has.

    Raises:
        TopologyMismatchError: it exists with other arguments.
        DeclareRefusedError: we may not declare it, or it is missing and may not be declared here.
        BrokerUnavailableError: its node is still starting.
    """
    try:
        yield
    except ChannelPreconditionFailed as refusal:
        raise _mismatch(what, str(refusal), of_subscriber=of_subscriber) from None
    except ChannelAccessRefused as refusal:
        raise DeclareRefusedError(
            f"the broker user may not declare {what}: {collapse(str(refusal))}; grant it, or declare with "
            "`bridge topology apply` as a user who may and set rabbitmq.declare to never"
        ) from None
    except ChannelLockedResource as refusal:
        raise DeclareRefusedError(
            f"{what} is exclusive to another connection: {collapse(str(refusal))}; delete it, or choose another "
            "rabbitmq.prefix"
        ) from None
    except ChannelNotFoundEntity as refusal:
        if _NODE_STARTING in str(refusal):
            raise BrokerUnavailableError(f"{what} is not up yet: {collapse(str(refusal))}") from None
        raise DeclareRefusedError(
            f"{what} is missing and may not be declared here; run `bridge topology apply`"
        ) from None


def _mismatch(what: str, refusal: str, *, of_subscriber: bool) -> TopologyRefusedError:
    """RabbitMQ: "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'a' but current is 'b'"."""
    found = re.search(r"inequivalent arg '([^']+)'.*?: (received .*)", refusal, re.DOTALL)
    if found is None:
        return DeclareRefusedError(f"RabbitMQ does not declare {what}: {collapse(refusal)}")
    consequence = (
        "it gets its messages all the same, and `bridge topology apply --migrate` gives it the planned arguments"
        if of_subscriber
        else "`bridge topology apply --migrate` moves a queue to them, without losing a message; or choose another rabbitmq.prefix"
    )
    difference = f"argument '{found[1]}': {collapse(found[2])}"
    return TopologyMismatchError(
        f"{what} exists with other arguments than the bridge {'plans' if of_subscriber else 'needs'}: {difference}; "
        f"{consequence}",
        what=what,
        argument=found[1],
        difference=difference,
    )
