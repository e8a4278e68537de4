"""The ports of `bridge dev`: the usual ones, and what it does where somebody else listens."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from bridge.development import dev_settings
from bridge.development.dev_settings import PortInUseError, choose_ports
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

USUAL = (
    "RECEIVER_PORT",
    "API_PORT",
    "SIMULATOR_PORT",
    "RECEIVER_HEALTH_PORT",
    "WORKER_HEALTH_PORT",
    "API_HEALTH_PORT",
)


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Free ports in the place of 8080 and so on, which others on this machine may have."""
    ports = free_ports(len(USUAL))
    for name, port in zip(USUAL, ports, strict=True):
        monkeypatch.setattr(dev_settings, name, port)
    return ports


@pytest.fixture
def listen() -> Iterator[ExitStack]:
    with ExitStack() as sockets:
        yield sockets


def _taken(sockets: ExitStack, port: int, host: str = "127.0.0.1") -> None:
    one = sockets.enter_context(socket.socket())
    # Connections that another process had on this port may not be forgotten by the kernel yet.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((host, port))
    one.listen()


def test_the_usual_ports_are_taken_where_they_are_free(usual: list[int]) -> None:
    """They are those of the documentation; nothing is worth a note."""
    ports = choose_ports(None, None)
    assert [
        ports.receiver,
        ports.api,
        ports.simulator,
        ports.receiver_health,
        ports.worker_health,
        ports.api_health,
    ] == usual
    assert ports.health_urls == tuple(f"http://127.0.0.1:{port}" for port in usual[3:])
    assert ports.notes == ()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 -- for a moment, and nobody is answered
def test_where_others_listen_another_port_is_found(usual: list[int], listen: ExitStack, host: str) -> None:
    """Only there; and what somebody would look for in vain is said."""
    for port in (usual[0], usual[2], usual[4]):
        _taken(listen, port, host)
    ports = choose_ports(None, None)
    assert (ports.api, ports.receiver_health, ports.api_health) == (usual[1], usual[3], usual[5])
    found = {ports.receiver, ports.simulator, ports.worker_health}
    assert len(found) == 3
    assert not found & set(usual)
    assert ports.notes == (
        f"port {usual[0]} is in use by another program: the receiver has {ports.receiver}",
    )


def test_a_port_that_was_asked_for_is_given_or_refused(usual: list[int], listen: ExitStack) -> None:
    """It is never another one than that."""
    wanted, other = free_ports(2)
    assert (choose_ports(wanted, other).receiver, choose_ports(wanted, other).api) == (wanted, other)
    _taken(listen, other)
    with pytest.raises(PortInUseError, match=f"127.0.0.1:{other}: Address already in use.*--api-port"):
        choose_ports(None, other)
    assert usual


def test_zero_is_any_free_port(usual: list[int]) -> None:
    """Of the receiver, and so of all that need not be found: several stacks on one machine are of no concern to each other."""
    first, second = choose_ports(0, 0), choose_ports(0, 0)
    assert first.receiver != 0
    numbers = [
        port
        for ports in (first, second)
        for port in (
            ports.receiver,
            ports.api,
            ports.simulator,
            ports.receiver_health,
            ports.worker_health,
            ports.api_health,
        )
    ]
    assert len({*numbers, *usual}) == len(numbers) + len(usual)
