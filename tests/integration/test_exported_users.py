"""`bridge topology export --users`: on a blank broker nothing differs then, and each user may do its work and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from aiormq.exceptions import ChannelAccessRefused

from bridge.broker.topology import Names
from bridge.broker.topology_plan import SENT
from bridge.broker.users import role_users
from bridge.settings.loading import load_settings
from config import make_secrets
from tests.support.operating import TopologyOperator
from tests.support.rabbit import Rabbit
from tests.support.working import Workplace, bounced, bounces, changed, working

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

    from tests.support.managed import Managed

    Attempt = Callable[[AbstractChannel], Awaitable[object]]

CRM = '[{"queue": "crm", "events": ["opened"], "changes": true}]'


@dataclass(frozen=True, slots=True)
class Imported:
    """A blank virtual host into which the definitions were imported."""

    operator: TopologyOperator
    names: Names
    folder: Path
    variables: dict[str, str]

    def url(self, user: str) -> str:
        return (self.folder / f"{self.names.prefix}{user}.url").read_text().strip()

    @asynccontextmanager
    async def channel(self, user: str) -> AsyncIterator[AbstractChannel]:
        async with await aio_pika.connect(self.url(user)) as connection:
            yield await connection.channel()


@pytest.fixture
async def imported(managed: Managed, prefix: str, tmp_path: Path, empty_list_file: Path) -> Imported:
    shutil.copy(empty_list_file, tmp_path / "list.sqlite3")
    operator = TopologyOperator(managed.url, managed.api, tmp_path)
    variables = {"BRIDGE_RABBITMQ__PREFIX": prefix, "BRIDGE_WORKER__RETRY_DELAYS": "0.2,0.5"}
    exported = await operator.run("export", "--users", "users", subscribers=CRM, **variables)
    assert (exported.code, exported.stderr) == (0, "")
    await managed.control.import_definitions(json.loads(exported.stdout))
    return Imported(operator, Names(prefix), tmp_path / "users", variables)


async def test_nothing_differs_on_a_blank_broker_and_passwords_stay(imported: Imported) -> None:
    """Also as the operator that was made; only the owner can read the files, and the definitions have no password."""
    as_operator = imported.variables | {"BRIDGE_RABBITMQ__URL": imported.url("bridge-operator")}
    for command in ("plan", "apply", "plan"):
        outcome = await imported.operator.run(command, subscribers=CRM, **as_operator)
        assert (outcome.code, outcome.stderr) == (0, "")
    files = sorted(imported.folder.iterdir())
    before = {file.name: file.read_text() for file in files}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert len(files) == 2 * len(("operator", "receiver", "sender", "worker", "crm"))
    again = await imported.operator.run("export", "--users", "users", subscribers=CRM, **imported.variables)
    assert {file.name: file.read_text() for file in imported.folder.iterdir()} == before
    assert not any(secret.strip() in again.stdout for secret in before.values())


async def test_the_worker_keeps_the_list_with_its_rights(
    imported: Imported, overrides: dict[str, dict[str, Any]]
) -> None:
    """Handles, tries again, tells of changes and parks dead letters; what a sender announces, too."""
    urls = {"urls": [imported.url("bridge-worker")], "prefix": imported.names.prefix}
    settings = load_settings(overrides=changed(overrides, rabbitmq=urls))
    async with await aio_pika.connect(imported.operator.url) as connection:
        rabbit = Rabbit(connection, imported.names.prefix)
        async with (
            rabbit.listening(imported.names.changes, "#") as heard,
            rabbit.channel() as channel,
            working(settings),
        ):
            workplace = Workplace(rabbit, settings, heard, channel)
            async with imported.channel("bridge-receiver") as receiving:
                events = await receiving.get_exchange(imported.names.events, ensure=False)
                for body in bounces([1, 100_000]):  # the provider does not know the second one
                    await events.publish(aio_pika.Message(body, delivery_mode=2), "hard_bounced")
            async with imported.channel("bridge-sender") as sending:
                messages = await sending.get_exchange(imported.names.messages, ensure=False)
                await messages.publish(aio_pika.Message(b"no announcement"), SENT)
            await workplace.changes(1)
            async with rabbit.reading(imported.names.dead) as dead:
                assert (await dead.next()).body == bounces([100_000])[0]
            async with rabbit.reading(imported.names.malformed) as quarantine:
                assert (await quarantine.next()).body == b"no announcement"
        assert await workplace.listed() == bounced([1])


async def test_a_subscriber_consumes_its_queue_and_its_dead_letters(imported: Imported) -> None:
    """It acknowledges one, rejects another, and finds that one among its dead letters."""
    async with imported.channel("bridge-receiver") as channel:
        events = await channel.get_exchange(imported.names.events, ensure=False)
        for body in (b"good", b"bad"):
            await events.publish(aio_pika.Message(body, delivery_mode=2), "opened")
    async with imported.channel("crm") as channel:
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        for queue in ("crm", "crm.dead"):
            await (await channel.get_queue(f"{imported.names.prefix}{queue}")).consume(arrived.put)
        await (await arrived.get()).ack()
        await (await arrived.get()).reject(requeue=False)
        async with asyncio.timeout(90):
            dead = await arrived.get()
        assert (dead.body, dead.routing_key) == (b"bad", f"{imported.names.prefix}crm.dead")
        await dead.ack()


async def test_what_is_not_its_work_is_refused_to_each_user(imported: Imported) -> None:
    """RabbitMQ says no: to publish elsewhere, to read others' queues, to declare, bind and delete."""
    names = imported.names
    crm = f"{names.prefix}crm"
    forbidden: dict[str, list[Attempt]] = {
        "bridge-receiver": [
            publishes(names.changes), publishes(""), publishes(names.messages), consumes(names.suppression),
            declares(f"{names.prefix}mine"), deletes(names.archive),
        ],
        "bridge-sender": [
            publishes(names.events), publishes(""), consumes(names.announced), declares(f"{names.prefix}mine"),
        ],
        "bridge-worker": [
            publishes(names.events), publishes(names.messages), consumes(names.malformed), consumes(crm),
            declares(f"{names.prefix}mine"), deletes(names.archive), deletes(crm),
        ],
        "crm": [
            publishes(names.events), publishes(""), consumes(names.suppression), consumes(names.archive),
            declares(f"{crm}.mine"), deletes(crm), binds(crm, names.events), binds(crm, names.changes),
        ],
        "bridge-operator": [declares("another"), publishes("amq.topic")],
    }  # fmt: skip
    for user, attempts in forbidden.items():
        async with await aio_pika.connect(imported.url(user)) as connection:
            for attempt in attempts:
                channel = await connection.channel()
                with pytest.raises(ChannelAccessRefused, match="ACCESS_REFUSED"):
                    await attempt(channel)
    assert (await imported.operator.run("plan", subscribers=CRM, **imported.variables)).code == 0


