"""`bridge status`: what it shows of a stack that runs, and of one that does not."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aio_pika
import aiohttp
import orjson
import pytest
from yarl import URL

from bridge.broker import declaring, management, topology
from bridge.broker.management import ManagementError
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics import status
from bridge.diagnostics.broker_status import BrokerMonitor
from bridge.diagnostics.status import StatusMonitor
from bridge.operations import subscribers
from bridge.roles import receiver as role
from bridge.roles.lifetime import Lifetime
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.spool.entries import SpoolEntry
from bridge.spool.set_aside_entries import Refusal, to_set_aside
from bridge.spool.spool_file import SpoolFile
from bridge.suppression.store import Store
from bridge.tasks import background_task, wait_while_running
from bridge.telemetry import health
from bridge.telemetry.health import Readiness
from bridge.telemetry.metric_definitions import HANDLED
from bridge.telemetry.metrics import Metrics
from tests.support.commands import bridge
from tests.support.ports import free_port, free_ports
from tests.support.warm_starts import start_bridge
from tests.support.working import body_of, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.managed import Managed
    from tests.support.rabbit import Rabbit

Overrides = dict[str, dict[str, Any]]
HOUR = 3600


@pytest.fixture
def variables(overrides: Overrides) -> dict[str, str]:
    """As the command sees the test's settings; no management API, and RabbitMQ is the run's."""
    rabbitmq, worker = overrides["rabbitmq"], overrides["worker"]
    return {
        "BRIDGE_RABBITMQ__URLS": rabbitmq["urls"][0],
        "BRIDGE_RABBITMQ__PREFIX": rabbitmq["prefix"],
        "BRIDGE_RABBITMQ__MANAGEMENT_URL": "http://127.0.0.1:1",
        "BRIDGE_SPOOL__DIRECTORY": overrides["spool"]["directory"],
        "BRIDGE_WORKER__RETRY_DELAYS": ",".join(str(delay) for delay in worker["retry_delays"]),
    }


@pytest.fixture
async def standing(rabbit: Rabbit, settings: Settings) -> Rabbit:
    """All that the bridge declares is there."""
    await declaring.declare(rabbit.connection, planned_topology(settings))
    return rabbit


async def looked(directory: Path, variables: dict[str, str], *urls: str) -> tuple[int, dict[str, Any]]:
    """Exit code, and the document for programs."""
    at = [part for url in urls for part in ("--metrics", url)]
    said = await bridge("status", "--json", "--over", "0", *at, directory=directory, **variables)
    assert said.stderr == ""
    return said.code, orjson.loads(said.stdout)


async def test_a_stack_that_runs_is_shown_and_well(
    standing: Rabbit, overrides: Overrides, variables: dict[str, str], tmp_path: Path
) -> None:
    """Events by name, both roles, every queue, the worker; what only the management API knows is said to be unseen."""
    ports = free_ports(2)
    receivers, workers = (
        load_settings(overrides=changed(overrides, health={"port": port})) for port in ports
    )
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    lifetime = Lifetime()
    async with (
        background_task(role.receiver(receivers, lifetime), name="receiver") as taking,
        working(workers),
    ):
        await wait_while_running(lifetime.started, taking)
        await wait_while_running(lifetime.connected, taking)
        token = overrides["receiver"]["tokens"][0]
        async with aiohttp.ClientSession() as session:
            for number, name in enumerate(("opened", "opened", "clicked"), 1):
                url = f"http://127.0.0.1:{lifetime.port}/webhooks/msndr/{token}"
                assert (await session.post(url, data=body_of(name, number))).status == 200
            async with asyncio.timeout(90):
                while not await is_ready(session, urls[1]):  # noqa: ASYNC110 -- it consumes, and may not publish yet
                    await asyncio.sleep(0.05)
        code, seen = await looked(tmp_path, variables, *urls)
        text = await bridge(
            "status", "--metrics", urls[0], "--metrics", urls[1], directory=tmp_path, **variables
        )
        lifetime.stop.set()
        await taking
    assert (code, seen["well"], seen["wrong"]) == (0, True, [])
    assert [(event["name"], event["total"]) for event in seen["events"]] == [("clicked", 1), ("opened", 2)]
    assert [(one["kind"], one["ready"]) for one in seen["roles"]] == [("receiver", True), ("worker", True)]
    assert seen["workers"] == 1
    assert seen["breakers"] == {"provider": 0, "database": 0}
    queues = {queue["name"]: queue for queue in seen["broker"]["queues"]}
    assert queues[standing.names.suppression]["consumers"] == 1
    assert queues[standing.names.suppression]["unacknowledged"] is None
    assert seen["broker"]["nodes"] is None
    assert seen["broker"]["version"]
    assert seen["unseen"][0].startswith("bindings, nodes, alarms")
    assert "management API cannot be reached" in seen["unseen"][0]
    assert text.code == 0
    assert "all is well" in text.stdout
    [opened] = [line.split() for line in text.stdout.splitlines() if line.startswith("opened\t")]
    assert opened == ["opened", "2", "0.0"]


async def test_with_the_management_api_nodes_and_alarms_are_seen(
    alarmed: Managed, variables: dict[str, str], tmp_path: Path
) -> None:
    """An alarm is wrong: RabbitMQ takes nothing until it is over."""
    seen_through = variables | {
        "BRIDGE_RABBITMQ__URLS": alarmed.url,
        "BRIDGE_RABBITMQ__MANAGEMENT_URL": alarmed.api,
    }
    await alarmed.control.raise_alarm()
    try:
        async with asyncio.timeout(90):
            alarms: list[str] = []
            while not alarms:  # the API tells it with the next count, every 5 s
                code, seen = await looked(tmp_path, seen_through)
                [node] = seen["broker"]["nodes"]
                alarms = node["alarms"]
    finally:
        await alarmed.control.clear_alarm()
    assert code == 1
    assert (node["running"], alarms) == (True, ["memory"])
    assert f"node {node['name']} has a memory alarm: RabbitMQ blocks publishers" in seen["wrong"]


async def test_the_api_knows_what_is_unacknowledged(managed: Managed, variables: dict[str, str]) -> None:
    """Beside what AMQP tells at once."""
    settings = of(variables, urls=[managed.url], management_url=managed.api)
    names = topology.Names(settings.rabbitmq.prefix)
    async with await aio_pika.connect(managed.url) as connection:
        await declaring.declare(connection, planned_topology(settings))
        async with connection.channel() as channel, asyncio.timeout(90):
            for _ in range(3):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), names.suppression)
            taken = await (await channel.get_queue(names.suppression)).get()
            async with StatusMonitor.open(settings, ["http://127.0.0.1:1"]) as watch:
                unacknowledged = None
                # RabbitMQ tells the API every 5 s, and what it told last may be older.
                while unacknowledged != 1:
                    queues = {queue.name: queue for queue in (await watch.read()).broker.queues}
                    unacknowledged = queues[names.suppression].unacknowledged
            await taken.ack()
        for queue in planned_topology(settings).queues:
            async with connection.channel() as channel:
                await channel.queue_delete(queue.name)
    assert (queues[names.suppression].ready, unacknowledged) == (2, 1)


async def test_the_age_of_the_oldest_message_is_by_its_own_timestamp(
    managed: Managed, variables: dict[str, str]
) -> None:
    """Where RabbitMQ tells it, which it does of classic queues; no message is touched for it."""
    settings = of(variables, urls=[managed.url], management_url=managed.api)
    name = f"{settings.rabbitmq.prefix}classic"
    written = datetime.now(UTC) - timedelta(seconds=HOUR)
    async with await aio_pika.connect(managed.url) as connection, connection.channel() as channel:
        queue = await channel.declare_queue(name, durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"old", timestamp=written), name)
        async with (
            management.connect(settings.rabbitmq) as api,
            BrokerMonitor(settings.rabbitmq, api, [name]) as broker,
            asyncio.timeout(90),
        ):
            age = None
            while age is None:  # RabbitMQ tells the API every 5 s
                [seen] = (await broker.read()).queues
                age = seen.oldest_age
        message = await queue.get(no_ack=True)
        await queue.delete()
    assert HOUR <= age < 2 * HOUR
    assert not message.redelivered


async def test_what_is_no_management_api_is_said(variables: dict[str, str]) -> None:
    """Something else listens at that port: its answers are no reason for a traceback."""
    async with serving(Metrics()) as url:
        settings = of(variables, management_url=f"{url}/metrics?")
        async with management.connect(settings.rabbitmq) as api:
            with pytest.raises(ManagementError, match="is not RabbitMQ's management API"):
                await api.nodes()


async def test_a_user_whom_the_api_does_not_answer_reads_which_tag_is_missing(managed: Managed) -> None:
    """A user for AMQP alone has none."""
    name = uuid.uuid4().hex
    await managed.control.add_user(name, "its-password", configure="")
    url = str(URL(managed.url).with_user(name).with_password("its-password"))
    settings = load_settings(
        overrides={"rabbitmq": {"urls": [url], "management_url": managed.api, "connect_timeout": 20}}
    )
    async with management.connect(settings.rabbitmq) as api:
        with pytest.raises(ManagementError, match="the tag `monitoring`"):
            await api.nodes()


async def test_parts_that_are_away_are_shown_as_such(variables: dict[str, str], tmp_path: Path) -> None:
    """Each with its reason, none hides another, and the exit code is 1."""
    away = variables | {"BRIDGE_RABBITMQ__URLS": "amqp://guest:an-uncommon-secret@127.0.0.1:1/"}
    (tmp_path / "spool").write_text("no folder")
    code, seen = await looked(tmp_path, away, "http://127.0.0.1:1")
    assert code == 1
    assert [line.partition(": ")[0] for line in seen["wrong"]] == [
        "http://127.0.0.1:1 cannot be asked",
        "RabbitMQ cannot be reached",
    ]
    assert seen["workers"] is None
    assert {queue["ready"] for queue in seen["broker"]["queues"]} == {None}
    text = await bridge("status", "--metrics", "http://127.0.0.1:1", directory=tmp_path, **away)
    assert text.code == 1
    assert "not well" in text.stdout
    assert "RabbitMQ: not reachable" in text.stdout
    assert "an-uncommon-secret" not in text.stdout + text.stderr


async def test_dead_letters_and_a_missing_worker_are_not_well(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """Somebody has to look at them; looking here takes none."""
    async with standing.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"dead"), standing.names.dead)
    metrics = Metrics()
    metrics.dead_letters.labels("unknown-message").inc(3)
    async with serving(metrics) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    assert seen["dead_letters"] == 1
    assert seen["dead_by_reason"] == {"unknown-message": 3}
    assert seen["wrong"] == [
        "no worker consumes the suppression queue: start `bridge worker`",
        "1 dead letters: see `bridge dead list`",
    ]
    assert await standing.depth(standing.names.dead) == 1


async def test_a_quarantine_that_is_not_empty_is_not_well(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """A bounce may be among them: the line says how to look."""
    async with standing.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), standing.names.malformed)
    async with serving(Metrics()) as url:
        code, seen = await looked(tmp_path, variables, url)
        text = await bridge("status", "--metrics", url, "--over", "0", directory=tmp_path, **variables)
    assert (code, seen["quarantined"]) == (1, 1)
    assert "1 body is in the quarantine: see `bridge quarantine list`" in seen["wrong"]
    assert "1 body is in the quarantine: see `bridge quarantine list`" in text.stdout
    assert await standing.depth(standing.names.malformed) == 1


async def test_a_queue_that_is_missing_is_not_well(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """The others are shown."""
    async with standing.channel() as channel:
        await channel.queue_delete(standing.names.malformed)
    async with serving(Metrics()) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    assert any(line.startswith(f"{standing.names.malformed}: no queue") for line in seen["wrong"])
    queues = {queue["name"]: queue for queue in seen["broker"]["queues"]}
    assert queues[standing.names.malformed]["ready"] is None
    assert queues[standing.names.dead]["ready"] == 0


async def test_lost_bindings_are_not_well(
    managed: Managed, variables: dict[str, str], tmp_path: Path
) -> None:
    """Everything stands and a worker would consume: but bounces do not reach it, nor the archive."""
    settings = of(variables, urls=[managed.url], management_url=managed.api)
    seen_through = variables | {
        "BRIDGE_RABBITMQ__URLS": managed.url,
        "BRIDGE_RABBITMQ__MANAGEMENT_URL": managed.api,
    }
    names = topology.Names(settings.rabbitmq.prefix)
    planned = planned_topology(settings)
    async with await aio_pika.connect(managed.url) as connection, connection.channel() as channel:
        await declaring.declare(connection, planned)
        _, seen = await looked(tmp_path, seen_through, "http://127.0.0.1:1")
        assert not [line for line in seen["wrong"] if "bound" in line]
        for binding in planned.bindings:
            if binding.queue in {names.suppression, names.archive}:
                await (await channel.get_queue(binding.queue)).unbind(binding.exchange, binding.key)
        code, seen = await looked(tmp_path, seen_through, "http://127.0.0.1:1")
        for queue in planned.queues:
            await channel.queue_delete(queue.name)
    assert code == 1
    keys = {line.split("'")[5] for line in seen["wrong"] if f"'{names.suppression}' is not bound to" in line}
    assert keys == {"hard_bounced", "complained", "complined"}
    assert any(line.startswith(f"'{names.archive}' is not bound to") for line in seen["wrong"])


async def test_a_backfill_that_is_due_is_not_well(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """With how far the workers have come; the doctor says it, too."""
    async with standing.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), standing.names.backfill)
    metrics = Metrics()
    metrics.backfilled.inc(1234)
    async with serving(metrics) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    [line] = [line for line in seen["wrong"] if "filled from the archive" in line]
    assert "1,234 events" in line
    examined = await bridge("doctor", "--json", directory=tmp_path, **variables)
    [finding] = [one for one in orjson.loads(examined.stdout)["items"] if one["check"] == "backfill"]
    assert finding["status"] == "warning"


async def test_a_refused_queue_of_a_subscriber_is_not_well(
    overrides: Overrides, variables: dict[str, str], rabbit: Rabbit, tmp_path: Path
) -> None:
    """Its team has made it as a classic one: the receiver works on, and says so."""
    port = free_port()
    subscribed: dict[str, Any] = changed(overrides, health={"port": port})
    subscribed["subscribers"] = [{"queue": "crm", "events": ["opened"]}]
    crm = f"{rabbit.names.prefix}crm"
    async with rabbit.channel() as channel:
        await channel.declare_queue(crm, durable=True)
        lifetime = Lifetime()
        async with background_task(
            role.receiver(load_settings(overrides=subscribed), lifetime), name="receiver"
        ) as taking:
            await wait_while_running(lifetime.started, taking)
            async with asyncio.timeout(90):
                wrong = ""
                while crm not in wrong:  # it connects while it takes events already
                    _, seen = await looked(tmp_path, variables, f"http://127.0.0.1:{port}")
                    wrong = " ".join(seen["wrong"])
            lifetime.stop.set()
            await taking
    await rabbit.delete_subscribers("crm")
    assert f"topology: queue '{crm}' exists with other arguments" in wrong
    assert [(one["kind"], one["ready"]) for one in seen["roles"]] == [("receiver", True)]


async def test_a_breaker_that_is_open_is_not_well(variables: dict[str, str], tmp_path: Path) -> None:
    """The worker waits for that dependency, and its reason is shown."""
    metrics = Metrics()
    metrics.breaker_state.labels("provider").set(2)
    metrics.breaker_state.labels("database").set(0)
    parts = {
        "consume": {"state": "up", "reason": "connected"},
        "provider": {"state": "open", "reason": "500"},
    }
    async with serving(metrics, parts, ready=False) as url:
        code, seen = await looked(tmp_path, variables, url)
        text = await bridge("status", "--metrics", url, directory=tmp_path, **variables)
    assert code == 1
    assert seen["breakers"] == {"provider": 2, "database": 0}
    assert f"worker {url}: provider: 500" in seen["wrong"]
    assert "workers wait for the provider: its circuit breaker is open" in seen["wrong"]
    assert "database closed, provider open" in text.stdout


async def test_a_receiver_that_gets_no_confirms_is_not_well(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """It is ready, for it spools. The names are told, and who names the queue."""
    del standing
    broker: dict[str, Any] = {"state": "up", "reason": "connected", "unconfirmed": ["clicked", "opened"]}
    async with serving(Metrics(), {"broker": broker, "spool": {}}) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    assert (
        f"receiver {url}: broker: RabbitMQ confirms no event of these names: clicked, opened; `bridge doctor` names the queue "
        "(`queues that confirm`)" in seen["wrong"]
    )


async def test_what_waits_in_the_spool_is_counted(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """Events that no receiver has, and that are an hour old, are not well."""
    del standing
    folder = tmp_path / "spool"
    _left_behind(folder, count=5, age=HOUR)
    async with serving(Metrics()) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    assert (seen["spool"]["entries"], seen["spool"]["files"], seen["spool"]["left_behind"]) == (5, 1, 5)
    assert HOUR <= seen["spool"]["oldest_age"] < 2 * HOUR
    assert any(line.startswith("5 events wait in the spool, the oldest for 36") for line in seen["wrong"])
    assert any("`bridge spool drain`" in line for line in seen["wrong"])


async def test_what_rabbitmq_refuses_is_shown(
    standing: Rabbit, variables: dict[str, str], tmp_path: Path
) -> None:
    """How many events, why, and where to see more; of those that are not refused it says nothing."""
    del standing
    _left_behind(tmp_path / "spool", count=5, age=HOUR)
    with closing(SpoolFile(tmp_path / "spool" / "spool-0.sqlite3", min_free_bytes=0)) as file:
        file.run_task(to_set_aside(Refusal("forbidden", "newname", "ACCESS_REFUSED"), range(1, 4)))
        file.run_task(to_set_aside(Refusal("nacked", "clicked", "basic.nack"), range(4, 6)))
    async with serving(Metrics()) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    assert (
        "3 events are set aside, because RabbitMQ refuses them (forbidden): ACCESS_REFUSED; see `bridge spool status`"
        in seen["wrong"]
    )
    assert (
        "2 events are set aside, because RabbitMQ refuses them (nacked): basic.nack; see `bridge spool status`; "
        "`bridge doctor` names the queue that rejects" in seen["wrong"]
    )
    assert not any("wait in the spool" in line for line in seen["wrong"])
    assert sorted(one["entries"] for one in seen["spool"]["set_aside"]) == [2, 3]


async def test_the_rate_is_between_two_looks(variables: dict[str, str]) -> None:
    """None at the first; what was counted since, at the second; and a process that began anew counts from nothing."""
    metrics = Metrics()
    metrics.received.labels("opened").inc(10)
    async with serving(metrics) as url, StatusMonitor.open(of(variables), [url]) as watch:
        [first] = (await watch.read()).events
        metrics.received.labels("opened").inc(5)
        [second] = (await watch.read()).events
        metrics.received.labels("opened").reset()
        metrics.received.labels("opened").inc(3)
        [third] = (await watch.read()).events
    assert (first.total, first.rate) == (10, None)
    assert second.total == 15
    assert second.rate is not None
    assert second.rate > 0
    assert third.rate is not None
    assert third.rate > 0


async def test_answers_and_the_age_of_events_are_shown(variables: dict[str, str]) -> None:
    """How the receivers have answered; and how long events took to the list between two looks."""
    metrics = Metrics()
    handled, received = metrics.age_histogram(HANDLED), metrics.age_histogram("received")
    metrics.answers.labels("confirmed").inc(3)
    async with serving(metrics) as url, StatusMonitor.open(of(variables), [url]) as watch:
        first = await watch.read()
        metrics.answers.labels("confirmed").inc(2)
        received.observe(5000.0)  # of another stage
        for _ in range(4):
            handled.observe(3.0)
        second = await watch.read()
        third = await watch.read()
    assert [(one.answer, one.total, one.rate) for one in first.answers] == [("confirmed", 3, None)]
    [answers] = second.answers
    assert answers.total == 5
    assert answers.rate is not None
    assert answers.rate > 0
    assert (first.age, third.age) == (None, None)
    assert second.age is not None
    assert 2 < second.age.median <= second.age.most <= 5


async def test_what_waits_at_a_receiver_on_another_machine_is_wrong(
    variables: dict[str, str], tmp_path: Path
) -> None:
    """Its folder is not here; it says itself how many events wait, and for how long."""
    metrics = Metrics()
    metrics.spool_entries.set(7)
    metrics.spool_oldest_seconds.set(HOUR)
    async with serving(metrics) as url:
        code, seen = await looked(tmp_path, variables, url)
    assert code == 1
    assert "7 events wait in the receivers' spools, the oldest for 3600 s" in seen["wrong"]


async def test_who_looks_for_long_sees_subscribers_that_are_added_meanwhile(
    standing: Rabbit, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that are removed."""
    monkeypatch.setattr(status, "_REGISTRY_SECONDS", 0.0)
    crm = Subscriber(queue="crm", events=("opened",))
    async with Store.open(settings.suppression.database_url.get_secret_value()):
        pass  # there is a list, with a registry
    async with StatusMonitor.open(settings, ["http://127.0.0.1:1"]) as watch:
        before = await watch.read()
        await subscribers.add(settings, crm, actor="ann", as_it_is=False)
        during = await watch.read()
        await subscribers.remove(settings, await subscribers.preview_removal(settings, "crm"))
        after = await watch.read()
    queue = f"{settings.rabbitmq.prefix}crm"
    assert [one.queue for one in before.subscribers] == []
    assert [(one.queue, one.there, one.ready) for one in during.subscribers] == [(queue, True, 0)]
    assert after.subscribers == ()
    await standing.delete_subscribers("crm")


