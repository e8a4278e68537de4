"""`bridge subscribers`: what it prints, and what it refuses with one line, an exit code, and nothing half done."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aio_pika
import pytest
from typer.testing import CliRunner
from yarl import URL

from bridge.broker import declaring, topology_plan
from bridge.cli import main
from bridge.operations import subscribers as operations
from bridge.operations.subscribers import SubscriberError
from bridge.settings.loading import load_settings
from bridge.settings.subscribers import Subscriber
from bridge.suppression import opening
from bridge.suppression.errors import StoreError
from bridge.suppression.subscriber_registry import SubscriberRegistry
from tests.support import postgres, stores
from tests.support.commands import bridge
from tests.support.proxy import Proxy
from tests.support.working import changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.commands import Outcome
    from tests.support.managed import Managed
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit

CRM = Subscriber(queue="crm", events=("*bounced",), changes=True)
NOBODY = "amqp://guest:guest@127.0.0.1:1/"


@dataclass(frozen=True, slots=True)
class House:
    """A list, and a RabbitMQ in which what a role declares stands."""

    directory: Path
    settings: Settings
    rabbit: Rabbit

    async def run(self, *arguments: str, **variables: str) -> Outcome:
        rabbitmq = self.settings.rabbitmq
        database_url = self.settings.suppression.database_url.get_secret_value()
        given = {
            "BRIDGE_RABBITMQ__URLS": rabbitmq.urls[0].get_secret_value(),
            "BRIDGE_RABBITMQ__PREFIX": rabbitmq.prefix,
            "BRIDGE_SUPPRESSION__DATABASE_URL": database_url,
        }
        return await bridge("subscribers", *arguments, directory=self.directory, **given | variables)

    async def refuses(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """The exit code, and the one line that it writes."""
        refused = await self.run(*arguments, **variables)
        assert refused.stdout == ""
        [line] = refused.stderr.splitlines()
        return refused.code, line

    async def add(self, subscriber: Subscriber = CRM, *, as_it_is: bool = False) -> operations.Added:
        return await operations.add(self.settings, subscriber, actor="ann", as_it_is=as_it_is)

    async def registered(self) -> list[str]:
        return [one.subscriber.queue for one in await operations.registered_subscribers(self.settings)]

    def queue(self, name: str) -> str:
        return f"{self.rabbit.names.prefix}{name}"

    async def stands(self, *names: str) -> list[bool]:
        return [await self.rabbit.stands(self.queue(name)) for name in names]


@pytest.fixture
async def house(
    rabbit: Rabbit, overrides: dict[str, Any], database_url: str, tmp_path: Path
) -> AsyncIterator[House]:
    """With the list in either database."""
    settings = load_settings(overrides=changed(overrides, suppression={"database_url": database_url}))
    await declaring.declare(rabbit.connection, topology_plan.planned_topology(settings))
    yield House(tmp_path, settings, rabbit)
    await rabbit.delete_subscribers("crm", "billing")


only_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Where it does not matter which database it is."""


