"""Operations on the quarantine: a replay publishes what can be read as an event now."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bridge.broker.topology import Names
from bridge.dead_letters.kept_messages import QUARANTINE_KEYS, quarantined_message_of
from bridge.dead_letters.quarantine import event_message_of, inspect_quarantine
from bridge.operations.queue_messages import QueueOperations

if TYPE_CHECKING:
    from bridge.dead_letters.quarantine import QuarantinedBody
    from bridge.settings.sections import Settings


def quarantine_operations(settings: Settings) -> QueueOperations[QuarantinedBody]:
    """A replayed body is published under its event's name, at least once, with the event's id."""
    names = Names(settings.rabbitmq.prefix)
    return QueueOperations(
        settings,
        inspect_quarantine(names.malformed),
        message=partial(event_message_of, exchange=names.events),
        required=frozenset({names.events}),
        retry_action="quarantine.replay_waiting",
        kept=partial(quarantined_message_of, queue=names.malformed),
        file_keys=QUARANTINE_KEYS,
        can_replay=lambda body: body.event is not None,
    )
