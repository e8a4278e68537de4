"""What real processes write when things go wrong: an action in each line, no secret in any, and one id through all."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import web

from tests.conftest import OTHER_TOKEN, TOKEN
from tests.support.ports import free_port
from tests.support.proxy import Proxy
from tests.support.wire import Wire, ask, post
from tests.support.working import body_of, bounces, changed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

PASSWORD = "the-password-4711"
API_TOKEN = "the-api-token-4712"
OLD_TOKEN = "a-token-of-last-year-4713"

UNCAUGHT = f"""
import asyncio, gc, sys, threading, warnings
from bridge.settings import sections as settings
from bridge.telemetry import logs
from pydantic import SecretStr

logs.configure_for(settings.Settings(
    provider=settings.Provider(api_token=SecretStr("{API_TOKEN}")), logs=settings.Logs(format="json")
))

async def main():
    asyncio.get_running_loop().call_soon(fail, "in a callback")
    task = asyncio.create_task(fails("in a task"))
    await asyncio.sleep(0.01)
    del task
    gc.collect()

async def fails(where):
    fail(where)

def fail(where):
    raise ValueError(f"{API_TOKEN} of jane@example.org {{where}}")

class Dying:
    def __del__(self):
        fail("in a destructor")

asyncio.run(main())
thread = threading.Thread(target=fail, args=("in a thread",))
thread.start()
thread.join()
Dying()
warnings.warn("{API_TOKEN} of jane@example.org in a warning", stacklevel=1)
fail("at the end")
"""


@pytest.fixture
def overrides(overrides: dict[str, Any]) -> dict[str, Any]:
    """All that can be written is."""
    return changed(overrides, logs={"level": "debug"})


async def test_one_id_leads_from_the_answer_to_the_list(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """The answer's `id` is in the receiver's line, in the worker's, and in the change that others are told of."""
    receiver = await processes.start("receiver", overrides=overrides)
    worker = await processes.start("worker", overrides=changed(overrides, health={"port": free_port()}))
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    event_id = (await ask(port, post(body_of("hard_bounced", 7)))).json["id"]
    accepted = await receiver.says("receiver.accepted", event_id=event_id)
    assert (accepted["name"], accepted["durability"]) == ("hard_bounced", "confirmed")
    await worker.says("worker.look_up", event_id=event_id, message_id="7")
    listed = await worker.says("suppression.added", event_id=event_id)
    assert listed["address"] == "r***@example.org"
    [change] = await workplace.changes(1)
    assert change["event_id"] == event_id


async def test_an_event_that_fails_is_followed_by_its_id(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """Into the delay queue, and to the dead letters; each line says why."""
    worker = await started(processes, "worker", overrides)
    await workplace.send(*bounces([5000]))
    retried = await worker.says("worker.retry", reason="unknown-message")
    dead = await worker.says("worker.dead_letter", reason="unknown-message")
    assert retried["event_id"] == dead["event_id"]
    worker.send(signal.SIGTERM)
    await worker.ended()
    [letter] = await workplace.dead()
    assert letter.message_id == dead["event_id"]


async def test_an_event_that_went_through_the_spool_is_followed_by_its_id(
    processes: Processes, overrides: dict[str, Any], amqp_url: str, rabbit: Rabbit
) -> None:
    """From the answer `spooled` to its publish, later."""
    assert rabbit
    async with Proxy.serve(amqp_url) as proxy:
        through = changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)], "reconnect_max": 0.1})
        proxy.refuse()
        receiver = await processes.start("receiver", overrides=through)
        port = (await receiver.says("receiver.started"))["port"]
        event_id = (await ask(port, post(body_of("opened", 1)))).json["id"]
        await receiver.says("receiver.accepted", event_id=event_id, durability="spooled")
        proxy.accept()
        await receiver.says("spool.publish", event_id=event_id)


