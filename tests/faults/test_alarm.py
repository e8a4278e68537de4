"""RabbitMQ's memory alarm, as the person on call meets it: what the commands say while nothing can be published."""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from bridge.amqp.connection import LinkState, open_connection
from bridge.broker import declaring
from bridge.broker.messages import message_from_body
from bridge.broker.topology_plan import planned_topology
from bridge.diagnostics import broker_alarms
from bridge.diagnostics.broker_connection import cut
from bridge.roles.receiver import BrokerBlockedError, drain_spools
from bridge.settings.loading import load_settings
from bridge.spool.entries import SpoolEntry
from bridge.spool.spool_file import SpoolFile
from tests.support.commands import bridge
from tests.support.eventually import eventually
from tests.support.receiving import exchange_alone, publishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from bridge.development.simulator import Simulator
    from bridge.telemetry.metrics import Metrics
    from tests.support.managed import Managed

TOKEN = "a-token-of-the-webhook"
BODY = orjson.dumps({"message": {"id": 1}, "event": {"name": "opened", "timestamp": 1_539_062_173}})
WORDS = "memory alarm (low on memory)"


@pytest.fixture
async def variables(alarmed: Managed, simulator: Simulator, tmp_path: Path, prefix: str) -> dict[str, str]:
    """All is well until there is an alarm."""
    simulator.webhook_url = f"https://bridge.example.org/webhooks/msndr/{TOKEN}"
    connection = await open_connection(alarmed.url, name="test")
    planned = planned_topology(load_settings(overrides={"rabbitmq": {"prefix": prefix}}))
    await declaring.declare(connection, planned)
    await connection.close()
    return {
        "BRIDGE_RABBITMQ__URLS": alarmed.url,
        "BRIDGE_RABBITMQ__PREFIX": prefix,
        "BRIDGE_RABBITMQ__CONNECT_TIMEOUT": "20",  # on a busy machine RabbitMQ may need longer than 3 s for a connection
        "BRIDGE_RABBITMQ__MANAGEMENT_URL": alarmed.api,
        "BRIDGE_RECEIVER__TOKENS": TOKEN,
        "BRIDGE_RECEIVER__MAX_IN_FLIGHT": "500",
        "BRIDGE_PROVIDER__BASE_URL": simulator.base_url,
        "BRIDGE_PROVIDER__API_TOKEN": simulator.token,
        "BRIDGE_SPOOL__DIRECTORY": str(tmp_path / "spool"),
        "BRIDGE_SUPPRESSION__DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3",
    }


@asynccontextmanager
async def alarm(alarmed: Managed) -> AsyncIterator[None]:
    """A real one: RabbitMQ uses more memory than it may."""
    await alarmed.control.set_memory_limit(0.0)
    try:
        yield
    finally:
        await alarmed.control.set_memory_limit(0.6)


async def test_the_doctor_names_the_alarm_and_all_else_is_looked_at(
    alarmed: Managed, variables: dict[str, str], tmp_path: Path
) -> None:
    """Whether the management API is there or not; nothing waits for a connection that RabbitMQ does not read any more."""
    blind = {"BRIDGE_RABBITMQ__MANAGEMENT_URL": "http://127.0.0.1:1"}
    async with alarm(alarmed):
        for more in ({}, blind):
            said = await bridge("doctor", "--json", directory=tmp_path, **variables | more)
            findings = {one["check"]: one for one in orjson.loads(said.stdout)["items"]}
            assert said.code == 1
            failed = [check for check, one in findings.items() if one["status"] == "failed"]
            assert failed == ["alarms"], findings
            assert findings["alarms"]["seen"].startswith(f"RabbitMQ has a {WORDS}")
            assert "in the spool" in findings["alarms"]["advice"]
            assert findings["permissions"]["status"] == "skipped"
            assert "no answer" not in said.stdout
    said = await bridge("doctor", directory=tmp_path, **variables)
    assert said.code == 0
    assert "RabbitMQ takes what is published" in said.stdout


