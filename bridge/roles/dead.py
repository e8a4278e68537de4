"""What a person does with the dead letters: look, put back to work, let go for good."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker import deadletters, moving, parked, retries
from bridge.broker.topology import Names
from bridge.roles import by_hand
from bridge.roles.standing import needed_to_keep_the_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.broker.frames import Message
    from bridge.broker.letterfile import LetterFile
    from bridge.broker.parked import Found, Letter, Place, Wanted
    from bridge.roles.by_hand import Look
    from bridge.settings import Settings


async def look(settings: Settings, wanted: Wanted, *, to_take_out: bool = False) -> Look[Letter]:
    """As `by_hand.look`."""
    return await by_hand.look(settings, _place(settings), wanted.matches, to_take_out=to_take_out)


async def show(settings: Settings, letter_id: str) -> Found[Letter] | None:
    """One dead letter with its message, which goes back to where it was; errors as `by_hand.look`."""
    return await by_hand.first(settings, _place(settings), lambda letter: letter.id == letter_id)


async def replay(settings: Settings, wanted: Wanted, *, rate: float, moved: Callable[[Letter], None]) -> int:
    """Put dead letters back into the worker's queue, as new: same bytes and event id, no attempts counted.

    Letters that die meanwhile are left alone. Arguments, errors and what is returned: as `by_hand.replay`.
    """
    message = partial(_as_new, queue=Names(settings.rabbitmq.prefix).suppression)
    needed = needed_to_keep_the_list(settings)
    order = by_hand.Replay(message, moved, rate=rate, needed=needed, waiting="dead.replay_waiting")
    return await by_hand.replay(settings, _place(settings), wanted.matches, order)


async def discard(
    settings: Settings, wanted: Wanted, *, file: LetterFile[Letter], kept: Callable[[Letter], None]
) -> int:
    """As `by_hand.discard`."""
    return await by_hand.discard(settings, _place(settings), wanted.matches, file=file, kept=kept)


def _place(settings: Settings) -> Place[Letter]:
    return parked.dead_letters(Names(settings.rabbitmq.prefix).dead)


def _as_new(found: Found[Letter], *, queue: str) -> Message:
    without = (*deadletters.HEADERS, *retries.HEADERS)
    return moving.of_message(found.message, queue=queue, headers={}, without=without)
