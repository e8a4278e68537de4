"""A suppression queue that was gone: what it missed comes from the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.conftest import TOKEN
from tests.support.wire import ask, post
from tests.support.working import body_of

if TYPE_CHECKING:
    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit


async def test_events_that_came_while_the_suppression_queue_was_gone_are_on_the_list(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """They are in the archive alone; the worker that makes the queue again takes them from there, each once."""
    receiver = await processes.start("receiver", overrides=overrides)
    port = (await receiver.says("receiver.started"))["port"]
    await receiver.says("broker.connected")
    async with rabbit.channel() as channel:
        await channel.queue_delete(rabbit.names.suppression)
    for number in (1, 2):
        answer = await ask(port, post(body_of("hard_bounced", number), token=TOKEN))
        assert answer.json["durability"] == "confirmed"
    assert (await ask(port, post(body_of("opened", 3), token=TOKEN))).json["durability"] == "confirmed"
    async with rabbit.listening(rabbit.names.changes, "#") as changes:
        worker = await processes.start("worker", overrides=overrides)
        assert (await worker.says("worker.backfilled"))["events"] == 2
        assert [change.routing_key for change in await changes.take(2)] == ["added", "added"]


async def test_a_first_start_reads_no_archive(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit
) -> None:
    """Where nothing has been received yet there is nothing to take."""
    assert rabbit
    worker = await processes.start("worker", overrides=overrides)
    await worker.says("worker.started")
    assert not [line for line in worker.lines if "backfill" in line]