async def test_watch_looks_again_and_ends_with_0_on_ctrl_c(variables: dict[str, str], tmp_path: Path) -> None:
    """Whatever it has seen; a document for each look."""
    watching = ("status", "--watch", "--json", "--metrics", "http://127.0.0.1:1")
    process = await start_bridge(*watching, cwd=tmp_path, env=os.environ | variables)
    try:
        async with asyncio.timeout(90):
            for _ in range(2):
                assert process.stdout is not None
                while b'"well": false' not in await process.stdout.readline():
                    pass
            process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert (process.returncode, said) == (0, b"")


async def test_what_is_no_role_is_said(variables: dict[str, str], managed: Managed, tmp_path: Path) -> None:
    """Another server answers there."""
    _, seen = await looked(tmp_path, variables, managed.api)
    [found] = seen["roles"]
    assert found["problem"]


async def test_help_has_an_example_and_the_variables(tmp_path: Path) -> None:
    """`--help` shows a line to copy, and what must be set."""
    text = (await bridge("status", "--help", directory=tmp_path)).stdout
    assert "Example: bridge status --watch" in text
    assert "BRIDGE_RABBITMQ__URLS" in text


async def is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(f"{url}/readyz") as answer:
        return answer.status == 200


@asynccontextmanager
async def serving(
    metrics: Metrics, parts: dict[str, dict[str, Any]] | None = None, *, ready: bool = True
) -> AsyncIterator[str]:
    """The health address of a role that counts this; yields its URL."""
    port = free_port()
    check, exposition = health.process_health(metrics, lambda: Readiness(ready, parts or {}))
    async with health.serve(sections.Health(port=port), check, exposition, default_port=0):
        yield f"http://127.0.0.1:{port}"


