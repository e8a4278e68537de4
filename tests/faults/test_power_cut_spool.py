"""The power fails under a receiver that spools: what was answered 200 is there when it comes back."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.disk.mounting import FUSE_MISSING, forgetful_disk
from tests.support.ports import free_port
from tests.support.power_cuts import Poster
from tests.support.working import changed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import Processes
    from tests.support.rabbit import Rabbit

pytestmark = pytest.mark.skipif(FUSE_MISSING is not None, reason=str(FUSE_MISSING))


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("seed", range(3))
async def test_what_was_spooled_survives_power_cuts(
    processes: Processes, overrides: dict[str, Any], rabbit: Rabbit, tmp_path: Path, seed: int
) -> None:
    """In a folder that the receiver makes itself, cut after cut in the middle of traffic; at last all of it is drained."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    poster = Poster()
    async with forgetful_disk(mounted, seed=seed) as disk:
        there = changed(overrides, spool={"directory": f"{mounted}/var/spool"})
        away = changed(there, rabbitmq={"urls": [f"amqp://127.0.0.1:{free_port()}"]})
        for answers in (1, 40, 150):
            receiver = await processes.start("receiver", overrides=away)
            async with poster.posting((await receiver.says("receiver.started"))["port"]):
                await poster.answers(answers)
                receiver.send(signal.SIGKILL)
                await receiver.ended()
            await disk.cut()
        assert set(poster.answered.values()) == {"spooled"}
        async with rabbit.listening(rabbit.names.events, "#") as arrivals:
            receiver = await processes.start("receiver", overrides=there)
            assert await poster.missing_from(arrivals) == set()
        receiver.send(signal.SIGKILL)
        await receiver.ended()
