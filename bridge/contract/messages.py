"""The messages of the AsyncAPI document: which body, headers and properties each has, with an example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge import events
from bridge.broker import change_messages
from bridge.contract import meanings, schemas
from bridge.contract.examples import examples

if TYPE_CHECKING:
    from bridge.broker.topology import Names
    from bridge.contract.examples import Example

EVENT_UNKNOWN: Final = "event-unknown"
CHANGE_UNKNOWN: Final = "change-unknown"
BINDING_VERSION: Final = "0.3.0"
"""Of the AMQP bindings: https://github.com/asyncapi/bindings/tree/master/amqp."""


def event_name(name: str) -> str:
    """The component of the event of this name."""
    return f"event-{name}"


def change_name(action: str) -> str:
    """The component of the change with this action."""
    return f"change-{action}"


def messages(names: Names) -> dict[str, dict[str, Any]]:
    """All messages by the names of their components."""
    by_name = {example.name: example for example in examples(names)}
    found: dict[str, dict[str, Any]] = {}
    for name, meaning in meanings.EVENTS.items():
        key = event_name(name)
        found[key] = _message(schemas.EVENT, name, f"Event {name}", meaning, by_name[key])
    found[EVENT_UNKNOWN] = _message(
        schemas.EVENT, "", "Event with another name", "An event that the provider does not document so far.",
        by_name[EVENT_UNKNOWN],
    )  # fmt: skip
    found[schemas.MALFORMED] = _message(
        schemas.MALFORMED, events.MALFORMED, "Malformed body", "A request that could not be read as an event.",
        by_name[schemas.MALFORMED],
    )  # fmt: skip
    for action, meaning in meanings.ACTIONS.items():
        key = change_name(action)
        found[key] = _message(schemas.CHANGE, action, f"Change {action}", meaning, by_name[key])
    found[CHANGE_UNKNOWN] = _message(
        schemas.CHANGE, "", "Change with another action", "A change that a later version of the bridge makes."
    )
    found[schemas.DEAD_LETTER] = _message(
        schemas.DEAD_LETTER, "", "Dead letter of the worker", "A message that the worker could not handle, with the reason.",
        by_name[schemas.DEAD_LETTER],
    )  # fmt: skip
    found[schemas.BROKER_DEAD_LETTER] = _message(
        schemas.BROKER_DEAD_LETTER, "", "Dead letter of RabbitMQ", "A message that RabbitMQ has dead-lettered.",
        by_name[schemas.BROKER_DEAD_LETTER],
    )  # fmt: skip
    found[schemas.SENT] = _message(
        schemas.SENT, "", "What was sent", "Which message went to which address.", by_name["sent"], by_name["sent-several"]
    )  # fmt: skip
    return found


def _message(kind: str, type_: str, title: str, summary: str, *shown: Example) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": type_ or kind,
        "title": title,
        "summary": summary,
        "contentType": "application/json",
        "headers": _headers(kind, type_),
        "payload": _schema(kind),
        "x-amqp-properties": _schema(schemas.properties_of(kind)),
    }
    if type_:
        found["bindings"] = {"amqp": {"messageType": type_, "bindingVersion": BINDING_VERSION}}
    if shown:
        found["examples"] = [
            {"name": one.name, "headers": one.properties["headers"], "payload": one.body} for one in shown
        ]
    return found


def _headers(kind: str, type_: str) -> dict[str, Any]:
    """Those of the kind; of a known event or action, with its `cloudEvents:type`."""
    of_kind = _schema(schemas.headers_of(kind))
    attribute = {
        schemas.EVENT: type_,
        schemas.CHANGE: f"{change_messages.CHANGE_TYPE_PREFIX}{type_}",
    }.get(kind)
    if not type_ or attribute is None:
        return {"type": "object", "allOf": [of_kind]}
    return {
        "type": "object",
        "allOf": [of_kind, {"properties": {"cloudEvents:type": {"type": "string", "const": attribute}}}],
    }


def _schema(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
