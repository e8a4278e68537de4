"""`bridge topology`: what shall stand, declared by a user who may, or handed to RabbitMQ's own tools."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aio_pika
import pytest
from typer.testing import CliRunner

from bridge.broker import declaring, topology_plan
from bridge.cli import main
from tests.support.commands import bridge
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.node import Control
    from tests.support.rabbit import Rabbit

DEFAULT_DELAYS = (30, 300, 3600)
NOBODY = "amqp://guest:an-uncommon-secret@127.0.0.1:1/"


async def test_apply_declares_all_of_it_on_the_broker_that_answers(
    rabbit: Rabbit, settings: Settings, amqp_url: str, prefix: str, tmp_path: Path
) -> None:
    """The first URL refuses, the second is used; a second time nothing changes."""
    for _ in range(2):
        applied = await bridge(
            "topology",
            "apply",
            directory=tmp_path,
            BRIDGE_RABBITMQ__URLS=f"{NOBODY},{amqp_url}",
            BRIDGE_RABBITMQ__PREFIX=prefix,
        )
        assert (applied.code, applied.stderr) == (0, "")
        assert applied.stdout == "4 exchanges, 10 queues exist as planned\n"
    told = await bridge(
        "topology", "apply", "--json", directory=tmp_path,
        BRIDGE_RABBITMQ__URLS=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
    )  # fmt: skip
    assert json.loads(told.stdout) == {"exchanges": 4, "queues": 10, "refused": []}
    planned = topology_plan.plan(
        settings.rabbitmq, suppressing=settings.suppression.used_events, retry_delays=DEFAULT_DELAYS
    )
    await declaring.apply_all(rabbit.connection, planned, "never")


async def test_apply_says_in_one_line_that_no_broker_answers(amqp_url: str, tmp_path: Path) -> None:
    """Which brokers, and why each; never a password. Exit code 1."""
    async with Proxy.serve(amqp_url) as silent:
        silent.pause()
        failed = await bridge(
            "topology",
            "apply",
            "--wait",
            "4",  # on a busy machine it may take some time to try both once
            directory=tmp_path,
            BRIDGE_RABBITMQ__URLS=f"{NOBODY},{silent.url(NOBODY)}",
            BRIDGE_RABBITMQ__CONNECT_TIMEOUT="0.2",
        )
    assert (failed.code, failed.stdout) == (1, "")
    [line] = failed.stderr.splitlines()
    assert line.startswith("bridge: RabbitMQ cannot be reached in 4 s: amqp://127.0.0.1:1/")
    assert f"amqp://127.0.0.1:{silent.port}/: no answer in 0.2 s" in line
    assert "uncommon" not in line


async def test_apply_says_in_one_line_what_stands_in_the_way(
    rabbit: Rabbit, amqp_url: str, prefix: str, tmp_path: Path
) -> None:
    """A queue with other arguments is named, with the argument. Exit code 1."""
    async with rabbit.channel() as channel:
        await channel.declare_queue(
            rabbit.names.dead, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 5}
        )
    failed = await bridge(
        "topology", "apply", directory=tmp_path, BRIDGE_RABBITMQ__URL=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix
    )
    assert failed.code == 1
    [line] = failed.stderr.splitlines()
    assert line.startswith(f"bridge: queue '{rabbit.names.dead}' exists with other arguments")
    assert "argument 'x-max-length'" in line


async def test_apply_declares_the_rest_around_what_is_refused(
    rabbit: Rabbit, amqp_url: str, prefix: str, tmp_path: Path
) -> None:
    """A subscriber's queue that its team has made as a classic one, and the archive: each is named, all else stands.

    The queue alone is no failure: it is bound, and the setup of a stack goes on.
    """
    crm = f"{prefix}crm"
    async with rabbit.channel() as channel:
        await channel.declare_queue(crm, durable=True)
        await channel.declare_queue(
            rabbit.names.archive, durable=True, arguments={"x-queue-type": "stream", "x-max-age": "1D"}
        )
    failed = await bridge(
        "topology", "apply", directory=tmp_path, BRIDGE_RABBITMQ__URL=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
        BRIDGE_SUBSCRIBERS='[{"queue": "crm", "events": ["opened"]}]',
    )  # fmt: skip
    assert failed.code == 1
    noted, line = failed.stderr.splitlines()
    assert f"queue '{crm}' exists with other arguments" in noted
    assert f"queue '{rabbit.names.archive}' exists with other arguments" in line
    async with rabbit.channel() as channel:
        exchange = await channel.get_exchange(rabbit.names.events)
        await exchange.publish(aio_pika.Message(b"{}"), "opened")
        await exchange.publish(aio_pika.Message(b"{}"), "hard_bounced")
        await channel.queue_delete(crm)
    assert await rabbit.depth(rabbit.names.suppression) == 1
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.archive)
        await channel.declare_queue(crm, durable=True)
    done = await bridge(
        "topology", "apply", directory=tmp_path, BRIDGE_RABBITMQ__URL=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
        BRIDGE_SUBSCRIBERS='[{"queue": "crm", "events": ["opened"]}]',
    )  # fmt: skip
    assert (done.code, done.stdout) == (0, "4 exchanges, 11 queues exist as planned\n")
    assert f"queue '{crm}' exists with other arguments" in done.stderr


async def test_apply_notes_that_a_deleted_suppression_queue_is_to_be_filled(
    rabbit: Rabbit, settings: Settings, amqp_url: str, prefix: str, tmp_path: Path
) -> None:
    """Before it makes the queue again; where nothing was deleted it notes nothing."""
    environment = {"BRIDGE_RABBITMQ__URL": amqp_url, "BRIDGE_RABBITMQ__PREFIX": prefix}
    assert (await bridge("topology", "apply", directory=tmp_path, **environment)).code == 0
    assert await rabbit.depth(rabbit.names.backfill) == 0
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.suppression)
    assert (await bridge("topology", "apply", directory=tmp_path, **environment)).code == 0
    assert await rabbit.depth(rabbit.names.backfill) == 1
    assert await rabbit.stands(rabbit.names.suppression)
    assert settings


def test_plan_shows_everything_without_a_broker() -> None:
    """Every name is there in full, however narrow the terminal."""
    shown = printed("plan", "--offline", url=NOBODY)
    for name in (
        "email.events.archive",
        "email.unrouted",
        "email.malformed",
        "suppression.dead",
        "complined",
    ):
        assert name in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert "uncommon" not in shown


@pytest.mark.parametrize("arguments", [("export",), ("plan", "--offline", "--json")])
@pytest.mark.parametrize(("path", "host"), [("", "/"), ("/", "/"), ("/mail", "mail"), ("/a%2Fb", "a/b")])
def test_definitions_are_for_the_virtual_host_of_the_url(
    arguments: tuple[str, ...], path: str, host: str
) -> None:
    """What is imported stands where the bridge will look for it."""
    document = json.loads(printed(*arguments, url=f"amqp://127.0.0.1:1{path}"))
    assert document.keys() == {"exchanges", "queues", "bindings"}
    assert {entry["vhost"] for entries in document.values() for entry in entries} == {host}


async def test_what_export_prints_rabbitmq_imports(
    rabbit: Rabbit, settings: Settings, control: Control, amqp_url: str, prefix: str, tmp_path: Path
) -> None:
    """`rabbitmqctl import_definitions` makes the same topology: declaring it afterwards finds no difference."""
    definitions = tmp_path / "definitions.json"
    exported = await bridge(
        "topology", "export", directory=tmp_path,
        BRIDGE_RABBITMQ__URL=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
    )  # fmt: skip
    definitions.write_text(exported.stdout)
    await control.run("import_definitions", str(definitions))
    planned = topology_plan.plan(
        settings.rabbitmq, suppressing=settings.suppression.used_events, retry_delays=DEFAULT_DELAYS
    )
    await declaring.check(rabbit.connection, planned)
    await declaring.declare(rabbit.connection, planned)


def printed(*arguments: str, url: str, prefix: str = "") -> str:
    """What `bridge topology ARGUMENTS...` prints, where it asks no broker."""
    environment = {"BRIDGE_RABBITMQ__URL": url, "BRIDGE_RABBITMQ__PREFIX": prefix}
    outcome = CliRunner().invoke(main.app, ["topology", *arguments], env=environment)
    assert outcome.exit_code == 0
    [note] = outcome.stderr.splitlines()
    assert note.startswith("subscribers that were added by `bridge subscribers add` are not known: ")
    return outcome.stdout
