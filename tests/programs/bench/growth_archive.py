"""An archive of more and more events, and what it costs to go through all of it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from bridge.broker.archive_selection import ArchiveSelection
from bridge.settings.loading import load_settings
from tests.programs.bench import scan
from tests.programs.bench.growth_curves import Curve, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.programs.bench.place import Place
    from tests.programs.bench.throughput import Say

SIZES: Final = (10_000, 100_000, 1_000_000)
_PART: Final = "archive, events in it"
_SELECTIONS: Final = {
    "go through an event, all selected": ArchiveSelection(),
    "go through an event, one message looked for": ArchiveSelection(message_ids=frozenset({"77"})),
}


async def measure(place: Place, *, sizes: Sequence[int], say: Say) -> list[Curve]:
    """Fill the archive up to each size, and go through all of it: `bridge replay --dry-run`.

    Raises:
        RuntimeError: not all of it was seen.
    """
    await place.clean()
    settings = load_settings(overrides={"rabbitmq": {"urls": [place.node.url]}})
    costs: dict[str, list[tuple[int, float]]] = defaultdict(list)
    bytes_each: dict[int, float] = {}
    filled = 0
    for size in sorted(sizes):
        await scan.fill(settings, size - filled)
        filled = size
        await place.rest()
        if stored := await asyncio.to_thread(place.streamed_bytes):
            bytes_each[size] = stored / size
        for what, selection in _SELECTIONS.items():
            broker = place.broker.cpu
            found = await scan.scan(settings, selection)
            broker = place.broker.cpu - broker
            if found.scanned != size:
                raise RuntimeError(f"{found.scanned:,} of {size:,} events of the archive were seen")
            costs[what].append((size, found.cpu / size * 1e6))
            costs[f"{what}, RabbitMQ"].append((size, broker / size * 1e6))
            say(
                f"archive of {size:,}: {what}: {found.cpu / size * 1e6:.1f} us, RabbitMQ {broker / size * 1e6:.1f} us"
            )
    return [
        *(curve(_PART, what, "us", found) for what, found in costs.items()),
        *([curve(_PART, "disk, for each event", "bytes", list(bytes_each.items()))] if bytes_each else []),
    ]
