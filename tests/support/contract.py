"""Whether a message holds to the contract: it is compared with the schemas that other services get."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import jsonschema_rs
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from bridge import events
from bridge.broker.topology import Names
from bridge.contract import message_json, schemas

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.amqp.message_types import Message

NAMES: Final = Names()
BY_EXCHANGE: Final = (
    (NAMES.events, schemas.EVENT),
    (NAMES.changes, schemas.CHANGE),
    (NAMES.messages, schemas.SENT),
)
"""The end of an exchange's name, behind the prefix of the installation -> what is published to it."""
INTERNAL: Final = (NAMES.backfill,)
"""Queues with messages that are none of other services' business."""


@cache
def validator(name: str) -> Draft202012Validator:
    """Compares with the schema of this name."""
    documents = schemas.schemas()
    registry: Registry[Any] = Registry().with_resources(
        (one["$id"], Resource.from_contents(one)) for one in documents.values()
    )
    return Draft202012Validator(documents[name], registry=registry)


@cache
def quick_validator(name: str) -> jsonschema_rs.Draft202012Validator:
    """The same in 2 us: all the messages of a run are compared. What it finds the other one explains."""
    documents = schemas.schemas()
    registry = jsonschema_rs.Registry([(one["$id"], one) for one in documents.values()])
    return jsonschema_rs.Draft202012Validator(documents[name], registry=registry)


def mismatches(name: str, value: Any) -> list[str]:
    """What is wrong with a value by the schema of this name: a line each, with the place."""
    if quick_validator(name).is_valid(value):
        return []
    return [
        f"{name}{''.join(f'[{step!r}]' for step in error.absolute_path)}: {error.message}"
        for error in validator(name).iter_errors(value)
    ]


def problems_of(message: Message) -> list[str]:
    """What is wrong with a message that the bridge publishes."""
    return problems(message.exchange, message.routing_key, message_json.properties_of(message), message.body)


def problems(exchange: str, routing_key: str, properties: Mapping[str, Any], body: bytes) -> list[str]:
    """What is wrong with a message of the bridge; nothing if it holds to the contract.

    Args:
        exchange: to which it was published; the default exchange is `""`.
        routing_key: with which it was.
        properties: decoded, under RabbitMQ's names (`message_id`, `type`, ...), with `headers`.
        body: its bytes.
    """
    found = {name: message_json.plain(value) for name, value in properties.items() if value is not None}
    headers = found.setdefault("headers", {})
    kind = kind_of(exchange, routing_key, found)
    if kind is None:
        return []
    if kind == schemas.RETRY:
        return [
            *mismatches(schemas.headers_of(schemas.RETRY), headers),
            *mismatches(schemas.properties_of(schemas.EVENT), found),
        ]
    return [
        *mismatches(schemas.properties_of(kind), found),
        *_routing_problems(kind, exchange, routing_key, found),
        *_body_problems(kind, body),
    ]


def kind_of(exchange: str, routing_key: str, properties: Mapping[str, Any]) -> str | None:
    """Which of `schemas.KINDS` a message is, or a retry; None: it is none that other services get."""
    if not exchange:
        return _kind_in_queue(routing_key, properties)
    kind = next((kind for name, kind in BY_EXCHANGE if exchange.endswith(name)), None)
    return schemas.MALFORMED if kind == schemas.EVENT and routing_key == events.MALFORMED else kind


def _kind_in_queue(queue: str, properties: Mapping[str, Any]) -> str | None:
    """Of what is published, or dead-lettered, to one queue."""
    if queue.endswith(INTERNAL):
        return None
    if queue.endswith(".dead") and "x-death" in properties["headers"]:
        return schemas.BROKER_DEAD_LETTER
    if queue.endswith(NAMES.malformed) or properties.get("type") == events.MALFORMED:
        return schemas.MALFORMED
    if queue.endswith(NAMES.dead):
        return schemas.DEAD_LETTER
    delayed = queue.rpartition(".retry.")[0].endswith(NAMES.suppression)
    return schemas.RETRY if delayed else schemas.EVENT


def _routing_problems(
    kind: str, exchange: str, routing_key: str, properties: Mapping[str, Any]
) -> Iterator[str]:
    """The key is what the properties and headers say."""
    if kind not in {schemas.EVENT, schemas.CHANGE, schemas.MALFORMED} or not exchange:
        return
    named = properties.get("type")
    if named != routing_key:
        yield f"type is {named!r}, the routing key {routing_key!r}"
    headers = properties["headers"]
    for header, value in (("id", properties.get("message_id")), ("type", named)):
        given = headers.get(f"cloudEvents:{header}")
        if kind == schemas.EVENT and given != value:
            yield f"cloudEvents:{header} is {given!r}, not {value!r}"


def _body_problems(kind: str, body: bytes) -> list[str]:
    if kind in {schemas.MALFORMED, schemas.DEAD_LETTER, schemas.BROKER_DEAD_LETTER}:
        return []
    try:
        document = json.loads(body.decode("utf-8-sig"))
    except ValueError as error:
        return [f"{kind}: the body is no JSON: {error}"]
    return mismatches(kind, document)