async def test_a_quarantined_body_is_found_by_the_digest_of_its_bytes(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """The answer has no id; the line has the message's, which `b2sum -l 128` makes of the body."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    body = b'{"event": "of jane@example.org"}'
    async with rabbit.reading(rabbit.names.malformed) as quarantine:
        assert (await ask(port, post(body))).json["status"] == "quarantined"
        message = await quarantine.next()
    line = await receiver.says("receiver.quarantine")
    assert line["event_id"] == message.message_id == await b2sum(body)


async def test_a_wrong_password_of_the_broker_is_not_shown(
    processes: Processes, overrides: dict[str, Any], amqp_url: str
) -> None:
    """Neither by a role that tries again and again, nor by its libraries, nor by a command that gives up."""
    wrong = changed(overrides, rabbitmq={"urls": [amqp_url.replace("guest:guest@", f"guest:{PASSWORD}@")]})
    for role in ("receiver", "worker"):
        process = await processes.start(role, overrides=changed(wrong, health={"port": free_port()}))
        await process.says("broker.retry", times=2)
        await ended_in_order(process)
        tells_nothing(process, PASSWORD)
    for command in (("topology", "plan"), ("status",), ("doctor",), ("dead", "list")):
        process = await processes.start(*command, overrides=wrong)
        await process.ended()
        assert PASSWORD not in output(process)


async def test_a_token_that_the_provider_writes_back_is_not_shown(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace
) -> None:
    """A proxy in between shows the request in its error page; the addresses in it are masked, too."""
    async with echoing() as base_url:
        provider = {"base_url": base_url, "api_token": API_TOKEN}
        worker = await started(processes, "worker", changed(overrides, provider=provider))
        await workplace.send(*bounces(range(1, 11)))
        paused = await worker.says("worker.pause", dependency="provider")
        assert "Authorization" in paused["error"]
        await ended_in_order(worker)
        tells_nothing(worker, API_TOKEN, "jane@")
        command = await processes.start(
            "webhook", "show", overrides=changed(overrides, provider=provider | {"attempts": 1})
        )
        assert await command.ended() == 1
        assert API_TOKEN not in output(command)


async def test_the_password_of_the_database_is_not_shown(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Where nobody answers, and where the URL is not understood; by the worker, and by the commands."""
    assert rabbit
    nobody = f"postgresql+asyncpg://bridge:{PASSWORD}@127.0.0.1:{free_port()}/bridge"
    away = changed(overrides, suppression={"database_url": nobody})
    worker = await processes.start("worker", overrides=away)
    await worker.says("worker.pause", dependency="database", times=2)
    await ended_in_order(worker)
    tells_nothing(worker, PASSWORD)
    for url in (nobody, nobody.replace("postgresql+asyncpg", "mysql"), f"bridge:{PASSWORD}@somewhere"):
        command = await processes.start(
            "suppressions", "list", overrides=changed(overrides, suppression={"database_url": url})
        )
        assert await command.ended() == 1
        assert PASSWORD not in output(command)


async def test_the_tokens_of_the_webhook_are_not_shown(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Neither one that is valid, nor one that was, in whatever a client does wrong with it in the path."""
    assert rabbit
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    for token in (TOKEN, OTHER_TOKEN, OLD_TOKEN):
        path = f"/webhooks/msndr/{token}".encode()
        for wrong in (
            b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
            b"POST " + path + b" HTTP/9.9\r\nHost: x\r\n\r\n",
            b"PUT " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        ):
            async with Wire.to(port) as wire:
                wire.send(wrong)
                await wire.answer()
    await ended_in_order(receiver)
    tells_nothing(receiver, TOKEN, OTHER_TOKEN, OLD_TOKEN)


@pytest.mark.parametrize("masks", [True, False])
async def test_addresses_are_masked_unless_they_are_asked_for(
    processes: Processes, overrides: dict[str, Any], workplace: Workplace, *, masks: bool
) -> None:
    """In every line that there is about an event, at `debug`, from delivery to list, its libraries' included."""
    worker = await started(processes, "worker", changed(overrides, logs={"mask_addresses": masks}))
    await workplace.send(*bounces(range(1, 4)), body_of("complained", 4))
    await workplace.changes(4)
    await worker.says("suppression.added", times=4)
    await ended_in_order(worker)
    said = output(worker)
    assert ("recipient1@example.org" in said) is not masks
    assert ("r***@example.org" in said) is masks
    every_line_has_an_action(worker)


async def test_what_nobody_catches_is_a_line_as_well(tmp_path: Path) -> None:
    """An exception in a callback, a task, a thread, a destructor, at the very end; and a warning: with nothing to hide."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", UNCAUGHT, stderr=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    _, said = await process.communicate()
    lines = [orjson.loads(line) for line in said.splitlines()]
    assert process.returncode == 1
    for where in ("callback", "task", "thread", "destructor", "end", "warning"):
        [line] = [line for line in lines if re.search(rf"(in a|at the) {where}", str(line))]
        assert line["action"] == ("library" if where in {"callback", "task", "warning"} else "process.failed")
        assert "j***@example.org" in str(line)
    assert API_TOKEN.encode() not in said
    assert b"jane@" not in said


async def started(processes: Processes, role: str, overrides: Mapping[str, Any]) -> Process:
    process = await processes.start(role, overrides=overrides)
    await process.says(f"{role}.started")
    return process


async def ended_in_order(process: Process) -> None:
    process.send(signal.SIGTERM)
    assert await process.ended() == 0


def output(process: Process) -> str:
    return "\n".join((*process.lines, *process.printed))


def every_line_has_an_action(process: Process) -> None:
    assert process.lines
    for line in process.lines:
        assert orjson.loads(line)["action"], line


def tells_nothing(process: Process, *secrets: str) -> None:
    every_line_has_an_action(process)
    for secret in secrets:
        assert secret not in output(process)


async def b2sum(content: bytes) -> str:
    process = await asyncio.create_subprocess_exec(
        "b2sum", "-l", "128", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate(content)
    return printed.split()[0].decode()


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """A provider that fails, and shows whoever asks what they have sent; yields its base URL."""

    async def answer(request: web.Request) -> web.Response:
        text = f"jane@example.org: Authorization: {request.headers['Authorization']}"
        return web.Response(status=500, text=text)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
