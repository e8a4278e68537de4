"""`bridge dead`, as a person on call uses it: look, put back to work, let go, and be interrupted."""

from __future__ import annotations

import asyncio
import base64
import signal
from typing import TYPE_CHECKING, Any

import aio_pika
import orjson
import pytest
from yarl import URL

from bridge.dead_letters import message_file, queue_reader
from bridge.dead_letters.dead_letter_description import DeadLetterFilter
from bridge.dead_letters.message_file import MessageFile
from bridge.operations.dead_letters import dead_letter_operations
from tests.support.commands import Outcome, bridge
from tests.support.dead_letters import ids, move_to_dead_letters
from tests.support.proxy import Proxy
from tests.support.traffic import FORGED_HEADER
from tests.support.working import body_of, bounced, changed, working

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bridge.settings.sections import Settings
    from tests.support.node import Control
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit
    from tests.support.working import Workplace

    Dead = Callable[..., Awaitable[Outcome]]

_LOOK_EVERY_SECONDS = 0.02
_MOST_UNDER_WAY = 10
"""At two a second, when a replay is interrupted: what RabbitMQ has not confirmed yet comes once more."""


@pytest.fixture
def dead(amqp_url: str, prefix: str, workplace: Workplace, tmp_path: Path) -> Dead:
    """`bridge dead ARGUMENTS...` for this test's queues."""
    del workplace  # the queues must stand

    async def command(*arguments: str) -> Outcome:
        return await bridge(
            "dead", *arguments,
            directory=tmp_path, BRIDGE_RABBITMQ__URLS=amqp_url, BRIDGE_RABBITMQ__PREFIX=prefix,
        )  # fmt: skip

    return command


async def listed(dead: Dead, *filters: str) -> list[str]:
    outcome = await dead("list", "--json", *filters)
    assert outcome.code == 0, outcome.stderr
    return [letter["id"] for letter in orjson.loads(outcome.stdout)["items"]]


async def until_depth(rabbit: Rabbit, queue: str, holds: Callable[[int], bool]) -> None:
    """Until so many are ready in a queue; a depth can only be asked for.

    RabbitMQ gives back what somebody has looked at a moment after his end: with the next write to its disk.
    """
    async with asyncio.timeout(90):
        while not holds(await rabbit.depth(queue)):  # noqa: ASYNC110 -- RabbitMQ does not tell
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


def files_in(folder: Path) -> list[tuple[str, int, str]]:
    """Of what was discarded: name, mode, text."""
    return [(path.name, path.stat().st_mode & 0o777, path.read_text()) for path in folder.glob("*.jsonl")]


def ids_of(messages: list[Any]) -> list[str]:
    return [message.message_id for message in messages]


async def test_a_list_says_what_died_why_and_how_long_ago(dead: Dead, rabbit: Rabbit) -> None:
    """Id, event, reason, attempts and age, oldest first; where it is no terminal, with tabs between."""
    await move_to_dead_letters(rabbit, [1], hours=26)
    await move_to_dead_letters(rabbit, [2], reason="malformed", event="complained", hours=0.5)
    outcome = await dead("list")
    assert outcome.code == 0
    heads, first, second = outcome.stdout.splitlines()
    assert heads.split("\t") == ["ID", "Event", "Reason", "Attempts", "Age"]
    *known, age = first.split("\t")
    assert known == ["letter-1", "hard_bounced", "unknown-message", "4"]
    assert int(age) >= 26 * 3600, "in seconds, for programs"
    assert second.split("\t")[:4] == ["letter-2", "complained", "malformed", "4"]
    assert outcome.stderr == "2 of 2 dead letters\n"


async def test_a_list_is_narrowed_by_reason_event_and_age(dead: Dead, rabbit: Rabbit) -> None:
    """Each filter holds for all that is shown; both spellings of a name are one."""
    await move_to_dead_letters(rabbit, [1], hours=30)
    await move_to_dead_letters(rabbit, [2], reason="malformed", hours=3)
    await move_to_dead_letters(rabbit, [3], event="complained")
    assert await listed(dead, "--reason", "unknown-message") == ids([1, 3])
    assert await listed(dead, "--reason", "unknown-message", "--reason", "malformed") == ids([1, 2, 3])
    assert await listed(dead, "--event", "complined") == ids([3])
    assert await listed(dead, "--older-than", "2h") == ids([1, 2])
    assert await listed(dead, "--younger-than", "1d", "--older-than", "2h") == ids([2])
    outcome = await dead("list", "--limit", "2")
    assert outcome.stderr == "2 of 3 dead letters; more with --after letter-2\n"