async def test_a_subscriber_called_like_a_roles_user_is_refused(managed: Managed, tmp_path: Path) -> None:
    """Before anything is written."""
    operator = TopologyOperator(managed.url, managed.api, tmp_path)
    refused = await operator.run(
        "export", "--users", "users", subscribers='[{"queue": "bridge-worker", "events": ["opened"]}]'
    )
    assert (refused.code, refused.stdout) == (1, "")
    assert "the subscriber 'bridge-worker' is called like the user of a role" in refused.stderr
    assert not (tmp_path / "users").exists()


async def test_a_password_that_is_no_text_is_named(managed: Managed, tmp_path: Path) -> None:
    """In one line; nothing is exported."""
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "bridge-worker.password").write_bytes(b"\xff\xfe")
    refused = await TopologyOperator(managed.url, managed.api, tmp_path).run("export", "--users", "users")
    assert (refused.code, refused.stdout) == (1, "")
    assert "bridge: the users cannot be made in users: 'utf-8' codec can't decode" in refused.stderr


def test_compose_gives_the_roles_the_same_rights() -> None:
    """`make secrets` needs nothing but Python, so they are written down there once more."""
    for role, user in role_users(Names()).items():
        theirs = make_secrets.USERS[role]
        assert (user.configure, user.write, user.read, user.tags) == tuple(theirs), role


def publishes(exchange: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> object:
        target = await channel.get_exchange(exchange, ensure=False)
        return await target.publish(aio_pika.Message(b"{}"), routing_key="suppression")

    return attempt


def consumes(queue: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> object:
        return await (await channel.get_queue(queue, ensure=False)).get(fail=False)

    return attempt


def declares(queue: str) -> Attempt:
    return lambda channel: channel.declare_queue(queue, durable=True)


def deletes(queue: str) -> Attempt:
    return lambda channel: channel.queue_delete(queue)


def binds(queue: str, exchange: str) -> Attempt:
    async def attempt(channel: AbstractChannel) -> object:
        return await (await channel.get_queue(queue, ensure=False)).bind(exchange, "#")

    return attempt
