"""`bridge spool`, as a person or a program calls it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import typer
from typer.testing import CliRunner

from bridge.amqp.connection import open_connection
from bridge.broker import declaring, topology_plan
from bridge.cli import main, spool
from bridge.spool.entries import SpoolEntry
from bridge.spool.listing import read_set_aside
from bridge.spool.set_aside_entries import Refusal, to_set_aside
from bridge.spool.spool_file import SpoolFile
from tests.support import commands

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.settings.sections import Settings
    from tests.support.rabbit import Rabbit

HOUR = 3600


@dataclass(frozen=True, slots=True)
class Result:
    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Bridge:
    """The command with these variables."""

    variables: dict[str, str]

    async def __call__(self, *arguments: str) -> Result:
        """`bridge spool ...` in this process."""
        app = typer.Typer()
        app.callback()(main.options)
        app.add_typer(spool.app, name="spool")
        run = await asyncio.to_thread(CliRunner(env=self.variables).invoke, app, ["spool", *arguments])
        return Result(run.exit_code, run.stdout, run.stderr)

    async def drain(self, *arguments: str) -> Result:
        """`bridge spool drain` as a process of its own."""
        ended = await commands.bridge("spool", "drain", *arguments, directory=Path.cwd(), **self.variables)
        return Result(ended.code, ended.stdout, ended.stderr)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def bridge(folder: Path, amqp_url: str, prefix: str) -> Bridge:
    return Bridge(
        {
            "BRIDGE_SPOOL__DIRECTORY": str(folder),
            "BRIDGE_RABBITMQ__URLS": amqp_url,
            "BRIDGE_RABBITMQ__PREFIX": prefix,
        }
    )


@pytest.fixture
async def exchange(settings: Settings, rabbit: Rabbit) -> str:
    """The events' exchange; the topology stands."""
    connection = await open_connection(settings.rabbitmq.urls[0].get_secret_value(), name="test")
    await declaring.declare(connection, topology_plan.plan(settings.rabbitmq, suppressing=()))
    await connection.close()
    return rabbit.names.events


def body(number: int, name: str = "opened") -> bytes:
    return orjson.dumps({"message": {"id": number}, "event": {"name": name, "timestamp": 1_539_062_173}})


def filled(folder: Path, number: int, *bodies: bytes, age: int = 0) -> SpoolFile:
    """A spool file that somebody has, with entries that are so many seconds old."""
    folder.mkdir(exist_ok=True)
    file = SpoolFile(folder / f"spool-{number}.sqlite3", min_free_bytes=0)
    received_at = (int(time.time()) - age) * 1000
    file.write([SpoolEntry(at, received_at, one) for at, one in enumerate(bodies, 1)], ())
    return file


@pytest.fixture
def left(folder: Path) -> Path:
    """A file whose receiver is gone, with 300 events that are an hour old."""
    file = filled(folder, 1, *(body(number) for number in range(300)), age=HOUR)
    file.close()
    return file.path


@pytest.fixture
def used(folder: Path) -> Iterator[Path]:
    """A file that a process has, with one event."""
    file = filled(folder, 0, body(1000))
    yield file.path
    file.close()


@pytest.fixture
def unreadable(folder: Path) -> Path:
    """A file that is no database."""
    folder.mkdir(exist_ok=True)
    path = folder / "spool-2.sqlite3"
    path.write_bytes(b"garbage!" * 2000)
    return path


async def test_status_shows_each_file(bridge: Bridge, used: Path, left: Path) -> None:
    """How much is in it, since when, and whether a receiver has it."""
    result = await bridge("status")
    assert result.code == 0
    assert result.err == ""
    [of_used] = [line for line in result.out.splitlines() if line.startswith(f"{used}\t")]
    [of_left] = [line for line in result.out.splitlines() if left.name in line]
    assert "running" in of_used
    assert "gone" in of_left
    assert "\t300\t" in of_left
    assert f"\t{HOUR // 100}" in of_left


async def test_status_in_json(bridge: Bridge, used: Path, left: Path) -> None:
    """One document for programs: numbers as numbers, ages in seconds."""
    result = await bridge("status", "--json")
    assert result.code == 0
    document = orjson.loads(result.out)
    assert (document["total"], document["next"]) == (2, None)
    files: list[dict[str, Any]] = document["items"]
    assert [(file["file"], file["in_use"], file["entries"]) for file in files] == [
        (str(used), True, 1),
        (str(left), False, 300),
    ]
    assert files[0]["oldest_age"] < HOUR <= files[1]["oldest_age"] < 2 * HOUR
    assert files[1]["bytes"] > 300 * len(body(1))
    assert [file["problem"] for file in files] == [None, None]