async def test_who_reads_a_list_in_parts_gets_all_of_it_once(dead: Dead, rabbit: Rabbit) -> None:
    """`next` says from where, also behind a letter that stands there twice; times are RFC 3339."""
    await move_to_dead_letters(rabbit, [1, 2, 1, 3, 1])
    parts: list[dict[str, Any]] = []
    following: list[str] = []
    while not parts or following:
        part = orjson.loads((await dead("list", "--json", "--limit", "2", *following)).stdout)
        assert (part["total"], part["out_of_reach"]) == (5, 0)
        parts += part["items"]
        following = ["--after", part["next"]] if part["next"] else []
    assert [one["id"] for one in parts] == ids([1, 2, 1, 3, 1])
    assert all(one["died_at"].endswith("Z") for one in parts)
    gone = await dead("list", "--after", "letter-9")
    assert (gone.code, gone.stdout) == (1, "")


async def test_what_is_done_is_printed_as_json(dead: Dead, rabbit: Rabbit) -> None:
    """Counts, what was missing, and the file; nobody is asked, and nothing is done that was not agreed to."""
    await move_to_dead_letters(rabbit, range(5))
    counted = orjson.loads((await dead("replay", "--all", "--dry-run", "--json")).stdout)
    assert counted["counts"] == [{"reason": "unknown-message", "event": "hard_bounced", "count": 5}]
    assert (counted["dry_run"], counted["chosen"], counted["replayed"]) == (True, 5, 0)
    replayed = await dead("replay", "letter-1", "letter-9", "--json")
    assert replayed.code == 1
    assert orjson.loads(replayed.stdout) == {
        "dry_run": False, "chosen": 1, "replayed": 1, "missing": ["letter-9"], "out_of_reach": 0, "finished": True,
    }  # fmt: skip
    asked = await dead("discard", "--all", "--json")
    assert (asked.code, asked.stdout) == (2, "")
    discarded = orjson.loads((await dead("discard", "--all", "--yes", "--json", "--to", "x.jsonl")).stdout)
    assert (discarded["discarded"], discarded["file"]) == (4, "x.jsonl")


async def test_looking_thirty_times_changes_nothing(
    settings: Settings, rabbit: Rabbit, workplace: Workplace
) -> None:
    """No letter is lost to RabbitMQ's delivery limit, and their order stays, with new ones at the end."""
    await move_to_dead_letters(rabbit, range(40))
    for _ in range(30):
        found = await dead_letter_operations(settings).select(DeadLetterFilter().matches)
        assert [letter.id for letter in found.messages] == ids(range(40))
    await move_to_dead_letters(rabbit, [40])
    assert await dead_letter_operations(settings).find(lambda letter: letter.id == "letter-17") is not None
    assert ids_of(await workplace.dead()) == ids(range(41))


