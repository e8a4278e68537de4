"""`bridge doctor`: each check made to fail once, against real nodes, and what a person then reads."""

from __future__ import annotations

import asyncio
import resource
import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import aio_pika
import orjson
import pytest
from aiohttp import web
from yarl import URL

from bridge.broker import declaring, management, topology, topology_plan
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics import broker_checks, broker_unconfirming_queues, doctor, machine_checks
from bridge.diagnostics.finding import CheckStatus
from bridge.settings import sections
from bridge.settings.loading import load_settings
from bridge.telemetry import health
from bridge.telemetry.metrics import Metrics
from tests.support import stores
from tests.support.commands import bridge
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.development.simulator import Simulator
    from tests.support.commands import Outcome
    from tests.support.managed import Managed
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit

TOKEN = "a-token-of-the-webhook"
PASSWORD = "an-uncommon-secret"
NOBODY = f"amqp://guest:{PASSWORD}@127.0.0.1:1/"
STOOD_STILL = (f"no answer in {doctor.TIMEOUT_SECONDS:g} s", "did not answer within 2 s")
"""What the doctor says of a check, or of the provider, whose time is over; no test has it wait for so long."""
_ATTEMPTS = 3
OF_THE_BROKER = [
    "alarms",
    "RabbitMQ version",
    "permissions",
    "topology",
    "backfill",
    "delivery limit",
    "policies",
    "queues that refuse",
    "subscribers",
    "alternate exchange",
    "workers on SQLite",
]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the doctor looks at; all of it is well until a test changes it."""

    directory: Path
    variables: dict[str, str] = field(default_factory=dict)

    async def examined(self, **variables: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
        """Exit code, and check -> status, what was seen, advice; as a program reads it."""
        said = await self._said("--json", variables=variables)
        assert said.stderr == ""
        return said.code, {
            finding["check"]: (finding["status"], finding["seen"], finding["advice"])
            for finding in orjson.loads(said.stdout)["items"]
        }

    async def told(self, check: str, **variables: str) -> tuple[int, str]:
        """Exit code, and the lines on this check that a person reads."""
        said = await self._said(variables=variables)
        assert PASSWORD not in said.stdout + said.stderr
        assert TOKEN not in said.stdout + said.stderr
        lines = said.stdout.splitlines()
        [at] = [at for at, line in enumerate(lines) if f"  {check}  " in f"{line}  "]
        advice = lines[at + 1 : at + 2] if "→" in "".join(lines[at + 1 : at + 2]) else []
        return said.code, " ".join(" ".join([lines[at], *advice]).split())

    async def _said(self, *options: str, variables: dict[str, str]) -> Outcome:
        """What it says when it has not waited in vain for what answers: the machine may have stood still meanwhile."""
        for _ in range(_ATTEMPTS):
            said = await bridge("doctor", *options, directory=self.directory, **self.variables | variables)
            if not any(words in said.stdout for words in STOOD_STILL):
                break
        return said


@pytest.fixture
def well(amqp_url: str, prefix: str, simulator: Simulator, tmp_path: Path) -> Surroundings:
    """The run's node, without the management API; nothing is declared there yet."""
    simulator.webhook_url = f"https://bridge.example.org/webhooks/msndr/{TOKEN}"
    return Surroundings(
        tmp_path,
        {
            "BRIDGE_RABBITMQ__URLS": amqp_url,
            "BRIDGE_RABBITMQ__PREFIX": prefix,
            "BRIDGE_RABBITMQ__MANAGEMENT_URL": "http://127.0.0.1:1",
            "BRIDGE_RECEIVER__TOKENS": TOKEN,
            "BRIDGE_RECEIVER__MAX_IN_FLIGHT": "500",
            "BRIDGE_PROVIDER__BASE_URL": simulator.base_url,
            "BRIDGE_PROVIDER__API_TOKEN": simulator.token,
            "BRIDGE_SPOOL__DIRECTORY": str(tmp_path / "spool"),
            "BRIDGE_SUPPRESSION__DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3",
        },
    )


