"""What real roles write is for nobody but their user, whatever the umask that they are started with."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.conftest import TOKEN
from tests.support.private import names, open_to_others
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.processes import Processes

BODY = b'{"message":{"id":1},"event":{"name":"opened","timestamp":1539062173}}'


@pytest.fixture(params=[0o022, 0o000], ids=oct)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
async def test_what_a_receiver_and_a_worker_write_is_private(
    processes: Processes, overrides: dict[str, dict[str, Any]], tmp_path: Path, amqp_url: str
) -> None:
    """Spool with an event in it, list with its log, the folders that were missing; metrics and sockets of processes."""
    state = tmp_path / "state"
    state.mkdir(0o700)
    overrides["spool"]["directory"] = f"{state}/deep/spool"
    overrides["suppression"]["database_url"] = f"sqlite+aiosqlite:///{state}/list.sqlite3"
    overrides["receiver"]["processes"] = 2
    async with Proxy.serve(amqp_url) as proxy:
        proxy.refuse()
        overrides["rabbitmq"]["urls"] = [proxy.url(amqp_url)]
        receiver = await processes.start("receiver", overrides=overrides)
        port = (await receiver.says("receiver.started"))["port"]
        async with aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"
            async with http.post(url, data=BODY) as answer:
                assert (await answer.json())["durability"] == "spooled"
        proxy.accept()
        worker = await processes.start("worker", overrides=overrides)
        await worker.says("worker.started")
        assert "spool-0.lock" in names(state / "deep/spool")
        assert "list.sqlite3" in names(state)
        assert open_to_others(state) == []
        assert [path for folder in _folders_in_memory(receiver.pid) for path in open_to_others(folder)] == []
        for process in (receiver, worker):
            process.send(signal.SIGTERM)
            assert await process.ended() == 0
    assert open_to_others(state) == []


def _folders_in_memory(supervisor: int) -> set[Path]:
    """Where the supervised processes count: files that they have mapped."""
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    mapped = [line for child in children for line in Path(f"/proc/{child}/maps").read_text().splitlines()]
    found = {Path(line.split()[-1]).parent for line in mapped if line.endswith(".db")}
    assert found
    return found
