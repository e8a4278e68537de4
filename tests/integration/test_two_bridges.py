"""Roles seen from outside: whose they are, where they are, and whether the settings of now are theirs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.conftest import TOKEN
from tests.support.commands import bridge
from tests.support.ports import free_port
from tests.support.wire import ask, post

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

BODY = b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173}}'


@pytest.mark.parametrize("count", [1, 2])
async def test_status_of_one_bridge_does_not_show_the_receiver_of_another(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, tmp_path: Path, count: int
) -> None:
    """With the same RabbitMQ and another prefix it is named as what it is, and nothing of it is counted."""
    assert rabbit
    overrides["health"]["port"] = health = free_port()
    overrides["receiver"]["processes"] = count
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected", times=count)
    assert (await ask(port, post(BODY))).status_line == "HTTP/1.1 200 OK"
    of_ours = variables(overrides) | {"BRIDGE_HEALTH__ROLES": f"http://127.0.0.1:{health}"}
    own, events = await receiver_of(tmp_path, of_ours)
    assert (own["kind"], own["ready"], own["problem"]) == ("receiver", True, "")
    assert events == [("clicked", 1)]

    another = of_ours | {"BRIDGE_RABBITMQ__PREFIX": "another."}
    foreign, events = await receiver_of(tmp_path, another)
    assert (foreign["kind"], foreign["ready"], foreign["counts"]) == ("?", False, {})
    assert events == []
    prefix = overrides["rabbitmq"]["prefix"]
    assert f"a receiver of another bridge (prefix '{prefix}', virtual host '/'" in foreign["problem"]
    assert "health.roles" in foreign["problem"]


async def test_the_doctor_reports_a_settings_file_that_was_changed_since_a_role_started(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, tmp_path: Path
) -> None:
    """A comment, or another password, is no other setting; the file itself need not be the role's any more."""
    assert rabbit
    overrides["health"]["port"] = free_port()
    receiver = await processes.start("receiver", overrides=overrides)
    await receiver.says("broker.connected")
    file = tmp_path / "settings-0.toml"
    assert await in_force(file) == "ok"
    text = read(file)
    replace(file, f"# a remark\n{text}".replace(TOKEN, f"{TOKEN}-and-more"))
    assert await in_force(file) == "ok"
    replace(file, text.replace("confirm_wait = 10", "confirm_wait = 11"))
    assert await in_force(file) == "warning"


async def in_force(file: Path) -> str:
    """The status of the doctor's finding."""
    said = await bridge("--config", str(file), "doctor", "--json", directory=file.parent)
    [finding] = [one for one in orjson.loads(said.stdout)["items"] if one["check"] == "settings in force"]
    if finding["status"] == "warning":
        assert f"{file} has other settings now" in finding["seen"]
        assert "start them anew" in finding["advice"]
    return str(finding["status"])


async def receiver_of(directory: Path, given: dict[str, str]) -> tuple[dict[str, Any], list[tuple[str, int]]]:
    """What `bridge status` knows of the one role, and of its events, once it has answered."""
    async with asyncio.timeout(90):
        while True:
            said = await bridge("status", "--json", "--over", "0", directory=directory, **given)
            seen = orjson.loads(said.stdout)
            [role] = seen["roles"]
            # A process of a busy machine that stands still for a second is one that does not answer its supervisor.
            if role["ready"] or "of another bridge" in role["problem"]:
                return role, [(event["name"], event["total"]) for event in seen["events"]]


def variables(overrides: dict[str, Any]) -> dict[str, str]:
    return {
        "BRIDGE_RABBITMQ__URLS": overrides["rabbitmq"]["urls"][0],
        "BRIDGE_RABBITMQ__PREFIX": overrides["rabbitmq"]["prefix"],
        "BRIDGE_SPOOL__DIRECTORY": overrides["spool"]["directory"],
    }


def read(file: Path) -> str:
    return file.read_text()


def replace(file: Path, text: str) -> None:
    """As most editors do: another file in its place."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)
