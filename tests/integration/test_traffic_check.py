"""The check of the run's own traffic: what RabbitMQ is given is seen, and what breaks the contract is named and fails the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from pamqp import commands as spec

from bridge.amqp.message_types import Delivery
from bridge.amqp.properties import decode_properties
from bridge.testing import change, dead_letter, event, malformed
from tests.support.eventually import eventually
from tests.support.firehose import Firehose
from tests.support.traffic import FORGED_HEADER, Traffic
from tests.support.traffic_check import TrafficCheck

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

    from bridge.amqp.message_types import Message
    from tests.support.rabbit import Rabbit

pytestmark = pytest.mark.quick

LATER = 2**32 + 5
"""Unix seconds: in the year 2106."""


async def seen(rabbit: Rabbit, url: str, *published: Message, **forged: Any) -> Traffic:
    """What a check of its own says of these messages; the run's does not look at them.

    Args:
        rabbit: where they are published.
        url: of the same node.
        published: the messages.
        forged: properties that they get.
    """
    traffic = Traffic(way_out="no header at all")

    def take(traced: Delivery) -> None:
        if rabbit.names.prefix.encode() in traced.properties:  # other tests run beside this one
            traffic.take(traced)

    firehose = Firehose(url, take, traffic.used)
    firehose.open()
    async with rabbit.channel() as channel:
        for name in (rabbit.names.events, rabbit.names.changes):
            await channel.declare_exchange(name, "topic", durable=True)
        underlay = await channel.get_underlay_channel()
        for message in published:
            properties: spec.Basic.Properties = decode_properties(message.properties).to_pamqp()
            for name, value in forged.items():
                setattr(properties, name, value)
            properties.headers = {**(properties.headers or {}), FORGED_HEADER: "the traffic check's own test"}
            await underlay.basic_publish(
                message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
                properties=properties,
            )
    # The firehose's own end waits for what is in its queue, and a moment for what is on the way.
    await eventually(lambda: traffic.counts["all"] == len(published))
    firehose.close()
    return traffic


async def test_what_the_bridge_publishes_holds_to_the_contract(rabbit: Rabbit, amqp_url: str) -> None:
    """Every kind of message, wherever it goes; whoever else publishes is not asked."""
    prefix = rabbit.names.prefix
    made = [event("opened", prefix=prefix), event("complained", prefix=prefix), malformed(prefix=prefix)]
    made += [change("removed", prefix=prefix), dead_letter(prefix=prefix)]
    traffic = await seen(rabbit, amqp_url, *(one.published for one in made))
    assert traffic.mismatches == []
    assert traffic.counts["bridge"] == traffic.counts["all"] == 5
    assert traffic.counts["us"] > 0
    others = await seen(rabbit, amqp_url, made[0].published._replace(body=b"?"), app_id="somebody")
    assert (others.counts["all"], others.counts["bridge"], others.mismatches) == (1, 0, [])


async def test_what_breaks_the_contract_is_named_with_its_place(rabbit: Rabbit, amqp_url: str) -> None:
    """In a body, a property, a header, the routing key: exchange, key, headers, body, and the schema's place."""
    one = event("opened", prefix=rabbit.names.prefix).published
    body = b'{"event":{"name":"opened","timestamp":1}}'
    (said,) = (await seen(rabbit, amqp_url, one._replace(body=body))).mismatches
    assert f"exchange '{rabbit.names.events}', routing key 'opened'" in said
    assert "event: 'message' is a required property" in said
    assert "'cloudEvents:subject': '1'" in said
    assert f"body: {body!r}" in said
    (said,) = (await seen(rabbit, amqp_url, one, message_id="an-id")).mismatches
    assert "event-properties['message_id']: 'an-id' does not match" in said
    (said,) = (await seen(rabbit, amqp_url, one, headers={})).mismatches
    assert "'cloudEvents:id' is a required property" in said
    (said,) = (await seen(rabbit, amqp_url, one._replace(routing_key="closed"))).mismatches
    assert "type is 'opened', the routing key 'closed'" in said


@pytest.mark.parametrize(("low_bits", "breaks"), [(5, False), (-95, True)])
def test_a_time_that_the_firehose_cuts_off_is_known_from_the_header(
    low_bits: int,
    breaks: bool,  # noqa: FBT001 -- a parameter of a test
) -> None:
    """It writes 32 bits of the timestamp. Those of another time than the header's are left as they are."""
    late = event("opened", at=LATER)
    properties = dict(late.properties) | {"timestamp": low_bits, "headers": dict(late.headers)}
    properties["type"] = properties.pop("message_type")
    about: dict[str, Any] = {
        "exchange_name": "email.events",
        "routing_keys": ["opened"],
        "properties": properties,
    }
    traffic = Traffic()
    encoded = spec.Basic.Properties(headers=about).marshal()
    traffic.take(
        Delivery(1, redelivered=False, exchange="", routing_key="", properties=encoded, body=late.body)
    )
    assert traffic.counts["bridge"] == 1
    assert bool(traffic.mismatches) is breaks


@pytest.mark.parametrize("mismatches", [[], ["exchange 't0123456789ab.email.events', routing key 'opened'"]])
def test_a_mismatch_fails_the_run(pytestconfig: pytest.Config, mismatches: list[str]) -> None:
    """Whichever process of the tests has seen it."""
    check = TrafficCheck(cast("pytest.Config", SimpleNamespace(stash=pytestconfig.stash)))  # not a worker's
    output = {"traffic_counts": {"bridge": 3}, "traffic_mismatches": mismatches}
    check.pytest_testnodedown(cast("WorkerController", SimpleNamespace(workeroutput=output)))
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    check.pytest_sessionfinish(cast("pytest.Session", session))
    assert session.exitstatus == (pytest.ExitCode.TESTS_FAILED if mismatches else pytest.ExitCode.OK)
