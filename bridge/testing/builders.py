"""Makes the bridge's messages for tests, with the code that publishes them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from bridge import events
from bridge.broker import messages
from bridge.broker.change_messages import change_message
from bridge.broker.topology import Names
from bridge.dead_letters.dead_letter_message import DeadLetterCause, dead_letter_message
from bridge.dead_letters.history import RetryHistory
from bridge.suppression.change import Change
from bridge.suppression.policy import Reason
from bridge.testing.message import BridgeMessage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.suppression.change import Action

AT: Final = 1539062173
"""When everything happens unless it is said: 2018-10-09T05:16:13Z, Unix seconds. The same call makes the same message."""
LINK: Final = "https://example.com/"
"""The link of an event `clicked` whose data is not given."""
ADDRESS: Final = "recipient1@example.org"

_WITH_REASON: Final = frozenset({"added", "updated", "removed", "expired"})
_IN_FORCE_AFTER: Final = frozenset({"added", "updated"})
"""Actions after which their own reason is in force."""
_OF_RULES: Final = frozenset({"allowed", "disallowed"})


def event(
    name: str = events.DELIVERED,
    *,
    message_id: int | str = 1,
    at: int | datetime = AT,
    data: Mapping[str, Any] | None = None,
    received_at: int | datetime | None = None,
    prefix: str = "",
) -> BridgeMessage:
    """An event of the provider. The same arguments make the same event, with the same id: a repeat.

    Args:
        name: as the provider writes it: one of `bridge.events.KNOWN_NAMES`, `complined`, or a name that nobody knows yet.
        message_id: the provider's id of the e-mail.
        at: when it happened; Unix seconds, or with a time zone.
        data: `event.data`; by default a `url` for `clicked`, and nothing for other events.
        received_at: when the bridge received it; Unix milliseconds, or with a time zone. By default a second after `at`.
        prefix: `rabbitmq.prefix` of the bridge.

    Raises:
        ValueError: the bridge would quarantine such an event (see `malformed`).
    """
    happened = _seconds(at)
    if data is None:
        data = {"url": LINK} if name == events.CLICKED else {}
    body = orjson.dumps(
        {"message": {"id": message_id}, "event": {"name": name, "timestamp": happened, "data": data}}
    )
    return BridgeMessage(
        messages.event_message(
            events.parse(body),
            body,
            exchange=Names(prefix).events,
            received_at=_milliseconds(received_at, happened),
        )
    )


def from_body(
    body: bytes, *, received_at: int | datetime = AT * 1000 + 1000, prefix: str = ""
) -> BridgeMessage:
    """What the bridge publishes when the provider posts this body: an event, or a message for the quarantine.

    Args:
        body: of the POST. What is not JSON the bridge answers 400; here it becomes a message for the quarantine.
        received_at: when the bridge received it; Unix milliseconds, or with a time zone.
        prefix: `rabbitmq.prefix` of the bridge.
    """
    return BridgeMessage(
        messages.message_from_body(
            body, exchange=Names(prefix).events, received_at=_milliseconds(received_at, AT)
        )
    )


def malformed(
    body: bytes = b"{}",
    *,
    reason: str | None = None,
    received_at: int | datetime | None = None,
    prefix: str = "",
) -> BridgeMessage:
    """JSON that is not an event, as a queue that is bound to `malformed` or to `#` gets it.

    Args:
        body: what was posted.
        reason: why it is no event; by default what the bridge says of this body.
        received_at: when the bridge received it; Unix milliseconds, or with a time zone.
        prefix: `rabbitmq.prefix` of the bridge.

    Raises:
        ValueError: the body is an event, and no reason is given.
    """
    if reason is None:
        reason = _problem(body)
    return BridgeMessage(
        messages.malformed_message(
            body, reason, exchange=Names(prefix).events, received_at=_milliseconds(received_at, AT)
        )
    )


def change(
    action: Action | str = "added",
    address: str = ADDRESS,
    *,
    reason: str | None = None,
    reasons: Iterable[str] | None = None,
    change_id: int = 1,
    at: int | datetime = AT,
    actor: str = "worker",
    note: str = "",
    event_id: str | None = None,
    message_id: int | str | None = None,
    prefix: str = "",
) -> BridgeMessage:
    """A change of the suppression list.

    Args:
        action: `added`, `updated`, `removed`, `expired`; `allowed`, `disallowed`; `erased`; or one that nobody knows yet.
        address: normalised; of `allowed` and `disallowed` also a domain, of `erased` a keyed hash.
        reason: of the entry: `hard_bounce` by default. Changes of rules, and `erased`, have none.
        reasons: for which the address is suppressed after the change. By default `reason` after `added` and `updated`, and none
            after the others.
        change_id: the change's id: the greatest one of an address counts.
        at: when the list was changed; Unix seconds, or with a time zone.
        actor: who changed it: `worker`, or a person.
        note: why, if a person changed it.
        event_id: the event that did it, if one did.
        message_id: the provider's id of the e-mail.
        prefix: `rabbitmq.prefix` of the bridge.

    Raises:
        ValueError: there is no such reason.
    """
    if reason is None and action in _WITH_REASON:
        reason = Reason.HARD_BOUNCE
    of_domain = action in _OF_RULES and "@" not in address
    if reasons is None and not of_domain:  # for a domain nobody knows whom it concerns
        reasons = [reason] if reason is not None and action in _IN_FORCE_AFTER else []
    made = Change(
        id=change_id,
        at=_seconds(at),
        action=action,  # type: ignore[arg-type]  # also one that nobody knows yet
        address=address,
        reason=None if reason is None else Reason(reason),
        actor=actor,
        note=note,
        event_id=event_id,
        message_id=None if message_id is None else str(message_id),
        evidence=None,
        published_at=None,
        reasons=None if reasons is None else tuple(map(Reason, reasons)),
    )
    return BridgeMessage(change_message(made, exchange=Names(prefix).changes))


def dead_letter(
    of: BridgeMessage | None = None,
    *,
    reason: str = "unknown-message",
    error: str = "the provider does not know this message",
    where: str = "provider@worker-1",
    attempts: int = 1,
    first_failure: int | datetime | None = None,
    dead_at: int | datetime | None = None,
    prefix: str = "",
) -> BridgeMessage:
    """A message that the bridge's worker could not handle, as it is in `suppression.dead`.

    Args:
        of: the message; by default an event `hard_bounced`.
        reason: the keyword in `dead-reason`; docs/reference/messages.md lists them.
        error: a line for people.
        where: `parse`, `provider` or `database`, `@` and the worker's host.
        attempts: how many have failed.
        first_failure: Unix milliseconds, or with a time zone; by default two seconds after `AT`.
        dead_at: when it became a dead letter; the same.
        prefix: `rabbitmq.prefix` of the bridge.
    """
    original = (event(events.HARD_BOUNCED) if of is None else of).published
    failed_at = _milliseconds(first_failure, AT + 1)
    history = RetryHistory(
        attempt=attempts,
        first_failure=failed_at,
        error=error,
        where=where,
        reason=reason,
        same_since=failed_at,
    )
    return BridgeMessage(
        dead_letter_message(
            original.properties,
            original.body,
            DeadLetterCause(reason, history),
            queue=Names(prefix).dead,
            at=_milliseconds(dead_at, AT + 1),
        )
    )


def _problem(body: bytes) -> str:
    try:
        found = events.parse(body)
    except (events.MalformedError, events.NotJsonError) as error:
        return str(error)
    raise ValueError(
        f"this body is an event '{found.name}', so it would not be quarantined; give a reason, or use from_body"
    )


def _seconds(at: int | datetime) -> int:
    return int(_timestamp(at)) if isinstance(at, datetime) else at


def _milliseconds(at: int | datetime | None, happened: int) -> int:
    """Unix milliseconds; by default a second after `happened`."""
    if at is None:
        return happened * 1000 + 1000
    return int(_timestamp(at) * 1000) if isinstance(at, datetime) else at


def _timestamp(at: datetime) -> float:
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone, so it names no moment; add one, such as datetime.UTC")
    return at.timestamp()