async def test_status_without_a_spool_is_an_empty_list(bridge: Bridge, folder: Path) -> None:
    """No receiver has run here yet; that is no failure, and looking makes nothing."""
    assert orjson.loads((await bridge("status", "--json")).out) == {"items": [], "total": 0, "next": None}
    assert (await bridge("status")).code == 0
    assert not _exists(folder)


async def test_status_shows_a_file_that_cannot_be_read_beside_the_others(
    bridge: Bridge, left: Path, unreadable: Path
) -> None:
    """It hides none of them, and says why."""
    result = await bridge("status")
    assert result.code == 0
    assert left.name in result.out
    [line] = [line for line in result.out.splitlines() if unreadable.name in line]
    assert "not a database" in line
    files = {file["file"]: file for file in orjson.loads((await bridge("status", "--json")).out)["items"]}
    assert files[str(unreadable)]["entries"] is None
    assert "not a database" in files[str(unreadable)]["problem"]
    assert files[str(left)]["entries"] == 300


async def test_drain_publishes_what_was_left_and_removes_the_file(
    bridge: Bridge, left: Path, rabbit: Rabbit, exchange: str
) -> None:
    """By hand, without any receiver: every event arrives, oldest first, and the count is told."""
    async with rabbit.listening(exchange, "opened") as opened:
        result = await bridge.drain()
        assert (result.code, result.out) == (0, "300 events are in RabbitMQ\n")
        arrived = await opened.take(300)
    assert [message.body for message in arrived] == [body(number) for number in range(300)]
    assert not _exists(left)


async def test_drain_leaves_a_file_that_is_in_use_alone(
    bridge: Bridge, used: Path, left: Path, rabbit: Rabbit, exchange: str
) -> None:
    """Its receiver drains it itself."""
    async with rabbit.listening(exchange, "opened") as opened:
        result = await bridge.drain()
        assert result.code == 0
        assert result.out.splitlines() == [
            "300 events are in RabbitMQ",
            f"{used.name}: a running receiver has 1 events, and drains them itself while RabbitMQ takes them",
        ]
        await opened.take(300)
        assert opened.waiting == 0
    files = orjson.loads((await bridge("status", "--json")).out)["items"]
    assert [(file["file"], file["entries"]) for file in files] == [(str(used), 1)]
    assert not _exists(left)


@pytest.mark.usefixtures("exchange")
async def test_drain_in_json(bridge: Bridge, used: Path, left: Path) -> None:
    """How many went, how many are left, and each file that is there still."""
    result = await bridge.drain("--json")
    assert result.code == 0
    told = orjson.loads(result.out)
    assert (told["moved"], told["left"]) == (300, 0)
    assert [(file["file"], file["in_use"], file["entries"]) for file in told["files"]] == [
        (str(used), True, 1)
    ]
    assert not _exists(left)


async def test_a_dry_run_of_drain_says_what_would_be_published(
    bridge: Bridge, used: Path, left: Path, unreadable: Path, rabbit: Rabbit, exchange: str
) -> None:
    """How many, and what would stay and why; RabbitMQ gets none of them, and every file stays as it is."""
    files = {path: path.read_bytes() for path in (left, unreadable)}
    async with rabbit.listening(exchange, "opened") as opened:
        result = await bridge("drain", "--dry-run")
        assert (result.code, result.err) == (0, "")
        assert result.out.splitlines() == [
            "would publish 300 events",
            f"{used.name}: a running receiver has 1 events, and drains them itself while RabbitMQ takes them",
            f"{unreadable.name}: it cannot be read: file is not a database",
        ]
        document = orjson.loads((await bridge("drain", "--dry-run", "--json")).out)
        assert opened.waiting == 0
    assert (document["dry_run"], document["chosen"], document["moved"]) == (True, 300, 0)
    assert [file["entries"] for file in document["files"]] == [1, 300, None]
    assert {path: path.read_bytes() for path in files} == files


async def test_a_dry_run_of_drain_fails_where_rabbitmq_is_away(bridge: Bridge, left: Path) -> None:
    """As the drain itself would."""
    away = Bridge(bridge.variables | {"BRIDGE_RABBITMQ__URLS": "amqp://127.0.0.1:1/"})
    result = await away("drain", "--dry-run")
    assert (result.code, result.out) == (1, "")
    assert _exists(left)


