"""The private RabbitMQ node of `bridge dev` and of the tests: nobody else's, and nobody else can reach it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.conftest import NODE_ENVIRONMENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator

LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}
"""127.0.0.1 and ::1 as `/proc/net/tcp` and `tcp6` write them."""


def test_everything_of_a_private_node_listens_on_the_loopback_alone(amqp_url: str) -> None:
    """AMQP, Erlang's distribution and its port mapper: whoever reaches the second may run what he likes."""
    assert amqp_url
    environment = json.loads(os.environ[NODE_ENVIRONMENT_VARIABLE])
    sockets = set(_sockets_of(f"RABBITMQ_NODENAME={environment['RABBITMQ_NODENAME']}"))
    listening = [(port, address) for inode, port, address in _listening() if inode in sockets]
    ours = {"RABBITMQ_NODE_PORT", "RABBITMQ_DIST_PORT", "ERL_EPMD_PORT"}
    assert {port for port, _ in listening} >= {int(environment[name]) for name in ours}
    assert {address for _, address in listening} <= LOOPBACK


def _sockets_of(variable: str) -> Iterator[str]:
    """The inodes of all sockets of the processes that have this variable."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() not in (process / "environ").read_bytes().split(b"\0"):
                continue
            open_files = list((process / "fd").iterdir())
        except OSError:  # another user's, or gone in the meantime
            continue
        for open_file in open_files:
            with suppress(OSError):  # RabbitMQ closes files and connections all the time
                yield str(open_file.readlink()).removeprefix("socket:[").removesuffix("]")


def _listening() -> Iterator[tuple[str, int, str]]:
    """Inode, port and address of each listening socket of this machine."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == LISTENING:
                address, port = local.split(":")
                yield rest[5], int(port, 16), address
