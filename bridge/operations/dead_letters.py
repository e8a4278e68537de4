"""Operations on the dead letters: a replay moves them back to the worker's queue."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker.copies import copy_of
from bridge.broker.topology import Names
from bridge.dead_letters.dead_letter_description import inspect_dead_letters
from bridge.dead_letters.history import DEAD_LETTER_HEADERS, RETRY_HEADERS
from bridge.dead_letters.kept_messages import DEAD_LETTER_KEYS, dead_letter_of
from bridge.operations.queue_messages import QueueOperations
from bridge.roles.role_topology import required_by_worker

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message
    from bridge.dead_letters.dead_letter_description import DeadLetter
    from bridge.dead_letters.queue_reader import HeldMessage
    from bridge.settings.sections import Settings


def dead_letter_operations(settings: Settings) -> QueueOperations[DeadLetter]:
    """A replayed dead letter has the same body and event id, and no attempts."""
    names = Names(settings.rabbitmq.prefix)
    return QueueOperations(
        settings,
        inspect_dead_letters(names.dead),
        message=partial(_as_new, queue=names.suppression),
        required=required_by_worker(settings),
        retry_action="dead.replay_waiting",
        kept=partial(dead_letter_of, queue=names.dead),
        file_keys=DEAD_LETTER_KEYS,
    )


def _as_new(found: HeldMessage[DeadLetter], *, queue: str) -> Message:
    message, without = found.message, (*DEAD_LETTER_HEADERS, *RETRY_HEADERS)
    return copy_of(message.properties, message.body, exchange="", routing_key=queue, without=without)