async def test_spool_drain_says_that_rabbitmq_is_blocked_and_how_many_wait(
    alarmed: Managed, variables: dict[str, str], tmp_path: Path
) -> None:
    """What receivers have left, and what running ones have: all of it waits for the alarm to end."""
    left, used = filled(tmp_path / "spool", 0, 30), filled(tmp_path / "spool", 1, 20)
    left.close()
    async with alarm(alarmed):
        said = await bridge("spool", "drain", directory=tmp_path, **variables)
        left.path.unlink()
        of_a_receiver = await bridge("spool", "drain", directory=tmp_path, **variables)
    used.close()
    assert said.code == of_a_receiver.code == 1
    for outcome, count in ((said, 50), (of_a_receiver, 20)):
        last = outcome.stderr.splitlines()[-1]
        assert f"RabbitMQ is blocked: it has a {WORDS}, and blocks publishers" in last
        assert f"{count} events wait in {tmp_path / 'spool'}" in last


async def test_a_drain_that_an_alarm_interrupts_ends(
    alarmed: Managed, variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would wait for confirms that do not come; what was not confirmed is still in the file."""
    filled(tmp_path / "spool", 0, 30).close()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with alarm(alarmed):
        with pytest.raises(BrokerBlockedError, match="low on memory"):
            await drain_spools(load_settings(), lambda _: None)
    assert await drain_spools(load_settings(), lambda _: None) == 30


async def test_a_user_who_may_publish_nothing_hears_of_an_alarm_all_the_same(
    alarmed: Managed, variables: dict[str, str]
) -> None:
    """RabbitMQ refuses what is published, and stops to read: both are told apart."""
    del variables
    user = f"nobody-{alarmed.url.rpartition(':')[2].strip('/')}"
    await alarmed.control.add_user(user, "a-password", configure="^$", write="^$")
    url = alarmed.url.replace("guest:guest@", f"{user}:a-password@")
    connection = await open_connection(url, name="test")
    assert await broker_alarms.alarm_on(connection) == ""
    async with alarm(alarmed):
        assert await broker_alarms.alarm_on(connection) == WORDS
        cut(connection)
        await connection.close()


@pytest.mark.usefixtures("path")
async def test_a_publisher_is_blocked_until_the_alarm_is_over(
    alarmed: Managed, overrides: dict[str, Any], metrics: Metrics, prefix: str
) -> None:
    """What was sent meanwhile is confirmed then, on the same connection, on both paths."""
    overrides["rabbitmq"]["urls"] = [alarmed.url]
    settings = load_settings(overrides=overrides)
    event = message_from_body(BODY, exchange=f"{prefix}email.events", received_at=0)
    async with publishing(settings, metrics, exchange_alone(settings)) as line:
        await line.up()
        async with alarm(alarmed):
            confirm = line.publisher.publish(event)
            await eventually(lambda: line.link.state is LinkState.BLOCKED)
            assert re.search("low on memory|an alarm", line.link.reason)
            assert not confirm.done()
        async with asyncio.timeout(90):
            await confirm
        await eventually(lambda: line.link.state is LinkState.UP)
        assert line.link.attempts == 1


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("low on memory", WORDS),
        ("low on disk", "disk alarm (low on disk)"),
        ("low on memory & disk", "memory and disk alarm (low on memory & disk)"),
        ("", "alarm (no reason given)"),
    ],
)
def test_an_alarm_is_called_by_its_name(reason: str, said: str) -> None:
    """Memory or disk, and RabbitMQ's own words."""
    assert broker_alarms.describe_alarm(reason) == said


def filled(folder: Path, number: int, count: int) -> SpoolFile:
    folder.mkdir(exist_ok=True)
    file = SpoolFile(folder / f"spool-{number}.sqlite3", min_free_bytes=0)
    file.write([SpoolEntry(at, 1_539_062_173_000, BODY) for at in range(1, count + 1)], ())
    return file