async def test_one_is_added_listed_and_removed(house: House) -> None:
    """With the commands that make a user for it; after each of them one sees what is in force."""
    added = await house.run(
        "add", "crm", "--events", "un*,opened", "--changes", "--actor", "ann", "--ttl", "3600.5"
    )
    own, dead = house.queue("crm"), house.queue("crm.dead")
    assert (added.code, added.stdout.splitlines()[0]) == (
        0,
        f"queue '{own}' gets unsubscribed, opened, the changes of the list from now on; its dead letters are in '{dead}'",
    )
    pattern = own.replace(".", r"\.")
    assert added.stdout.splitlines()[2:] == [
        "  rabbitmqctl add_user crm",
        rf"  rabbitmqctl set_permissions -p / crm '^$' '^$' '^{pattern}(\.dead)?$'",
    ]
    settings = json.dumps([{"queue": "billing", "events": ["opened"]}])
    listed = await house.run("list", "--json", BRIDGE_SUBSCRIBERS=settings)
    billing, crm = json.loads(listed.stdout)["items"]
    assert (billing["queue"], billing["source"], billing["state"]) == ("billing", "settings", "in force")
    assert (crm["queue"], crm["source"], crm["state"], crm["added_by"]) == (
        "crm",
        "registry",
        "in force",
        "ann",
    )
    assert (crm["events"], crm["changes"], crm["ttl"]) == (["unsubscribed", "opened"], True, 3600.5)
    for_people = await house.run("list", BRIDGE_SUBSCRIBERS=settings)
    assert [line.split("\t")[:3] for line in for_people.stdout.splitlines()[1:]] == [
        ["billing", "opened", ""],
        ["crm", "unsubscribed, opened, changes", "ttl 3600.5"],
    ]
    async with house.rabbit.channel() as channel:
        for _ in range(2):
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), own)
    asked = await house.run("remove", "crm")
    assert asked.code == 1
    assert f"queue '{own}' has 2 messages that wait, and 0 consumers; " in asked.stderr
    assert await house.refuses("remove", "crm", "--json") == (
        2, "bridge: --json needs --yes: there is nobody to confirm it"
    )  # fmt: skip
    assert await house.stands("crm", "crm.dead") == [True, True]
    removed = await house.run("remove", "crm", "--yes")
    assert (removed.code, removed.stdout) == (0, "crm was removed, with 2 messages that waited\n")
    assert await house.stands("crm", "crm.dead") == [False, False]
    assert await house.registered() == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["crm"], "give --events, or --changes, or both"),
        (["crm", "--events", "opened,*bonced"], "events: '*bonced' matches no event; the known ones are clicked, "),
        (["crm", "--events", "added"], "events: 'added' is not an event but a change of the suppression list"),
        (["our crm", "--changes"], "queue: 'our crm' is no name for a queue: give letters, digits and . _ -"),
        (["--changes", "--", "-x"], "queue: '-x' is no name for a queue"),
        (["..", "--changes"], "queue: '..' is no name for a queue"),
        (["q" * 151, "--changes"], f"queue: '{'q' * 20}…' has 151 characters, and may have 150: RabbitMQ takes 255"),
        (["suppression.dead", "--changes"], "queue: 'suppression.dead' is reserved for the bridge"),
        (["amq.crm", "--changes"], "queue: names that begin with 'amq.' are RabbitMQ's own"),
        (["crm", "--changes", "--max-length", "0"], "max_length: Input should be greater than or equal to 1"),
    ],
)  # fmt: skip
def test_what_can_never_be_ends_with_exit_code_2(arguments: list[str], line: str) -> None:
    """By the rules of the settings; RabbitMQ and the database are not asked."""
    nowhere = {
        "BRIDGE_RABBITMQ__URLS": NOBODY,
        "BRIDGE_SUPPRESSION__DATABASE_URL": "sqlite+aiosqlite:///no/list",
    }
    refused = CliRunner().invoke(main.app, ["subscribers", "add", *arguments], env=nowhere)
    assert (refused.exit_code, refused.stdout) == (2, "")
    [said] = refused.stderr.splitlines()
    assert said.startswith(f"bridge: {line}"), said


@only_sqlite
async def test_two_of_one_name_are_refused(house: House) -> None:
    """Of the settings, of the registry, and where one is called like the dead letters of another."""
    settings = json.dumps([{"queue": "crm", "events": ["opened"]}])
    code, line = await house.refuses("add", "crm", "--changes", BRIDGE_SUBSCRIBERS=settings)
    assert (code, line) == (
        1,
        "bridge: the settings ([[subscribers]]) have it already: the queue 'crm' is named twice; give all its events in one",
    )
    await house.add()
    code, line = await house.refuses("add", "crm", "--changes")
    assert (code, line.startswith("bridge: 'crm' is registered already, by ann at ")) == (1, True)
    assert await house.refuses("add", "crm.dead", "--changes") == (
        1, "bridge: 'crm.dead' is the queue of the dead letters of 'crm'; choose another name"
    )  # fmt: skip
    assert await house.registered() == ["crm"]


