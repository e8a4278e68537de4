"""RabbitMQ behind TLS: the same confirms, over a connection that is verified."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from pamqp import commands as spec

from bridge.amqp.frames import make_message
from bridge.development import private_node
from bridge.settings.loading import load_settings
from tests.support.eventually import eventually
from tests.support.receiving import exchange_alone, publishing

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.telemetry.metrics import Metrics


@pytest.fixture
def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


async def test_events_are_confirmed_over_tls(
    authority: trustme.CA, overrides: dict[str, Any], metrics: Metrics, tmp_path: Path, free_port: int
) -> None:
    """A thousand messages over `amqps`, with a certificate that the given authority has signed."""
    listens = _listening(authority, tmp_path, free_port)
    async with private_node.running_node(tmp_path / "node", extra_config=listens):
        overrides["rabbitmq"]["urls"] = [
            f"amqps://guest:guest@127.0.0.1:{free_port}/?cafile={tmp_path / 'authority.pem'}"
        ]
        settings = load_settings(overrides=overrides)
        async with publishing(settings, metrics, exchange_alone(settings)) as line:
            await line.up()
            exchange = f"{settings.rabbitmq.prefix}email.events"
            message = make_message(exchange, "any", spec.Basic.Properties(message_id="one"), b"{}")
            async with asyncio.timeout(30):
                await asyncio.gather(*(line.publisher.publish(message) for _ in range(1000)))
        assert metrics.registry.get_sample_value("bridge_publishes_total", {"outcome": "confirmed"}) == 1000


async def test_a_certificate_of_somebody_else_is_no_broker_of_ours(
    authority: trustme.CA, overrides: dict[str, Any], metrics: Metrics, tmp_path: Path, free_port: int
) -> None:
    """Nothing is published to whoever happens to listen there; the reason names the certificate."""
    listens = _listening(authority, tmp_path, free_port)
    trustme.CA().cert_pem.write_to_path(tmp_path / "another.pem")
    async with private_node.running_node(tmp_path / "node", extra_config=listens):
        overrides["rabbitmq"]["urls"] = [
            f"amqps://guest:guest@127.0.0.1:{free_port}/?cafile={tmp_path / 'another.pem'}"
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
