"""The JSON Schemas of the contract: bodies, properties and headers of every message that other services get or send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge import events
from bridge.broker import change_messages, messages
from bridge.contract import header_schemas, meanings
from bridge.contract.vocabulary import (
    EVENT_ID,
    always,
    an_object,
    document,
    moment,
    open_list,
    reference,
    text,
    whole_number,
)
from bridge.suppression import announcements

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.contract.vocabulary import Schema

EVENT: Final = "event"
MALFORMED: Final = "malformed"
CHANGE: Final = "change"
DEAD_LETTER: Final = "dead-letter"
BROKER_DEAD_LETTER: Final = "broker-dead-letter"
SENT: Final = "sent"
SENT_MESSAGE: Final = "sent-message"
RETRY: Final = "retry"
KINDS: Final = (EVENT, MALFORMED, CHANGE, DEAD_LETTER, BROKER_DEAD_LETTER, SENT)
"""Each has a schema of its body under this name, one of its properties (`event-properties`) and one of its headers."""

MAX_ROUTING_KEY: Final = events.MAX_NAME_BYTES


def properties_of(kind: str) -> str:
    """The name of the schema of the properties of this kind."""
    return f"{kind}-properties"


def headers_of(kind: str) -> str:
    """The name of the schema of the headers of this kind."""
    return f"{kind}-headers"


def schemas() -> dict[str, Schema]:
    """All schemas by name, which is also the name of the file, `event.json`."""
    found = {EVENT: _event(), MALFORMED: _malformed(), CHANGE: _change()}
    found |= {DEAD_LETTER: _dead_letter(), BROKER_DEAD_LETTER: _broker_dead_letter()}
    found |= {SENT: _sent(), SENT_MESSAGE: _sent_message()}
    found |= {properties_of(kind): schema for kind, schema in _properties().items()}
    found |= {headers_of(kind): schema for kind, schema in _headers().items()}
    return {name: document(name, *found[name]) for name in sorted(found)}


def _event() -> tuple[str, Schema]:
    """What `events.parse` accepts. That a consumer must bear more than the provider documents is the point."""
    message = an_object(
        "The message that the event is about.",
        {
            "id": {
                "type": ["integer", "string"],
                "minLength": 1,
                "maxLength": events.MAX_MESSAGE_ID_CHARACTERS,
                "description": "the provider's id of the message. As text it is in the header `cloudEvents:subject`",
            }
        },
    )
    happened = an_object(
        "What happened.",
        {
            "name": text(
                "the name as the provider has written it. Read the property `type` instead, in which each event has one "
                "spelling: `complined` is `complained` there",
                minLength=1,
            ),
            "timestamp": {
                "type": ["number", "string"],
                "description": "when it happened, as the provider has written it: in Unix seconds, as documented, and at "
                "times in milliseconds, as text or in RFC 3339. Read the property `timestamp` instead",
            },
            "data": {
                "description": "more about the event. Of `clicked`: an object with `url`, the link. Of others it may be "
                "an empty object, null or absent, and anything else"
            },
        },
        optional=("data",),
    )
    return "Event", an_object(
        "What the provider has sent, byte for byte. There may be more fields than these.",
        {"message": message, "event": happened},
    )


def _malformed() -> tuple[str, Schema]:
    return "Malformed body", {
        "description": "What could not be read as an event, byte for byte. Mostly JSON, though not always: do not rely on "
        "anything.",
    }


def _change() -> tuple[str, Schema]:
    of_no_event = "no event has made the change: a person did, or time"
    return "Change of the suppression list", an_object(
        "What has changed on the suppression list.",
        {
            "id": whole_number("the change's id. A later change has a greater one", minimum=1),
            "action": open_list("what was done", meanings.ACTIONS),
            "address": text(
                "the e-mail address in its normal form, with the domain in lower case and in IDNA. Of the allow-list, the "
                "address or domain of the rule. Where the list keeps hashes, the hash",
                minLength=1,
            ),
            "reason": open_list("why the address is on the list", meanings.REASONS, null="of the allow-list"),
            "at": moment("when the list was changed"),
            "actor": text("who has changed the list: `worker`, or a person or program by name"),
            "note": text("why; may be empty"),
            "event_id": _or_null(
                "the id of the event that has made the change, as in its `message_id`", of_no_event
            ),
            "message_id": _or_null("the provider's id of the message of that event", of_no_event),
            "still_suppressed": {
                "type": "boolean",
                "description": "whether the address must not be written to after this change, for whatever reason",
            },
            "reasons": {
                "type": "array",
                "description": "for which reasons it must not be",
                "items": open_list("a reason", meanings.REASONS),
            },
        },
        optional=("still_suppressed", "reasons"),
    )


def _or_null(description: str, null: str) -> Schema:
    return {"type": ["string", "null"], "description": f"{description}; null: {null}"}


def _dead_letter() -> tuple[str, Schema]:
    return "Body of a dead letter", {
        "description": "The body of the message as it was: of an event, mostly. A dead letter for the reason `malformed` has "
        "a body that could not be read.",
    }


def _broker_dead_letter() -> tuple[str, Schema]:
    return "Body of a message that RabbitMQ has dead-lettered", {
        "description": "The body of the message as it was: of an event, of a change, or malformed. The property `type` says "
        "which."
    }


def _sent() -> tuple[str, Schema]:
    one, several = reference(SENT_MESSAGE), announcements.MAX_MESSAGES
    return "Messages that were sent", {
        "type": "object",
        "description": "Which message went to which address, said by who has sent it: one message, or up to "
        f"{several:,} of them.",
        "anyOf": [
            an_object(
                "Several messages.",
                {
                    "messages": {
                        "type": "array",
                        "items": one,
                        "minItems": 1,
                        "maxItems": several,
                        "description": "each with its address",
                    }
                },
            ),
            one,
        ],
    }


def _sent_message() -> tuple[str, Schema]:
    return "Message that was sent", an_object(
        "One message and its address.",
        {
            "id": {
                "type": ["integer", "string"],
                "minLength": 1,
                "maxLength": events.MAX_MESSAGE_ID_CHARACTERS,
                "description": "the provider's id of the message",
            },
            "to": text("the one address that it went to; `Jane <jane@example.org>` is one, too", minLength=3),
        },
    )


def _properties() -> Mapping[str, tuple[str, Schema]]:
    event_id = text(
        "the event id: the same however often the event comes, and however it is written", pattern=EVENT_ID
    )
    as_it_was = "; of the message as it was"
    of_a_copy = {
        "content_type": text(f"the format of the body{as_it_was}"),
        "delivery_mode": always(messages.PERSISTENT, "persistent"),
        "message_id": text("the event id, or that of the change; a repeat has the same one", minLength=1),
        "timestamp": _timestamp(f"when it happened{as_it_was}"),
        "type": _type(f"the name of the event, or the action of the change{as_it_was}"),
        "app_id": text(f"who has published it first{as_it_was}: `{messages.APP_ID}`"),
    }
    not_always = ("content_type", "timestamp", "type", "app_id")
    return {
        EVENT: _all(
            EVENT, event_id, "when it happened, by the provider's clock", "the canonical name of the event; also the routing key"
        ),
        MALFORMED: _all(
            MALFORMED,
            text("the hash of the body", pattern=EVENT_ID),
            "when it came in",
            always(events.MALFORMED, "it is no event; also the routing key"),
            "what an event is written in; the body may be something else",
        ),
        CHANGE: _all(
            CHANGE,
            text(
                f"`{change_messages.CHANGE_ID_PREFIX}` and the id of the change",
                pattern=f"^{change_messages.CHANGE_ID_PREFIX}[1-9][0-9]*$",
            ),
            "when the list was changed",
            "the action, as in the body; also the routing key",
        ),
        DEAD_LETTER: ("Properties of a dead letter", _with_headers(DEAD_LETTER, of_a_copy, not_always)),
        BROKER_DEAD_LETTER: (
            "Properties of a message that RabbitMQ has dead-lettered",
            _with_headers(BROKER_DEAD_LETTER, of_a_copy | {"delivery_mode": whole_number("persistent: 2")}, not_always),
        ),
        SENT: (
            "Properties of an announcement",
            _with_headers(
                SENT,
                {
                    "content_type": text(f"the format of the body; best `{messages.CONTENT_TYPE}`"),
                    "delivery_mode": whole_number("best 2: persistent"),
                },
                ("content_type", "delivery_mode", "headers"),
            ),
        ),
    }  # fmt: skip


def _headers() -> Mapping[str, tuple[str, Schema]]:
    return {
        EVENT: header_schemas.event(),
        MALFORMED: header_schemas.malformed(),
        CHANGE: header_schemas.change(),
        RETRY: header_schemas.retry(),
        DEAD_LETTER: header_schemas.dead_letter(),
        BROKER_DEAD_LETTER: header_schemas.broker_dead_letter(),
        SENT: header_schemas.sent(),
    }


def _all(
    kind: str, message_id: Schema, happened: str, kind_of: str | Schema, body: str = "the body is JSON"
) -> tuple[str, Schema]:
    """What the bridge publishes has all of these properties."""
    return f"Properties of {_ARTICLES[kind]}", _with_headers(
        kind,
        {
            "content_type": always(messages.CONTENT_TYPE, body),
            "delivery_mode": always(messages.PERSISTENT, "persistent"),
            "message_id": message_id,
            "timestamp": _timestamp(happened),
            "type": _type(kind_of) if isinstance(kind_of, str) else kind_of,
            "app_id": always(messages.APP_ID, "who has published it"),
        },
    )


_ARTICLES: Final = {EVENT: "an event", MALFORMED: "a malformed body", CHANGE: "a change"}


def _timestamp(description: str) -> Schema:
    return whole_number(f"{description}, in Unix seconds", minimum=0, maximum=events.MAX_TIMESTAMP)


def _type(description: str) -> Schema:
    return text(description, minLength=1, maxLength=MAX_ROUTING_KEY)


def _with_headers(kind: str, properties: dict[str, Any], optional: tuple[str, ...] = ()) -> Schema:
    return an_object(
        "The properties of AMQP 0-9-1, under the names that RabbitMQ's management plugin gives them.",
        properties | {"headers": reference(headers_of(kind))},
        optional=optional,
    )
