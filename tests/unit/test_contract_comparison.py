"""The rule: what may change in the contract without a new version passes, and what breaks somebody is named with its place."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from bridge.broker.topology import Names
from bridge.contract import comparison
from bridge.contract.exported import Contract

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = Contract.of_this_bridge(Names())


def changed(change: Callable[[Any], object]) -> Contract:
    """Our contract after a change. `change` gets the documents: `schemas` by name, and `asyncapi`."""
    documents = copy.deepcopy({"asyncapi": OURS.asyncapi, "schemas": OURS.schemas})
    change(documents)
    return Contract(**documents)


def at(path: str) -> Callable[[Any], tuple[Any, str]]:
    def found(documents: Any) -> tuple[Any, str]:
        *steps, last = path.split("/")
        for step in steps:
            documents = documents[int(step)] if isinstance(documents, list) else documents[step]
        return documents, last

    return found


def removed(path: str) -> Callable[[Any], object]:
    def change(documents: Any) -> None:
        there, last = at(path)(documents)
        if isinstance(there, list):
            there.remove(last)
        else:
            del there[last]

    return change


def put(path: str, value: Any) -> Callable[[Any], object]:
    def change(documents: Any) -> None:
        there, last = at(path)(documents)
        if isinstance(there, list):
            there.append(value)
        else:
            there[last] = value

    return change


CHANGE = "schemas/change/properties"
AMQP = "bindings/amqp"
ACTION = {"const": "merged", "description": "new"}
BREAKING = {
    "a field is removed": (removed(f"{CHANGE}/actor"), "schemas/change.json.actor"),
    "a field need not be there any more": (removed("schemas/change/required/address"), "schemas/change.json.address"),
    "a field has another type": (put(f"{CHANGE}/id/type", "string"), "schemas/change.json.id: type"),
    "a field has one type more": (put(f"{CHANGE}/note/type", ["string", "null"]), "schemas/change.json.note: type"),
    "a field has no limit any more": (removed(f"{CHANGE}/id/minimum"), "schemas/change.json.id: minimum"),
    "a time is written otherwise": (put(f"{CHANGE}/at/pattern", "^.*$"), "schemas/change.json.at: pattern"),
    "an action is removed": (lambda all_: all_["schemas"]["change"]["properties"]["action"]["anyOf"].pop(0), "'added' was removed"),
    "a reason in a list is removed": (
        lambda all_: all_["schemas"]["change"]["properties"]["reasons"]["items"]["anyOf"].pop(1), "change.json.reasons[]: 'complaint'"),
    "a keyword may be null": (put(f"{CHANGE}/action/anyOf/9", {"type": "null"}), "schemas/change.json.action"),
    "a nested field is removed": (removed("schemas/event/properties/event/properties/timestamp"), "event.json.event.timestamp"),
    "a header is removed": (removed("schemas/event-headers/properties/received-at"), "event-headers.json.received-at"),
    "a header need not be there": (removed("schemas/change-headers/required/cloudEvents:id"), "change-headers.json.cloudEvents:id"),
    "a header has another value": (
        put("schemas/event-headers/properties/cloudEvents:source/const", "/webhooks/other"), "event-headers.json.cloudEvents:source"),
    "a property has another value": (put("schemas/event-properties/properties/app_id/const", "msndr"), "event-properties.json.app_id"),
    "a property is removed": (removed("schemas/event-properties/properties/message_id"), "event-properties.json.message_id"),
    "an id has another form": (put("schemas/event-properties/properties/message_id/pattern", "^[0-9]+$"), "message_id: pattern"),
    "a schema is removed": (removed("schemas/dead-letter"), "schemas/dead-letter.json: it was removed"),
    "a schema has another id": (put("schemas/event/$id", "urn:other"), "schemas/event.json: $id"),
    "an unknown keyword appears": (put("schemas/event/not", {"required": ["x"]}), "schemas/event.json: not"),
    "a sender must say more": (put("schemas/sent-message/required/-", "at"), "sent-message.json.at: it is required"),
    "a sender may say less": (put("schemas/sent-message/properties/id/maxLength", 64), "sent-message.json.id: maxLength"),
    "a sender may not write numbers": (put("schemas/sent-message/properties/id/type", "string"), "sent-message.json.id: type"),
    "fewer messages at once": (put("schemas/sent/anyOf/0/properties/messages/maxItems", 100), "schemas/sent.json"),
    "one message alone is refused": (lambda all_: all_["schemas"]["sent"]["anyOf"].pop(), "schemas/sent.json"),
    "a sender must set a property": (put("schemas/sent-properties/required", ["content_type"]), "sent-properties.json.content_type"),
    "an event name is removed": (removed("asyncapi/components/messages/event-clicked"), "messages.event-clicked: it was removed"),
    "a routing key is removed": (removed("asyncapi/channels/event-complined"), "channels.event-complined: it was removed"),
    "a routing key is another": (put("asyncapi/channels/event-opened/address", "open"), "channels.event-opened.address"),
    "an exchange is another": (
        put(f"asyncapi/channels/change-added/{AMQP}/exchange/name", "list.changes"), "channels.change-added.bindings.amqp.exchange.name"),
    "an exchange has another type": (
        put(f"asyncapi/channels/event-opened/{AMQP}/exchange/type", "direct"), "channels.event-opened.bindings.amqp.exchange.type"),
    "a queue is another": (put(f"asyncapi/channels/archive/{AMQP}/queue/name", "events"), "channels.archive.bindings.amqp.queue.name"),
    "a queue is exclusive": (put(f"asyncapi/channels/archive/{AMQP}/queue/exclusive", True), "bindings.amqp.queue.exclusive"),  # noqa: FBT003 -- JSON
    "a queue gets a host of its own": (
        put(f"asyncapi/channels/archive/{AMQP}/queue/vhost", "/other"), "channels.archive.bindings.amqp.queue.vhost: it was added"),
    "the other spelling is no key any more": (
        put(f"asyncapi/operations/send-event-complained/{AMQP}/cc", []), "operations.send-event-complained.bindings.amqp.cc"),
    "the bridge receives what it sent": (put("asyncapi/operations/send-event-opened/action", "receive"), "send-event-opened.action"),
    "a queue has one message less": (removed("asyncapi/channels/subscriber/messages/malformed"), "channels.subscriber.messages.malformed"),
    "an event has another type": (put(f"asyncapi/components/messages/event-opened/{AMQP}/messageType", "open"), "event-opened.bindings"),
    "a body has another schema": (
        put("asyncapi/components/messages/change-added/payload/$ref", "#/components/schemas/event"), "messages.change-added.payload"),
    "a body has another format": (put("asyncapi/components/messages/sent/contentType", "text/csv"), "messages.sent.contentType"),
    "the version goes back": (put("asyncapi/info/version", "0.9.0"), "info.version"),
}  # fmt: skip
ALLOWED = {
    "a new optional field": put(f"{CHANGE}/expires_at", {"type": ["string", "null"]}),
    "a new field that is always there": lambda all_: (
        all_["schemas"]["change"]["properties"].update(list={"type": "string"}), all_["schemas"]["change"]["required"].append("list")),
    "a field that is always there now": put("schemas/change/required/-", "reasons"),
    "a new action": lambda all_: all_["schemas"]["change"]["properties"]["action"]["anyOf"].insert(0, ACTION),
    "a new reason": lambda all_: all_["schemas"]["change"]["properties"]["reasons"]["items"]["anyOf"].insert(0, ACTION),
    "a new header": put("schemas/event-headers/properties/tenant", {"type": "string"}),
    "a new property": put("schemas/event-properties/properties/correlation_id", {"type": "string"}),
    "a narrower limit of what is sent": put(f"{CHANGE}/note/maxLength", 1000),
    "a wider limit of what is accepted": put("schemas/sent/anyOf/0/properties/messages/maxItems", 20_000),
    "a new optional field that is accepted": put("schemas/sent-message/properties/at", {"type": "string"}),
    "something more is accepted": lambda all_: all_["schemas"]["sent"]["anyOf"].append({"type": "object", "required": ["file"]}),
    "a sender need not say something": removed("schemas/sent-message/required/to"),
    "a new schema": put("schemas/digest", {"$id": "x", "type": "object"}),
    "a new event": put("asyncapi/components/messages/event-forwarded", {"name": "forwarded"}),
    "a new routing key": put("asyncapi/channels/event-forwarded", {"address": "forwarded", "messages": {}}),
    "a new message in a queue": put("asyncapi/channels/subscriber/messages/event-forwarded", {"$ref": "#/x"}),
    "other words": lambda all_: (
        all_["schemas"]["change"].update(title="Other", description="Other"), all_["asyncapi"]["info"].update(description="Other"),
        all_["asyncapi"]["channels"]["archive"].update(title="Other", description="Other")),
    "other examples": put("asyncapi/components/messages/event-opened/examples", []),
    "a new minor version": put("asyncapi/info/version", "1.1.0"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "place"), BREAKING.values(), ids=BREAKING)
def test_what_breaks_somebody_is_named_with_its_place(change: Callable[[Any], object], place: str) -> None:
    """Whoever was written for the old contract would fail there."""
    problems = comparison.breaks_the_rule(OURS, changed(change))
    assert any(place in problem for problem in problems), problems


@pytest.mark.parametrize("change", ALLOWED.values(), ids=ALLOWED)
def test_what_breaks_nobody_passes(change: Callable[[Any], object]) -> None:
    """New fields, names and headers need no new version: consumers ignore what they do not know."""
    assert comparison.breaking_changes(OURS, changed(change)) == []


@pytest.mark.parametrize("change", [change for change, place in BREAKING.values() if place != "info.version"])
def test_a_new_major_version_may_break(change: Callable[[Any], object]) -> None:
    """It still says what."""
    new = changed(change)
    new = replace(new, asyncapi={**new.asyncapi, "info": new.asyncapi["info"] | {"version": "2.0.0"}})
    assert comparison.breaking_changes(OURS, new)
    assert comparison.breaks_the_rule(OURS, new) == []


def test_the_other_way_round_is_another_question() -> None:
    """A field that is new for one is removed for the other."""
    new = changed(put(f"{CHANGE}/expires_at", {"type": "string"}))
    assert comparison.breaking_changes(OURS, new) == []
    assert comparison.breaking_changes(new, OURS) == ["schemas/change.json.expires_at: it was removed"]


def test_a_contract_keeps_itself() -> None:
    """And so does another installation's, but for the prefix."""
    assert comparison.breaking_changes(OURS, OURS) == []
    assert comparison.breaking_changes(OURS, Contract.of_this_bridge(Names("staging.")))
