"""Ports for those who must know theirs beforehand, and ports where nobody listens: the only place that gives them."""

from __future__ import annotations

from bridge.development.ports import free_ports

__all__ = ["free_port", "free_ports"]


def free_port() -> int:
    """One that no other test is given and no client's connection, in any test process of this machine.

    Nobody listens there: who needs just that need do nothing more.
    """
    [port] = free_ports(1)
    return port
