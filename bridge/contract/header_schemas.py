"""The JSON Schemas of the headers, each with its title: CloudEvents attributes, and the bridge's and RabbitMQ's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bridge import events
from bridge.broker import change_messages, messages
from bridge.broker.forwarded_properties import LEFT_OUT_HEADER, RAW_HEADER
from bridge.contract import meanings
from bridge.contract.vocabulary import (
    EVENT_ID,
    always,
    an_object,
    moment,
    open_list,
    text,
    unix_ms,
    whole_number,
)
from bridge.dead_letters import failure_reasons, history
from bridge.telemetry.trace_context import TRACEPARENT, TRACESTATE

if TYPE_CHECKING:
    from bridge.contract.vocabulary import Schema


_TRACE: Final[dict[str, Schema]] = {
    TRACEPARENT: text(
        "the trace that it belongs to, as in HTTP: https://www.w3.org/TR/trace-context/. Only where the bridge records traces, "
        "and of few messages",
        pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
    ),
    TRACESTATE: text("beside `traceparent`, where the sender of the event has given one", minLength=1),
}


def event() -> tuple[str, Schema]:
    cloud_event = _cloud_event(
        text("the event id, as in `message_id`", pattern=EVENT_ID),
        always(messages.SOURCE, "where it came in"),
        text("the name of the event, as in `type`", minLength=1, maxLength=events.MAX_NAME_BYTES),
        text("the provider's id of the message, as text", minLength=1),
        "when it happened, as in `timestamp`",
    )
    return "Headers of an event", an_object(
        "CloudEvents attributes, and when the event came in.",
        cloud_event
        | {
            messages.RECEIVED_AT_HEADER: unix_ms("when it came in"),
            "CC": {
                "type": "array",
                "items": {"type": "string"},
                "description": "further routing keys: other spellings of the name. A queue that is bound to several of "
                "them gets the event once",
            },
        }
        | _TRACE,
        optional=("CC", *_TRACE),
    )


def change() -> tuple[str, Schema]:
    prefix = change_messages.CHANGE_ID_PREFIX
    return "Headers of a change", an_object(
        "CloudEvents attributes.",
        _cloud_event(
            text("as `message_id`", pattern=f"^{prefix}[1-9][0-9]*$"),
            always(change_messages.CHANGE_SOURCE, "the suppression list"),
            text(
                f"`{change_messages.CHANGE_TYPE_PREFIX}` and the action",
                pattern=f"^{change_messages.CHANGE_TYPE_PREFIX.replace('.', '[.]')}.+$",
            ),
            text("the address, as in the body", minLength=1),
            "when the list was changed, as in `timestamp`",
        )
        | _TRACE,
        optional=tuple(_TRACE),
    )


def _cloud_event(id_: Schema, source: Schema, type_: Schema, subject: Schema, time: str) -> dict[str, Schema]:
    """The attributes in the binary mode of the CloudEvents AMQP binding: https://cloudevents.io, version 1.0."""
    attributes = {
        "specversion": always(messages.SPEC_VERSION, "the version of CloudEvents"),
        "id": id_,
        "source": source,
        "type": type_,
        "subject": subject,
        "time": moment(time),
    }
    return {
        f"cloudEvents:{name}": schema | {"description": f"CloudEvents `{name}`: {schema['description']}"}
        for name, schema in attributes.items()
    }


def malformed() -> tuple[str, Schema]:
    return "Headers of a malformed body", an_object(
        "Why it is no event, and when it came in.",
        {
            messages.REASON_HEADER: text("why it is no event, in a line for people", minLength=1),
            messages.RECEIVED_AT_HEADER: unix_ms("when it came in"),
        }
        | _TRACE,
        optional=tuple(_TRACE),
    )


def retry() -> tuple[str, Schema]:
    return "Headers of a message that is tried again", an_object(
        "The failed attempts of the worker.", _history()
    )


def dead_letter() -> tuple[str, Schema]:
    _, of_events = event()
    # Of the message as it was: another program may have put it into the worker's queue.
    of_event = {
        name: {"type": schema["type"], "description": f"{schema['description']}; of the message as it was"}
        for name, schema in of_events["properties"].items()
        if name != "CC"
    }
    ours = {
        history.DEAD_REASON_HEADER: open_list(
            "why the message could not be handled", failure_reasons.REASONS
        ),
        history.DEAD_ERROR_HEADER: text("what went wrong, in a line for people"),
        history.DEAD_AT_HEADER: unix_ms("when it became a dead letter"),
    }
    left = {
        RAW_HEADER: {
            "description": "a byte array: all properties as they came, of a message that no library can decode"
        },
        LEFT_OUT_HEADER: whole_number(
            "how many headers were left out, because they do not fit into one frame", minimum=1
        ),
    }
    return "Headers of a dead letter", an_object(
        "Why the worker could not handle the message, and the headers that the message had.",
        _history() | ours | left | of_event,
        optional=(*left, *of_event),
    )


def _history() -> dict[str, Schema]:
    places = "|".join(failure_reasons.PLACES)
    return {
        history.RETRY_ATTEMPT_HEADER: whole_number("how many attempts have failed", minimum=1),
        history.RETRY_FIRST_FAILURE_HEADER: unix_ms("when the first attempt failed"),
        history.RETRY_ERROR_HEADER: text("the error of the last attempt, in a line for people"),
        history.RETRY_WHERE_HEADER: text(
            "where the last attempt failed, then `@` and the worker's host", pattern=f"^({places})@"
        ),
        history.RETRY_REASON_HEADER: open_list("why the last attempt failed", failure_reasons.REASONS),
        history.RETRY_SAME_SINCE_HEADER: unix_ms("since when each attempt has failed for this reason"),
    }


def broker_dead_letter() -> tuple[str, Schema]:
    why = open_list("why RabbitMQ has dead-lettered it", meanings.DEATHS)
    death = an_object(
        "From which queue, and why.",
        {
            "queue": text("the queue that it was in"),
            "reason": why,
            "count": whole_number("how often, from this queue and for this reason", minimum=1),
            "exchange": text("to which it was published; empty: to the queue"),
            "routing-keys": {
                "type": "array",
                "items": {"type": "string"},
                "description": "with which it was published",
            },
            "time": {"description": "when it was dead-lettered first: a timestamp of AMQP, in seconds"},
        },
    )
    return "Headers of a message that RabbitMQ has dead-lettered", an_object(
        "What RabbitMQ says of it, beside the headers that the message had. `x-first-death-…` are about the first time.",
        {
            "x-death": {"type": "array", "minItems": 1, "items": death, "description": "the latest first"},
            "x-first-death-queue": text("the queue that it was in"),
            "x-first-death-reason": why,
            "x-first-death-exchange": text("to which it was published; empty: to the queue"),
        },
    )


def sent() -> tuple[str, Schema]:
    return "Headers of an announcement", {"type": "object", "description": "No header is read."}
