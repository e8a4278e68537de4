"""An example of each message, made by the code that publishes it: always the same ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, get_args

import orjson
from pamqp import commands as spec

from bridge import events
from bridge.amqp.message_types import make_message
from bridge.amqp.properties import decode_properties
from bridge.broker.change_messages import change_message
from bridge.broker.messages import event_message, malformed_message
from bridge.broker.topology_plan import SENT as SENT_KEY
from bridge.contract import meanings, schemas
from bridge.contract.message_json import properties_of
from bridge.dead_letters.dead_letter_message import DeadLetterCause, dead_letter_message
from bridge.dead_letters.failure_reasons import PROVIDER, UNKNOWN_MESSAGE
from bridge.dead_letters.history import RetryHistory
from bridge.events import MalformedError, parse
from bridge.suppression.address_keys import PrivacyKey
from bridge.suppression.change import Action, Change
from bridge.suppression.policy import Reason

if TYPE_CHECKING:
    from bridge.amqp.message_types import Message
    from bridge.broker.topology import Names

_AT: Final = 1539062173
"""2018-10-09T05:16:13Z, the time of the provider's own example."""
_RECEIVED_AT: Final = _AT * 1000 + 640
_URL: Final = "https://example.com"
_ADDRESS: Final = "jane@example.org"
_KEY: Final = PrivacyKey("k1", b"a secret of the example")
UNKNOWN_NAME: Final = "rescheduled"
"""The provider has no such event, so far."""
SUBSCRIBER: Final = "crm"
"""The queue of the subscriber in the examples."""


@dataclass(frozen=True, slots=True)
class Example:
    """A message as JSON: what a consumer of any language gets, and what a sender publishes."""

    name: str
    """Of the file, too: `event-clicked.json`."""
    kind: str
    """One of `schemas.KINDS`."""
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    """With the headers."""
    body: Any

    def document(self) -> dict[str, Any]:
        """Where it is published, properties and body."""
        return {
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "properties": self.properties,
            "body": self.body,
        }


def examples(names: Names) -> list[Example]:
    """All examples, each with a name of its own. Args: the names of exchanges and queues."""
    event = _event(events.HARD_BOUNCED, names)
    return [
        *(_example(f"event-{name}", schemas.EVENT, _event(name, names)) for name in meanings.EVENTS),
        _example("event-unknown", schemas.EVENT, _event(UNKNOWN_NAME, names)),
        _example("malformed", schemas.MALFORMED, _malformed(names)),
        *(_example(f"change-{action}", schemas.CHANGE, change_message(_change(action, number, event.message_id), exchange=names.changes))
          for number, action in enumerate(get_args(Action), 1)),
        _example("dead-letter", schemas.DEAD_LETTER, _dead_letter(event, names)),
        _example("broker-dead-letter", schemas.BROKER_DEAD_LETTER, _broker_dead_letter(event, names)),
        _sent("sent", {"id": 1, "to": _ADDRESS}, names),
        _sent("sent-several", {"messages": [{"id": 1, "to": _ADDRESS}, {"id": "2", "to": "Bob <bob@example.org>"}]}, names),
    ]  # fmt: skip


def _example(name: str, kind: str, message: Message) -> Example:
    body = orjson.loads(message.body)
    return Example(name, kind, message.exchange, message.routing_key, properties_of(message), body)


def _event(name: str, names: Names) -> Message:
    """As the provider sends it; a complaint in the spelling of its Russian page, so that a reader sees both."""
    written = next(iter(events.other_spellings(name)), name)
    data = {"url": _URL} if name == events.CLICKED else {}
    body = orjson.dumps({"message": {"id": 1}, "event": {"name": written, "timestamp": _AT, "data": data}})
    return event_message(parse(body), body, exchange=names.events, received_at=_RECEIVED_AT)


def _malformed(names: Names) -> Message:
    body = orjson.dumps({"message": {"id": None}, "event": {"name": events.OPENED, "timestamp": _AT}})
    try:
        parse(body)
    except MalformedError as error:
        return malformed_message(body, str(error), exchange=names.events, received_at=_RECEIVED_AT)
    raise AssertionError("the example of a malformed body is an event")


def _change(action: Action, number: int, event_id: str) -> Change:
    """What a worker (added, updated, expired) or a person (the others) has done."""
    by_worker, by_event = action in {"added", "updated", "expired"}, action in {"added", "updated"}
    of_allow_list = action in {"allowed", "disallowed"}
    reason = None if of_allow_list or action == "erased" else Reason.HARD_BOUNCE
    return Change(
        id=number,
        at=_AT + number,
        action=action,
        address=_KEY.hash(_ADDRESS) if action == "erased" else _ADDRESS,
        reason=reason,
        actor="worker" if by_worker else "alice",
        note="" if by_worker else "she asked for it",
        event_id=event_id if by_event else None,
        message_id="1" if by_event or action in {"removed", "expired"} else None,
        evidence=None,
        published_at=None,
        reasons=(Reason.HARD_BOUNCE,) if by_event or action == "erased" else (),
    )


def _dead_letter(event: Message, names: Names) -> Message:
    history = RetryHistory(
        attempt=4,
        first_failure=_RECEIVED_AT + 100,
        error="the provider knows no message 1",
        where=f"{PROVIDER}@worker-1",
        reason=UNKNOWN_MESSAGE,
        same_since=_RECEIVED_AT + 100,
    )
    return dead_letter_message(
        event.properties,
        event.body,
        DeadLetterCause(UNKNOWN_MESSAGE, history),
        queue=names.dead,
        at=_RECEIVED_AT + 3_930_100,
    )


def _broker_dead_letter(event: Message, names: Names) -> Message:
    """RabbitMQ makes these; the headers are those that 3.10 and 4.0 were seen to write."""
    queue = f"{names.prefix}{SUBSCRIBER}"
    death = {
        "queue": queue,
        "reason": "rejected",
        "count": 1,
        "exchange": event.exchange,
        "routing-keys": [event.routing_key],
        "time": datetime.fromtimestamp(_AT + 60, UTC),
    }
    headers = {
        **decode_properties(event.properties).headers,
        "x-death": [death],
        "x-first-death-exchange": event.exchange,
        "x-first-death-queue": queue,
        "x-first-death-reason": "rejected",
    }
    properties = spec.Basic.Properties(**decode_properties(event.properties).values, headers=headers)
    return make_message("", f"{queue}.dead", properties, event.body)


def _sent(name: str, body: dict[str, Any], names: Names) -> Example:
    properties = {"content_type": "application/json", "delivery_mode": 2, "headers": {}}
    return Example(name, schemas.SENT, names.messages, SENT_KEY, properties, body)
