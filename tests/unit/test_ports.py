"""Ports that a test, or `bridge dev`, is given before it listens there: nobody else gets them in between."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from bridge.development.ports import NoFreePortError, Ports
from tests.support.ports import free_port, free_ports

TESTS = Path(__file__).parents[1]
GIVEN = 60
"""More than a process reserves at once."""
STAYS = """
import sys
from bridge.development.ports import Ports, free_ports
print(*{taken}, flush=True)
sys.stdin.read()
"""
FIRST_OF_CLIENTS = 32_768
"""With Linux's own settings; elsewhere it is higher."""


def test_several_processes_are_never_given_the_same_port() -> None:
    """Nor is one of them given a port twice."""
    with ExitStack() as ends:
        others = [ends.enter_context(_other(f"free_ports({GIVEN})")) for _ in range(3)]
        given = [*free_ports(GIVEN), *(port for other in others for port in _said(other))]
        assert len(set(given)) == 4 * GIVEN


def test_a_port_is_none_that_a_connection_may_be_given() -> None:
    """A client's connection is given a higher one."""
    assert free_port() < FIRST_OF_CLIENTS


def test_where_somebody_listens_is_passed_over() -> None:
    """He need not have reserved it."""
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)), pytest.raises(NoFreePortError):
        Ports([taken]).take(1)


def test_what_another_has_reserved_is_passed_over_until_he_ends() -> None:
    """However he ends. When there are no more, the error says which there were."""
    # One of the two may be the port with which this process has reserved all of its own.
    with _other(f"Ports({free_ports(2)}, block=1).take(1)") as other:
        [theirs] = _said(other)
        with pytest.raises(NoFreePortError, match=f"from {theirs} to {theirs}: "):
            Ports([theirs]).take(1)
        other.kill()
        other.wait()
        assert Ports([theirs]).take(1) == [theirs]


def test_no_test_chooses_a_port_in_another_way() -> None:
    """A port that was bound, read and closed again is anybody's, also that of a connection, before it is used."""
    way = re.compile(r"""bind\(\(.*, 0\)|create_server\(\(.*, 0\)""")
    lines = {path: path.read_text().splitlines() for path in sorted(TESTS.rglob("*.py"))}
    assert not [f"{path}: {line}" for path, found in lines.items() for line in found if way.search(line)]


def _other(taken: str) -> subprocess.Popen[str]:
    """Another process that has taken ports, and lives until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", STAYS.format(taken=taken)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _said(other: subprocess.Popen[str]) -> list[int]:
    assert other.stdout is not None
    return [int(port) for port in other.stdout.readline().split()]
