"""`bridge topology plan` and `apply --prune`: what is missing, what differs, what is left over; and what is nobody's business."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aio_pika
import aiohttp
import pytest
from yarl import URL

from bridge.broker.topology import Names
from tests.support.operating import TopologyOperator

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.managed import Managed

pytestmark = pytest.mark.quick

NAMES = Names()
CRM = '[{"queue": "crm", "events": ["opened"]}]'
QUORUM: dict[str, Any] = {"x-queue-type": "quorum"}
ANSWERS_NOTHING = "http://127.0.0.1:1"


@pytest.fixture
def operator(managed: Managed, tmp_path: Path, empty_list_file: Path) -> TopologyOperator:
    shutil.copy(empty_list_file, tmp_path / "list.sqlite3")
    return TopologyOperator(managed.url, managed.api, tmp_path)


async def test_a_blank_broker_lacks_everything_and_after_apply_nothing_differs(
    operator: TopologyOperator,
) -> None:
    """Exit code 2, then 0."""
    before = await operator.run("plan", subscribers=CRM)
    assert (before.code, before.stderr.splitlines()) == (
        2, ["`bridge topology apply` creates what is missing"]
    )  # fmt: skip
    lines = before.stdout.splitlines()
    assert "+ exchange email.events topic alternate-exchange=email.unrouted" in lines
    assert "+ binding email.events → crm opened" in lines
    assert lines[-1] == "24 to create, 0 to change, 0 to remove"
    assert (await operator.run("apply", subscribers=CRM)).code == 0
    after = await operator.run("plan", subscribers=CRM)
    assert (after.code, after.stderr) == (0, "")
    assert after.stdout == "nothing differs: 4 exchanges, 12 queues, 8 bindings exist as planned\n"


async def test_what_stands_with_other_arguments_is_shown_with_both_values(operator: TopologyOperator) -> None:
    """An argument that differs, one too many, one too few; and what it takes to change it."""
    async with operator.channel() as channel:
        await channel.declare_queue(NAMES.dead, durable=True, arguments=QUORUM | {"x-max-length": 5})
        await channel.declare_exchange(NAMES.changes, "fanout", durable=True)
        await channel.declare_queue("crm", durable=True)
    await operator.run("apply", subscribers=CRM)
    shown = await operator.run("plan", subscribers=CRM)
    assert (shown.code, shown.stderr.splitlines()) == (
        2, ["`bridge topology apply --migrate` moves a queue to its planned arguments"]
    )  # fmt: skip
    lines = shown.stdout.splitlines()
    assert "~ exchange suppression.changes type: fanout → topic" in lines
    limit = "x-delivery-limit: none → 2147483647"
    assert f"~ queue suppression.dead {limit}, x-max-length: 5 → none" in lines
    assert any(line.startswith("~ queue crm x-queue-type: classic → quorum") for line in lines)
    assert lines[-1] == "0 to create, 3 to change, 0 to remove"
    document = await operator.document("plan", subscribers=CRM)
    assert document["code"] == 2
    assert {one["name"]: one["differences"][0] for one in document["differs"]}["suppression.dead"] == {
        "argument": "x-delivery-limit", "stands": None, "wanted": 2147483647
    }  # fmt: skip


async def test_strays_are_what_the_bridge_has_left_over_and_never_what_a_team_made(
    operator: TopologyOperator,
) -> None:
    """A delay that is not set any more, a binding that the policy used, a subscriber that is gone with its dead letters."""
    await operator.run(
        "apply",
        subscribers=CRM,
        BRIDGE_WORKER__RETRY_DELAYS="7",
        BRIDGE_SUPPRESSION__EVENTS="hard_bounced,complained,unsubscribed",
    )
    async with operator.channel() as channel:
        theirs = await channel.declare_queue("billing", durable=True, arguments=QUORUM)
        await theirs.bind(NAMES.events, "clicked")
        await channel.declare_queue("crm.extra", durable=True)
        await channel.declare_exchange("their.exchange", "topic", durable=True)
    await operator.run("apply", BRIDGE_WORKER__RETRY_DELAYS="30")
    now = {"BRIDGE_WORKER__RETRY_DELAYS": "30"}
    shown = await operator.run("plan", **now)
    assert shown.code == 2
    assert [line for line in shown.stdout.splitlines() if line.startswith("-")] == [
        "- binding email.events → suppression unsubscribed",
        "- queue crm 0 messages, 0 consumers",
        "- queue crm.dead 0 messages, 0 consumers",
        "- queue suppression.retry.7s 0 messages, 0 consumers",
    ]
    pruned = await operator.document("apply", "--prune", "--yes", **now)
    assert (pruned["code"], [one["kept"] for one in pruned["pruned"]]) == (0, [None] * 4)
    assert (await operator.run("plan", **now)).code == 0
    async with operator.channel() as channel:
        for queue in ("billing", "crm.extra"):
            await channel.get_queue(queue)
        await channel.get_exchange("their.exchange")


async def test_prune_leaves_what_is_in_use_unless_it_is_told_so(operator: TopologyOperator) -> None:
    """And says why; nothing goes without a yes."""
    await operator.run("apply", subscribers=CRM)
    async with operator.channel() as channel:
        events = await channel.get_exchange(NAMES.events)
        await events.publish(aio_pika.Message(b"{}"), "opened")
    refused = await operator.run("apply", "--prune")
    assert refused.code == 1
    assert "- queue crm.dead" in refused.stdout
    kept = await operator.run("apply", "--prune", "--yes")
    assert (kept.code, kept.stderr) == (1, "bridge: not removed: crm, crm.dead\n")
    assert "queue crm.dead: kept: it goes with queue 'crm'" in kept.stdout
    assert (
        "queue crm: kept: it has 1 messages and 0 consumers: --with-messages deletes it with them"
        in kept.stdout
    )
    assert (await operator.run("apply", "--prune", "--yes", "--with-messages")).code == 0
    assert (await operator.run("plan")).code == 0
    async with operator.channel() as channel:
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
            await channel.get_queue("crm")


async def test_prune_names_what_only_the_management_api_can_delete_and_removes_bindings_with_arguments(
    operator: TopologyOperator, managed: Managed
) -> None:
    """AMQP's client sends names of ASCII only; the others are removed all the same."""
    await operator.run("apply")
    name = quote("email.\x1b[31mé", safe="")
    async with (
        aiohttp.ClientSession(
            headers={"Authorization": aiohttp.encode_basic_auth("guest", "guest")}
        ) as session,
        session.put(
            URL(f"{managed.api}/api/queues{URL(managed.url).path}/{name}", encoded=True),
            json={"durable": True},
        ) as answer,
    ):
        answer.raise_for_status()
    async with operator.channel() as channel:
        suppression = await channel.get_queue(NAMES.suppression)
        await suppression.bind(NAMES.events, "opened", arguments={"x": "1"})
        await channel.declare_queue("email.former", durable=True)
    pruned = await operator.run("apply", "--prune", "--yes")
    assert (pruned.code, pruned.stderr) == (1, "bridge: not removed: email.?[31mé\n")
    assert pruned.stdout.splitlines() == [
        "binding email.events → suppression opened: removed",
        "queue email.?[31mé: kept: the client of AMQP takes no such name: delete it on the pages of RabbitMQ's management API",
        "queue email.former: removed",
    ]
    left = await operator.run("plan")
    assert left.stdout.splitlines()[-1] == "0 to create, 0 to change, 1 to remove"


