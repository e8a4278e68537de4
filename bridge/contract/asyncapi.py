"""The AsyncAPI document: exchanges, queues, routing keys and messages, with the bindings of AMQP 0-9-1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from bridge.contract import messages, schemas
from bridge.contract.channels import channels
from bridge.contract.messages import BINDING_VERSION
from bridge.contract.version import CONTRACT_VERSION

if TYPE_CHECKING:
    from bridge.broker.topology import Names
    from bridge.contract.channels import Channel

PREFIX: Final = "x-rabbitmq-prefix"
"""What is in front of all names of exchanges and queues in this document: the setting `rabbitmq.prefix`."""
_ABOUT: Final = """\
What other services get from the bridge over RabbitMQ, and what they may send to it.

A service reads from a queue of its own, which `[[subscribers]]` or `bridge subscribers add` makes: `{queue}`, with the events \
and changes that it asks for, and its own dead letters in `{queue}.dead`.

Everything comes at least once, in any order. A repeat has the same `message_id`: a consumer drops what it has had. It ignores \
fields, headers, names and actions that it does not know, since new ones do not make a new major version of this contract.

Events and changes are CloudEvents 1.0 in the binary mode of the AMQP binding: `id`, `source`, `type`, `subject`, `time` and \
`specversion` are headers with `cloudEvents:` in front, and `datacontenttype` is the property `content_type`.

`operations` are the bridge's: what it sends, you receive. The properties of each message beside its headers are under \
`x-amqp-properties`."""
_AREAS: Final = (
    ("events", "What the provider says happened to a message."),
    ("suppression list", "What changes on the suppression list."),
    ("dead letters", "What could not be handled, by the worker or by a subscriber."),
    ("announcements", "What senders tell the bridge."),
)


def asyncapi(names: Names) -> dict[str, Any]:
    """The document, complete in itself. Args: the names of exchanges and queues, with the prefix of an installation."""
    found = channels(names)
    return {
        "asyncapi": "3.0.0",
        "id": "urn:bridge:contract",
        "info": {
            "title": "The bridge's messages",
            "version": CONTRACT_VERSION,
            "description": _ABOUT,
            "license": {"name": "MIT"},
            "contact": {"name": "The developers of the bridge"},
            "tags": [{"name": name, "description": description} for name, description in _AREAS],
        },
        "defaultContentType": "application/json",
        PREFIX: names.prefix,
        "servers": {
            "rabbitmq": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "protocolVersion": "0-9-1",
                "description": "RabbitMQ 3.10 or newer. RabbitMQ 4 speaks AMQP 1.0 on the same port: there the headers are "
                "application properties.",
            }
        },
        "channels": {channel.id: _channel(channel) for channel in found},
        "operations": {channel.operation: _operation(channel) for channel in found},
        "components": {
            "messages": messages.messages(names),
            "schemas": {name: _inline(schema) for name, schema in schemas.schemas().items()},
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    found: dict[str, Any] = {
        "address": channel.address,
        "title": channel.title,
        "description": channel.description,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in channel.messages},
        "bindings": {"amqp": {**channel.binding, "bindingVersion": BINDING_VERSION}},
        "tags": [{"name": channel.area}],
    }
    if channel.parameters:
        found["parameters"] = {
            name: {"description": description} for name, description in channel.parameters.items()
        }
    return found


def _operation(channel: Channel) -> dict[str, Any]:
    there = f"#/channels/{channel.id}"
    return {
        "action": channel.action,
        "channel": {"$ref": there},
        "title": channel.title,
        "summary": channel.summary,
        "messages": [{"$ref": f"{there}/messages/{name}"} for name in channel.messages],
        "bindings": {"amqp": {**channel.operation_binding, "bindingVersion": BINDING_VERSION}},
        "tags": [{"name": channel.area}],
    }


def _inline(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as a part of this document."""
    return {name: _repointed(value) for name, value in schema.items() if name not in {"$schema", "$id"}}


def _repointed(value: Any) -> Any:
    """The same with references to the parts of this document."""
    if isinstance(value, list):
        return [_repointed(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        name: f"#/components/schemas/{inner.removesuffix('.json')}" if name == "$ref" else _repointed(inner)
        for name, inner in value.items()
    }