@dataclass(frozen=True, slots=True)
class Open:
    """A virtual host of the test's own, on the node with the API, in which all stands as planned."""

    surroundings: Surroundings
    connection: aio_pika.abc.AbstractConnection
    names: topology.Names

    async def examined(self, **variables: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
        return await self.surroundings.examined(**variables)

    @property
    def url(self) -> str:
        return self.surroundings.variables["BRIDGE_RABBITMQ__URLS"]


@pytest.fixture
async def seen_through(managed: Managed, well: Surroundings) -> AsyncIterator[Open]:
    variables = {"BRIDGE_RABBITMQ__URLS": managed.url, "BRIDGE_RABBITMQ__MANAGEMENT_URL": managed.api}
    surroundings = Surroundings(well.directory, well.variables | variables)
    async with await aio_pika.connect(managed.url) as connection:
        await declared(connection, surroundings)
        yield Open(surroundings, connection, topology.Names(well.variables["BRIDGE_RABBITMQ__PREFIX"]))


async def declared(connection: aio_pika.abc.AbstractConnection, surroundings: Surroundings) -> None:
    prefix = surroundings.variables["BRIDGE_RABBITMQ__PREFIX"]
    await declaring.declare(
        connection, planned_topology(load_settings(overrides={"rabbitmq": {"prefix": prefix}}))
    )


def statuses(findings: dict[str, tuple[str, str, str]]) -> dict[str, str]:
    return {check: status for check, (status, _, _) in findings.items()}


async def test_where_all_is_well_nothing_has_failed(well: Surroundings, rabbit: Rabbit) -> None:
    """Without the management API, too: what cannot be seen is said where it matters, and the exit code is 0."""
    await declared(rabbit.connection, well)
    code, findings = await well.examined()
    assert code == 0
    assert {
        v
        for check, v in statuses(findings).items()
        if check
        not in {
            "settings in force",
            "spool disk",
            "policies",
            "queues that refuse",
            "queues that confirm",
            "subscribers",
        }
    } == {"ok"}
    assert "bindings cannot be seen" in findings["topology"][1]


async def test_with_the_management_api_bindings_are_seen(seen_through: Open) -> None:
    """Arguments and bindings are compared one by one."""
    code, findings = await seen_through.examined()
    assert code == 0
    assert findings["topology"][0] == "ok"
    assert "cannot be seen" not in findings["topology"][1] + findings["alternate exchange"][1]
    assert findings["alternate exchange"][:2] == ("ok", f"'{seen_through.names.unrouted}', with a queue")


async def test_looking_changes_nothing(seen_through: Open) -> None:
    """No message is sent, none is taken, and nothing is made: not even the spool's folder."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"waits"), names.suppression)
        await seen_through.examined()
        for queue, depth in (
            (names.suppression, 1),
            (names.archive, 0),
            (names.unrouted, 0),
            (names.dead, 0),
        ):
            found = await channel.declare_queue(queue, passive=True)
            assert found.declaration_result.message_count == depth
        message = await (await channel.get_queue(names.suppression)).get(no_ack=True)
        assert not message.redelivered
    assert not _exists(seen_through.surroundings.directory / "spool")


async def test_settings_that_cannot_be_read_are_the_only_finding(well: Surroundings) -> None:
    """The line names the key."""
    code, line = await well.told("settings", BRIDGE_RECEIVER__PORT="none")
    assert code == 1
    assert line.startswith("failed settings receiver.port: ")
    assert "→ correct it" in line


async def test_settings_without_a_token_are_a_warning(well: Surroundings, rabbit: Rabbit) -> None:
    """A worker needs none, so that alone is no failure."""
    await declared(rabbit.connection, well)
    code, line = await well.told("settings", BRIDGE_RECEIVER__TOKENS="")
    assert code == 0
    assert "warning settings receiver.tokens is empty" in line
    assert "BRIDGE_RECEIVER__TOKENS" in line


async def test_a_broker_that_is_away(well: Surroundings) -> None:
    """It is named without its password, and what needs it is skipped."""
    code, line = await well.told("RabbitMQ reachable", BRIDGE_RABBITMQ__URLS=NOBODY)
    assert code == 1
    assert line.startswith("failed RabbitMQ reachable amqp://127.0.0.1:1/: ")
    assert "→ start it" in line
    _, findings = await well.examined(BRIDGE_RABBITMQ__URLS=NOBODY)
    assert {statuses(findings)[check] for check in OF_THE_BROKER} == {"skipped"}


async def test_one_url_of_several_that_is_away_is_a_warning(
    well: Surroundings, rabbit: Rabbit, amqp_url: str
) -> None:
    """The bridge runs, on one leg."""
    await declared(rabbit.connection, well)
    code, line = await well.told("RabbitMQ reachable", BRIDGE_RABBITMQ__URLS=f"{NOBODY},{amqp_url}")
    assert code == 0
    assert line.startswith("warning RabbitMQ reachable some URLs do not answer: amqp://127.0.0.1:1/")


async def test_a_broker_that_says_nothing_does_not_hang_it(well: Surroundings) -> None:
    """It takes connections and never answers; the wait has an end."""
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        code, line = await well.told(
            "RabbitMQ reachable",
            BRIDGE_RABBITMQ__URLS=f"amqp://127.0.0.1:{port}/",
            BRIDGE_RABBITMQ__CONNECT_TIMEOUT="0.2",
        )
        for writer in held:
            writer.close()
    assert code == 1
    assert "no answer in 0.2 s" in line


@pytest.mark.parametrize(
    ("version", "status"), [("3.9.29", "failed"), ("3.10.8", "ok"), ("4.2.1", "ok"), ("5.0.0", "warning")]
)
async def test_versions(version: str, status: str, rabbit: Rabbit) -> None:
    """3.10 to 4.x are supported; there is no node of another here, so the check is asked itself."""
    settings = load_settings()
    async with management.connect(settings.rabbitmq) as api:
        bench = broker_checks.BrokerContext(settings, rabbit.connection, version, api, None)
        finding = await broker_checks.version("RabbitMQ version", bench)
    assert finding.status == status
    assert finding.seen == f"RabbitMQ {version}"


async def test_a_user_who_may_not_write_or_read(well: Surroundings, rabbit: Rabbit, control: Control) -> None:
    """Each right that is missing is named."""
    await declared(rabbit.connection, well)
    name = uuid.uuid4().hex
    await control.add_user(name, PASSWORD, configure="", write=".*suppression.changes$", read=".*dead$")
    url = str(URL(well.variables["BRIDGE_RABBITMQ__URLS"]).with_user(name).with_password(PASSWORD))
    code, line = await well.told("permissions", BRIDGE_RABBITMQ__URLS=url)
    names = rabbit.names
    assert code == 1
    assert f"failed permissions the user may not write to '{names.events}'" in line
    assert (
        f"nor write to the default exchange, nor read from '{names.suppression}', nor read from '{names.archive}'"
        in line
    )
    assert f"'{names.changes}'" not in line
    assert f"'{names.dead}'" not in line
    assert "rabbitmqctl set_permissions" in line


async def test_a_topology_that_is_missing(well: Surroundings, rabbit: Rabbit) -> None:
    """Every missing part is named, and the command that declares it."""
    await declared(rabbit.connection, well)
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.malformed)
        await channel.exchange_delete(rabbit.names.changes)
    code, line = await well.told("topology")
    assert code == 1
    assert (
        f"failed topology missing: exchange '{rabbit.names.changes}', queue '{rabbit.names.malformed}'"
        in line
    )
    assert "→ run `bridge topology apply`" in line
    assert not await rabbit.stands(rabbit.names.malformed)


async def test_a_queue_with_other_arguments_without_the_api(well: Surroundings, rabbit: Rabbit) -> None:
    """RabbitMQ itself compares: what stands is declared again, which changes nothing."""
    await declared(rabbit.connection, well)
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
        await channel.declare_queue(rabbit.names.dead, durable=True)
    code, line = await well.told("topology")
    assert code == 1
    assert f"failed topology queue '{rabbit.names.dead}' exists with other arguments" in line
    assert "→ `bridge topology apply --migrate` moves" in line


async def test_a_move_that_was_interrupted(well: Surroundings, rabbit: Rabbit) -> None:
    """Its events are kept twice, for ever, until it is ended."""
    await declared(rabbit.connection, well)
    moving = f"{rabbit.names.malformed}.moving"
    async with rabbit.channel() as channel:
        await channel.declare_queue(moving, durable=True, arguments={"x-queue-type": "quorum"})
        code, line = await well.told("topology")
        await channel.queue_delete(moving)
    assert code == 1
    assert f"their move was interrupted: {rabbit.names.malformed}" in line
    assert "→ `bridge topology apply --migrate` ends" in line


async def test_a_queue_with_other_arguments_seen_through_the_api(seen_through: Open) -> None:
    """What it has, and what it should have."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        await channel.queue_delete(names.dead)
        await channel.declare_queue(names.dead, durable=True)
    code, line = await seen_through.surroundings.told("topology")
    assert code == 1
    assert f"failed topology queue '{names.dead}' has " in line
    assert "x-queue-type=quorum" in line


async def test_a_binding_that_is_missing(seen_through: Open) -> None:
    """Only the API can tell; without this binding hard bounces would reach no worker."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        await (await channel.get_queue(names.suppression)).unbind(names.events, "hard_bounced")
    code, line = await seen_through.surroundings.told("topology")
    assert code == 1
    assert f"failed topology not bound: '{names.suppression}' to '{names.events}' with 'hard_bounced'" in line


async def test_a_quorum_queue_that_drops_what_is_delivered_often(seen_through: Open) -> None:
    """Of whichever service, where it has a limit, and no dead-letter exchange; none of ours has."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        arguments: dict[str, int | str] = {"x-queue-type": "quorum", "x-delivery-limit": 5}
        queue = await channel.declare_queue("crm", durable=True, arguments=dict(arguments))
        await queue.bind(names.events, "opened")
    code, line = await seen_through.surroundings.told("delivery limit")
    assert code == 0
    assert line.startswith("warning delivery limit RabbitMQ ")
    assert "delivered often from: " in line
    assert line.partition("from: ")[2].partition(" →")[0] == "crm"
    assert "rabbitmqctl set_policy" in line


async def test_a_subscribers_queue_of_an_earlier_release(seen_through: Open, managed: Managed) -> None:
    """RabbitMQ 4 limits it and the doctor warns, until the policy that it advises stands; 3.10 has no limit there."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        queue = await channel.declare_queue("crm", durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(names.events, "opened")
        _, line = await seen_through.surroundings.told("delivery limit")
        limited = _is_4(await managed.control.version())
        assert line.startswith("warning delivery limit" if limited else "ok delivery limit")
        host = URL(seen_through.url).path.strip("/")
        await managed.control.set_policy(host, "free", "^crm$", delivery_limit=topology_plan.NO_LIMIT)
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), "crm")
        for _ in range(25):
            await (await queue.get(timeout=90)).reject(requeue=True)
        assert (await queue.get(timeout=90)).body == b"{}"
        async with asyncio.timeout(90):
            while not line.startswith("ok delivery limit"):  # RabbitMQ 4 tells of a policy after some seconds
                _, line = await seen_through.surroundings.told("delivery limit")


def _is_4(version: str) -> bool:
    return int(version.strip().partition(".")[0]) >= 4


async def test_a_queue_that_is_full_and_rejects(seen_through: Open, managed: Managed) -> None:
    """It is named, with the policy by which it does: all events that are bound for it are refused."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        queue = await channel.declare_queue("crm", durable=True)
        await queue.bind(names.events, "opened")
        code, line = await seen_through.surroundings.told("queues that refuse")
        assert (code, line.startswith("ok ")) == (0, True)
        host = URL(seen_through.url).path.strip("/")
        await managed.control.set_policy(host, "cap", "^crm$", max_length=0, overflow="reject-publish")
        async with asyncio.timeout(90):
            while "is full and rejects" not in line:  # RabbitMQ counts every 5 s
                code, line = await seen_through.surroundings.told("queues that refuse")
    assert code == 1
    assert (
        "failed queues that refuse queue 'crm' is full and rejects: 0 of max-length 0, by policy 'cap'"
        in line
    )


async def test_whether_a_queue_rejects_cannot_be_seen_without_the_api(
    well: Surroundings, rabbit: Rabbit
) -> None:
    """It says so, and that is no failure."""
    await declared(rabbit.connection, well)
    code, line = await well.told("queues that refuse")
    assert (code, line.startswith("skipped queues that refuse")) == (0, True)
    assert "cannot be seen" in line


@asynccontextmanager
async def a_receiver(unconfirmed: list[str]) -> AsyncIterator[dict[str, str]]:
    """The health of one that gets no confirms for these names; yields the variable that says where it is."""
    broker: dict[str, object] = {"state": "up", "reason": "connected"}
    if unconfirmed:
        broker["unconfirmed"] = unconfirmed
    parts: dict[str, dict[str, object]] = {"broker": broker, "spool": {"writable": True}}
    place = sections.Health(port=free_port())
    check = health.process_health(Metrics(), lambda: health.Readiness(ready=True, parts=parts))
    async with health.serve(place, *check, default_port=0):
        yield {"BRIDGE_HEALTH__ROLES": f"http://127.0.0.1:{place.port}"}


CONFIRMS = "queues that confirm"


async def test_confirms_that_do_not_come_are_told_by_a_receiver(well: Surroundings, rabbit: Rabbit) -> None:
    """Without the API, all queues that get such events are named, the archive first, and what to do if it is that."""
    await declared(rabbit.connection, well)
    async with a_receiver(["clicked"]) as where:
        code, line = await well.told(CONFIRMS, **where)
    names = rabbit.names
    assert code == 1
    assert (
        f"failed {CONFIRMS} RabbitMQ does not confirm clicked to the receiver {where['BRIDGE_HEALTH__ROLES']}: "
        f"one of these cannot be written: stream '{names.archive}'; which one cannot be seen: " in line
    )
    assert f"`rabbitmqctl delete_queue {names.archive}`" in line
    assert "docs/operate.md, 'The archive cannot be read after a power cut'" in line


async def test_confirms_that_do_not_come_from_queues_that_look_well(
    seen_through: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ's word does not count against that of the receiver: the queues of other services are named as well."""
    monkeypatch.setattr(broker_unconfirming_queues, "_LOOK_SECONDS", 0)
    names = seen_through.names
    async with seen_through.connection.channel() as channel, a_receiver(["newsletter", "opened"]) as where:
        queue = await channel.declare_queue("crm", durable=True)
        await queue.bind(names.events, "opened")
        variables = seen_through.surroundings.variables
        settings = load_settings(
            overrides={
                "rabbitmq": {
                    "urls": [seen_through.url],
                    "prefix": names.prefix,
                    "management_url": variables["BRIDGE_RABBITMQ__MANAGEMENT_URL"],
                },
                "health": {"roles": list(where.values())},
            }
        )
        async with management.connect(settings.rabbitmq) as api:
            context = broker_checks.BrokerContext(settings, seen_through.connection, "", api, None)
            await _counted(api, names.archive)
            found = await broker_unconfirming_queues.unconfirming_queues(CONFIRMS, context)
    assert found.status is CheckStatus.FAILED
    assert f": one of these cannot be written: stream '{names.archive}', classic queue 'crm'" in found.seen
    assert found.seen.endswith("; RabbitMQ says of none that it is down")


async def _counted(api: management.ManagementApi, stream: str) -> None:
    """When RabbitMQ knows the members of the stream, which it counts every 5 s."""
    async with asyncio.timeout(90):
        while (view := await api.queue(stream)) is None or view.members is None:  # noqa: ASYNC110 -- there is no event
            await asyncio.sleep(0.2)


async def test_confirms_that_come(well: Surroundings, rabbit: Rabbit) -> None:
    """The receiver says so; where there is none, nobody knows."""
    await declared(rabbit.connection, well)
    async with a_receiver([]) as where:
        _, line = await well.told(CONFIRMS, **where)
    assert line.startswith(f"ok {CONFIRMS} no receiver waits for RabbitMQ's confirms in vain")
    code, line = await well.told(CONFIRMS, **where)
    assert code == 0
    assert line.startswith(
        f"skipped {CONFIRMS} only a receiver knows what is not confirmed, and none answers at "
    )


async def test_an_operators_policy_that_throws_away_what_our_queues_hold(
    seen_through: Open, managed: Managed
) -> None:
    """It is in force beside our arguments, which stand as planned. The policy is named, and what goes by it."""
    names = seen_through.names
    host = URL(seen_through.url).path.strip("/")
    code, line = await seen_through.surroundings.told("policies")
    assert (code, line) == (0, "ok policies no policy drops messages of our queues")
    pattern = f"^{names.prefix}(suppression.*|email.*)$"
    await managed.control.set_policy(host, "small", pattern, max_length=1000, overflow="drop-head")
    await managed.control.set_policy(
        host,
        "house",
        pattern,
        operator=True,
        message_ttl=60_000,
        expires=3_600_000,
        max_length_bytes=1_000_000,
    )
    await managed.control.set_policy(
        host, "short", f"^{names.archive}$", max_age="1h", max_length_bytes=1_000_000
    )
    by = ", by policy 'small' and operator policy 'house'"
    ours = (
        (names.suppression, f"moves messages after 60 s to '{names.dead}' (message-ttl)"),
        (
            names.suppression,
            f"moves its oldest messages to '{names.dead}' beyond 1000 messages (max-length, drop-head)",
        ),
        (
            names.suppression,
            f"may lose messages that it dead-letters to '{names.dead}' (overflow: drop-head)",
        ),
        (names.retry(3600), f"moves messages after 60 s to '{names.suppression}' (message-ttl)"),
        (names.dead, "drops messages after 60 s (message-ttl)"),
        (names.dead, "drops its oldest messages beyond 1000000 bytes (max-length-bytes, drop-head)"),
    )
    of_the_archive = ("keeps events only for 1h (max-age)", "keeps only 1000000 bytes (max-length-bytes)")
    missing = [f"queue '{queue}' {effect}{by}" for queue, effect in ours]
    missing += [f"queue '{names.archive}' {effect}, by policy 'short'" for effect in of_the_archive]
    async with asyncio.timeout(90):
        while missing:  # RabbitMQ 4 tells of each queue after some seconds, one by one
            code, line = await seen_through.surroundings.told("policies")
            missing = [effect for effect in missing if effect not in line]
    assert (code, line.startswith("warning policies queue ")) == (0, True)
    assert f"queue '{names.retry(30)}' moves messages" not in line, "it waits for 30 s only"
    assert "set_operator_policy" in line


async def test_policies_cannot_be_seen_without_the_api(well: Surroundings, rabbit: Rabbit) -> None:
    """It says of which, on which queues, and that is no failure."""
    await declared(rabbit.connection, well)
    code, line = await well.told("policies")
    assert (code, line.startswith("skipped policies policies (message-ttl, expires, ")) == (0, True)
    assert f"on {rabbit.names.dead}, " in line
    assert "cannot be seen" in line


async def test_an_exchange_without_its_alternate(well: Surroundings, rabbit: Rabbit) -> None:
    """What nothing is bound for would vanish."""
    await declared(rabbit.connection, well)
    async with rabbit.channel() as channel:
        await channel.exchange_delete(rabbit.names.events)
        await channel.declare_exchange(rabbit.names.events, "topic", durable=True)
    code, line = await well.told("alternate exchange")
    assert code == 1
    assert "failed alternate exchange" in line
    assert "'alternate-exchange'" in line


async def test_an_alternate_exchange_seen_through_the_api(seen_through: Open) -> None:
    """Another one than ours, and ours without a queue, are told apart."""
    names = seen_through.names
    async with seen_through.connection.channel() as channel:
        await (await channel.get_queue(names.unrouted)).unbind(names.unrouted, "")
        code, line = await seen_through.surroundings.told("alternate exchange")
        assert code == 1
        assert f"failed alternate exchange no queue is bound to '{names.unrouted}'" in line
        await channel.exchange_delete(names.events)
        await channel.declare_exchange(names.events, "topic", durable=True)
        code, line = await seen_through.surroundings.told("alternate exchange")
    assert code == 1
    assert f"'{names.events}' has none, not {names.unrouted}" in line


async def test_two_workers_on_sqlite(well: Surroundings, rabbit: Rabbit) -> None:
    """Without the API nobody knows where they are: a warning."""
    await declared(rabbit.connection, well)
    async with consuming(rabbit.connection, rabbit.names.suppression, 2):
        code, line = await well.told("workers on SQLite")
    assert code == 0
    assert "warning workers on SQLite 2 workers; whether they are on one machine is unknown" in line
    assert "→ workers on several machines need PostgreSQL" in line


async def test_workers_on_several_machines_on_sqlite(seen_through: Open) -> None:
    """Each would keep a list of its own: that has failed. Two on one machine are a warning."""
    queue = seen_through.names.suppression
    async with consuming(seen_through.connection, queue, 2):
        _, findings = await seen_through.examined()
        assert findings["workers on SQLite"][0] == "warning"
        async with (
            elsewhere(seen_through.url) as url,
            await aio_pika.connect(url) as far,
            consuming(far, queue, 1),
            asyncio.timeout(90),
        ):
            while findings["workers on SQLite"][0] != "failed":  # RabbitMQ tells the API every 5 s
                code, findings = await seen_through.examined()
    assert code == 1
    assert findings["workers on SQLite"][1] == "3 workers, each with its own list, on 127.0.0.1, 127.0.0.2"


async def test_a_database_is_looked_at(well: Surroundings, postgresql_url: str) -> None:
    """Empty, as it shall be, and out of reach; a file that a worker has not made yet is no fault, nor made."""
    code, line = await well.told("database")
    assert "ok database" in line
    assert "is not there yet: a worker makes it" in line
    assert not (well.directory / "list.sqlite3").exists()
    name = postgresql_url.rpartition("@")[2]
    there = {"BRIDGE_SUPPRESSION__DATABASE_URL": postgresql_url}
    _, line = await well.told("database", **there)
    assert f"{name} has no tables yet → run `bridge db upgrade`" in line
    assert (await bridge("db", "upgrade", directory=well.directory, **there)).code == 0
    _, line = await well.told("database", **there)
    assert f"ok database {name} has the newest revision, {stores.NEWEST}; " in line
    assert "connections are left" in line
    nobody = f"postgresql://ann:{PASSWORD}@127.0.0.1:1/list"
    code, line = await well.told("database", BRIDGE_SUPPRESSION__DATABASE_URL=nobody)
    assert code == 1
    assert "failed database the suppression list 127.0.0.1:1/list cannot be used now" in line


async def test_workers_that_are_not_on_sqlite(
    well: Surroundings, rabbit: Rabbit, postgresql_url: str
) -> None:
    """PostgreSQL takes as many as there are."""
    await declared(rabbit.connection, well)
    async with consuming(rabbit.connection, rabbit.names.suppression, 2):
        code, line = await well.told("workers on SQLite", BRIDGE_SUPPRESSION__DATABASE_URL=postgresql_url)
    assert (code, line) == (0, "ok workers on SQLite the list is not on SQLite")


@pytest.mark.parametrize(
    ("token", "code", "said"),
    [
        ("wrong-api-token", 1, "failed provider token the provider refuses it → set provider.api_token"),
        ("", 0, "warning provider token none is set: "),
    ],
)
async def test_the_providers_token(
    well: Surroundings, rabbit: Rabbit, token: str, code: int, said: str
) -> None:
    """A wrong one has failed; none is for who announces his messages himself."""
    await declared(rabbit.connection, well)
    exit_code, line = await well.told("provider token", BRIDGE_PROVIDER__API_TOKEN=token)
    assert exit_code == code
    assert line.startswith(said)


async def test_a_base_url_without_its_path(well: Surroundings, simulator: Simulator) -> None:
    """Its 404 is no word about the token: what was seen is said."""
    base = simulator.base_url.removesuffix("/v1")
    code, line = await well.told("provider token", BRIDGE_PROVIDER__BASE_URL=base)
    assert code == 1
    assert line.startswith(f"failed provider token GET {base}/email/webhook was answered 404: whether the")
    assert "→ provider.base_url ends in /v1" in line


async def test_a_provider_that_is_away(well: Surroundings) -> None:
    """One attempt, and what it came to."""
    code, line = await well.told("provider token", BRIDGE_PROVIDER__BASE_URL="http://127.0.0.1:1/v1")
    assert code == 1
    assert line.startswith("failed provider token GET /email/webhook")


@pytest.mark.parametrize(
    ("url", "public", "code", "said"),
    [
        (None, "", 1, "failed webhook none is set"),
        (
            "https://bridge.example.org/hooks",
            "",
            1,
            "failed webhook the URL that is set is not one of a receiver",
        ),
        (
            "https://bridge.example.org/webhooks/msndr/of-somebody-else",
            "",
            1,
            "failed webhook https://bridge.example.org/webhooks/msndr/… ends in a token that is not in receiver.tokens",
        ),
        (
            f"https://old.example.org/webhooks/msndr/{TOKEN}",
            "https://bridge.example.org",
            1,
            "failed webhook https://old.example.org/webhooks/msndr/… is not below receiver.public_url",
        ),
        (
            f"http://bridge.example.org/webhooks/msndr/{TOKEN}",
            "",
            0,
            "warning webhook http://bridge.example.org/webhooks/msndr/… is not https",
        ),
        (
            f"https://bridge.example.org/in/webhooks/msndr/{TOKEN}",
            "https://bridge.example.org/in",
            0,
            "ok webhook https://bridge.example.org/in/webhooks/msndr/…",
        ),
        (
            f"http://127.0.0.1:8080/webhooks/msndr/{TOKEN}",
            "",
            0,
            "ok webhook http://127.0.0.1:8080/webhooks/msndr/…, which does not leave this machine",
        ),
    ],
)
async def test_the_webhook(
    well: Surroundings,
    rabbit: Rabbit,
    simulator: Simulator,
    url: str | None,
    public: str,
    code: int,
    said: str,
) -> None:
    """Set, of our shape, with one of our tokens, at our address; the token itself is never printed."""
    await declared(rabbit.connection, well)
    simulator.webhook_url = url
    exit_code, line = await well.told("webhook", BRIDGE_RECEIVER__PUBLIC_URL=public)
    assert exit_code == code
    assert line.startswith(said)
    assert "of-somebody-else" not in line


async def test_a_webhook_that_only_this_machine_can_call(
    well: Surroundings, rabbit: Rabbit, simulator: Simulator
) -> None:
    """It is good for a simulator on this machine. A provider that is elsewhere would call itself."""
    await declared(rabbit.connection, well)
    simulator.webhook_url = f"http://localhost:8080/webhooks/msndr/{TOKEN}"
    unspecific = "0.0.0.0"  # noqa: S104 -- called, not bound: it answers, and is not of the loopback
    elsewhere = simulator.base_url.replace("127.0.0.1", unspecific)
    code, line = await well.told("webhook", BRIDGE_PROVIDER__BASE_URL=elsewhere)
    assert code == 1
    assert "there the provider reaches nobody but itself" in line


async def test_a_spool_that_cannot_be_written(well: Surroundings) -> None:
    """A file stands where the folder should be."""
    _written(well.directory / "spool")
    code, line = await well.told("spool writable")
    assert code == 1
    assert f"failed spool writable {well.directory / 'spool'}: Not a directory" in line
    assert "→ make it a folder" in line


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs to look at")  # noqa: S108 -- it is only looked at
async def test_a_spool_in_memory(well: Surroundings, rabbit: Rabbit) -> None:
    """It is as writable as any, and empty after a restart."""
    await declared(rabbit.connection, well)
    code, line = await well.told("spool disk", BRIDGE_SPOOL__DIRECTORY=f"/dev/shm/{uuid.uuid4().hex}")  # noqa: S108 -- it is not made
    assert code == 0
    assert line.startswith("warning spool disk /dev/shm/")
    assert "is in memory (tmpfs): a restart loses it" in line


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        (
            "BRIDGE_SPOOL__MIN_FREE_BYTES",
            1,
            "below spool.min_free_bytes: the spool takes no events → free disk space",
        ),
        ("BRIDGE_SPOOL__MAX_BYTES", 0, "too few for spool.max_bytes → free disk space"),
    ],
)
async def test_too_little_space(
    well: Surroundings, rabbit: Rabbit, setting: str, code: int, said: str
) -> None:
    """Below the minimum nothing is taken; below the maximum, not all that is promised."""
    await declared(rabbit.connection, well)
    exit_code, line = await well.told("spool space", **{setting: str(2**60)})
    assert exit_code == code
    assert said in line