def of(variables: dict[str, str], **rabbitmq: Any) -> Settings:
    own: dict[str, Any] = {
        "urls": [variables["BRIDGE_RABBITMQ__URLS"]],
        "prefix": variables["BRIDGE_RABBITMQ__PREFIX"],
        "connect_timeout": 20,  # on a busy machine RabbitMQ, and its API, may need longer than 3 s
        "management_url": variables["BRIDGE_RABBITMQ__MANAGEMENT_URL"],
    }
    return load_settings(
        overrides={"rabbitmq": own | rabbitmq, "spool": {"directory": variables["BRIDGE_SPOOL__DIRECTORY"]}}
    )


def _left_behind(folder: Path, *, count: int, age: int) -> None:
    """A spool file whose receiver is gone."""
    folder.mkdir()
    file = SpoolFile(folder / "spool-0.sqlite3", min_free_bytes=0)
    received_at = (int(time.time()) - age) * 1000
    file.write([SpoolEntry(at, received_at, body_of("opened", at)) for at in range(1, count + 1)], ())
    file.close()


@pytest.mark.parametrize("url", ["http://[::1", "http://host:99999", "host:8090", "http://", ""])
async def test_what_is_no_address_of_a_role_is_bad_usage(tmp_path: Path, url: str) -> None:
    """One line, no traceback."""
    said = await bridge("status", "--metrics", url, directory=tmp_path)
    assert (said.code, said.stdout) == (2, "")
    assert said.stderr.startswith("bridge: --metrics is not a URL")
    assert said.stderr.count("\n") == 1
