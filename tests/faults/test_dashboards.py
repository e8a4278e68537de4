"""The dashboards and the alerts over a real Prometheus, which scrapes the roles at work and RabbitMQ's own plugin."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aio_pika
import aiohttp
import orjson
import pytest

from bridge.development import private_node
from bridge.development.emission import Emission
from bridge.events import KNOWN_NAMES
from tests.conftest import OTHER_TOKEN, TOKEN
from tests.docs.tables import ROOT
from tests.support import dashboards, prometheus
from tests.support.ports import free_ports
from tests.support.processes import Processes
from tests.support.working import AT, body_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aio_pika.abc import AbstractIncomingMessage

    from bridge.development.simulator import Simulator
    from tests.support.dashboards import Panel
    from tests.support.prometheus import Prometheus

takes_prometheus = pytest.mark.skipif(
    prometheus.PROGRAM is None, reason="there is no prometheus here (Debian: apt-get install prometheus)"
)

SENDER = "a-token-of-a-sender-1"
UNKNOWN_MESSAGE = 5000
"""The simulator knows those up to 1000."""
SUBSCRIBER: Final = "crm"
PATIENCE_SECONDS: Final = 90
MAY_BE_NOTHING: Final = {
    "histogram_quantile(0.99, sum by (le) (rate(bridge_prune_seconds_bucket[1m])))": "nothing is old enough to be deleted",
}
"""Query -> why there may be no number in it. Its metrics are there all the same."""


COMPILED: Final = (
    "--noEmit", "--strict", "--skipLibCheck", "--allowImportingTsExtensions", "--module", "nodenext",
    "--moduleResolution", "nodenext", "--target", "es2022",
)  # fmt: skip


@pytest.fixture
async def watched(tmp_path: Path, simulator: Simulator, empty_list_file: Path) -> AsyncIterator[Prometheus]:
    """Two receiver processes, a worker, an API, a subscriber and RabbitMQ, with traffic that goes on; and their Prometheus."""
    ports = dict(zip(("rabbitmq", "receiver", "worker", "api"), free_ports(4), strict=True))
    shutil.copy(empty_list_file, tmp_path / "list.sqlite3")
    plugin = f"prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {ports['rabbitmq']}"
    async with (
        private_node.running_node(
            tmp_path / "rabbitmq", plugins=["rabbitmq_prometheus"], extra_config=plugin, management=True,
            quick_counts=True,
        ) as node,
        Processes(tmp_path) as processes,
    ):  # fmt: skip
        settings = _settings(node, simulator, tmp_path)
        api, receiver, worker = [
            await processes.start(role, overrides=settings | {"health": {"port": ports[role]}})
            for role in ("api", "receiver", "worker")
        ]
        posted_to = (await receiver.says("receiver.started", process=2))["port"]
        asked_at = (await api.says("api.started"))["port"]
        await receiver.says("broker.connected", process=1)
        await receiver.says("broker.connected", process=2)
        await worker.says("worker.started")
        async with (
            prometheus.running(tmp_path, ports) as watching,
            _traffic(node.url, posted_to, asked_at, simulator),
        ):
            yield watching


def _settings(node: private_node.PrivateNode, simulator: Simulator, folder: Path) -> dict[str, Any]:
    return {
        "rabbitmq": {"urls": [node.url], "management_url": node.management_url},
        "receiver": {"port": 0, "processes": 2, "tokens": [TOKEN, OTHER_TOKEN]},
        "provider": {
            "base_url": simulator.base_url, "api_token": simulator.token, "rate": 1000, "unknown_grace": 1.0
        },
        "worker": {"retry_delays": [0.2], "give_up_after": 1},
        "suppression": {"database_url": f"sqlite+aiosqlite:///{folder}/list.sqlite3"},
        "spool": {"directory": f"{folder}/spool"},
        "api": {"port": 0, "tokens": [f"sender:check+write:{SENDER}"]},
        "subscribers": [{"queue": SUBSCRIBER, "events": ["opened"]}],
        "logs": {"format": "json"},
    }  # fmt: skip


@asynccontextmanager
async def _traffic(url: str, posted_to: int, asked_at: int, simulator: Simulator) -> AsyncIterator[None]:
    """Whatever happens to a bridge, again and again: Prometheus only sees the increase of what it has seen before."""
    simulator.webhook_url = f"http://127.0.0.1:{posted_to}/webhooks/msndr/{TOKEN}"

    async def consumed(message: AbstractIncomingMessage) -> None:
        await message.ack()

    async def again_and_again() -> None:
        for number in range(1, 1000):
            emissions = [Emission(name, number, AT) for name in sorted(KNOWN_NAMES)]
            emissions.append(Emission("hard_bounced", UNKNOWN_MESSAGE + number, AT))
            await simulator.emit_many(emissions)
            for token, body in (
                (OTHER_TOKEN, b"{}"), (TOKEN, body_of("unheard_of", number)), ("wrong", b"{}")
            ):  # fmt: skip
                async with http.post(f"http://127.0.0.1:{posted_to}/webhooks/msndr/{token}", data=body):
                    pass
            asked = {"addresses": [f"recipient{number}@example.org", f"nobody{number}@example.org"]}
            async with http.post(
                f"http://127.0.0.1:{asked_at}/v1/suppressions/check",
                json=asked,
                headers={"Authorization": f"Bearer {SENDER}"},
            ):
                pass
            announcement = orjson.dumps({"messages": [{"id": f"m-{number}", "to": "jane@example.org"}, {}]})
            await announcements.publish(aio_pika.Message(announcement), routing_key="sent")
            await asyncio.sleep(0.2)

    async with await aio_pika.connect(url) as connection, aiohttp.ClientSession() as http:
        channel = await connection.channel()
        await (await channel.get_queue(SUBSCRIBER)).consume(consumed)
        announcements = await channel.get_exchange("email.messages")
        posting = asyncio.create_task(again_and_again(), name="traffic")
        yield
        assert not posting.done(), posting
        posting.cancel()


@takes_prometheus
async def test_every_query_of_a_dashboard_gives_something_and_no_alert_names_what_is_not_there(
    watched: Prometheus,
) -> None:
    """Of every panel and every variable. A metric that comes only with the first fault would miss that one in an alert."""
    wrong = ["not looked yet"]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while wrong:
                wrong = [
                    *[one for panel in dashboards.panels() async for one in _wrong_with(panel, watched)],
                    *[one for file in dashboards.FILES async for one in _empty_variables(file.name, watched)],
                ]
    except TimeoutError:
        pass
    assert "\n".join(wrong) == ""
    [wrong_question] = [
        panel for panel in dashboards.panels() if panel.document["title"] == "Is anything wrong?"
    ]
    [answer] = await watched.query(wrong_question.queries[0])
    assert answer["value"][1] == "2"  # there are bodies in the quarantine
    for metric in {name for query in await watched.alerts() for name in dashboards.metrics_in(query)}:
        await watched.until(metric)


async def _wrong_with(panel: Panel, watched: Prometheus) -> AsyncIterator[str]:
    there = await watched.metrics()
    for query in panel.queries:
        for metric in sorted(dashboards.metrics_in(query) - there):
            yield f"{panel.name}: there is no metric {metric}"
        values = [float(series["value"][1]) for series in await watched.query(query)]
        if query not in MAY_BE_NOTHING and not any(map(math.isfinite, values)):
            yield f"{panel.name}: {values or 'nothing'} for {query}"


async def _empty_variables(board: str, watched: Prometheus) -> AsyncIterator[str]:
    for variable in dashboards.document(board)["templating"]["list"]:
        if variable["type"] == "query":
            [(metric, label)] = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"])
            if await watched.label_values(metric, label) != [SUBSCRIBER]:
                yield f"{board}: no value for {variable['query']}"


def test_grafanas_schema_takes_every_dashboard(npm_packages: Path, tmp_path: Path) -> None:
    """That of the Grafana that docker-compose.yml has: with the options of each kind of panel, and nothing beside."""
    (tmp_path / "node_modules").symlink_to(npm_packages)
    shutil.copy(ROOT / "tests" / "node" / "dashboard.ts", tmp_path)
    shipped = "\n".join(
        f"export const {file.stem}: Shipped = {file.read_text('utf-8')};" for file in dashboards.FILES
    )
    (tmp_path / "shipped.ts").write_text(f'import type {{ Shipped }} from "./dashboard.ts";\n{shipped}')
    said = subprocess.run(
        ["node", npm_packages / "typescript" / "bin" / "tsc", *COMPILED, "shipped.ts"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.stdout, said.returncode) == ("", 0)
    schema = orjson.loads((npm_packages / "@grafana" / "schema" / "package.json").read_bytes())
    assert f"image: grafana/grafana:{schema['version']}\n" in (ROOT / "docker-compose.yml").read_text("utf-8")