async def test_a_clock_that_is_wrong(well: Surroundings) -> None:
    """The provider's Date header says another time than this machine; an answer of any kind has one."""

    async def late(_: web.Request) -> web.Response:
        return web.Response(status=401, headers={"Date": "Tue, 09 Oct 2018 05:16:13 GMT"})

    async with served(late) as url:
        code, line = await well.told("clock", BRIDGE_PROVIDER__BASE_URL=url)
    assert code == 1
    assert line.startswith("failed clock this clock is ")
    assert "s ahead of the provider's" in line
    assert "NTP" in line


async def test_rabbitmqs_clock_where_the_provider_does_not_answer(seen_through: Open) -> None:
    """Any clock that is not ours will do."""
    _, findings = await seen_through.examined(BRIDGE_PROVIDER__BASE_URL="http://127.0.0.1:1/v1")
    assert findings["clock"][:2] == ("ok", "within 5 s of RabbitMQ's")


async def test_too_few_file_descriptors(well: Surroundings, rabbit: Rabbit) -> None:
    """Each request that waits holds a socket: the line says how many are needed."""
    await declared(rabbit.connection, well)
    code, line = await well.told("file descriptors", BRIDGE_RECEIVER__MAX_IN_FLIGHT="100000000")
    assert code == 0
    assert line.startswith("warning file descriptors ")
    assert "needs 100,000,100 → raise it (ulimit -n 100000100;" in line


