"""What a person does with the quarantine: look, have what is an event today published, let go for good."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker.topology import Names
from bridge.dead_letters.quarantine import as_event, quarantine
from bridge.operations import queue_messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.dead_letters.message_file import LetterFile
    from bridge.dead_letters.quarantine import Body, WantedBodies
    from bridge.dead_letters.queue_reader import Found, Place
    from bridge.operations.queue_messages import Look
    from bridge.settings.sections import Settings


async def look(settings: Settings, wanted: WantedBodies, *, to_take_out: bool = False) -> Look[Body]:
    """As `by_hand.look`."""
    return await queue_messages.look(settings, _place(settings), wanted.matches, to_take_out=to_take_out)


async def show(settings: Settings, body_id: str) -> Found[Body] | None:
    """One of them with its message, which goes back to where it was; errors as `by_hand.look`."""
    return await queue_messages.first(settings, _place(settings), lambda body: body.id == body_id)


async def replay(
    settings: Settings, wanted: WantedBodies, *, rate: float, moved: Callable[[Body], None]
) -> int:
    """Publish what is an event today, to everybody who is bound to its name; what is still none stays.

    At least once, with the id that the event has. Arguments, errors and what is returned: as `by_hand.replay`.
    """
    exchange = Names(settings.rabbitmq.prefix).events
    order = queue_messages.Replay(
        partial(as_event, exchange=exchange),
        moved,
        rate=rate,
        needed=frozenset({exchange}),
        waiting="quarantine.replay_waiting",
    )
    return await queue_messages.replay(
        settings, _place(settings), lambda body: body.event is not None and wanted.matches(body), order
    )


async def discard(
    settings: Settings, wanted: WantedBodies, *, file: LetterFile[Body], kept: Callable[[Body], None]
) -> int:
    """As `by_hand.discard`."""
    return await queue_messages.discard(settings, _place(settings), wanted.matches, file=file, kept=kept)


def _place(settings: Settings) -> Place[Body]:
    return quarantine(Names(settings.rabbitmq.prefix).malformed)
