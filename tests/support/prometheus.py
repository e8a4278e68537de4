"""A real Prometheus with the shipped configuration, whose targets are on this machine."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from tests.docs.tables import ROOT
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

PROGRAM: Final = shutil.which("prometheus")
SHIPPED: Final = ROOT / "config" / "prometheus"
_PATIENCE_SECONDS: Final = 90
_LOOK_EVERY_SECONDS: Final = 0.1
_DISCOVERED: Final = re.compile(r"dns_sd_configs:\n +- \{ names: \[(\w+)\], .*\}")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """Its HTTP API."""

    http: aiohttp.ClientSession

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query.

        Raises:
            AssertionError: Prometheus does not understand it; its own words.
        """
        said = await self._asked("query", query=expression)
        assert said["status"] == "success", f"{expression}: {said['error']}"
        found: list[dict[str, Any]] = said["data"]["result"]
        return found

    async def until(self, expression: str) -> None:
        """Returns when the query gives something."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while not await self.query(expression):  # noqa: ASYNC110 -- Prometheus sends no event
                    await asyncio.sleep(_LOOK_EVERY_SECONDS)
        except TimeoutError:
            raise AssertionError(f"Prometheus never sees {expression}") from None

    async def metrics(self) -> set[str]:
        """The names of all that it has ever scraped."""
        return set((await self._asked("label/__name__/values"))["data"])

    async def alerts(self) -> list[str]:
        """The expressions of all alerts, as Prometheus has read them."""
        groups = (await self._asked("rules"))["data"]["groups"]
        return [rule["query"] for group in groups for rule in group["rules"]]

    async def label_values(self, metric: str, label: str) -> list[str]:
        """As Grafana's `label_values` asks for them."""
        values: list[str] = (await self._asked(f"label/{label}/values", **{"match[]": metric}))["data"]
        return values

    async def _asked(self, path: str, **parameters: str) -> Any:
        async with self.http.get(f"/api/v1/{path}", params=parameters) as answer:
            return await answer.json()


@asynccontextmanager
async def running(directory: Path, ports: dict[str, int]) -> AsyncIterator[Prometheus]:
    """It scrapes and evaluates each half second; alerts.yml is loaded.

    Args:
        directory: for its files.
        ports: of each service of the shipped configuration that runs here: where its metrics are.
    """
    assert PROGRAM is not None
    port = free_port()
    config = directory / "prometheus.yml"
    config.write_text(_configured(ports | {"prometheus": port}))
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            PROGRAM, f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", stdout=log, stderr=log,
        )  # fmt: skip
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            await _ready(http)
            yield Prometheus(http)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


def _configured(ports: Mapping[str, int]) -> str:
    text = (SHIPPED / "prometheus.yml").read_text("utf-8")
    text = re.sub(r"(scrape|evaluation)_interval: \w+", r"\1_interval: 500ms", text)
    text = text.replace("/etc/prometheus/alerts.yml", str(SHIPPED / "alerts.yml"))
    text = text.replace("localhost:9090", f"127.0.0.1:{ports['prometheus']}")

    def here(found: re.Match[str]) -> str:
        targets = [f'"127.0.0.1:{ports[found[1]]}"'] if found[1] in ports else []
        return f"static_configs:\n      - {{ targets: [{', '.join(targets)}] }}"

    return _DISCOVERED.sub(here, text)


async def _ready(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            try:
                async with http.get("/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