async def test_only_so_far_can_be_seen_and_the_order_stays(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies behind is counted; as the front is moved away, it comes into reach."""
    monkeypatch.setattr(queue_reader, "MAX_HELD", 70)
    await move_to_dead_letters(rabbit, range(200))
    for _ in range(3):
        found = await dead_letter_operations(settings).select(DeadLetterFilter().matches)
        assert [letter.id for letter in found.messages] == ids(range(70))
        assert (found.seen, found.total, found.unseen) == (70, 200, 130)
    assert await dead_letter_operations(settings).find(lambda letter: letter.id == "letter-150") is None
    moved: list[str] = []
    wanted = DeadLetterFilter(ids=frozenset(ids([*range(100), 150, 180])))
    unseen = await dead_letter_operations(settings).replay(
        wanted.matches, rate=2000, moved=lambda letter: moved.append(letter.id)
    )
    # 100 at the front have gone; of those that stay, 70 are unacknowledged before 180 comes into sight.
    assert (sorted(moved), unseen) == (sorted(ids([*range(100), 150])), 29)
    assert ids_of(await workplace.dead()) == ids(n for n in range(100, 200) if n != 150)


async def test_what_takes_long_is_done_in_several_readings(
    settings: Settings, rabbit: Rabbit, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """RabbitMQ takes back what is held for too long; each letter is handled once, and new ones are not."""
    monkeypatch.setattr(queue_reader, "MAX_HOLD_SECONDS", 0.0)
    await move_to_dead_letters(rabbit, range(60))
    kept: list[str] = []
    with MessageFile(tmp_path / "kept.jsonl", message_file.dead_letter_document) as file:
        unseen = await dead_letter_operations(settings).discard(
            DeadLetterFilter().matches, file=file, discarded=lambda letter: kept.append(letter.id)
        )
    assert (kept, unseen) == (ids(range(60)), 0)
    assert await workplace.dead() == []


async def test_show_tells_all_of_one(dead: Dead, rabbit: Rabbit, workplace: Workplace) -> None:
    """Reason, error, history, headers and body; it stays where it is."""
    await move_to_dead_letters(rabbit, range(5))
    outcome = await dead("show", "letter-3")
    assert outcome.code == 0
    for part in (
        "unknown-message", "the provider does not know it", "attempts:      4", "provider@a-host",
        "retry-error: 404", "received-at: 17", body_of("hard_bounced", 3).decode(),
    ):  # fmt: skip
        assert part in outcome.stdout
    document = orjson.loads((await dead("show", "letter-3", "--json")).stdout)
    assert document["body"] == body_of("hard_bounced", 3).decode()
    assert document["headers"]["dead-reason"] == "unknown-message"
    assert ids_of(await workplace.dead()) == ids(range(5))


async def test_what_rabbitmq_itself_gave_up_has_its_reason(
    dead: Dead, rabbit: Rabbit, workplace: Workplace
) -> None:
    """A message without our headers is listed with what RabbitMQ says of it, and an id of its own."""
    async with rabbit.channel() as channel:
        await channel.default_exchange.publish(
            aio_pika.Message(b"\xff", headers={"x-death": [{"reason": "delivery_limit", "queue": "q"}]}),
            routing_key=rabbit.names.dead,
        )
    [letter] = orjson.loads((await dead("list", "--json")).stdout)["items"]
    assert letter["reason"] == "delivery_limit"
    document = orjson.loads((await dead("show", letter["id"], "--json")).stdout)
    assert base64.b64decode(document["body_base64"]) == b"\xff"
    del workplace


async def test_an_id_that_is_not_there_is_said(dead: Dead, rabbit: Rabbit) -> None:
    """One line and exit code 1, and what was asked for besides is done."""
    await move_to_dead_letters(rabbit, [1])
    shown = await dead("show", "letter-9")
    assert (shown.code, shown.stdout) == (1, "")
    assert "there is no dead letter 'letter-9'" in shown.stderr
    replayed = await dead("replay", "letter-1", "letter-9")
    assert replayed.code == 1
    assert replayed.stderr.splitlines()[-1] == "bridge: not among the dead letters: letter-9"
    assert await rabbit.depth(rabbit.names.suppression) == 1


@pytest.mark.parametrize(
    "arguments", [(), ("--all", "--reason", "x"), ("letter-1", "--all"), ("letter-1", "--event", "x")]
)
async def test_what_is_moved_must_be_said(arguments: tuple[str, ...], dead: Dead, rabbit: Rabbit) -> None:
    """Neither nothing nor two ways at once: nothing is moved."""
    await move_to_dead_letters(rabbit, [1])
    for command in ("replay", "discard"):
        outcome = await dead(command, *arguments)
        assert outcome.code == 2
        assert "give either ids" in outcome.stderr
    assert await rabbit.depth(rabbit.names.dead) == 1


async def test_one_deep_in_the_queue_goes_back_to_work_as_new(
    dead: Dead, rabbit: Rabbit, workplace: Workplace
) -> None:
    """Bytes, id and properties are the same, what its death added is gone, and the others keep their order."""
    await move_to_dead_letters(rabbit, range(300))
    outcome = await dead("replay", "letter-250")
    assert (outcome.code, outcome.stdout) == (0, "replayed 1 dead letter\n")
    async with rabbit.reading(rabbit.names.suppression) as queue:
        message = await queue.next()
    assert (message.message_id, message.type, message.body) == (
        "letter-250", "hard_bounced", body_of("hard_bounced", 250),
    )  # fmt: skip
    assert {name for name in message.headers if not name.startswith("x-")} == {"received-at", FORGED_HEADER}
    assert message.delivery_mode == 2
    assert ids_of(await workplace.dead()) == ids(n for n in range(300) if n != 250)


async def test_a_dry_run_counts_and_moves_nothing(dead: Dead, rabbit: Rabbit, workplace: Workplace) -> None:
    """By reason and event."""
    await move_to_dead_letters(rabbit, range(3))
    await move_to_dead_letters(rabbit, [3], reason="malformed")
    replayed = await dead("replay", "--all", "--dry-run")
    assert replayed.stdout.splitlines()[1:] == [
        "malformed\thard_bounced\t1",
        "unknown-message\thard_bounced\t3",
    ]
    assert replayed.stderr == "4 dead letters to be replayed\n"
    discarded = await dead("discard", "--reason", "malformed", "--dry-run")
    assert discarded.stderr == "1 dead letter to be discarded\n"
    assert ids_of(await workplace.dead()) == ids(range(4))
    assert await workplace.left() == []


async def test_after_the_cause_is_gone_a_replay_puts_them_on_the_list(
    dead: Dead, rabbit: Rabbit, settings: Settings, workplace: Workplace
) -> None:
    """A running worker takes them like any other event."""
    await move_to_dead_letters(rabbit, range(1, 21))
    async with working(settings):
        outcome = await dead("replay", "--all", "--rate", "1000")
        assert outcome.code == 0, outcome.stderr
        await workplace.changes(20)
    assert await workplace.listed() == bounced(range(1, 21))
    assert await workplace.dead() == []


async def test_what_dies_during_a_replay_is_left_alone(
    dead: Dead, rabbit: Rabbit, settings: Settings, workplace: Workplace
) -> None:
    """Letters that fail again come back behind the others, and the replay comes to its end."""
    async with rabbit.channel() as channel:
        for number in range(30):
            await channel.default_exchange.publish(
                aio_pika.Message(b"no JSON", message_id=f"letter-{number}"), routing_key=rabbit.names.dead
            )
    async with working(settings):
        outcome = await dead("replay", "--all", "--rate", "200")
        assert outcome.stdout == "replayed 30 dead letters\n"
        await until_depth(rabbit, rabbit.names.dead, lambda depth: depth == 30)
    assert sorted(ids_of(await workplace.dead())) == sorted(ids(range(30)))


async def test_a_discard_asks_and_keeps_them_in_a_file(
    dead: Dead, rabbit: Rabbit, workplace: Workplace, tmp_path: Path
) -> None:
    """Unanswered, nothing happens; with --yes the file has each of them, and only for its owner."""
    await move_to_dead_letters(rabbit, range(60))
    await move_to_dead_letters(rabbit, [60], reason="malformed", note=bytearray(b"\xff"))
    asked = await dead("discard", "--reason", "malformed")
    assert asked.code == 1
    assert "1 dead letter to be discarded, and kept only in dead-letters-" in asked.stderr
    assert files_in(tmp_path) == []
    outcome = await dead("discard", "--reason", "malformed", "--yes")
    assert outcome.code == 0, outcome.stderr
    [(name, mode, text)] = files_in(tmp_path)
    assert name.startswith("dead-letters-")
    assert outcome.stdout == f"discarded 1 dead letter, kept in {name}\n"
    assert mode == 0o600
    [kept] = map(orjson.loads, text.splitlines())
    assert (kept["id"], kept["reason"], kept["body"]) == (
        "letter-60", "malformed", body_of("hard_bounced", 60).decode(),
    )  # fmt: skip
    assert kept["headers"]["note"] == {"base64": "/w=="}
    assert kept["properties"]["message_id"] == "letter-60"
    assert ids_of(await workplace.dead()) == ids(range(60))


async def test_a_discard_overwrites_no_file(dead: Dead, rabbit: Rabbit, tmp_path: Path) -> None:
    """It is refused, and the letters stay."""
    await move_to_dead_letters(rabbit, [1])
    (tmp_path / "kept.jsonl").write_text("mine")
    outcome = await dead("discard", "--all", "--yes", "--to", "kept.jsonl")
    assert outcome.code == 2
    assert "kept.jsonl exists already" in outcome.stderr
    assert (tmp_path / "kept.jsonl").read_text() == "mine"
    missing = await dead("discard", "--all", "--yes", "--to", "nowhere/kept.jsonl")
    assert (missing.code, missing.stderr.splitlines()[-1]) == (
        1, "bridge: nowhere/kept.jsonl: No such file or directory; the messages stay in their queue",
    )  # fmt: skip
    await until_depth(rabbit, rabbit.names.dead, lambda depth: depth == 1)


async def test_a_list_that_is_killed_changes_nothing(
    overrides: dict[str, Any], amqp_url: str, rabbit: Rabbit, processes: Processes, workplace: Workplace
) -> None:
    """It has taken all of them when SIGKILL comes: RabbitMQ has them back, as they were."""
    await move_to_dead_letters(rabbit, range(500))
    async with Proxy.serve(amqp_url) as proxy:
        proxy.delay(0.2)
        there = changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)], "connect_timeout": 20})
        looking = await processes.start("dead", "list", overrides=there)
        await until_depth(rabbit, rabbit.names.dead, lambda depth: depth == 0)
        proxy.pause()
        looking.kill_now()
        assert await looking.ended() == -signal.SIGKILL
        assert looking.printed == []
        assert await rabbit.depth(rabbit.names.dead) == 0
        proxy.resume()
        await until_depth(rabbit, rabbit.names.dead, lambda depth: depth == 500)
    assert ids_of(await workplace.dead()) == ids(range(500))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_a_replay_that_is_interrupted_loses_nothing(
    number: signal.Signals,
    overrides: dict[str, Any],
    rabbit: Rabbit,
    processes: Processes,
    workplace: Workplace,
) -> None:
    """Each letter is in one of the queues, those that stayed in their order; another replay does the rest."""
    count = 250  # at two a second they take longer than a test may: it is always interrupted
    await move_to_dead_letters(rabbit, range(count))
    replaying = await processes.start("dead", "replay", "--all", "--rate", "2", overrides=overrides)
    await until_depth(rabbit, rabbit.names.suppression, lambda depth: depth >= 3)
    replaying.send(number)
    assert await replaying.ended() != 0
    await until_depth(rabbit, rabbit.names.dead, lambda depth: depth > 0)
    again = await processes.start("dead", "list", "--json", "--limit", "1000", overrides=overrides)
    assert await again.ended() == 0
    stayed = [letter["id"] for letter in orjson.loads("\n".join(again.printed))["items"]]
    assert stayed == ids(range(count - len(stayed), count))
    rest = await processes.start("dead", "replay", "--all", "--rate", "1000", overrides=overrides)
    assert await rest.ended() == 0
    replayed: list[str] = []
    async with rabbit.reading(rabbit.names.suppression) as queue:
        while set(replayed) != set(ids(range(count))):  # what is on the way stands nowhere
            replayed += ids_of([await queue.next()])
        assert len(replayed) + queue.waiting <= count + _MOST_UNDER_WAY
    assert await workplace.dead() == []


async def test_a_discard_that_is_killed_has_kept_all_that_is_gone(
    overrides: dict[str, Any],
    amqp_url: str,
    rabbit: Rabbit,
    processes: Processes,
    workplace: Workplace,
    tmp_path: Path,
) -> None:
    """What is no longer in the queue is a whole line of the file; the rest stays in its order."""
    await move_to_dead_letters(rabbit, range(300))
    # Through this process: when we stand still, the discard does not come to its end meanwhile.
    async with Proxy.serve(amqp_url) as proxy:
        there = changed(overrides, rabbitmq={"urls": [proxy.url(amqp_url)]})
        discarding = await processes.start(
            "dead", "discard", "--all", "--yes", "--to", "kept.jsonl", overrides=there
        )
        kept = tmp_path / "kept.jsonl"
        async with asyncio.timeout(90):
            while not kept.exists() or not kept.stat().st_size:  # noqa: ASYNC110 -- a file does not tell
                await asyncio.sleep(0.001)
        discarding.kill_now()
        assert await discarding.ended() == -signal.SIGKILL
        stayed = ids_of(await workplace.dead())
    written = {
        orjson.loads(line)["id"]
        for line in kept.read_bytes().splitlines(keepends=True)
        if line.endswith(b"\n")
    }
    assert stayed == ids(range(300 - len(stayed), 300))
    assert written | set(stayed) == set(ids(range(300)))


async def test_two_people_and_a_worker_at_once_lose_nothing(
    dead: Dead, rabbit: Rabbit, workplace: Workplace
) -> None:
    """They wait for each other; what dies meanwhile is kept."""
    await move_to_dead_letters(rabbit, range(100))
    looked, replayed, discarded, _ = await asyncio.gather(
        dead("list", "--json"),
        dead("replay", "--reason", "unknown-message", "--rate", "200"),
        dead("discard", "--reason", "malformed", "--yes", "--to", "kept.jsonl"),
        move_to_dead_letters(rabbit, range(100, 160), reason="provider-failure"),
    )
    assert (looked.code, replayed.code, discarded.code) == (0, 0, 0)
    assert ids_of(await workplace.dead()) == ids(range(100, 160))
    async with rabbit.reading(rabbit.names.suppression) as queue:
        assert ids_of(await queue.take(100)) == ids(range(100))


async def test_a_consumer_that_holds_them_unacknowledged_is_waited_for(dead: Dead, rabbit: Rabbit) -> None:
    """A program that consumes the queue would share them with us: it is said, and nothing is touched."""
    async with rabbit.channel() as channel:
        await channel.set_qos(prefetch_count=1)
        queue = await channel.get_queue(rabbit.names.dead)
        held: asyncio.Queue[Any] = asyncio.Queue()
        await queue.consume(held.put)
        await move_to_dead_letters(rabbit, range(3))
        outcome = await dead("list")
    assert outcome.code == 1
    assert "another command is reading the dead letters" in outcome.stderr
    assert await listed(dead) == ids(range(3))


async def test_a_queue_that_might_drop_what_is_looked_at_is_not_looked_at(dead: Dead, rabbit: Rabbit) -> None:
    """With other arguments than the bridge declares, nothing is taken from it."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
        await channel.declare_queue(
            rabbit.names.dead, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 3}
        )
    await move_to_dead_letters(rabbit, range(3))
    outcome = await dead("list")
    assert outcome.code == 1
    assert f"queue '{rabbit.names.dead}' stands with other arguments" in outcome.stderr
    async with rabbit.reading(rabbit.names.dead) as letters:
        assert not (await letters.next()).redelivered


