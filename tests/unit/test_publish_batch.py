"""Many messages published together: one outcome for each, in their order."""

from __future__ import annotations

import asyncio

from bridge.amqp.message_types import Message
from bridge.amqp.publish_batch import publish_all
from bridge.amqp.publish_errors import NackedError, NotConnectedError, PublishError, WindowFullError

NACKED, AWAY, FULL = NackedError("refused"), NotConnectedError("away"), WindowFullError("full")


class _Publisher:
    """Confirms each message in the way that its routing key says."""

    async def outcomes(self, *keys: str, stop_at_full: bool = False) -> list[PublishError | None]:
        messages = [Message("", key, "id", b"", b"") for key in keys]
        return await publish_all(self, messages, stop_at_full=stop_at_full)

    def publish(self, message: Message) -> asyncio.Future[None]:
        if message.routing_key == "away":
            raise AWAY
        if message.routing_key == "full":
            raise FULL
        confirm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if message.routing_key == "nacked":
            confirm.set_exception(NACKED)
        else:
            confirm.set_result(None)
        return confirm


async def test_each_message_has_its_own_outcome_in_order() -> None:
    """Whether the error comes at once or with the confirm; what comes after it is published all the same."""
    assert await _Publisher().outcomes("ok", "full", "nacked", "away", "ok") == [
        None,
        FULL,
        NACKED,
        AWAY,
        None,
    ]


async def test_where_the_window_is_full_the_rest_can_wait() -> None:
    """Those in flight are awaited. If not even the first fits, that is an error."""
    assert await _Publisher().outcomes("ok", "nacked", "full", "ok", stop_at_full=True) == [None, NACKED]
    assert await _Publisher().outcomes("full", stop_at_full=True) == [FULL]