@only_sqlite
async def test_one_of_the_settings_keeps_its_queues(house: House) -> None:
    """It is not removed by a command; one that both have is taken out of the registry only."""
    settings = json.dumps([{"queue": "crm", "events": ["opened"]}])
    code, line = await house.refuses("remove", "crm", "--yes", BRIDGE_SUBSCRIBERS=settings)
    assert (code, line) == (1, "bridge: 'crm' is in the settings ([[subscribers]]): take it out there")
    assert await house.refuses("remove", "crm", "--yes") == (
        1, "bridge: 'crm' is not registered; `bridge subscribers list` shows those that are"
    )  # fmt: skip
    await house.add()
    listed = await house.run("list", BRIDGE_SUBSCRIBERS=settings)
    assert listed.stdout.splitlines()[-1].endswith("\tthe settings have it, too")
    removed = await house.run("remove", "crm", "--yes", BRIDGE_SUBSCRIBERS=settings)
    assert removed.stdout == "crm is not registered any more; its queues stay, as the settings have it\n"
    assert await house.stands("crm", "crm.dead") == [True, True]
    assert await house.registered() == []


@only_sqlite
async def test_one_that_a_newer_bridge_added_is_not_removed_unread(house: House) -> None:
    """Which queues are its own is not known here."""
    await stores.execute(
        house.settings.suppression.database_url.get_secret_value(),
        "INSERT INTO subscribers (queue, settings, added_at, added_by, in_force) "
        """VALUES ('new', '{"queue": "new", "changes": true, "priority": 5}', 1, 'ann', true)""",
    )
    code, line = await house.refuses("remove", "new", "--yes")
    assert (code, line) == (
        1,
        "bridge: 'new' was added by a newer bridge, and this one cannot read what it is: remove it with the newer one",
    )


@only_sqlite
async def test_a_removal_leaves_a_queue_of_the_settings_that_is_called_like_its_dead_letters(
    house: House,
) -> None:
    """It is not asked about, nor deleted."""
    await house.add()
    settings = json.dumps([{"queue": "crm.dead", "events": ["opened"]}])
    asked = await house.run("remove", "crm", BRIDGE_SUBSCRIBERS=settings)
    assert (asked.code, house.queue("crm.dead") in asked.stderr) == (1, False)
    assert (await house.run("remove", "crm", "--yes", BRIDGE_SUBSCRIBERS=settings)).code == 0
    assert await house.stands("crm", "crm.dead") == [False, True]


@only_sqlite
async def test_a_queue_that_stands_with_other_arguments_is_bound_only_where_that_is_said(
    house: House,
) -> None:
    """Else nothing is done: it gets no event, and there is neither a queue for dead letters nor a row."""
    own = house.queue("crm")
    async with house.rabbit.channel() as channel:
        await channel.declare_queue(own, durable=True)
        exchange = await channel.get_exchange(house.rabbit.names.events)
        code, line = await house.refuses("add", "crm", "--events", "opened")
        assert (
            code,
            line.startswith(f"bridge: queue '{own}' stands already, with other arguments: argument 'x-"),
        ) == (
            1,
            True,
        )
        assert "--as-it-is" in line
        await exchange.publish(aio_pika.Message(b"{}"), "opened")
        assert await house.rabbit.depth(own) == 0
        assert (await house.registered(), await house.stands("crm.dead")) == ([], [False])
        added = await house.run("add", "crm", "--events", "opened", "--as-it-is")
        assert added.code == 0
        assert f"note: queue '{own}' exists with other arguments" in added.stderr
        await exchange.publish(aio_pika.Message(b"{}"), "opened")
        assert await house.rabbit.depth(own) == 1


@only_sqlite
async def test_a_queue_that_stands_as_planned_is_taken_over(house: House) -> None:
    """With what is in it."""
    await house.add()
    async with house.rabbit.channel() as channel:
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), house.queue("crm"))
    async with operations._open_registry(house.settings) as registry:
        await registry.remove("crm")
    [unknown] = (await house.add()).remarks
    assert unknown.startswith(
        "whether a policy changes its limits is not known: RabbitMQ's management API cannot be"
    )
    assert await house.rabbit.depth(house.queue("crm")) == 1