async def test_without_the_list_no_queue_counts_as_one_that_was_left_over(
    operator: TopologyOperator, tmp_path: Path
) -> None:
    """It may be one that was registered. So it cannot be told whether anything differs: exit code 1."""
    await operator.run("apply", subscribers=CRM)
    assert (await operator.run("plan")).code == 2
    (tmp_path / "list.sqlite3").unlink()
    shown = await operator.run("plan")
    assert shown.code == 1
    assert "subscribers that were added by `bridge subscribers add` are not known" in shown.stderr


async def test_without_the_management_api_plan_tells_what_it_can(operator: TopologyOperator) -> None:
    """What is missing or differs, exit code 2; if nothing does, it cannot be told, exit code 1."""
    blind = {"BRIDGE_RABBITMQ__MANAGEMENT_URL": ANSWERS_NOTHING}
    async with operator.channel() as channel:
        await channel.declare_queue(NAMES.dead, durable=True, arguments=QUORUM | {"x-max-length": 5})
    shown = await operator.run("plan", **blind)
    assert shown.code == 2
    assert "+ queue suppression " in shown.stdout
    assert "~ queue suppression.dead argument 'x-" in shown.stdout
    assert "bindings and strays cannot be seen: RabbitMQ's management API cannot be reached" in shown.stderr
    async with operator.channel() as channel:
        await channel.queue_delete(NAMES.dead)
    await operator.run("apply")
    shown = await operator.run("plan", **blind)
    assert shown.code == 1
    assert shown.stdout == "nothing differs: 4 exchanges, 10 queues exist as planned\n"
    refused = await operator.run("apply", "--prune", "--yes", **blind)
    assert refused.code == 1
    assert "nothing was removed: bindings and strays cannot be seen" in refused.stderr


async def test_plan_says_in_one_line_that_no_broker_answers(operator: TopologyOperator) -> None:
    """Exit code 1, not 2: nothing is known."""
    shown = await operator.run(
        "plan", "--wait", "0.5",
        BRIDGE_RABBITMQ__URL="amqp://127.0.0.1:1", BRIDGE_RABBITMQ__MANAGEMENT_URL=ANSWERS_NOTHING,
    )  # fmt: skip
    assert (shown.code, shown.stdout) == (1, "")
    [line] = shown.stderr.splitlines()
    assert line.startswith("bridge: RabbitMQ cannot be reached in 0.5 s: amqp://127.0.0.1:1")
