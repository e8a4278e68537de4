"""What RabbitMQ refuses when it is asked to declare, as errors that say what to do."""

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

from bridge.amqp.errors import BrokerRefusedError, BrokerUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOOTING: Final = "down or inaccessible"
"""What RabbitMQ says of a stream or queue that stands on a node whose start is not finished (a 404, too)."""


class TopologyMismatchError(BrokerRefusedError):
    """Something stands in RabbitMQ with other arguments than we need. The message names it and what to do."""

    def __init__(self, message: str, *, argument: str) -> None:
        """Say what is wrong.

        Args:
            message: one line.
            argument: the one that differs; of an exchange of another kind, `type`.
        """
        super().__init__(message)
        self.argument = argument


class DeclareRefusedError(BrokerRefusedError):
    """The broker user may not declare what is missing, or it is missing and we may only check."""


@contextmanager
def answers_of(what: str) -> Iterator[None]:
    """RabbitMQ closes the channel when its answer is no; what the no means is said here."""
    try:
        yield
    except ChannelPreconditionFailed as refusal:
        raise _differs(what, str(refusal)) from None
    except ChannelAccessRefused as refusal:
        raise DeclareRefusedError(
            f"the broker user may not declare {what}: {_plain(str(refusal))}; grant it, or declare with "
            "`bridge topology apply` as a user who may and set rabbitmq.declare to never"
        ) from None
    except ChannelLockedResource as refusal:
        raise DeclareRefusedError(
            f"{what} is another connection's alone: {_plain(str(refusal))}; delete it, or choose another "
            "rabbitmq.prefix"
        ) from None
    except ChannelNotFoundEntity as refusal:
        if _BOOTING in str(refusal):
            raise BrokerUnavailableError(f"{what} is not up yet: {_plain(str(refusal))}") from None
        raise DeclareRefusedError(
            f"{what} is missing and may not be declared here; run `bridge topology apply`"
        ) from None


def _differs(what: str, refusal: str) -> BrokerRefusedError:
    """RabbitMQ: "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'a' but current is 'b'"."""
    found = re.search(r"inequivalent arg '([^']+)'.*?: (received .*)", refusal, re.DOTALL)
    if found is None:
        return DeclareRefusedError(f"RabbitMQ does not declare {what}: {_plain(refusal)}")
    return TopologyMismatchError(
        f"{what} stands with other arguments than the bridge needs: argument '{found[1]}': {_plain(found[2])}; "
        "empty and delete it, or choose another rabbitmq.prefix",
        argument=found[1],
    )


def _plain(text: str) -> str:
    return " ".join(text.split())
