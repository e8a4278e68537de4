"""Which worker runs which test: one by one, whoever is free; but what shares a node of its own, one worker alone."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHARED_NODES: Final[Mapping[str, Sequence[str]]] = MappingProxyType(
    {
        "alarmed": (
            "test_alarm.py::",
            "test_link.py::test_an_alarm_of_the_broker_is_seen",
            "test_spooled_answers.py::test_a_blocked_connection_is_not_waited_for_and_nothing_is_lost",
            "test_status.py::test_with_the_management_api_nodes_and_alarms_are_seen",
        ),
        "tls_node": ("test_tls.py::",),
        "counting": ("test_topology_migration.py::", "test_queue_moves.py::"),
    }
)
"""Fixture of a node -> what is in the ids of the tests that take it. Each worker with one of them starts the node."""


class Scheduling(LoadScopeScheduling):
    """xdist's marks for groups do not work with this pytest: they change the ids of tests, which are fixed now."""

    def _split_scope(self, nodeid: str) -> str:
        return shared_node(nodeid) or nodeid


def shared_node(nodeid: str) -> str | None:
    """The fixture of the node that this test shares with others."""
    for fixture, tests in SHARED_NODES.items():
        if any(f"/{test}" in nodeid for test in tests):
            return fixture
    return None
