"""Operations on the quarantine: list, show, replay what can be read as an event now, discard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker.topology import Names
from bridge.dead_letters.quarantine import event_message_of, quarantine_queue
from bridge.operations import queue_messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.dead_letters.message_file import MessageFile
    from bridge.dead_letters.quarantine import QuarantinedBody, QuarantineFilter
    from bridge.dead_letters.queue_reader import HeldMessage, InspectedQueue
    from bridge.operations.queue_messages import MessageList
    from bridge.settings.sections import Settings


async def list_bodies(
    settings: Settings, wanted: QuarantineFilter, *, to_take_out: bool = False
) -> MessageList[QuarantinedBody]:
    """As `queue_messages.list_messages`."""
    return await queue_messages.list_messages(
        settings, _place(settings), wanted.matches, to_take_out=to_take_out
    )


async def show(settings: Settings, body_id: str) -> HeldMessage[QuarantinedBody] | None:
    """One body with its message, which stays in the queue. Errors as in `queue_messages.list_messages`."""
    return await queue_messages.find_message(settings, _place(settings), lambda body: body.id == body_id)


async def replay(
    settings: Settings, wanted: QuarantineFilter, *, rate: float, moved: Callable[[QuarantinedBody], None]
) -> int:
    """Publish the bodies that can be read as events now, under their names. The others stay.

    At least once, with the event's id. Arguments, errors and result as in `queue_messages.replay`.
    """
    exchange = Names(settings.rabbitmq.prefix).events
    order = queue_messages.ReplayPlan(
        partial(event_message_of, exchange=exchange),
        moved,
        rate=rate,
        needed=frozenset({exchange}),
        waiting="quarantine.replay_waiting",
    )
    return await queue_messages.replay(
        settings, _place(settings), lambda body: body.event is not None and wanted.matches(body), order
    )


async def discard(
    settings: Settings,
    wanted: QuarantineFilter,
    *,
    file: MessageFile[QuarantinedBody],
    kept: Callable[[QuarantinedBody], None],
) -> int:
    """As `queue_messages.discard`."""
    return await queue_messages.discard(settings, _place(settings), wanted.matches, file=file, kept=kept)


def _place(settings: Settings) -> InspectedQueue[QuarantinedBody]:
    return quarantine_queue(Names(settings.rabbitmq.prefix).malformed)
