"""`/metrics` as Prometheus reads it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable

Samples = dict[str, float]
"""`name{label="value"}`, its labels in the order of their names -> value."""

PATIENCE_SECONDS: Final = 90
_LOOK_EVERY_SECONDS: Final = 0.05


async def scraped(port: int) -> Samples:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/metrics") as answer:
        text = await answer.text()
    return {
        _name(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def becoming(port: int, holds: Callable[[Samples], bool]) -> Samples:
    """What is read once this holds of it; it is scraped again and again, as by its user."""
    samples: Samples = {}
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (samples and holds(samples)):
                samples = await scraped(port)
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
    except TimeoutError:
        raise AssertionError(f"the metrics stay at {samples}") from None
    return samples


def _name(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