def test_fewer_file_descriptors_than_any_receiver_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below what every system gives, it has failed."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    finding = machine_checks.descriptors("file descriptors", sections.Receiver())
    assert finding.status is CheckStatus.FAILED


async def test_help_has_an_example_and_the_variables(tmp_path: Path) -> None:
    """`--help` shows a line to copy, and what must be set."""
    text = (await bridge("doctor", "--help", directory=tmp_path)).stdout
    assert "Example: bridge --config /etc/bridge.toml doctor" in text
    assert "BRIDGE_RECEIVER__PUBLIC_URL" in text


@asynccontextmanager
async def consuming(
    connection: aio_pika.abc.AbstractConnection, queue: str, count: int
) -> AsyncIterator[None]:
    """So many consumers of a queue in which nothing is."""
    async with connection.channel() as channel:
        for _ in range(count):
            await (await channel.get_queue(queue)).consume(_never)
        yield


async def _never(message: aio_pika.abc.AbstractIncomingMessage) -> None:
    raise AssertionError(f"there was a message: {message}")


@asynccontextmanager
async def elsewhere(url: str) -> AsyncIterator[str]:
    """The broker, as reached from another address than everybody else's."""
    broker = URL(url)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
        writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection(broker.host, broker.port, local_addr=("127.0.0.2", 0))
        await asyncio.gather(carry(reader, onward), carry(back, writer))

    async with await asyncio.start_server(through, "127.0.0.1", 0) as server:
        yield str(broker.with_port(server.sockets[0].getsockname()[1]))


@asynccontextmanager
async def served(answer: web.RequestHandler | object) -> AsyncIterator[str]:
    """One answer to every request."""
    runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]  # a coroutine function of a request
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def _exists(path: Path) -> bool:
    return path.exists()


def _written(path: Path) -> None:
    path.write_text("a file")
