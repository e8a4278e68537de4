"""What a person does with the dead letters: look, put back to work, let go for good."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker.topology import Names
from bridge.dead_letters import dead_letter_queue, delay_queues, queue_reader, republishing
from bridge.operations import queue_messages
from bridge.roles.role_topology import needed_to_keep_the_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.amqp.frames import Message
    from bridge.dead_letters.message_file import LetterFile
    from bridge.dead_letters.queue_reader import Found, Letter, Place, Wanted
    from bridge.operations.queue_messages import Look
    from bridge.settings.sections import Settings


async def look(settings: Settings, wanted: Wanted, *, to_take_out: bool = False) -> Look[Letter]:
    """As `by_hand.look`."""
    return await queue_messages.look(settings, _place(settings), wanted.matches, to_take_out=to_take_out)


async def show(settings: Settings, letter_id: str) -> Found[Letter] | None:
    """One dead letter with its message, which goes back to where it was; errors as `by_hand.look`."""
    return await queue_messages.first(settings, _place(settings), lambda letter: letter.id == letter_id)


async def replay(settings: Settings, wanted: Wanted, *, rate: float, moved: Callable[[Letter], None]) -> int:
    """Put dead letters back into the worker's queue, as new: same bytes and event id, no attempts counted.

    Letters that die meanwhile are left alone. Arguments, errors and what is returned: as `by_hand.replay`.
    """
    message = partial(_as_new, queue=Names(settings.rabbitmq.prefix).suppression)
    needed = needed_to_keep_the_list(settings)
    order = queue_messages.Replay(message, moved, rate=rate, needed=needed, waiting="dead.replay_waiting")
    return await queue_messages.replay(settings, _place(settings), wanted.matches, order)


async def discard(
    settings: Settings, wanted: Wanted, *, file: LetterFile[Letter], kept: Callable[[Letter], None]
) -> int:
    """As `by_hand.discard`."""
    return await queue_messages.discard(settings, _place(settings), wanted.matches, file=file, kept=kept)


def _place(settings: Settings) -> Place[Letter]:
    return queue_reader.dead_letters(Names(settings.rabbitmq.prefix).dead)


def _as_new(found: Found[Letter], *, queue: str) -> Message:
    without = (*dead_letter_queue.HEADERS, *delay_queues.HEADERS)
    return republishing.of_message(found.message, queue=queue, headers={}, without=without)
