"""Operations on the dead letters: list, show, replay, discard."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker.copies import copy_of
from bridge.broker.topology import Names
from bridge.dead_letters import queue_reader
from bridge.dead_letters.history import DEAD_LETTER_HEADERS, RETRY_HEADERS
from bridge.operations import queue_messages
from bridge.roles.role_topology import required_by_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.frames import Message
    from bridge.dead_letters.message_file import MessageFile
    from bridge.dead_letters.queue_reader import DeadLetter, DeadLetterFilter, HeldMessage, InspectedQueue
    from bridge.operations.queue_messages import MessageList
    from bridge.settings.sections import Settings


async def list_dead_letters(
    settings: Settings, wanted: DeadLetterFilter, *, to_take_out: bool = False
) -> MessageList[DeadLetter]:
    """As `queue_messages.list_messages`."""
    return await queue_messages.list_messages(
        settings, _place(settings), wanted.matches, to_take_out=to_take_out
    )


async def show(settings: Settings, letter_id: str) -> HeldMessage[DeadLetter] | None:
    """One dead letter with its message, which stays in the queue. Errors as in `queue_messages.list_messages`."""
    return await queue_messages.find_message(
        settings, _place(settings), lambda letter: letter.id == letter_id
    )


async def replay(
    settings: Settings, wanted: DeadLetterFilter, *, rate: float, moved: Callable[[DeadLetter], None]
) -> int:
    """Move dead letters back to the worker's queue, with the same body and event id, and without attempts.

    Dead letters that come meanwhile stay. Arguments, errors and result as in `queue_messages.replay`.
    """
    message = partial(_as_new, queue=Names(settings.rabbitmq.prefix).suppression)
    needed = required_by_worker(settings)
    order = queue_messages.ReplayPlan(message, moved, rate=rate, needed=needed, waiting="dead.replay_waiting")
    return await queue_messages.replay(settings, _place(settings), wanted.matches, order)


async def discard(
    settings: Settings,
    wanted: DeadLetterFilter,
    *,
    file: MessageFile[DeadLetter],
    kept: Callable[[DeadLetter], None],
) -> int:
    """As `queue_messages.discard`."""
    return await queue_messages.discard(settings, _place(settings), wanted.matches, file=file, kept=kept)


def _place(settings: Settings) -> InspectedQueue[DeadLetter]:
    return queue_reader.inspect_dead_letters(Names(settings.rabbitmq.prefix).dead)


def _as_new(found: HeldMessage[DeadLetter], *, queue: str) -> Message:
    message, without = found.message, (*DEAD_LETTER_HEADERS, *RETRY_HEADERS)
    return copy_of(message.properties, message.body, exchange="", routing_key=queue, without=without)