async def test_a_user_who_may_not_configure_can_look(
    amqp_url: str, rabbit: Rabbit, control: Control, workplace: Workplace, tmp_path: Path
) -> None:
    """Reading is enough."""
    await control.add_user(rabbit.names.prefix, "secret", configure="^$")
    await move_to_dead_letters(rabbit, range(3))
    outcome = await bridge(
        "dead", "list",
        directory=tmp_path, BRIDGE_RABBITMQ__PREFIX=rabbit.names.prefix,
        BRIDGE_RABBITMQ__URLS=str(URL(amqp_url).with_user(rabbit.names.prefix).with_password("secret")),
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert outcome.stderr == "3 of 3 dead letters\n"
    assert ids_of(await workplace.dead()) == ids(range(3))


async def test_without_a_broker_or_a_queue_it_says_so(dead: Dead, rabbit: Rabbit, tmp_path: Path) -> None:
    """One line, exit code 1."""
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.dead)
    outcome = await dead("list")
    assert outcome.code == 1
    assert outcome.stderr.startswith(f"bridge: there is no queue '{rabbit.names.dead}'")
    nobody = await bridge("dead", "list", directory=tmp_path, BRIDGE_RABBITMQ__URLS="amqp://127.0.0.1:1/")
    assert nobody.code == 1
    assert nobody.stderr.splitlines()[-1].startswith("bridge: RabbitMQ cannot be reached")