@pytest.mark.usefixtures("exchange")
async def test_drain_without_anything_to_do(bridge: Bridge) -> None:
    """Is no failure."""
    result = await bridge.drain()
    assert (result.code, result.out) == (0, "0 events are in RabbitMQ\n")


async def test_drain_goes_on_after_a_corrupt_file(
    bridge: Bridge, left: Path, unreadable: Path, rabbit: Rabbit, exchange: str
) -> None:
    """It is set aside, as a receiver would, and the log says where it is."""
    async with rabbit.listening(exchange, "opened") as opened:
        result = await bridge.drain()
        assert (result.code, result.out) == (0, "300 events are in RabbitMQ\n")
        await opened.take(300)
    assert "spool.corrupt" in result.err
    assert f"{unreadable}.corrupt-" in result.err
    assert not _exists(left)


@pytest.fixture
def refused(folder: Path) -> Path:
    """A file whose receiver is gone, in which RabbitMQ has refused two of three events."""
    file = filled(folder, 1, body(1, "clicked"), body(2), body(3, "clicked"))
    file.run_task(to_set_aside(Refusal("nacked", "clicked", "basic.nack"), (1, 3)))
    file.close()
    return file.path


async def test_status_shows_what_is_set_aside(bridge: Bridge, refused: Path) -> None:
    """With reason, routing key, counts, the time of the next attempt, and RabbitMQ's words."""
    result = await bridge("status")
    assert result.code == 0
    assert "set aside, because RabbitMQ refuses them:" in result.err
    assert all(word in result.out for word in ("nacked", "clicked", "basic.nack"))
    [file] = orjson.loads((await bridge("status", "--json")).out)["items"]
    assert (file["file"], file["entries"]) == (str(refused), 3)
    [aside] = file["set_aside"]
    assert aside.pop("retry_in") <= 2
    assert aside == {
        "reason": "nacked", "routing_key": "clicked", "entries": 2, "attempts": 1, "reply_text": "basic.nack"
    }  # fmt: skip


async def test_drain_tries_what_is_set_aside(
    bridge: Bridge, refused: Path, rabbit: Rabbit, exchange: str
) -> None:
    """Whether it is due or not: when RabbitMQ takes it, all of it goes, and the file with it."""
    async with rabbit.listening(exchange, "clicked", "opened") as everything:
        result = await bridge.drain()
        assert (result.code, result.out) == (0, "3 events are in RabbitMQ\n")
        assert {one.body for one in await everything.take(3)} == {
            body(1, "clicked"),
            body(2),
            body(3, "clicked"),
        }
    assert not _exists(refused)


async def test_drain_has_a_receiver_try_what_it_has_set_aside(
    bridge: Bridge, used: Path, exchange: str
) -> None:
    """The file is the receiver's: it is told that all of it is due."""
    del exchange
    connection = sqlite3.connect(used)
    to_set_aside(Refusal("forbidden", "opened", "ACCESS_REFUSED"), (1,))(connection, ())
    connection.commit()
    connection.close()
    result = await bridge.drain()
    assert result.code == 0
    assert f"{used.name}: its receiver retries 1 set-aside events now" in result.out
    (aside,) = read_set_aside(used)
    assert aside.retry_at == 0


async def test_drain_tells_what_rabbitmq_refused(
    bridge: Bridge, folder: Path, rabbit: Rabbit, exchange: str
) -> None:
    """Events that are still there are no success: one line, and exit code 1."""
    filled(folder, 1, body(1, "clicked"), body(2), body(3, "clicked")).close()
    async with rabbit.channel() as channel:
        limits: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
        full = await channel.declare_queue(exclusive=True, arguments=limits)
        await full.bind(exchange, "clicked")
        result = await bridge.drain()
    assert result.code == 1
    assert "2 events are in RabbitMQ" in result.out
    assert (
        f"bridge: 1 events are still in {folder}: RabbitMQ refused them: 1 nacked of 'clicked'" in result.err
    )
    [file] = orjson.loads((await bridge("status", "--json")).out)["items"]
    assert file["entries"] == 1


@pytest.mark.parametrize("command", ["status", "drain"])
async def test_help_has_an_example_and_the_variables(bridge: Bridge, command: str) -> None:
    """`--help` of each command shows a line to copy, and what must be set."""
    text = (await bridge(command, "--help")).out
    assert f"Example: bridge spool {command}" in text
    assert "BRIDGE_SPOOL__DIRECTORY" in text


def _exists(path: Path) -> bool:
    return path.exists()
