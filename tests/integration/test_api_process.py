"""`bridge api` as a real process: its start, its health, its tokens in a file, its end."""

from __future__ import annotations

import asyncio
import signal
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from bridge.suppression.freshness import Report
from bridge.suppression.store import Store
from bridge.timestamps import rfc3339
from tests.support.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Process, Processes

OLD, NEW = "the-token-that-is-old", "the-token-that-is-new"
AT = 1_700_000_000
CHECKS = "/v1/suppressions/check"


@pytest.fixture
def overrides(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Settings without RabbitMQ: the API needs none."""
    return {
        "api": {"port": 0},
        "rabbitmq": {"urls": ["amqp://nobody:nothing@127.0.0.1:9/"]},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{tmp_path}/list.sqlite3"},
        "health": {"port": 0},
        "logs": {"format": "json"},
    }


async def started(processes: Processes, overrides: dict[str, Any], **environment: str) -> tuple[Process, str]:
    process = await processes.start("api", overrides=overrides, environment=environment)
    said = await process.says("api.started")
    return process, f"http://127.0.0.1:{said['port']}"


async def status(session: aiohttp.ClientSession, base: str, token: str) -> int:
    body, headers = {"addresses": ["jane@example.org"]}, {"Authorization": f"Bearer {token}"}
    async with session.post(f"{base}{CHECKS}", json=body, headers=headers) as answer:
        return answer.status


async def test_it_serves_and_ends_without_rabbitmq(processes: Processes, overrides: dict[str, Any]) -> None:
    """Health and metrics on a port of their own, the contract with this installation's names; SIGTERM is exit code 0."""
    overrides["health"]["port"] = health = free_port()
    overrides["rabbitmq"]["prefix"] = "staging."
    overrides["api"]["tokens"] = [f"mailer:check:{OLD}"]
    process, base = await started(processes, overrides)
    async with aiohttp.ClientSession() as session:
        assert await status(session, base, OLD) == 200
        assert await status(session, base, NEW) == 401
        async with session.get(f"{base}/contract/examples/event-opened.json") as answer:
            assert (await answer.json())["exchange"] == "staging.email.events"
        async with session.get(f"http://127.0.0.1:{health}/readyz") as answer:
            ready = await answer.json()
        assert (ready["status"], ready["database"]["state"], ready["tokens"]) == ("ready", "up", {"valid": 1})
        async with session.get(f"http://127.0.0.1:{health}/metrics") as answer:
            text = await answer.text()
        assert (
            'bridge_api_answers_total{route="POST /v1/suppressions/check",status="200",token="mailer"} 1.0'
            in text
        )
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
    assert OLD not in "".join(process.lines)


async def test_answers_say_how_far_the_list_may_be_behind(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """As a worker has reported it, within a second or two; before, nobody knows."""
    overrides["api"]["tokens"] = [f"mailer:check:{OLD}"]
    _, base = await started(processes, overrides)
    headers = {"Authorization": f"Bearer {OLD}"}

    async def fresh_as_of() -> str | None:
        body = {"addresses": ["jane@example.org"]}
        async with session.post(f"{base}{CHECKS}", json=body, headers=headers) as answer:
            found: str | None = (await answer.json())["fresh_as_of"]
            return found

    async with aiohttp.ClientSession() as session:
        assert await fresh_as_of() is None
        async with Store.open(overrides["suppression"]["database_url"]) as store:
            await store.freshness.report("w1", Report(drained_at=AT, caught_up_to=AT, requeued_by=AT))
        async with asyncio.timeout(90):
            while (said := await fresh_as_of()) is None:
                pass
    assert said == rfc3339(AT)


async def test_sigterm_ends_a_request_that_waits_for_changes(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """It is answered at once, and not cut off; then the process ends in order."""
    overrides["api"]["tokens"] = [f"mailer:read:{OLD}"]
    process, base = await started(processes, overrides)
    headers, sent = {"Authorization": f"Bearer {OLD}"}, asyncio.Event()

    async def note(*_: object) -> None:
        sent.set()

    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(note)
    async with aiohttp.ClientSession(headers=headers, trace_configs=[tracing]) as session:

        async def wait() -> Any:
            async with session.get(f"{base}/v1/changes?wait=60") as answer:
                return await answer.json()

        first = asyncio.create_task(wait())
        await sent.wait()
        async with session.get(
            f"{base}/v1/changes"
        ) as answer:  # on another connection, and answered behind the first
            assert answer.status == 200
        process.send(signal.SIGTERM)
        assert await first == {"changes": [], "next": 0}
    assert await process.ended() == 0


async def test_sigterm_ends_the_streams_of_the_console(
    processes: Processes, overrides: dict[str, Any], tmp_path: Path
) -> None:
    """A browser that looks at the overview holds up no end, and nothing of the console is left in the log as an error.

    Its process made nothing: the console's folder comes with the first undo file.
    """
    overrides["api"]["tokens"] = [f"people:read:{OLD}"]
    overrides["console"] = {"directory": f"{tmp_path}/console"}
    process, base = await started(processes, overrides)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        async with session.post(f"{base}/console/sign-in", data={"token": OLD}) as answer:
            assert (answer.status, answer.url.path) == (200, "/console/")
        async with session.get(f"{base}/console/events") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            assert await stream.content.readline()
            process.send(signal.SIGTERM)
            while await stream.content.readline():
                pass
    assert await process.ended() == 0
    assert not [line for line in process.lines if '"level":"error"' in line]
    assert not (tmp_path / "console").exists()


def put(file: Path, text: str) -> None:
    """In one step: half a file would be read, too."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)


async def test_tokens_in_a_file_are_rotated_without_a_restart(
    processes: Processes, overrides: dict[str, Any], tmp_path: Path
) -> None:
    """Both are valid for a while; a file that cannot be used changes nothing, and the log says why."""
    file = tmp_path / "api_tokens"
    file.write_text(f"mailer:check:{OLD}\n")
    process, base = await started(processes, overrides, BRIDGE_API__TOKENS_FILE=str(file))
    async with aiohttp.ClientSession() as session:
        put(file, f"mailer:check:{NEW},mailer:check:{OLD}")
        await process.says("tokens.changed", setting="api.tokens", tokens=2)
        assert [await status(session, base, one) for one in (OLD, NEW)] == [200, 200]
        put(file, f"mailer:chek:{NEW}")
        said = await process.says("tokens.kept", setting="api.tokens")
        assert "unknown scope 'chek'" in said["reason"]
        assert [await status(session, base, one) for one in (OLD, NEW)] == [200, 200]
        put(file, f"mailer:check:{NEW}")
        await process.says("tokens.changed", setting="api.tokens", tokens=1)
        assert [await status(session, base, one) for one in (OLD, NEW)] == [401, 200]
    assert NEW not in "".join(process.lines)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([], "api.tokens: at least one is needed"),
        ([f"mailer:check+all:{OLD}"], "api.tokens.0: the token 'mailer' has the unknown scope 'all'"),
    ],
)
async def test_it_does_not_start_with_unusable_tokens(
    processes: Processes, overrides: dict[str, Any], tokens: list[str], message: str
) -> None:
    """One line that names the setting, and no token."""
    overrides["api"]["tokens"] = tokens
    process = await processes.start("api", overrides=overrides)
    assert await process.ended() == 2
    (failure,) = process.failures
    assert message in failure
    assert OLD not in failure


async def test_a_port_that_is_taken_ends_it_with_one_line(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """It names the setting to change."""
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        overrides["api"] = {"port": taken.getsockname()[1], "tokens": [f"mailer:check:{OLD}"]}
        process = await processes.start("api", overrides=overrides)
        assert await process.ended() == 1
    (failure,) = process.failures
    assert "set api.port (BRIDGE_API__PORT)" in failure


async def test_it_waits_for_its_database(processes: Processes, overrides: dict[str, Any]) -> None:
    """Nothing listens where PostgreSQL should be: it says so, is not ready, and can be stopped."""
    overrides["health"]["port"] = health = free_port()
    overrides["api"]["tokens"] = [f"mailer:check:{OLD}"]
    overrides["suppression"]["database_url"] = f"postgresql+asyncpg://a:b@127.0.0.1:{free_port()}/list"
    process = await processes.start("api", overrides=overrides)
    await process.says("api.list_failed")
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{health}/readyz") as answer:
        assert (answer.status, (await answer.json())["database"]["state"]) == (503, "down")
    process.send(signal.SIGTERM)
    assert await process.ended() == 0
