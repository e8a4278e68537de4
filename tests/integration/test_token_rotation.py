"""The webhook's token is changed while events come: nobody is turned away, and no receiver is restarted."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.conftest import TOKEN
from tests.support.commands import bridge
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.scraping import becoming, scraped
from tests.support.wire import ask, post

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bridge.development.simulator import Simulator
    from tests.support.processes import Process, Processes
    from tests.support.rabbit import Rabbit

NEW_TOKEN = "a-token-that-is-new-here"
BODY = b'{"message": {"id": 1}, "event": {"name": "clicked", "timestamp": 1539062173}}'
MAKE_SECRETS = Path(__file__).parents[2] / "config" / "make_secrets.py"
WITH_THE_FIRST = 'bridge_requests_admitted_total{token="first"}'


def written(content: str) -> Callable[[Path], None]:
    def write(file: Path) -> None:
        draft = file.with_suffix(".draft")  # at no moment is it empty, unless it is to be
        draft.write_text(content)
        draft.replace(file)

    return write


FRESH = written(f"{NEW_TOKEN}\n")
SPOILT = [
    (written(""), "is empty"),
    (written("too-short"), "16 or more letters"),
    (written("[not JSON"), "is not a JSON list"),
    (Path.unlink, "No such file"),
]
"""What becomes of the file, and what is said of it."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """As `make secrets` writes it."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    file = folder / "receiver_tokens"
    file.write_text(TOKEN)
    return file


@dataclass
class Provider:
    """Posts one event after the other to the URL that is set, as long as it is told to."""

    url: str
    answers: list[int] = field(default_factory=list)

    async def post(self, session: aiohttp.ClientSession) -> None:
        while True:
            async with session.post(self.url, data=BODY) as answer:
                self.answers.append(answer.status)

    async def more(self) -> None:
        """Some more were answered."""
        wanted = len(self.answers) + 20
        await eventually(lambda: len(self.answers) >= wanted)


@asynccontextmanager
async def posting(port: int) -> AsyncIterator[Provider]:
    provider = Provider(f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}")
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        task = tasks.create_task(provider.post(session))
        yield provider
        task.cancel()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_token_is_rotated_under_load_without_one_event_refused(
    processes: Processes,
    overrides: dict[str, Any],
    rabbit: Rabbit,
    simulator: Simulator,
    file: Path,
    count: int,
) -> None:
    """As the README has it, with one process and with several: make rotate-token, webhook enable, make retire-token."""
    assert rabbit
    overrides["receiver"] |= {"processes": count}
    overrides["health"]["port"] = health = free_port()
    receiver, port = await started(processes, overrides, file, count)
    async with posting(port) as provider:
        await provider.more()
        await make("--rotate-token", file)
        await receiver.says("tokens.changed", tokens=2, times=count)
        await becoming(health, lambda samples: samples["bridge_tokens"] == 2)
        await provider.more()

        enabled = await bridge(
            "webhook", "enable", directory=file.parent,
            BRIDGE_PROVIDER__BASE_URL=simulator.base_url, BRIDGE_PROVIDER__API_TOKEN=simulator.token,
            BRIDGE_RECEIVER__PUBLIC_URL=f"http://127.0.0.1:{port}", BRIDGE_RECEIVER__TOKENS_FILE=str(file),
        )  # fmt: skip
        assert enabled.code == 0
        assert simulator.webhook_url is not None
        assert TOKEN not in simulator.webhook_url
        before = (await scraped(health))[WITH_THE_FIRST]
        old, provider.url = provider.url, simulator.webhook_url
        await becoming(health, lambda samples: samples[WITH_THE_FIRST] > before)

        await make("--retire-token", file)
        await receiver.says("tokens.changed", tokens=1, times=count)
        await provider.more()
        assert set(provider.answers) == {200}
        async with aiohttp.ClientSession() as session, session.post(old, data=BODY) as answer:
            assert answer.status == 404
    receiver.send(signal.SIGTERM)
    assert await receiver.ended() == 0


async def test_a_file_that_cannot_be_used_changes_nothing(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, file: Path
) -> None:
    """The tokens that were read before stay valid, and it is said once; when it can be used again, it is."""
    assert rabbit
    overrides["health"]["port"] = health = free_port()
    receiver, port = await started(processes, overrides, file)
    for times, (spoil, reason) in enumerate(SPOILT, 1):
        spoil(file)
        said = await receiver.says("tokens.kept", times=times)
        assert reason in said["reason"]
        assert (said["level"], said["setting"], said["tokens"]) == ("warning", "receiver.tokens", 1)
        assert (await ask(port, post(BODY))).status_line == "HTTP/1.1 200 OK"
    async with aiohttp.ClientSession() as session, session.get(readyz(health)) as answer:
        assert answer.status == 200
        tokens = (await answer.json())["tokens"]
    assert (tokens["valid"], tokens["state"]) == (1, "kept")
    assert "stay valid" in tokens["reason"]
    FRESH(file)
    await receiver.says("tokens.changed", tokens=1)
    async with aiohttp.ClientSession() as session, session.get(readyz(health)) as answer:
        assert (await answer.json())["tokens"] == {"valid": 1}
    assert (await ask(port, post(BODY, token=NEW_TOKEN))).status_line == "HTTP/1.1 200 OK"
    assert (await ask(port, post(BODY))).status_line == "HTTP/1.1 404 Not Found"
    assert TOKEN not in "".join(receiver.lines)


async def started(
    processes: Processes, overrides: dict[str, Any], file: Path, count: int = 1
) -> tuple[Process, int]:
    """A receiver whose tokens are in this file, and its port."""
    variables = {"BRIDGE_RECEIVER__TOKENS_FILE": str(file)}
    receiver = await processes.start("receiver", overrides=overrides, environment=variables)
    port = int((await receiver.says("receiver.started", times=count))["port"])
    await receiver.says("broker.connected", times=count)
    return receiver, port


async def make(option: str, file: Path) -> None:
    """`make rotate-token` and `make retire-token`: the same file afterwards, as a container has it."""
    before = inode(file)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(MAKE_SECRETS), option, str(file.parent), stdout=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0
    assert inode(file) == before


def inode(file: Path) -> int:
    return file.stat().st_ino


def readyz(port: int) -> str:
    return f"http://127.0.0.1:{port}/readyz"
