"""`bridge simulate`: a real receiver under the provider's traffic, and what it says of the answers."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiohttp import web
from yarl import URL

from bridge.events import KNOWN_NAMES
from tests.conftest import TOKEN
from tests.support.commands import bridge
from tests.support.eventually import eventually
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.commands import Outcome
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit


@pytest.fixture
async def webhook(processes: Processes, overrides: dict[str, Any], rabbit: Rabbit) -> str:
    """Of a receiver that has reached RabbitMQ."""
    del rabbit  # it deletes what the receiver declares
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    return f"http://127.0.0.1:{port}/webhooks/msndr/{TOKEN}"


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """Somebody who answers everything with this status."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.json_response({"status": "refused"}, status=status)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/webhooks/msndr/{TOKEN}"
    finally:
        await runner.cleanup()


async def simulate(directory: Path, *arguments: str, **variables: str) -> Outcome:
    return await bridge("simulate", *arguments, directory=directory, **variables)


async def test_all_eight_events_arrive_and_the_ledger_has_each_that_was_accepted(
    webhook: str, rabbit: Rabbit, tmp_path: Path
) -> None:
    """With repeats, any order, and bodies that are none; what the ledger says is what came out in RabbitMQ."""
    ledger = tmp_path / "ledger.jsonl"
    mix = ",".join(f"{name}=1" for name in sorted(KNOWN_NAMES - {"complained"})) + ",complined=1"
    async with rabbit.listening(rabbit.names.events, "#") as everything:
        outcome = await simulate(
            tmp_path, "--url", webhook, "--rate", "400", "--count", "400", "--events", mix, "--json",
            "--duplicates", "10", "--disorder", "20", "--malformed", "10", "--ledger", str(ledger),
        )  # fmt: skip
        assert outcome.code == 0, outcome.stdout + outcome.stderr
        result = orjson.loads(outcome.stdout)
        counts = {(row["status"], row["durability"]): row["count"] for row in result["answers"]}
        accepted, quarantined = counts["200", "confirmed"], counts["200", "quarantined"]
        arrived = await everything.take(accepted + quarantined)
    assert result["posted"] == result["answered"] == 400
    assert result["wrong"] == 0
    assert counts["400", "refused"] > 0
    assert sum(counts.values()) == 400
    entries = [orjson.loads(line) for line in ledger.read_bytes().splitlines()]
    events = [message for message in arrived if message.routing_key != "malformed"]
    assert Counter(entry["id"] for entry in entries) == Counter(message.message_id for message in events)
    assert len({entry["id"] for entry in entries}) < len(entries), "there are no repeats"
    assert {message.routing_key for message in events} == KNOWN_NAMES
    assert {entry["body"].encode() for entry in entries} == {message.body for message in events}
    assert {entry["event"] for entry in entries} == KNOWN_NAMES - {"complained"} | {"complined"}
    order = [int(str(message.headers["cloudEvents:subject"])) for message in events]
    assert order != sorted(order)


async def test_where_the_receiver_is_comes_from_the_settings(
    webhook: str, overrides: dict[str, Any], processes: Processes
) -> None:
    """Its port and its first token; a host that stands for all of them is this machine. A table for people."""
    overrides["receiver"] |= {"host": "0.0.0.0", "port": URL(webhook).port}  # noqa: S104 -- not bound here
    run = await processes.start("simulate", "--count", "20", "--rate", "200", overrides=overrides)
    assert await run.ended() == 0
    assert "20 posted, 20 answered, 0 wrong" in run.lines
    [row] = [line for line in run.printed if "confirmed" in line]
    assert "\t20\t" in row
    assert TOKEN not in "".join([*run.printed, *run.lines])


async def test_a_wrong_answer_is_counted_and_ends_with_1(webhook: str, tmp_path: Path) -> None:
    """A token that nobody knows is answered 404."""
    outcome = await simulate(tmp_path, "--url", f"{webhook}-wrong", "--count", "10", "--rate", "100")
    assert outcome.code == 1
    assert "10 posted, 10 answered, 10 wrong" in outcome.stderr
    assert "404" in outcome.stdout


