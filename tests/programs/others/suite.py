"""Runs one bridge under one fault: load on, fault in, fault out, calm again, and both sides compared."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.programs.others.arrivals import record_archive
from tests.programs.others.bridges import QUEUE
from tests.programs.others.comparison import Row, compare
from tests.programs.others.scene import set_up
from tests.support.history.history import History

if TYPE_CHECKING:
    from tests.programs.others.bridges import Bridge
    from tests.programs.others.faults import Fault
    from tests.programs.others.scene import Scene

RATE: Final = 50.0
"""Events a second: a small part of what the slowest of them can on a busy machine, so that it is never its speed that is measured."""
_BEFORE_SECONDS: Final = 3.0
_RECOVERY_SECONDS: Final = 45.0
"""So long after the fault a bridge may take until it answers every event 200 again. Else it hangs."""
_RUN_SECONDS: Final = 240.0


async def run(bridge: Bridge, fault: Fault, *, rate: float = RATE, seed: int = 1) -> Row:
    """One row, in a scene of its own.

    Raises:
        TimeoutError: the bridge does not start, or the run does not end.
        NodeError: RabbitMQ does not start.
    """
    with tempfile.TemporaryDirectory(prefix="bridge-others-") as name:
        directory = Path(name)
        file = directory / "history.jsonl"
        async with asyncio.timeout(_RUN_SECONDS):
            with History.open(file) as recorder:
                async with set_up(
                    bridge, directory, recorder, rate=rate, forgetful=fault.cuts_power, seed=seed
                ) as scene:
                    healed, calm = await _under_load(scene, fault)
                    await scene.arrivals.have(scene.load.accepted)
                    if bridge.archive and scene.arrivals.missing(scene.load.accepted):
                        await record_archive(scene.node.url, bridge.archive, recorder)
        return compare(
            History.read(file),
            bridge=bridge.name,
            fault=fault.name,
            queue=QUEUE,
            archive=bridge.archive,
            healed=healed,
            hangs=not calm,
            did_not_stop=scene.service.did_not_stop,
        )


async def _under_load(scene: Scene, fault: Fault) -> tuple[int, bool]:
    """When the fault had ended, ns, and whether calm came after it."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(scene.load.run(), name="load")
        await asyncio.sleep(_BEFORE_SECONDS)
        await fault.inject(scene)
        healed = time.monotonic_ns()
        calm = await scene.load.calm(time.monotonic(), most=_RECOVERY_SECONDS)
        scene.load.end()
    return healed, calm