@only_sqlite
@pytest.mark.parametrize(
    ("configure", "read", "refused"),
    [
        ("^$", ".*", "may not declare queue '{crm}.dead'"),
        (r"^.*\.dead$", ".*", "may not declare queue '{crm}'"),
        (".*", "^$", "may not declare queue '{crm}'"),
    ],
    ids=["neither", "only the queue of the dead letters", "no reading of events"],
)
async def test_a_user_without_the_right_leaves_nothing_behind(
    house: House, control: Control, amqp_url: str, configure: str, read: str, refused: str
) -> None:
    """One line names what he may not; neither row nor queue is left, whatever he could declare."""
    user = house.queue("limited")
    await control.add_user(user, "a-password", configure=configure, write=".*", read=read)
    url = str(URL(amqp_url).with_user(user).with_password("a-password"))
    code, line = await house.refuses("add", "crm", "--events", "opened", BRIDGE_RABBITMQ__URLS=url)
    assert code == 1
    assert refused.format(crm=house.queue("crm")) in line
    assert (await house.registered(), await house.stands("crm", "crm.dead")) == ([], [False, False])


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_user_of_the_database_without_the_right_adds_nothing(house: House) -> None:
    """To read the registry is enough for a list, and for a worker; the line names the table."""
    await house.add()
    owner = house.settings.suppression.database_url.get_secret_value()
    name = f"reader_{owner.rpartition('/')[2]}"
    await postgres.execute(
        owner,
        f"CREATE ROLE {name} LOGIN PASSWORD '{postgres.PASSWORD}'",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
    )
    try:
        url = {"BRIDGE_SUPPRESSION__DATABASE_URL": owner.replace(f"{postgres.OWNER}:", f"{name}:")}
        assert (await house.run("list", **url)).stdout.splitlines()[1].startswith("crm\t")
        for command in (["add", "billing", "--changes"], ["remove", "crm", "--yes"]):
            code, line = await house.refuses(*command, **url)
            assert (code, line.endswith("permission denied for table subscribers")) == (1, True), line
    finally:
        await postgres.execute(owner, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    assert await house.registered() == ["crm"]
    assert await house.stands("crm", "crm.dead", "billing", "billing.dead") == [True, True, False, False]


@only_sqlite
async def test_who_may_not_delete_removes_nothing(house: House, control: Control, amqp_url: str) -> None:
    """It is in force as before."""
    await house.add()
    user = house.queue("limited")
    await control.add_user(user, "a-password", configure="^$")
    url = str(URL(amqp_url).with_user(user).with_password("a-password"))
    code, line = await house.refuses("remove", "crm", "--yes", BRIDGE_RABBITMQ__URLS=url)
    assert code == 1
    assert line.startswith(f"bridge: the broker user may not delete queue '{house.queue('crm')}'")
    assert line.endswith("; nothing was removed")
    [crm] = await operations.registered_subscribers(house.settings)
    assert crm.in_force


@only_sqlite
async def test_without_rabbitmq_or_the_database_nothing_is_added(house: House, tmp_path: Path) -> None:
    """Whichever of them is away is named."""
    code, line = await house.refuses("add", "crm", "--changes", BRIDGE_RABBITMQ__URLS=NOBODY)
    assert (code, line.startswith("bridge: RabbitMQ cannot be reached: amqp://127.0.0.1:1/")) == (1, True)
    assert await house.registered() == []
    for command in (["add", "crm", "--changes"], ["list"], ["remove", "crm", "--yes"]):
        nowhere = f"sqlite+aiosqlite:///{tmp_path}/nowhere.sqlite3"
        code, line = await house.refuses(*command, BRIDGE_SUPPRESSION__DATABASE_URL=nowhere)
        assert (code, line.startswith("bridge: there is no suppression list")) == (1, True)
    assert await house.stands("crm", "crm.dead") == [False, False]


@only_sqlite
async def test_a_connection_that_is_lost_on_the_way(
    house: House, overrides: dict[str, Any], amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says that something may be left, and what ends it; it does."""
    reserve = SubscriberRegistry.reserve
    async with Proxy.serve(amqp_url) as proxy:

        async def reserved(self: SubscriberRegistry, subscriber: Subscriber, *, actor: str) -> Any:
            row = await reserve(self, subscriber, actor=actor)
            proxy.cut()
            return row

        monkeypatch.setattr(SubscriberRegistry, "reserve", reserved)
        through = changed(
            overrides,
            rabbitmq={"urls": [proxy.url(amqp_url)]},
            suppression={"database_url": house.settings.suppression.database_url.get_secret_value()},
        )
        with pytest.raises(
            SubscriberError, match="what was made is left: `bridge subscribers remove crm` ends it"
        ):
            await operations.add(load_settings(overrides=through), CRM, actor="ann", as_it_is=False)
    [left] = await operations.registered_subscribers(house.settings)
    assert not left.in_force
    monkeypatch.undo()
    with pytest.raises(StoreError, match="'crm' is being added or removed, or that was interrupted"):
        await house.add()
    await operations.remove(house.settings, await operations.preview_removal(house.settings, "crm"))
    await house.add()


@only_sqlite
async def test_a_command_that_is_stopped_leaves_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C, while it declares."""
    declared = asyncio.Event()
    apply = declaring.apply_topology

    async def slow(*arguments: Any, **options: Any) -> Any:
        done = await apply(*arguments, **options)
        declared.set()
        await asyncio.Event().wait()
        return done

    monkeypatch.setattr(declaring, "apply_topology", slow)
    adding = asyncio.create_task(house.add())
    await declared.wait()
    assert await house.stands("crm", "crm.dead") == [True, True]
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert (await house.registered(), await house.stands("crm", "crm.dead")) == ([], [False, False])


@only_sqlite
async def test_an_exchange_that_is_missing_is_named(house: House) -> None:
    """Somebody has to declare the topology first."""
    async with house.rabbit.channel() as channel:
        await channel.exchange_delete(house.rabbit.names.changes)
    code, line = await house.refuses("add", "crm", "--changes")
    assert (code, line) == (
        1,
        (
            f"bridge: exchange '{house.rabbit.names.changes}' is missing and may not be declared here; "
            "run `bridge topology apply`"
        ),
    )
    assert (await house.registered(), await house.stands("crm", "crm.dead")) == ([], [False, False])


async def test_a_policy_that_changes_its_limits_is_told_of(
    managed: Managed, overrides: dict[str, Any]
) -> None:
    """Of the operator, too, as far as the management API tells."""
    rabbitmq = {"urls": [managed.url], "prefix": "", "management_url": managed.api}
    settings = load_settings(overrides=changed(overrides, rabbitmq=rabbitmq))
    host = URL(managed.url).path.strip("/")
    await managed.control.set_policy(host, "short", "^crm", max_length=10, overflow="reject-publish")
    await managed.control.set_policy(host, "other", "^mail", max_length=7)
    await managed.control.set_policy(host, "guard", "^crm$", operator=True, max_length=5)
    async with await aio_pika.connect(managed.url) as connection:
        await declaring.declare(connection, topology_plan.planned_topology(settings))
    async with opening.open_database(settings.suppression.database_url.get_secret_value(), create=True):
        pass
    added = await operations.add(settings, CRM, actor="ann", as_it_is=False)
    assert added.remarks == (
        "policy 'short' changes the limits of queue 'crm': max-length = 10, overflow = reject-publish",
        "while queue 'crm' is full, RabbitMQ refuses its events for everybody; see docs/operate.md",
        "operator policy 'guard' changes the limits of queue 'crm': max-length = 5",
        "policy 'short' changes the limits of queue 'crm.dead': max-length = 10, overflow = reject-publish",
        "while queue 'crm.dead' is full, RabbitMQ refuses its events for everybody; see docs/operate.md",
    )
