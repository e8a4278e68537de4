"""RabbitMQ behind TLS: the same confirms, over a connection that is verified."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pamqp import commands as spec

from bridge.amqp.message_types import make_message
from bridge.development import private_node
from bridge.settings.loading import load_settings
from tests.support.eventually import eventually
from tests.support.ports import free_port
from tests.support.receiving import exchange_alone, publishing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bridge.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class TlsNode:
    port: int
    authority: Path
    """The certificate that its own is signed with."""


@pytest.fixture(scope="module")
def tls_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNode]:
    """A RabbitMQ that speaks TLS, with a certificate that an authority has signed."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        port = free_port()
        node = private_node.running_node(folder / "node", extra_config=_listening(authority, folder, port))
        runner.run(stack.enter_async_context(node))
        try:
            yield TlsNode(port, folder / "authority.pem")
        finally:
            runner.run(stack.aclose())


async def test_events_are_confirmed_over_tls(
    tls_node: TlsNode, overrides: dict[str, Any], metrics: Metrics
) -> None:
    """A thousand messages over `amqps`, with a certificate that the given authority has signed."""
    overrides["rabbitmq"]["urls"] = [
        f"amqps://guest:guest@127.0.0.1:{tls_node.port}/?cafile={tls_node.authority}"
    ]
    settings = load_settings(overrides=overrides)
    async with publishing(settings, metrics, exchange_alone(settings)) as line:
        await line.up()
        exchange = f"{settings.rabbitmq.prefix}email.events"
        message = make_message(exchange, "any", spec.Basic.Properties(message_id="one"), b"{}")
        async with asyncio.timeout(90):
            await asyncio.gather(*(line.publisher.publish(message) for _ in range(1000)))
    assert metrics.registry.get_sample_value("bridge_publishes_total", {"outcome": "confirmed"}) == 1000


async def test_a_certificate_of_somebody_else_is_no_broker_of_ours(
    tls_node: TlsNode, overrides: dict[str, Any], metrics: Metrics, tmp_path: Path
) -> None:
    """Nothing is published to whoever happens to listen there; the reason names the certificate."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
    overrides["rabbitmq"]["urls"] = [
        f"amqps://guest:guest@127.0.0.1:{tls_node.port}/?cafile={tmp_path / 'another.pem'}"
    ]
    settings = load_settings(overrides=overrides)
    async with publishing(settings, metrics, exchange_alone(settings)) as line:
        await eventually(lambda: "certificate" in line.link.reason.lower())
        assert not line.publisher.usable


def _listening(authority: trustme.CA, folder: Path, port: int) -> str:
    """What a node needs to speak TLS on this port."""
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "authority.pem")
    server.cert_chain_pems[0].write_to_path(folder / "server.pem")
    server.private_key_pem.write_to_path(folder / "server.key")
    return "\n".join(
        (
            f"listeners.ssl.1 = 127.0.0.1:{port}",
            f"ssl_options.cacertfile = {folder / 'authority.pem'}",
            f"ssl_options.certfile = {folder / 'server.pem'}",
            f"ssl_options.keyfile = {folder / 'server.key'}",
            "",
        )
    )