async def test_the_ledger_has_what_was_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    """An answer that is no 200 with its status; one that never came with the reason."""
    everything = ["--events", "clicked", "--rate", "100", "--count", "3", "--ledger-refused", "--ledger"]
    async with answering(503) as url:
        await simulate(tmp_path, "--url", url, *everything, str(tmp_path / "refused"))
    nowhere = f"http://127.0.0.1:{free_port()}/webhooks/msndr/{TOKEN}"
    await simulate(tmp_path, "--url", nowhere, *everything, str(tmp_path / "unanswered"))
    refused, unanswered = (
        [orjson.loads(line) for line in (tmp_path / name).read_bytes().splitlines()]
        for name in ("refused", "unanswered")
    )
    assert all("clicked" in entry.pop("body") for entry in (*refused, *unanswered))
    assert refused == [{"event": "clicked", "status": "503", "why": "refused"}] * 3
    assert unanswered == [{"event": "clicked", "status": "no answer", "why": "cannot connect"}] * 3


@pytest.mark.parametrize(("status", "code"), [(200, 0), (400, 1), (503, 1), (302, 1)])
async def test_an_event_deserves_a_200(status: int, code: int, tmp_path: Path) -> None:
    """A 400 is for what is no JSON, and for nothing else; redirects are not followed."""
    async with answering(status) as url:
        outcome = await simulate(tmp_path, "--url", url, "--count", "5", "--rate", "100", "--json")
    assert outcome.code == code
    [row] = orjson.loads(outcome.stdout)["answers"]
    assert (row["status"], row["count"]) == (str(status), 5)


async def test_what_is_no_json_deserves_a_400(tmp_path: Path) -> None:
    """A receiver that accepts it is wrong."""
    async with answering(200) as url:
        outcome = await simulate(
            tmp_path, "--url", url, "--count", "40", "--rate", "400", "--malformed", "100", "--json"
        )
    assert outcome.code == 1
    result = orjson.loads(outcome.stdout)
    assert 0 < result["wrong"] < result["answered"] == 40


async def test_without_any_answer_it_ends_with_1(tmp_path: Path) -> None:
    """Nobody listens: every post is told of."""
    url = f"http://127.0.0.1:{free_port()}/webhooks/msndr/{TOKEN}"
    outcome = await simulate(tmp_path, "--url", url, "--count", "5", "--rate", "100", "--json")
    assert outcome.code == 1
    result = orjson.loads(outcome.stdout)
    assert (result["posted"], result["answered"], result["wrong"]) == (5, 0, 5)
    [row] = result["answers"]
    assert (row["status"], row["durability"]) == ("no answer", "cannot connect")


async def test_the_rate_does_not_wait_for_the_answers(
    processes: Processes, overrides: dict[str, Any]
) -> None:
    """While nothing is answered, so many posts go out as there are connections; Ctrl-C tells of all of them."""
    asked, open_now = asyncio.Event(), Counter[str]()

    async def never(_: web.BaseRequest) -> web.Response:
        open_now["requests"] += 1
        await asked.wait()
        return web.Response()

    runner = web.ServerRunner(web.Server(never))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    run = await processes.start(
        "simulate", "--url", url, "--rate", "50", "--bursts", "10", "--connections", "8", "--count", "1000",
        "--json", overrides=overrides,
    )  # fmt: skip
    await eventually(lambda: open_now["requests"] == 8)
    run.send(signal.SIGINT)
    assert await run.ended() == 1
    asked.set()
    await runner.cleanup()
    result = orjson.loads("\n".join(run.printed))
    assert result["answered"] == 0
    assert result["posted"] % 10 == 0
    [row] = result["answers"]
    assert (row["status"], row["durability"], row["count"]) == ("no answer", "interrupted", 8)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give --url"),
        (("--url", "ftp://example.org/"), "--url is not a URL"),
        (("--url", "http://127.0.0.1:1/", "--events", "opened=-1"), "'opened=-1' is not an item of a mix"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    arguments: tuple[str, ...], says: str, tmp_path: Path
) -> None:
    """What is wrong with the arguments, and what to do: exit code 2."""
    outcome = await simulate(tmp_path, *arguments)
    assert outcome.code == 2
    [line] = outcome.stderr.splitlines()
    assert line.startswith("bridge: ")
    assert says in line


async def test_help_shows_an_example_and_the_variables(tmp_path: Path) -> None:
    """A line to copy, and what must be set."""
    shown = (await simulate(tmp_path, "--help")).stdout
    assert "Example: bridge simulate --rate 200" in shown
    assert "BRIDGE_RECEIVER__TOKENS" in shown
